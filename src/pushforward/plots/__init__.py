"""Plots from arrays: samples, data, training, measures.

Grids of images are Pillow images, pixel for pixel; everything with axes is a matplotlib figure, made by its object interface
without global state, windows or displays. :func:`save` writes either, :func:`film` writes several figures as an animation.
"""

from pushforward.plots.charts import columns_grid, error_curves, learning_curve, scatter_grid
from pushforward.plots.grids import image_grid
from pushforward.plots.scores import KINDS, distance_histogram, floor_chart, level_bars, path_lines, point_cloud, trade_off
from pushforward.plots.style import ACCENT, DATA, FAINT, GOOD, INK, SAMPLES, Plot, figure, film, panel, rendered, save

__all__ = [
    "ACCENT",
    "DATA",
    "FAINT",
    "GOOD",
    "INK",
    "KINDS",
    "SAMPLES",
    "Plot",
    "columns_grid",
    "distance_histogram",
    "error_curves",
    "figure",
    "film",
    "floor_chart",
    "image_grid",
    "learning_curve",
    "level_bars",
    "panel",
    "path_lines",
    "point_cloud",
    "rendered",
    "save",
    "scatter_grid",
    "trade_off",
]
