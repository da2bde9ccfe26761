"""Fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blank import blank_figures


@pytest.fixture(scope="session", autouse=True)
def _plots_between_steps_are_blank() -> Iterator[None]:
    """Blank the plots of a run's steps; its last plot is rendered."""
    yield from blank_figures(lambda target: isinstance(target, Path) and target.name.startswith("step-"))


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Skip fsync, which matters to power cuts alone: a killed process loses nothing that it has written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
