"""Figures as files of one pixel, for tests that look at no plot: rendering takes most of a short run's time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

RENDER = Figure.savefig


def of_run(target: Any) -> bool:
    """Whether a target is a plot that a run draws while it trains, or at its end."""
    return isinstance(target, Path) and (target.name == "samples.png" or target.name.startswith("step-"))


def blank_figures(chosen: Callable[[Any], bool]) -> Iterator[None]:
    """Write one pixel instead of each figure whose target, a path or a buffer, is chosen; the body of a fixture."""

    def save(figure: Figure, target: Any, **options: Any) -> None:
        if chosen(target):
            Image.new("RGB", (1, 1)).save(target, None if isinstance(target, Path) else options.get("format", "png"))
        else:
            RENDER(figure, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield
