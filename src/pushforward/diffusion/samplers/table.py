r"""Samplers: a table of coefficients and one loop that runs any of them.

The probability-flow ODE and the reverse SDE are linear in x_t apart from the denoiser, so an explicit method is determined by
the times of its denoiser calls and the linear combinations between them. Row i of a :class:`Table` means

    D_i     = denoiser(x_i, tau_i)
    x_{i+1} = sum_j  A_ij x_{i-j} + B_ij D_{i-j} + C_ij z_{i-j},       j = 0 ... m - 1 (lags),

with fresh standard normal z_i. Such tables are filled by Runge-Kutta methods
(:mod:`pushforward.diffusion.samplers.runge_kutta`), DDPM and DDIM (:mod:`~pushforward.diffusion.samplers.ancestral`), multistep
solvers (:mod:`~pushforward.diffusion.samplers.multistep`), solvers of the reverse SDE
(:mod:`~pushforward.diffusion.samplers.stochastic`) and by fitting (:mod:`~pushforward.diffusion.samplers.calibration`).
``nfe``, ``order`` and ``stochastic`` follow from the table.

Times. A table is computed once per (sampler, schedule, times) in float64. ``times`` is a float64 grid; for ``run`` it is

    1 = t_0 > t_1 > ... > t_{n-1} >= t_min,  t_n = 0,

and the last entry 0 means "return denoised": the last row has A = C = 0, B = 1, whatever sigma(0) is, so there is no
residual noise and no division by it. (A sampler that extrapolates to sigma = 0, as AngleSolver does, uses sum_j A_j sigma_j = 0
and sum_j A_j alpha_j + B_j = 1 instead: no noise is left where D is constant.) ``integrate`` takes any strictly monotone times
in [t_min, 1], decreasing or increasing (increasing, from data to noise, only for deterministic samplers), with 0 allowed at the
end.

Ends. Where alpha(1) = 0 every coefficient has its finite limit. ``run`` starts at x_1 = sigma(1) noise.

Shapes and dtypes. Noise is (B, *D); the result has its shape, dtype and device. The times reach the denoiser as float64
tensors of shape () on the CPU. The noise z of row i at row k of the table is a function of (seed, first + i, k).

Not every sampler is a table: :class:`~pushforward.diffusion.samplers.adaptive.Adaptive` chooses its steps during the run.

A sampler is a frozen dataclass without state: one object serves any number of models, runs and threads.

References
----------
Cheng Lu et al. DPM-Solver++. 2022. https://arxiv.org/abs/2211.01095
Qinsheng Zhang, Yongxin Chen. Fast sampling of diffusion models with exponential integrator. 2023. https://arxiv.org/abs/2204.13902
Neta Shaul et al. Bespoke non-stationary solvers. 2024. https://arxiv.org/abs/2403.01329  (every explicit solver as a table)
"""

import abc
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.grid import Grid, UniformGrid, check_steps
from pushforward.diffusion.schedule import Schedule, StraightLine
from pushforward.probability.noise import fresh_seed, normal

__all__ = [
    "Call",
    "OnStep",
    "Sampler",
    "Table",
    "TableBuilder",
    "TableSampler",
    "Times",
    "check_conditions",
    "check_falling",
    "check_run_times",
    "check_times",
]

Times = Tensor | Sequence[float]
OnStep = Callable[[int, float, Tensor, Tensor], None]
"""Called after each row of the table as ``on_step(row, time, x, denoised)``; ``x`` belongs to ``time``."""


@dataclass(frozen=True, eq=False)
class Table:
    """The coefficients of a sampler on one schedule and one grid.

    Attributes
    ----------
    tau : Tensor (n,)
        Time of each denoiser call.
    to : Tensor (n,)
        Time of the result of each row (for inner Runge-Kutta stages the time of the stage).
    A, B, C : Tensor (n, m)
        Coefficients of states, denoised predictions and noises at lags 0 ... m - 1.
    """

    tau: Tensor
    to: Tensor
    A: Tensor
    B: Tensor
    C: Tensor

    @property
    def nfe(self) -> int:
        """Number of denoiser calls."""
        return len(self.tau)

    @functools.cached_property
    def stochastic(self) -> bool:
        """True if any row adds noise."""
        return bool((self.C != 0).any())

    @functools.cached_property
    def rows(self) -> "list[_Row]":
        """The rows in the form that the loop runs."""
        parts = [matrix.tolist() for matrix in (self.A, self.B, self.C)]
        return [_Row.of(*row) for row in zip(self.tau.unbind(), self.to.tolist(), *parts, strict=True)]

    @functools.cached_property
    def memory(self) -> int:
        """Number of calls to keep, at least 1."""
        used = (torch.stack((self.A, self.B, self.C)) != 0).any(0).any(0).nonzero()
        return int(used.max()) + 1


class _Row(NamedTuple):
    """One row in the form that the loop runs: a chain of weighted means, each one pass over memory, times a scale, mostly 1.

    With the terms w_0 T_0 + ... + w_k T_k and the partial sums s_j = w_j + ... + w_k, the chain m_k = T_k,
    m_j = m_{j+1} + (w_j / s_j) (T_j - m_{j+1}) ends at m_0, and the row is s_0 m_0. Where a partial sum nearly vanishes the
    terms are added instead. ``fold(m, T, weight)`` is either step.

    ``start`` and ``terms`` identify tensors by pool (0, 1 or 2 for x, D or z) and lag, in the order of the chain.
    """

    tau: Tensor
    to: float
    start: tuple[int, int]
    terms: tuple[tuple[int, int, float], ...]
    scale: float
    fold: Callable[[Tensor, Tensor, float], Tensor]

    @classmethod
    def of(cls, tau: Tensor, to: float, a: list[float], b: list[float], c: list[float]) -> "_Row":
        terms = [(pool, lag, value) for pool, row in enumerate((a, b, c)) for lag, value in enumerate(row) if value != 0]
        (pool, lag, first), *rest = reversed(terms)
        total, largest, stable, chain = first, abs(first), True, []
        for other_pool, other_lag, value in rest:
            total, largest = total + value, max(largest, abs(value))
            stable = stable and abs(total) > largest / 4
            chain.append((other_pool, other_lag, value / total if total else 0.0))
        if stable:
            return cls(tau, to, (pool, lag), tuple(chain), 1.0 if abs(total - 1) < 4e-15 else total, torch.lerp)
        return cls(tau, to, (pool, lag), tuple((p, q, value / first) for p, q, value in rest), first, _add)


def _add(x: Tensor, term: Tensor, weight: float) -> Tensor:
    return torch.add(x, term, alpha=weight)


class TableBuilder:
    """Collects the rows of a table as {lag: coefficient}; absent lags are zero."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, dict[int, float], dict[int, float], dict[int, float]]] = []

    def row(self, tau: float, to: float, a: dict[int, float], b: dict[int, float], c: dict[int, float] | None = None) -> None:
        """Append one row."""
        self._rows.append((float(tau), float(to), a, b, c or {}))

    def build(self) -> Table:
        """Return the table."""
        lags = [lag for row in self._rows for part in row[2:] for lag in part]
        shape = (len(self._rows), max(lags, default=0) + 1)
        matrices = [torch.zeros(shape, dtype=torch.float64) for _ in range(3)]
        for index, row in enumerate(self._rows):
            for matrix, part in zip(matrices, row[2:], strict=True):
                for lag, value in part.items():
                    matrix[index, lag] = float(value)
        tau, to = (torch.tensor([row[k] for row in self._rows], dtype=torch.float64) for k in (0, 1))
        return Table(tau, to, *matrices)


@dataclass(frozen=True)
class Call:
    """What the rows of a call need besides the denoiser and the times; see :meth:`Sampler.run`."""

    condition: Tensor | None = None
    seed: int | None = None
    first: int = 0
    on_step: OnStep | None = None


@dataclass(frozen=True)
class Sampler(CheckedFields, abc.ABC):
    """An algorithm from noise to data. Most are a :class:`TableSampler`; others define ``run_times`` and ``follow``."""

    @torch.no_grad()
    def run(
        self,
        denoiser: AbstractDenoiser,
        noise: Tensor,
        *,
        steps: int | None = None,
        times: Times | None = None,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Turn noise into samples.

        Parameters
        ----------
        denoiser : AbstractDenoiser
        noise : Tensor (B, *D)
            Standard normal, or drawn from the source that the denoiser was trained with.
        steps : int
            Steps of the sampler's own grid; alternative to ``times``.
        times : tensor or sequence
            A grid from 1 to 0.
        condition : Tensor (B, K), optional
        seed, first : int
            Determine the noise of stochastic samplers: row i of this batch is sample ``first + i`` of ``seed``. Without a
            seed a new one is drawn.
        on_step : function, optional
            Called after each row of the table with (row, time, x, denoised).

        Returns
        -------
        Tensor (B, *D)

        Raises
        ------
        ValueError
            If both or neither of ``steps`` and ``times`` are given, the times do not go from 1 to 0, or the sampler is
            stochastic and the denoiser's source is not independent Gaussian noise.
        """
        grid = self.run_times(denoiser.schedule, steps, times)
        x = noise * denoiser.schedule.sigma(torch.ones((), dtype=torch.float64))
        return self.follow(denoiser, x, grid, Call(condition, seed, first, on_step))

    def integrate(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Times,
        *,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Integrate from the state ``x_t`` at ``times[0]`` to ``times[-1]``; gradients flow unless the caller disables them.

        The arguments are those of :meth:`run`; for deterministic samplers times may increase (data to noise).
        """
        return self.follow(denoiser, x_t, times, Call(condition, seed, first, on_step))

    @abc.abstractmethod
    def run_times(self, schedule: Schedule, steps: int | None, times: Times | None) -> Times:
        """Return the times of a run, from 1 to 0."""

    @abc.abstractmethod
    def follow(self, denoiser: AbstractDenoiser, x_t: Tensor, times: Times, call: Call) -> Tensor:
        """Integrate from the state ``x_t`` at ``times[0]`` to ``times[-1]``."""


@dataclass(frozen=True)
class TableSampler(Sampler):
    """A sampler that is a table; subclasses are frozen dataclasses that fill the table.

    A new one defines ``order`` and ``_fill``.
    """

    @property
    def grid(self) -> Grid:
        """Grid that ``run(steps=n)`` uses."""
        return UniformGrid()

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Order of convergence between inner times (weak order for stochastic samplers)."""

    @abc.abstractmethod
    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        """Append the rows along ``times``, without the step to a final time 0."""

    def _finish(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        """Append the row from the last of ``times`` to a final time 0: return denoised."""
        builder.row(times[-1], 0.0, {}, {0: 1.0})

    def table(self, schedule: Schedule, times: Times) -> Table:
        """Return the table for these times; it is cached."""
        return _table(self, schedule, tuple(torch.as_tensor(times, dtype=torch.float64).tolist()))

    def nfe(self, steps: int) -> int:
        """Network calls of ``run(steps=steps)`` without guidance, which doubles them."""
        return self.table(StraightLine(), UniformGrid()(StraightLine(), check_steps(steps))).nfe

    def run_times(self, schedule: Schedule, steps: int | None, times: Times | None) -> Times:
        """Return ``times``, or the sampler's own grid of ``steps``."""
        if times is not None and steps is None:
            return check_run_times(times)
        if steps is None or times is not None:
            raise ValueError("give either steps=<number of steps> or times=<grid from 1 to 0>, and not both")
        return _grid_of_steps(self, schedule, check_steps(steps))

    def follow(self, denoiser: AbstractDenoiser, x_t: Tensor, times: Times, call: Call) -> Tensor:
        """Check that table, denoiser and conditions are compatible, and run the table."""
        table = self.table(denoiser.schedule, times)
        if table.stochastic and not denoiser.gaussian_source:
            raise ValueError(
                f"{self} adds Gaussian noise at each step, but this model's source is not independent Gaussian noise, so its "
                "reverse process is different; use a deterministic sampler such as DPMSolver()"
            )
        check_conditions(call.condition, x_t)
        seed = fresh_seed() if table.stochastic and call.seed is None else call.seed or 0
        rows = torch.arange(call.first, call.first + len(x_t), device=x_t.device)

        def draw(step: int) -> Tensor:
            return normal(x_t.shape[1:], seed=seed, purpose="sampler", rows=rows, step=step, dtype=x_t.dtype, device=x_t.device)

        return _run(table, denoiser, x_t, call, draw)


def _run(table: Table, denoiser: AbstractDenoiser, x: Tensor, call: Call, draw: Callable[[int], Tensor]) -> Tensor:
    """Run the table. ``appendleft`` on a bounded deque makes index j the lag j."""
    xs: deque[Tensor] = deque([x], table.memory)
    ds: deque[Tensor] = deque(maxlen=table.memory)
    zs: deque[Tensor] = deque(maxlen=table.memory)
    pools, stochastic = (xs, ds, zs), table.stochastic
    for index, (tau, to, (pool, lag), terms, scale, fold) in enumerate(table.rows):
        ds.appendleft(denoiser(x, tau, call.condition))
        if stochastic:
            zs.appendleft(draw(index))
        x = pools[pool][lag]
        for pool, lag, weight in terms:
            x = fold(x, pools[pool][lag], weight)
        if scale != 1:
            x = x * scale
        xs.appendleft(x)
        if call.on_step is not None:
            call.on_step(index, to, x, ds[0])
    return x


@functools.lru_cache(maxsize=64)
def _table(sampler: TableSampler, schedule: Schedule, times: tuple[float, ...]) -> Table:
    check_times(schedule, times)
    builder = TableBuilder()
    inner = times[:-1] if times[-1] == 0 else times
    if len(inner) > 1:
        sampler._fill(builder, schedule, inner)
    if times[-1] == 0:
        sampler._finish(builder, schedule, inner)
    return builder.build()


@functools.lru_cache(maxsize=64)
def _grid_of_steps(sampler: TableSampler, schedule: Schedule, steps: int) -> tuple[float, ...]:
    return tuple(sampler.grid(schedule, steps).tolist())


def check_run_times(times: Times | None) -> Tensor:
    """Return the times of a run as float64, or raise a ValueError if they do not start at 1 and end at 0."""
    grid = torch.as_tensor(times, dtype=torch.float64)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] != 1 or grid[-1] != 0:
        raise ValueError("the times of a run start at 1 (noise) and end at 0 (data); use integrate() for any others")
    return grid


def check_conditions(condition: Tensor | None, x: Tensor) -> None:
    """Raise a ValueError unless there is one condition per row of x."""
    if condition is not None and len(condition) != len(x):
        raise ValueError(f"there are {len(x)} rows to sample but {len(condition)} conditions; give one condition per row")


def check_times(schedule: Schedule, times: Sequence[float]) -> None:
    """Raise a ValueError unless the times are strictly monotone in [t_min, 1], apart from a final 0."""
    if len(times) < 2:
        raise ValueError(f"a sampler needs at least two times, from and to; got {list(times)}")
    differences = [after - before for before, after in itertools.pairwise(times)]
    if not (all(d < 0 for d in differences) or all(d > 0 for d in differences)):
        raise ValueError(f"the times must fall strictly (or rise strictly, towards noise), but they are {list(times)}")
    inner = times[:-1] if times[-1] == 0 else times
    if max(inner) > 1 or min(inner) < schedule.t_min * (1 - 1e-9):
        raise ValueError(
            f"the times must lie between t_min={schedule.t_min:g} of {schedule} and 1, apart from a final 0; got {list(times)}"
        )


def check_falling(sampler: Sampler, times: Sequence[float]) -> None:
    """Raise a ValueError if the times increase, for samplers that add noise."""
    if times[-1] > times[0]:
        raise ValueError(f"{sampler} adds noise and only runs from noise to data; rising times need a deterministic sampler")
