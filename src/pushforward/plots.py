"""Pictures of samples, data and training, from arrays alone.

Grids of pictures are Pillow images, pixel for pixel; everything with axes is a matplotlib figure made through its object
interface, so that no global state, window or display is involved. :func:`save` writes either.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["columns_grid", "image_grid", "learning_curve", "save", "scatter_grid"]

_DATA = "#9aa5b1"
_SAMPLES = "#2563eb"
_ACCENT = "#d97706"
_INK = "#1f2933"
_FAINT = "#e4e7eb"


def image_grid(
    images: np.ndarray,
    *,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    scale: tuple[float, float] | None = None,
    width: int = 900,
) -> "Image":
    """Return pictures side by side, each pixel enlarged to a square of whole screen pixels.

    Parameters
    ----------
    images : array
        ``(N, H, W)`` grey, ``(N, H, W, 3)`` RGB, ``(N, H, W, 4)`` RGBA on white, or ``(N, H, W, C)`` with any other C, whose
        channels stand side by side as grey pictures.
    columns : int, optional
        Pictures in a row; by default the grid is about square.
    labels : sequence, optional
        One per picture, written under it.
    scale : (float, float), optional
        Values shown as black and as white, shared by all pictures; by default the smallest and the largest.
    width : int
        Width to fill, in pixels. Larger pictures are not shrunk.
    """
    from PIL import Image

    tiles = _to_bytes(np.asarray(images), scale)
    count, height, across = tiles.shape[:3]
    columns = min(columns or max(1, round(math.sqrt(count * height / across))), count)
    lines = -(-count // columns)
    factor = max(1, int(width * 0.97) // (columns * across))
    gap = min(12, max(2, round(0.03 * factor * min(height, across))))
    caption = 0 if labels is None else max(14, min(22, round(0.28 * factor * across)))
    step_x, step_y = factor * across + gap, factor * height + gap + caption
    grid = Image.new("RGB", (columns * step_x + gap, lines * step_y + gap), "white")
    for index, tile in enumerate(tiles):
        x, y = gap + index % columns * step_x, gap + index // columns * step_y
        enlarged = Image.fromarray(tile).resize((factor * across, factor * height), Image.Resampling.NEAREST)
        grid.paste(enlarged, (x, y))
    if labels is not None:
        _write_captions(grid, labels, columns, gap, (step_x, step_y), caption)
    return grid


def scatter_grid(
    samples: np.ndarray,
    data: np.ndarray | None = None,
    *,
    names: Sequence[object] | None = None,
    titles: tuple[str, str] = ("samples", "data"),
    limit: int = 5000,
) -> "Figure":
    """Return a scatter plot of points ``(N, 2)`` and, beside it on the same axes, of the data.

    Parameters
    ----------
    names : sequence of two, optional
        Names of the columns.
    titles : (str, str)
    limit : int
        At most so many points are shown of each.
    """
    panels = [(samples, titles[0], _SAMPLES)] + ([] if data is None else [(data, titles[1], _INK)])
    figure = _figure(4.6 * len(panels), 4.9)
    low, high = _square_limits([np.asarray(points)[:limit] for points, _, _ in panels])
    for index, (points, title, color) in enumerate(panels):
        shown = np.asarray(points)[:limit]
        axes = _axes(figure, 1, len(panels), index + 1, title)
        # Many points and few make about the same amount of ink.
        alpha, size = float(np.clip(32 / math.sqrt(max(len(shown), 1)), 0.25, 0.8)), 6.0
        axes.scatter(shown[:, 0], shown[:, 1], s=size, alpha=alpha, color=color, linewidths=0, rasterized=True)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_aspect("equal")
        if names is not None:
            axes.set_xlabel(str(names[0]))
            axes.set_ylabel(str(names[1]))
    return figure


def columns_grid(
    samples: np.ndarray,
    data: np.ndarray | None = None,
    *,
    names: Sequence[object] | None = None,
    limit: int = 24,
) -> "Figure":
    """Return one histogram per column of samples ``(N, D)``, over that of the data.

    Parameters
    ----------
    names : sequence of D, optional
        Names of the columns.
    limit : int
        At most so many columns are shown; the title says how many there are.
    """
    samples = np.asarray(samples, dtype=float)
    reference = samples if data is None else np.asarray(data, dtype=float)
    total = samples.shape[1]
    shown = min(total, limit)
    across = min(4, shown) if shown != 4 else 2
    lines = -(-shown // across)
    figure = _figure(3.1 * across + 0.3, 2.3 * lines + 0.5)
    for index in range(shown):
        title = str(names[index]) if names is not None else f"column {index}"
        axes = _axes(figure, lines, across, index + 1, title)
        edges = _edges(reference[:, index])
        if data is not None:
            axes.hist(
                np.clip(reference[:, index], edges[0], edges[-1]), edges, density=True, color=_DATA, alpha=0.55, label="data"
            )
        values = np.clip(samples[:, index], edges[0], edges[-1])
        axes.hist(values, edges, density=True, histtype="step", color=_SAMPLES, linewidth=1.4, label="samples")
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=5)
        if index == 0 and data is not None:
            axes.legend(frameon=False, fontsize=8)
    if shown < total:
        figure.suptitle(f"the first {shown} of {total} columns", fontsize=10, color=_INK)
    return figure


def learning_curve(metrics: Sequence[Mapping[str, Any]]) -> "Figure":
    """Return training loss and held-out loss by step.

    Parameters
    ----------
    metrics : sequence of mappings
        One per log step, with ``step`` and, where they were measured, ``loss`` and ``held_out_loss``. Entries that are missing,
        None or not finite are passed over. Axes are logarithmic where the numbers are positive and spread over more than a
        factor of 3.
    """
    figure = _figure(7.2, 4.2)
    axes = _axes(figure, 1, 1, 1, "")
    curves = {key: _curve(metrics, key) for key in ("loss", "held_out_loss")}
    loss, held_out = curves["loss"], curves["held_out_loss"]
    if len(loss):
        axes.plot(*loss.T, color=_DATA, linewidth=1.0, label="training loss")
    if len(held_out):
        marker = "o" if len(held_out) < 40 else ""
        axes.plot(*held_out.T, color=_SAMPLES, linewidth=1.8, marker=marker, markersize=4, label="held-out loss")
        best = held_out[held_out[:, 1].argmin()]
        axes.plot(*best, "o", color=_ACCENT, markersize=8, label=f"best: {best[1]:.4g} at step {best[0]:.0f}")
    points = np.concatenate((loss, held_out))
    for values, set_scale in ((points[:, 0], axes.set_xscale), (points[:, 1], axes.set_yscale)):
        if len(values) and values.min() > 0 and values.max() > 3 * values.min():
            set_scale("log")
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            _plain_numbers(axis)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if len(points):
        axes.legend(frameon=False)
    return figure


def save(figure: "Figure | Image", path: str | Path) -> Path:
    """Write a grid or a figure to a file, making its folder; the ending picks the format. Return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(figure, "savefig"):
        figure.savefig(path, dpi=140, facecolor="white")
    else:
        figure.save(path)
    return path


def _to_bytes(images: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    """Return uint8 tiles ``(N, H, W)`` or ``(N, H, W, 3)``."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images must be (N, H, W) or (N, H, W, C) with at least one picture, not of shape {images.shape}.")
    values = images.astype(np.float32)
    low, high = scale if scale is not None else (float(np.nanmin(values)), float(np.nanmax(values)))
    if not low <= high:
        raise ValueError(f"scale must be (black, white) with black below white, not {(low, high)}.")
    unit = np.nan_to_num(((values - low) / (high - low if high > low else 1.0)).clip(0, 1))
    if unit.ndim == 4 and unit.shape[3] == 4:
        unit = unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:])
    elif unit.ndim == 4 and unit.shape[3] != 3:
        parted = np.pad(unit, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
        unit = parted.transpose(0, 1, 3, 2).reshape(*unit.shape[:2], -1)[:, :, :-1]
    return np.asarray((unit * 255).round().astype(np.uint8))


def _write_captions(
    grid: "Image", labels: Sequence[object], columns: int, gap: int, step: tuple[int, int], caption: int
) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(size=max(9, caption - 5))
    for index, label in enumerate(labels):
        x = gap + index % columns * step[0] + (step[0] - gap) / 2
        y = gap + (index // columns + 1) * step[1] - gap - caption / 2
        draw.text((x, y), str(label), fill=_INK, font=font, anchor="mm")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _axes(figure: "Figure", lines: int, columns: int, index: int, title: str) -> "Axes":
    axes = figure.add_subplot(lines, columns, index)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_DATA)
    axes.tick_params(colors=_INK, labelsize=8, color=_DATA)
    axes.grid(color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, color=_INK)
    return axes


def _square_limits(clouds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a square around the last cloud (the data), or around all but its rare outliers."""
    reference = clouds[-1].astype(float)
    low, high = np.nanquantile(reference, 0.001, axis=0), np.nanquantile(reference, 0.999, axis=0)
    half = max(float((high - low).max()) * 0.58, 1e-9)
    center = (low + high) / 2
    return center - half, center + half


def _edges(values: np.ndarray) -> list[float]:
    """Return the edges of about 40 bins over all but the rare outliers, one per integer where there are few."""
    low, high = np.quantile(values, 0.005), np.quantile(values, 0.995)
    if high <= low:
        low, high = values.min(), values.max()
    if np.all(values == np.round(values)):
        # Bins that hold equally many integers; others would show stripes of their own making.
        width = math.ceil((high - low + 1) / 40)
        return [float(edge) - 0.5 for edge in range(math.floor(low), math.ceil(high) + width + 1, width)]
    return np.linspace(low, high, 41).tolist() if high > low else [float(low) - 0.5, float(low) + 0.5]


def _plain_numbers(axis: Any) -> None:
    """Write 200 and 0.05 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(metrics: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return the finite points (step, value) of one metric, ``(M, 2)``."""
    points = [(line["step"], line[key]) for line in metrics if line.get(key) is not None and math.isfinite(line[key])]
    return np.array(points, dtype=float).reshape(-1, 2)
