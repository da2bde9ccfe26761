r"""Runge-Kutta samplers: Euler, Heun and RK4 in t.

They integrate the probability-flow ODE, which is, with D the denoised prediction at x_t,

    dx/dt = (sigma_dot / sigma) x + (alpha_dot - alpha sigma_dot / sigma) D.

References
----------
Ernst Hairer, Syvert Norsett, Gerhard Wanner. Solving ordinary differential equations I. Springer, 1993.
Tero Karras et al. Elucidating the design space of diffusion-based generative models. 2022. https://arxiv.org/abs/2206.00364
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from pushforward.diffusion.samplers.grid import Grid, UniformGrid
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler
from pushforward.diffusion.schedule import Schedule

__all__ = ["RK4", "Euler", "Heun"]


@dataclass(frozen=True)
class _RungeKutta(TableSampler):
    """An explicit Runge-Kutta method in t, of at most four stages, so that the order equals their number.

    ``_nodes`` are the c_i of its Butcher tableau; ``_stages[i]`` are the weights of k_0 ... k_i in the state of stage i + 1,
    the last of them in the step itself.
    """

    grid: Grid = field(default=UniformGrid())

    _nodes: ClassVar[tuple[float, ...]]
    _stages: ClassVar[tuple[tuple[float, ...], ...]]

    @property
    def order(self) -> int:
        """The number of stages."""
        return len(self._stages)

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        for t, s in itertools.pairwise(times):
            at = torch.tensor([t + c * (s - t) for c in self._nodes], dtype=torch.float64)
            ratio = schedule.sigma_dot(at) / schedule.sigma(at)
            slope_x = ratio.tolist()
            slope_d = (schedule.alpha_dot(at) - ratio * schedule.alpha(at)).tolist()
            goals = [*at.tolist()[1:], s]
            for i, weights in enumerate(self._stages):
                a, b = {i: 1.0}, {}
                for j, weight in enumerate(weights):
                    a[i - j] = a.get(i - j, 0.0) + (s - t) * weight * slope_x[j]
                    b[i - j] = (s - t) * weight * slope_d[j]
                builder.row(at[i].item(), goals[i], a, b)


@dataclass(frozen=True)
class Euler(_RungeKutta):
    """Explicit Euler in t on a ``grid``: one call per step, order 1."""

    _nodes = (0.0,)
    _stages = ((1.0,),)


@dataclass(frozen=True)
class Heun(_RungeKutta):
    """Heun's method in t on a ``grid``: two calls per step, order 2."""

    _nodes = (0.0, 1.0)
    _stages = ((1.0,), (0.5, 0.5))


@dataclass(frozen=True)
class RK4(_RungeKutta):
    """The classical Runge-Kutta method in t on a ``grid``: four calls per step, order 4."""

    _nodes = (0.0, 0.5, 0.5, 1.0)
    _stages = ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
