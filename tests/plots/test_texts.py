"""A plot of texts shows every letter of its lines."""

import io

import numpy as np
import pytest
from PIL import Image

from pushforward.plots import text_panel


@pytest.mark.parametrize("dpi", [50, 60, 110, 140, 150])
def test_the_longest_line_ends_before_the_margin(dpi):
    content = io.BytesIO()
    text_panel(["m" * 88, "short"], labels=["one", "two"]).savefig(content, dpi=dpi, facecolor="white", format="png")
    ink = np.asarray(Image.open(content).convert("L")) < 128
    columns = np.flatnonzero(ink.any(0))
    assert columns[0] >= 0.1 * dpi
    assert ink.shape[1] - columns[-1] >= 0.1 * dpi
    assert columns[-1] > 0.85 * ink.shape[1]
