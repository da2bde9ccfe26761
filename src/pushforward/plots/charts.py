"""Charts of samples, data and training, as matplotlib figures."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pushforward.plots.style import ACCENT, DATA, INK, SAMPLES, figure, panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["columns_grid", "error_curves", "learning_curve", "scatter_grid"]

_OTHERS = (
    *("#57606c", "#0f9d76", "#8b5cf6", "#b45309", "#0891b2", "#be185d"),
    *("#65a30d", "#4338ca", "#7c2d12", "#0369a1", "#86198f", "#a16207"),
)


def scatter_grid(
    samples: np.ndarray,
    data: np.ndarray | None = None,
    *,
    names: Sequence[object] | None = None,
    titles: tuple[str, str] = ("samples", "data"),
    limit: int = 5000,
) -> "Figure":
    """Return a scatter plot of points ``(N, 2)``, with the data beside it on the same axes.

    Parameters
    ----------
    samples, data : array (N, 2), (M, 2)
        Without data, the samples alone.
    names : sequence of two, optional
        Names of the columns.
    titles : (str, str)
    limit : int
        Largest number of points shown of each.
    """
    panels = [(samples, titles[0], SAMPLES)] + ([] if data is None else [(data, titles[1], INK)])
    canvas = figure(4.6 * len(panels), 4.9)
    low, high = _square_limits([np.asarray(points)[:limit] for points, _, _ in panels])
    for index, (points, title, color) in enumerate(panels):
        shown = np.asarray(points)[:limit]
        axes = panel(canvas, 1, len(panels), index + 1, title)
        # Scale the opacity so that few and many points use about the same amount of ink.
        alpha, size = float(np.clip(32 / math.sqrt(max(len(shown), 1)), 0.25, 0.8)), 6.0
        axes.scatter(shown[:, 0], shown[:, 1], s=size, alpha=alpha, color=color, linewidths=0, rasterized=True)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_aspect("equal")
        if names is not None:
            axes.set_xlabel(str(names[0]))
            axes.set_ylabel(str(names[1]))
    return canvas


def columns_grid(
    samples: np.ndarray, data: np.ndarray | None = None, *, names: Sequence[object] | None = None, limit: int = 24
) -> "Figure":
    """Return one histogram per column of samples ``(N, D)``, over that of the data.

    Parameters
    ----------
    samples, data : array (N, D), (M, D)
        Without data, the samples alone.
    names : sequence of D, optional
        Names of the columns.
    limit : int
        Largest number of columns shown; the title then gives their total number.
    """
    samples = np.asarray(samples, dtype=float)
    reference = samples if data is None else np.asarray(data, dtype=float)
    total = samples.shape[1]
    shown = min(total, limit)
    across = min(4, shown) if shown != 4 else 2
    lines = -(-shown // across)
    canvas = figure(3.1 * across + 0.3, 2.3 * lines + 0.5)
    for index in range(shown):
        title = str(names[index]) if names is not None else f"column {index}"
        axes = panel(canvas, lines, across, index + 1, title)
        edges = _edges(reference[:, index])
        if data is not None:
            # One outline is drawn and laid out in a fraction of the time of a bar for each bin.
            density = np.histogram(np.clip(reference[:, index], edges[0], edges[-1]), edges, density=True)[0]
            axes.stairs(density, edges, fill=True, color=DATA, alpha=0.55, label="data")
        values = np.clip(samples[:, index], edges[0], edges[-1])
        axes.hist(values, edges, density=True, histtype="step", color=SAMPLES, linewidth=1.4, label="samples")
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=5)
        if index == 0 and data is not None:
            axes.legend(frameon=False, fontsize=8)
    if shown < total:
        canvas.suptitle(f"the first {shown} of {total} columns", fontsize=10, color=INK)
    return canvas


def learning_curve(metrics: Sequence[Mapping[str, Any]]) -> "Figure":
    """Return training loss and held-out loss by step.

    Parameters
    ----------
    metrics : sequence of mappings
        One per log step, with ``step`` and, if measured, ``loss`` and ``held_out_loss``. Missing values, None and values that
        are not finite are skipped. Axes are logarithmic if the numbers are positive and vary by more than a factor of 3.
    """
    canvas = figure(7.2, 4.2)
    axes = panel(canvas, 1, 1, 1, "")
    curves = {key: _curve(metrics, key) for key in ("loss", "held_out_loss")}
    loss, held_out = curves["loss"], curves["held_out_loss"]
    if len(loss):
        axes.plot(*loss.T, color=DATA, linewidth=1.0, label="training loss")
    if len(held_out):
        marker = "o" if len(held_out) < 40 else ""
        axes.plot(*held_out.T, color=SAMPLES, linewidth=1.8, marker=marker, markersize=4, label="held-out loss")
        best = held_out[held_out[:, 1].argmin()]
        axes.plot(*best, "o", color=ACCENT, markersize=8, label=f"best: {best[1]:.4g} at step {best[0]:.0f}")
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
    return canvas


def error_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    bold: str = "",
    marks: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    labels: tuple[str, str] = ("network calls", "error"),
) -> "Figure":
    """Return errors by cost on logarithmic axes, one line per name, labelled at the ends of the lines.

    Parameters
    ----------
    curves : mapping of names to points (cost, error)
        Points that are not positive and finite are left out.
    bold : str
        Name of the reference line.
    marks : mapping of names to points, optional
        Points without a line.
    labels : (str, str)
        Names of the axes.

    >>> figure = error_curves({"ours": [(5, 0.1), (10, 0.01)], "theirs": [(5, 0.2), (10, 0.1)]}, bold="ours")
    """
    canvas = figure(8.0, 5.4)
    axes = panel(canvas, 1, 1, 1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for index, (name, points) in enumerate(_positive(curves)):
        color, width = (SAMPLES, 2.6) if name == bold else (_OTHERS[index % len(_OTHERS)], 1.0)
        axes.plot(
            *np.array(points).T, color=color, linewidth=width, marker="o", markersize=width + 1, zorder=3 if name == bold else 2
        )
        ends.append((name, points[-1], color))
    for name, points in _positive(marks or {}):
        axes.plot(*np.array(points).T, "*", color=ACCENT, markersize=11, zorder=4)
        axes.annotate(
            name, points[-1], (9, 0), textcoords="offset points", va="center", color=ACCENT, fontsize=8.5, fontweight="bold"
        )
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    _name_ends(axes, ends, bold)
    return canvas


def _positive(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return the names with the points that logarithmic axes can show, in order of cost."""
    valid = {name: sorted(point for point in points if all(0 < x < math.inf for x in point)) for name, points in curves.items()}
    return [(name, points) for name, points in valid.items() if points]


def _name_ends(axes: Any, ends: Sequence[tuple[str, tuple[float, float], str]], bold: str) -> None:
    """Write each name to the right of all lines, as close to the height of its line's end as the other names allow."""
    low, high = np.log(axes.get_ylim())
    heights = {name: (math.log(end[1]) - low) / (high - low) for name, end, _ in ends}
    placed = dict(zip(sorted(heights, key=heights.__getitem__), _spread(sorted(heights.values()), 0.038), strict=True))
    for name, end, color in ends:
        axes.annotate(
            name,
            end,
            (1.03, placed[name]),
            textcoords=axes.transAxes,
            color=color,
            fontsize=8.5,
            fontweight="bold" if name == bold else "normal",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.5, "relpos": (0, 0.5), "shrinkB": 4},
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """Return increasing heights moved as little as possible to be at least ``apart``; crowded ones keep their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _first(groups[-1], apart) < _first(groups[-2], apart) + apart * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_first(group, apart) + apart * index for group in groups for index in range(len(group))]


def _first(group: Sequence[float], apart: float) -> float:
    """Return the lowest of heights that lie ``apart`` around the mean of the group."""
    return sum(group) / len(group) - apart * (len(group) - 1) / 2


def _square_limits(clouds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a square around the last cloud (the data), without its rare outliers."""
    reference = clouds[-1].astype(float)
    low, high = np.nanquantile(reference, 0.001, axis=0), np.nanquantile(reference, 0.999, axis=0)
    half = max(float((high - low).max()) * 0.58, 1e-9)
    center = (low + high) / 2
    return center - half, center + half


def _edges(values: np.ndarray) -> list[float]:
    """Return the edges of about 40 bins without rare outliers; if the values are few integers, one bin per integer."""
    low, high = np.quantile(values, 0.005), np.quantile(values, 0.995)
    if high <= low:
        low, high = values.min(), values.max()
    if np.all(values == np.round(values)):
        # Bins that hold equally many integers; others would show artificial stripes.
        width = math.ceil((high - low + 1) / 40)
        return [float(edge) - 0.5 for edge in range(math.floor(low), math.ceil(high) + width + 1, width)]
    return np.linspace(low, high, 41).tolist() if high > low else [float(low) - 0.5, float(low) + 0.5]


def _plain_numbers(axis: Any) -> None:
    """Format numbers such as 200 and 0.05 on a logarithmic axis, instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curve(metrics: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return the finite points (step, value) of one metric, ``(M, 2)``."""
    points = [(line["step"], line[key]) for line in metrics if line.get(key) is not None and math.isfinite(line[key])]
    return np.array(points, dtype=float).reshape(-1, 2)
