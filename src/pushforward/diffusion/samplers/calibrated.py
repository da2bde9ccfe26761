r"""Samplers with free coefficients: any explicit method with one call per step, for one number of steps.

With the states x_0 (noise) ... x_n (data), the calls D_k at x_k and their noise levels s_k = sigma_k / alpha_k, step k of
:class:`CalibratedSampler` is

    h_k     = sum_{j <= k} w_kj D_j,                       the prediction of the step
    eps_k   = (x_k - alpha_k h_k) / sigma_k,               the corresponding noise
    x_{k+1} = alpha_{k+1} (h_k + b_k s_{k+1} eps_k),       of which a part is kept

and x_n = h_{n-1} + b_{n-1} s_{n-1} eps_{n-1} in the last. With h_k = D_k, b_k = 1 and b_{n-1} = 0 this is DDIM. Other weights
extrapolate the prediction, and b_k other than 1 makes the noise level given to the denoiser differ from that of x. Linear
combinations compose, so every deterministic :class:`~pushforward.diffusion.samplers.table.Table` with one call per step has
this form, in which only the first noise level depends on the schedule.

References
----------
Neta Shaul et al. Bespoke non-stationary solvers. 2024. https://arxiv.org/abs/2403.01329
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pushforward.diffusion.samplers.coefficients import Scales
from pushforward.diffusion.samplers.grid import Grid, LevelGrid, check_steps
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler
from pushforward.diffusion.schedule import Schedule

__all__ = ["CalibratedSampler"]


@dataclass(frozen=True)
class CalibratedSampler(TableSampler):
    """Noise levels and coefficients for one number of steps n, on any schedule: the result of fitting a sampler.

    Parameters
    ----------
    levels : tuple of n - 1 floats
        Noise levels sigma / alpha of the calls after the first, decreasing; the first call is at t = 1. On a schedule that does
        not reach the outermost levels, all move closer together.
    kept : tuple of n floats
        Noise b_k that each step leaves, in units of the noise level of the next call; for the last step, of its own call.
    weights : tuple of n tuples of floats
        Row k holds the weights of D_0 ... D_k in the prediction h_k; they usually sum to 1.

    Raises
    ------
    ValueError
        If the lengths do not match, the levels do not decrease, or a number is not finite.

    >>> sampler = CalibratedSampler(levels=(1.0,), kept=(1.0, 0.0), weights=((1.0,), (-0.2, 1.2)))
    >>> sampler.nfe(2)
    2
    """

    levels: tuple[float, ...]
    kept: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name in ("levels", "kept"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        object.__setattr__(self, "weights", tuple(tuple(float(value) for value in row) for row in self.weights))
        LevelGrid(self.levels)
        n, lengths = len(self.levels) + 1, [len(row) for row in self.weights]
        if len(self.kept) != n or lengths != list(range(1, n + 1)):
            raise ValueError(
                f"{n - 1} levels make {n} steps, so kept must hold {n} numbers and the rows of weights 1 to {n} of them, "
                f"but kept holds {len(self.kept)} and the rows hold {lengths}"
            )
        if not all(map(math.isfinite, itertools.chain(self.kept, *self.weights))):
            raise ValueError(f"kept and weights must hold finite numbers, got {self.kept} and {self.weights}")

    def __str__(self) -> str:
        return f"{type(self).__name__} of {len(self.kept)} steps"

    @classmethod
    def of(cls, sampler: TableSampler, schedule: Schedule, steps: int) -> "CalibratedSampler":
        """Return the table of another sampler for ``steps`` steps on this schedule in this form, with the same results.

        Raises
        ------
        ValueError
            If the sampler adds noise, or does not make one call per step.

        >>> from pushforward.diffusion import DDIM, StraightLine
        >>> CalibratedSampler.of(DDIM(), StraightLine(), 2)
        CalibratedSampler(levels=(1.0,), kept=(1.0, 0.0), weights=((1.0,), (0.0, 1.0)))
        """
        table = sampler.table(schedule, sampler.grid(schedule, check_steps(steps)))
        if table.stochastic or table.nfe != steps:
            raise ValueError(f"{sampler} adds noise or makes more than one call per step, so it has no table of this form")
        scales = Scales.of(schedule, table.tau.tolist())
        to = [*scales.alpha[1:], 1.0]
        per_on_x = [before / after for before, after in itertools.pairwise(scales.sigma)] + scales.alpha[-1:]
        # Coefficients of (x_0, D_0, ..., D_{n-1}) in each state.
        states, calls = [np.eye(steps + 1)[0]], np.eye(steps + 1)[1:]
        kept, weights = [], []
        for k in range(steps):
            lags = range(min(k + 1, table.A.shape[1]))
            state = sum(table.A[k, j].item() * states[k - j] + table.B[k, j].item() * calls[k - j] for j in lags)
            states.append(np.asarray(state))
            on_x = (states[-1][0] / states[k][0]).item()
            kept.append(on_x * per_on_x[k])
            weights.append(tuple(((states[-1] - on_x * states[k])[1 : k + 2] / (to[k] - scales.alpha[k] * on_x)).tolist()))
        levels = schedule.noise_level(table.tau[1:]).tolist()
        return cls(tuple(levels), tuple(kept), tuple(weights))

    @property
    def order(self) -> int:
        """0: a table for one number of steps has no order of convergence."""
        return 0

    @property
    def grid(self) -> Grid:
        """The grid of the levels."""
        return LevelGrid(self.levels)

    def nfe(self, steps: int) -> int:
        """Network calls of ``run(steps=steps)``, for the table's number of steps."""
        if check_steps(steps) != len(self.kept):
            raise ValueError(f"this sampler was calibrated for {len(self.kept)} steps and has no table for {steps}")
        return steps

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        scales = self._scales(schedule, times)
        for k, (start, end) in enumerate(itertools.pairwise(times)):
            on_x = self.kept[k] * scales.sigma[k + 1] / scales.sigma[k]
            self._row(builder, k, (start, end), on_x, scales.alpha[k + 1] - scales.alpha[k] * on_x)

    def _finish(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        on_x = self.kept[-1] / self._scales(schedule, times).alpha[-1] if self.kept[-1] else 0.0
        self._row(builder, len(times) - 1, (times[-1], 0.0), on_x, 1.0 - self.kept[-1])

    def _scales(self, schedule: Schedule, times: Sequence[float]) -> Scales:
        own = self.grid(schedule, len(self.kept)).tolist()
        if list(times) != own[:-1]:
            raise ValueError(f"this sampler was calibrated for the times {own} and accepts no others, got {list(times)}")
        return Scales.of(schedule, times)

    def _row(self, builder: TableBuilder, k: int, step: tuple[float, float], on_x: float, on_h: float) -> None:
        builder.row(*step, {0: on_x}, {k - j: on_h * weight for j, weight in enumerate(self.weights[k])})
