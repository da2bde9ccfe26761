"""Parts of several plots: densities over a line and over a plane."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pushforward import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Slider", "bare", "bell", "level_map", "line"]


@dataclass(frozen=True)
class Slider:
    """The range of a parameter of a plot, as in ``step: Annotated[float, Slider("step", 0.01, 0.1, 0.01)] = 0.02``.

    ``words`` are what its values 0, 1, 2, ... stand for, where it chooses one of several.
    """

    label: str
    low: float
    high: float
    step: float
    default: float = 0.0
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, label: str, *words: str) -> "Slider":
        """Return a slider that chooses one of several words, by its number.

        >>> Slider.of("schedule", "cosine", "straight line").said(1)
        'straight line'
        """
        return cls(label, 0, len(words) - 1, 1, words=words)

    def said(self, value: float) -> str:
        """Return a value in words."""
        return self.words[round(value)] if self.words else f"{value:g}"


def line(low: float, high: float, count: int = 401) -> Tensor:
    """Return evenly spaced float64 numbers (count,)."""
    return torch.linspace(low, high, count, dtype=torch.float64)


def bell(axes: "Axes", x: Tensor, density: Tensor, color: str, label: str | None = None, *, fill: bool = True) -> None:
    """Draw a density (N,) over x (N,) as a line, filled below."""
    axes.plot(x.numpy(), density.numpy(), color=color, linewidth=1.8, label=label)
    if fill:
        axes.fill_between(x.numpy(), 0, density.numpy(), color=color, alpha=0.18, linewidth=0)


def level_map(
    axes: "Axes",
    log_prob: Callable[[Tensor], Tensor],
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    cmap: str = "Blues",
    levels: int = 24,
) -> np.ndarray:
    """Draw the density exp(log_prob) over a rectangle as filled levels, and return its values (121, 121), rows by y."""
    across, up = line(*x, 121), line(*y, 121)
    points = torch.cartesian_prod(across, up)
    values = np.asarray(log_prob(points).exp().reshape(121, 121).T)
    axes.contourf(across.numpy(), up.numpy(), values, levels=levels, cmap=cmap)
    bare(axes)
    return values


def bare(axes: "Axes") -> None:
    """Remove the grid and give both axes one scale."""
    axes.grid(visible=False)
    axes.set_aspect("equal")
    axes.tick_params(colors=plots.INK, labelsize=8)
