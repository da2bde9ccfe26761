"""Fixtures of all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blank import blank_figures


@pytest.fixture(scope="session", autouse=True)
def _plots_between_steps_are_blank() -> Iterator[None]:
    """Blank the plots of a run's steps; its last plot is rendered."""
    yield from blank_figures(lambda target: isinstance(target, Path) and target.name.startswith("step-"))
