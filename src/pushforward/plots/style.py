"""Colors, figures and panels that all plots share, and writing plots to files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["ACCENT", "DATA", "FAINT", "GOOD", "INK", "SAMPLES", "Plot", "figure", "film", "panel", "rendered", "save"]

Plot: TypeAlias = "Figure | Image"

DATA = "#9aa5b1"
SAMPLES = "#2563eb"
ACCENT = "#d97706"
GOOD = "#0f9d76"
INK = "#1f2933"
FAINT = "#e4e7eb"


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches; no global state, window or display is involved."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def panel(figure: "Figure", lines: int, columns: int, index: int, title: str = "") -> "Axes":
    """Add panel ``index`` (from 1) of a grid of panels to a figure and return its axes."""
    axes = figure.add_subplot(lines, columns, index)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(DATA)
    axes.tick_params(colors=INK, labelsize=8, color=DATA)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, color=INK)
    return axes


def rendered(figure: "Figure", *, dpi: float = 140) -> "Image":
    """Return a figure as an RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas, own = FigureCanvasAgg(figure), figure.dpi
    figure.set_facecolor("white")
    figure.set_dpi(dpi)
    canvas.draw()  # type: ignore[no-untyped-call]  # savefig draws twice
    figure.set_dpi(own)
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")


def save(plot: Plot, path: str | Path) -> Path:
    """Write a grid or a figure to a file in the format of its suffix, creating its folder. Return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(plot, "savefig"):
        plot.savefig(path, dpi=140, facecolor="white")
    else:
        plot.save(path)
    return path


def film(figures: "Iterable[Figure]", path: str | Path, *, seconds: float = 0.08) -> Path:
    """Write figures of one size as an endless ``.gif``, creating its folder. Return the path.

    Each frame is shown for ``seconds``, the last one for 2.

    Raises
    ------
    ValueError
        If the file does not end in ``.gif`` or there is no figure.
    """
    from PIL.Image import Dither

    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"a film is written to a .gif file, not to {path.name!r}; write {path.stem}.gif.")
    plots = [rendered(figure, dpi=90) for figure in figures]
    if not plots:
        raise ValueError("a film needs at least one figure.")
    palette = _common_palette(plots)
    frames = [plot.quantize(palette=palette, dither=Dither.NONE) for plot in plots]
    durations = [round(1000 * seconds)] * (len(frames) - 1) + [2000]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return path


def _common_palette(plots: "Sequence[Image]") -> "Image":
    """Return an image with the colors of about eight frames and the last; one palette for all frames prevents flicker."""
    from PIL import Image

    chosen = [*plots[:: max(1, len(plots) // 8)], plots[-1]]
    strip = Image.new("RGB", (plots[0].width, plots[0].height * len(chosen)))
    for index, plot in enumerate(chosen):
        strip.paste(plot, (0, index * plot.height))
    return strip.quantize(colors=255)
