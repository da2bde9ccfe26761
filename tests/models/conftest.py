"""Fixtures of the families' tests."""

import matplotlib.figure
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _plots_of_one_pixel(monkeypatch):
    """Write each figure as one pixel: rendering takes most of a short run's time, and is tested in tests/test_plots.py and tests/cli."""

    def save(figure, target, **options):
        Image.new("RGB", (1, 1)).save(target, format=options.get("format"))

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", save)
