"""Fixtures of the comparison's tests."""

from collections.abc import Iterator

import pytest
from blank import blank_figures


@pytest.fixture(scope="module", autouse=True)
def _figures_are_blank() -> Iterator[None]:
    """Blank all figures; the tests of the report render them."""
    yield from blank_figures(lambda _: True)
