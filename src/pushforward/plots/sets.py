"""Plots of sets of points: scatter plots in the plane, or in space from a fixed view, and turning films."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pushforward.plots.style import INK, SAMPLES, figure, film

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["set_grid", "set_pictures", "turning_sets"]

_SIDE, _MOST, _COLUMNS = 1.6, 100, 8
_ELEVATION, _AZIMUTH, _FRAMES = 25.0, -60.0, 36


def set_grid(
    sets: Sequence[np.ndarray] | np.ndarray,
    *,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    names: Sequence[object] | None = None,
    elevation: float = _ELEVATION,
    azimuth: float = _AZIMUTH,
) -> "Figure":
    """Return scatter plots of sets side by side, all on the same axes.

    Parameters
    ----------
    sets : array (N, P, D) or sequence of arrays (P_i, D)
        At most 100 are shown. NaN points are left out. Points of one coordinate lie on a line, of two in the plane, of more in
        space by the first three. Coordinates 4 to 6 are colors if their ``names`` are red, green and blue.
    columns : int, optional
        Sets in a line.
    labels : sequence, optional
        One per set, written above it.
    names : sequence, optional
        Names of the coordinates.
    elevation, azimuth : float
        The view of points in space, in degrees above the plane of the first two coordinates and about the third.

    Raises
    ------
    ValueError
        If there is no set.
    """
    shown = [_present(np.asarray(points)) for points in sets[:_MOST]]
    if not shown:
        raise ValueError("there is no set to plot.")
    columns = min(columns or _COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    middle, reach = _frame(shown)
    canvas = figure(_SIDE * columns, (_SIDE + (0.15 if labels is not None else 0)) * lines)
    in_space = len(middle) == 3
    for index, points in enumerate(shown):
        axes: Any = canvas.add_subplot(lines, columns, index + 1, **({"projection": "3d"} if in_space else {}))
        size = float(np.clip(400 / len(points), 0.5, 8))
        # In space each point is drawn by its depth, which matplotlib does itself.
        axes.scatter(*points[:, : len(middle)].T, s=size, color=_colors(points, names), linewidths=0)
        limits = [(center - reach, center + reach) for center in middle]
        if in_space:
            axes.set(xlim=limits[0], ylim=limits[1], zlim=limits[2])
            axes.set_box_aspect((1, 1, 1), zoom=1.5)
            axes.view_init(elevation, azimuth)
        else:
            axes.set(xlim=limits[0], ylim=limits[1])
            axes.set_aspect("equal")
        axes.set_axis_off()
        if labels is not None:
            axes.set_title(str(labels[index]), fontsize=8, color=INK, pad=0)
    return canvas


def turning_sets(
    sets: Sequence[np.ndarray] | np.ndarray, path: str | Path, *, frames: int = _FRAMES, **options: object
) -> Path:
    """Write sets in space that turn once about the third axis as an endless ``.gif``, and return its path.

    Parameters
    ----------
    sets : array (N, P, D) or sequence of arrays (P_i, D)
        Of three coordinates or more.
    path : str or path
    frames : int
        Number of views.
    **options
        As for :func:`set_grid`.

    Raises
    ------
    ValueError
        If the points have fewer than three coordinates, or the file does not end in ``.gif``.
    """
    width = np.asarray(sets[0]).shape[-1]
    if width < 3:
        raise ValueError(f"points of {width} coordinates do not turn in space; write a .png.")

    def views() -> "Iterator[Figure]":
        for frame in range(frames):
            yield set_grid(sets, azimuth=_AZIMUTH + 360 * frame / frames, **options)  # type: ignore[arg-type]

    return film(views(), path)


def set_pictures(sets: np.ndarray, *, side: int = 48) -> np.ndarray:
    """Return an image of each set, (N, side, side) with 1 for the background, down to -1 where points are, from a fixed view.

    Parameters
    ----------
    sets : array (N, P, D)
        NaN points are left out. All are shown in one frame.
    side : int
        Height and width of the images, in pixels.

    >>> set_pictures(np.zeros((2, 5, 3))).shape
    (2, 48, 48)
    """
    shown = [_present(points) for points in sets]
    middle, reach = _frame(shown)
    pictures = np.ones((len(shown), side, side), dtype=np.float32)
    for picture, points in zip(pictures, shown, strict=True):
        x, y = _flat((points[:, : len(middle)] - middle) / reach).T
        column, row = (np.clip((0.5 + 0.5 * part) * side, 0, side - 1).astype(int) for part in (x, -y))
        np.multiply.at(picture, (row, column), 0.35)
    return 2 * pictures - 1


def _flat(points: np.ndarray) -> np.ndarray:
    """Return points (P, 2) or (P, 3), within 1, as they are seen from the fixed view, within 1."""
    if points.shape[1] == 2:
        return points
    azimuth, elevation = math.radians(_AZIMUTH), math.radians(_ELEVATION)
    x, y, z = points.T
    across = -math.sin(azimuth) * x + math.cos(azimuth) * y
    deep = math.cos(azimuth) * x + math.sin(azimuth) * y
    return np.column_stack((across, math.cos(elevation) * z - math.sin(elevation) * deep)) / 1.5


def _present(points: np.ndarray) -> np.ndarray:
    points = points.astype(float)[~np.isnan(points.astype(float)).all(1)]
    if points.shape[1] == 1:
        points = np.column_stack((points, np.zeros(len(points))))
    return points


def _frame(shown: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the middle of all points in the coordinates that are drawn, and half the side of the cube about them."""
    drawn = np.concatenate(shown)[:, :3]
    low, high = np.nanmin(drawn, axis=0), np.nanmax(drawn, axis=0)
    reach = float((high - low).max()) / 2
    return (low + high) / 2, 1.05 * reach if reach > 0 and math.isfinite(reach) else 1.0


def _colors(points: np.ndarray, names: Sequence[object] | None) -> object:
    listed = [str(name) for name in names or ()]
    if not {"red", "green", "blue"} <= set(listed):
        return SAMPLES
    colors = points[:, [listed.index(name) for name in ("red", "green", "blue")]]
    return np.clip(colors / (255 if colors.max() > 1 else 1), 0, 1)
