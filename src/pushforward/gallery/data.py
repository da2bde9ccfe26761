"""Plots of data: what a mean and a line do not say, and axes that decorrelate."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pushforward import plots
from pushforward.gallery.pen import bare
from pushforward.probability import Gaussian, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["anscombe", "principal_components"]

_SHARED = (10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5)
QUARTET = torch.tensor(
    [  # F. J. Anscombe. Graphs in statistical analysis. The American Statistician, 1973.
        (_SHARED, (8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68)),
        (_SHARED, (9.14, 8.14, 8.74, 8.77, 9.26, 8.10, 6.13, 3.10, 9.13, 7.26, 4.74)),
        (_SHARED, (7.46, 6.77, 12.74, 7.11, 7.81, 8.84, 6.08, 5.39, 8.15, 6.42, 5.73)),
        ((8, 8, 8, 8, 8, 8, 8, 19, 8, 8, 8), (6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.50, 5.56, 7.91, 6.89)),
    ],
    dtype=torch.float64,
)
"""Anscombe's four data sets: x and y of eleven points, (4, 2, 11)."""


def anscombe() -> "Figure":
    """Anscombe's quartet: four data sets with one mean, one standard deviation and one fitted line."""
    canvas = plots.figure(11.2, 3.4)
    ends = torch.tensor([3.0, 20.0], dtype=torch.float64)
    for index, (x, y) in enumerate(QUARTET):
        slope, intercept = fitted_line(x, y)
        axes = plots.panel(
            canvas, 1, 4, index + 1, f"mean {y.mean():.2f}, std {y.std():.2f}\ny = {intercept:.2f} + {slope:.2f} x"
        )
        axes.plot(ends.numpy(), (intercept + slope * ends).numpy(), color=plots.ACCENT, linewidth=1.4)
        axes.plot(x.numpy(), y.numpy(), "o", color=plots.SAMPLES, markersize=5)
        axes.set_xlim(3, 20)
        axes.set_ylim(2, 14)
        axes.set_xlabel("x")
        if index == 0:
            axes.set_ylabel("y")
    return canvas


def principal_components() -> "Figure":
    """PCA turns the axes along the eigenvectors of the covariance: in the new coordinates nothing is correlated."""
    x = Gaussian([1.0, 0.5], [[2.0, 1.1], [1.1, 1.0]]).sample(500, seed=0)
    law = estimate.fit_gaussian(x)
    axes_of = law.principal_axes()
    turned = (x - law.mean) @ axes_of.directions.T
    panels = (
        ("data, and the principal axes", x),
        ("in the coordinates of the axes", turned),
        ("divided by the lengths of the axes", turned / axes_of.lengths),
    )
    canvas = plots.figure(11.2, 4.0)
    for index, (title, points) in enumerate(panels):
        correlation = torch.corrcoef(points.T)[0, 1].item()
        axes = plots.panel(canvas, 1, 3, index + 1, f"{title}\ncorrelation {correlation + 0.0:.2f}")
        axes.plot(*points.T.numpy(), ".", color=plots.DATA, markersize=4)
        for direction, length in zip(axes_of.directions, axes_of.lengths, strict=True):
            seen = direction if index == 0 else axes_of.directions @ direction
            arrow = seen if index == 2 else seen * length
            a, b = points.mean(0).tolist()
            c, d = (points.mean(0) + 2 * arrow).tolist()
            axes.annotate("", (c, d), (a, b), arrowprops={"arrowstyle": "-|>", "color": plots.ACCENT, "lw": 2})
        axes.set_xlim(-5, 6)
        axes.set_ylim(-4.5, 4.5)
        bare(axes)
    return canvas


def fitted_line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return slope and intercept of the line of least squared vertical distance."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope.item(), (y.mean() - slope * x.mean()).item()
