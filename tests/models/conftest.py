"""Fixtures of the families' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blank import blank_figures


@pytest.fixture(scope="module", autouse=True)
def _plots_of_runs_are_blank() -> Iterator[None]:
    """Blank all files; tests/test_plots.py and the tests of the command line render figures."""
    yield from blank_figures(lambda target: isinstance(target, Path))
