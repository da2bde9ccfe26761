"""Fixtures of the families' tests."""

from pathlib import Path

import matplotlib.figure
import pytest
from PIL import Image

RENDER = matplotlib.figure.Figure.savefig


@pytest.fixture(autouse=True)
def _figures_are_files_of_one_pixel(monkeypatch):
    """Write each figure of a run as one pixel.

    Rendering takes most of a short run's time; tests/test_plots.py and the tests of the command line render figures.
    """

    def save(figure, target, **options):
        if isinstance(target, Path):
            Image.new("RGB", (1, 1)).save(target)
        else:
            RENDER(figure, target, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", save)
