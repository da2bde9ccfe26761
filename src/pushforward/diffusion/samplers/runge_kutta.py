r"""Runge-Kutta samplers: Euler, Heun and RK4 in t.

They integrate the probability-flow ODE, which with the denoised prediction D at x_t reads

    dx/dt = (sigma_dot / sigma) x + (alpha_dot - alpha sigma_dot / sigma) D.

References
----------
Ernst Hairer, Syvert Norsett, Gerhard Wanner. Solving ordinary differential equations I. Springer, 1993.
Tero Karras et al. Elucidating the design space of diffusion-based generative models. 2022. https://arxiv.org/abs/2206.00364
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pushforward.diffusion.samplers.grid import Grid, UniformGrid
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler
from pushforward.diffusion.schedule import Schedule

__all__ = ["RK4", "Euler", "Heun"]


def _runge_kutta(
    builder: TableBuilder,
    schedule: Schedule,
    times: Sequence[float],
    nodes: Sequence[float],
    stages: Sequence[Sequence[float]],
) -> None:
    """Append the rows of an explicit Runge-Kutta method in t.

    ``nodes`` are the c_i of its Butcher tableau; ``stages[i]`` are the weights of k_0 ... k_i that make the state of stage
    i + 1, the last of them the step itself.
    """
    for t, s in itertools.pairwise(times):
        at = torch.tensor([t + c * (s - t) for c in nodes], dtype=torch.float64)
        ratio = schedule.sigma_dot(at) / schedule.sigma(at)
        slope_x = ratio.tolist()
        slope_d = (schedule.alpha_dot(at) - ratio * schedule.alpha(at)).tolist()
        goals = [*at.tolist()[1:], s]
        for i, weights in enumerate(stages):
            a, b = {i: 1.0}, {}
            for j, weight in enumerate(weights):
                a[i - j] = a.get(i - j, 0.0) + (s - t) * weight * slope_x[j]
                b[i - j] = (s - t) * weight * slope_d[j]
            builder.row(at[i].item(), goals[i], a, b)


@dataclass(frozen=True)
class Euler(TableSampler):
    """Explicit Euler in t: one call per step, order 1.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """1."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        _runge_kutta(builder, schedule, times, nodes=[0.0], stages=[[1.0]])


@dataclass(frozen=True)
class Heun(TableSampler):
    """Heun's method in t: two calls per step, order 2.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """2."""
        return 2

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        _runge_kutta(builder, schedule, times, nodes=[0.0, 1.0], stages=[[1.0], [0.5, 0.5]])


@dataclass(frozen=True)
class RK4(TableSampler):
    """The classical Runge-Kutta method in t: four calls per step, order 4.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """4."""
        return 4

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        stages = [[0.5], [0.0, 0.5], [0.0, 0.0, 1.0], [1 / 6, 1 / 3, 1 / 3, 1 / 6]]
        _runge_kutta(builder, schedule, times, nodes=[0.0, 0.5, 0.5, 1.0], stages=stages)
