"""Plots of the quality of a model: intervals and noise floors, point clouds, distances, noise levels, paths."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pushforward.plots.style import ACCENT, DATA, FAINT, GOOD, INK, SAMPLES, figure, panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "distance_histogram", "floor_chart", "level_bars", "path_lines", "point_cloud", "trade_off"]

KINDS = (*("#2563eb", "#d97706", "#0f9d76", "#be185d", "#8b5cf6", "#0891b2"), *("#b45309", "#4d7c0f", "#4338ca", "#57606c"))
_MARKS = {"worse": ACCENT, "at": GOOD, "better": GOOD, "": SAMPLES}


def floor_chart(
    names: Sequence[str], values: np.ndarray, floors: np.ndarray, *, marks: Sequence[str] | None = None
) -> "Figure":
    """Return intervals beside their noise floors, one line per measure, each with its own scale.

    Parameters
    ----------
    names : sequence of n
    values, floors : array (n, 3)
        Low end, value, high end; NaN without a floor. Every line is stretched to fill its width, so lines cannot be compared
        with each other.
    marks : sequence of {"at", "worse", "better", ""}, optional
        Position of each measure, which sets its color.

    >>> chart = floor_chart(["recall"], np.array([[0.6, 0.7, 0.8]]), np.array([[0.85, 0.9, 0.95]]), marks=["worse"])
    """
    marks = marks or [""] * len(names)
    canvas = figure(7.2, 0.7 + 0.27 * len(names))
    axes = panel(canvas, 1, 1, 1, "")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    for place, (value, floor) in enumerate(zip(np.asarray(values, float), np.asarray(floors, float), strict=True)):
        v, f = _stretched(value, floor)
        axes.plot([0, 1], [place, place], color=FAINT, linewidth=6, solid_capstyle="round", zorder=1)
        if np.isfinite(f).all():
            axes.plot(f[[0, 2]], [place, place], color=DATA, linewidth=6, solid_capstyle="butt", zorder=2)
            axes.plot(f[1], place, "|", color=DATA, markersize=7, markeredgewidth=1.5, zorder=2)
        color = _MARKS[marks[place]]
        axes.plot(v[[0, 2]], [place, place], color=color, linewidth=2, zorder=3)
        axes.plot(v[1], place, "o", color=color, markersize=6, zorder=4)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_xlabel(
        "gray: noise floor; by the test of the figure, green: at it or better; orange: worse; blue: no test",
        fontsize=8,
        color=INK,
    )
    return canvas


def point_cloud(
    groups: Mapping[str, np.ndarray],
    *,
    names: Sequence[object] | None = None,
    limits: tuple[np.ndarray, np.ndarray] | None = None,
    colors: Mapping[str, str] | None = None,
    limit: int = 3000,
) -> "Figure":
    """Return points (n, 2) of several groups on one panel, each with a color and a name.

    Parameters
    ----------
    groups : mapping of names to points
    names : sequence of two, optional
        Names of the axes.
    limits : (array (2,), array (2,)), optional
        Lower and upper corner, so that several clouds can be compared.
    colors : mapping, optional
        Fixed colors of groups.
    limit : int
        Largest number of points shown of each group.

    >>> cloud = point_cloud({"a": np.zeros((3, 2)), "b": np.ones((3, 2))})
    """
    canvas = figure(4.4, 4.2)
    axes = panel(canvas, 1, 1, 1, "")
    count = sum(min(len(points), limit) for points in groups.values())
    alpha = float(np.clip(32 / math.sqrt(max(count, 1)), 0.3, 0.85))
    for index, (name, points) in enumerate(groups.items()):
        color = (colors or {}).get(name, KINDS[index % len(KINDS)])
        shown = np.asarray(points)[:limit]
        axes.scatter(shown[:, 0], shown[:, 1], s=9, alpha=alpha, color=color, linewidths=0, label=name, rasterized=True)
    if limits is not None:
        axes.set_xlim(limits[0][0], limits[1][0])
        axes.set_ylim(limits[0][1], limits[1][1])
    axes.set_aspect("equal", adjustable="datalim" if limits is None else "box")
    if names is not None:
        axes.set_xlabel(str(names[0]))
        axes.set_ylabel(str(names[1]))
    if len(groups) > 1:
        _legend(axes, len(groups))
    return canvas


def distance_histogram(samples: np.ndarray, held_out: np.ndarray) -> "Figure":
    """Return the distances of samples and of held-out rows to their nearest training rows, as two histograms.

    >>> chart = distance_histogram(np.array([1.0, 2.0]), np.array([1.5, 2.5]))
    """
    canvas = figure(4.6, 3.2)
    axes = panel(canvas, 1, 1, 1, "")
    both = np.concatenate([samples, held_out])
    top = float(np.quantile(both, 0.995)) or 1.0
    edges = np.linspace(0, top, 36).tolist()
    axes.hist(np.minimum(held_out, top), edges, density=True, color=DATA, alpha=0.55, label="held-out rows")
    axes.hist(np.minimum(samples, top), edges, density=True, histtype="step", color=SAMPLES, linewidth=1.6, label="samples")
    axes.set_xlim(0, top)
    axes.set_yticks([])
    axes.set_xlabel("distance to the nearest training row")
    axes.legend(frameon=False, fontsize=8.5)
    return canvas


def level_bars(losses: Sequence[float | None]) -> "Figure":
    """Return the loss in each of equal ranges of the noise level, lowest noise first; None is left out.

    >>> chart = level_bars([0.1, 0.2, None, 0.4])
    """
    canvas = figure(4.6, 3.2)
    axes = panel(canvas, 1, 1, 1, "")
    count = len(losses)
    for index, loss in enumerate(losses):
        if loss is not None and math.isfinite(loss):
            axes.bar((index + 0.5) / count, loss, 0.9 / count, color=SAMPLES)
            axes.annotate(
                f"{loss:.3g}",
                ((index + 0.5) / count, loss),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=INK,
            )
    axes.grid(axis="x", visible=False)
    axes.set_xlim(0, 1)
    axes.set_xlabel("noise level t, from data to noise")
    axes.set_ylabel("held-out loss")
    return canvas


def path_lines(states: np.ndarray) -> "Figure":
    """Return the paths of points (times, n, 2) from the first time, a circle, to the last, a dot.

    >>> chart = path_lines(np.zeros((5, 10, 2)))
    """
    canvas = figure(4.4, 4.2)
    axes = panel(canvas, 1, 1, 1, "")
    lines = states[:, :120]
    axes.plot(lines[..., 0], lines[..., 1], color=DATA, linewidth=0.6, alpha=0.7, zorder=1)
    axes.scatter(
        states[0, :, 0], states[0, :, 1], s=9, facecolors="none", edgecolors=ACCENT, linewidths=0.7, label="noise", zorder=2
    )
    axes.scatter(states[-1, :, 0], states[-1, :, 1], s=9, color=SAMPLES, linewidths=0, label="samples", zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
    _legend(axes, 2)
    return canvas


def trade_off(
    points: Mapping[str, tuple[float, float]], *, front: Sequence[str] = (), labels: tuple[str, str] = ("", "")
) -> "Figure":
    """Return named points (x, y), both better if lower, with a line through those that no other beats; x is logarithmic.

    Parameters
    ----------
    points : mapping of names to (float, float)
    front : sequence of names
        The points on the line, by increasing x.
    labels : (str, str)
        Labels of the axes.

    >>> chart = trade_off({"a": (0.1, 2.0), "b": (3.0, 1.0)}, front=["a", "b"])
    """
    canvas = figure(6.0, 4.2)
    axes = panel(canvas, 1, 1, 1, "")
    steps = [points[name] for name in front]
    axes.step([x for x, _ in steps], [y for _, y in steps], where="post", color=GOOD, linewidth=1.4, zorder=1)
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", color=GOOD if name in front else ACCENT, markersize=7, zorder=2)
        axes.annotate(name, (x, y), (6, 5), textcoords="offset points", fontsize=9, color=INK)
    axes.set_xscale("log")
    axes.margins(x=0.22, y=0.12)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    return canvas


def _stretched(value: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, shifted and scaled together to [0.04, 0.96]; an interval without ends is its value."""
    value = np.where(np.isfinite(value), value, value[1])
    ends = np.concatenate([value, floor[np.isfinite(floor)]])
    low, high = float(ends.min()), float(ends.max())
    if not high > low:
        return np.full(3, 0.5), np.where(np.isfinite(floor), 0.5, np.nan)
    return tuple(0.04 + 0.92 * (part - low) / (high - low) for part in (value, floor))  # type: ignore[return-value]


def _legend(axes: Any, count: int) -> None:
    axes.legend(frameon=False, fontsize=8, ncols=min(count, 5), loc="lower left", bbox_to_anchor=(0, 1.0), handletextpad=0.2,
                columnspacing=0.9, markerscale=1.6, borderaxespad=0.1)  # fmt: skip
