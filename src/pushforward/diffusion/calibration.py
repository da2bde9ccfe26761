r"""Calibration: a sampler's table, times and coefficients alike, fitted to one denoiser.

With few steps no fixed rule is the best for a given model. In the variables of :class:`AngleSolver` (x_t / rho, angle theta, F)
every explicit method on a grid is

    x_{k+1} / rho_{k+1} = x_k / rho_k + (theta_{k+1} - theta_k) sum_{j <= k} w_kj F_j,

and the last step, to the data, is D_{n-1} + sigma_{n-1} / alpha_{n-1} sum_j u_j (eps_j - eps_{n-1}): a table of n steps is
n - 1 times, n (n - 1) / 2 weights w and n - 1 weights u. :func:`calibrate` starts from the table of the default sampler and
lowers the mean squared difference to the denoiser's own fine-step solution from the same noises, by gradients through the
chain. What comes out is a :class:`CalibratedSampler`, plain numbers that serve this denoiser (at this guidance scale) alone,
with the gain over the default sampler on noises that were held out.

References
----------
Neta Shaul et al. Bespoke non-stationary solvers. 2024. https://arxiv.org/abs/2403.01329
Eric Frankel et al. S4S: solving for a diffusion model solver. 2025. https://arxiv.org/abs/2502.17423
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pushforward.diffusion.default import default_sampler
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.grid import FixedGrid, Grid, VPGrid, check_steps
from pushforward.diffusion.multistep import AngleSolver
from pushforward.diffusion.sampler import Sampler, Table, TableBuilder, TableSampler
from pushforward.diffusion.schedule import Schedule
from pushforward.probability import noise as random

__all__ = ["CalibratedSampler", "Calibration", "calibrate"]

_LEAST_GAP = 1e-9
_RATE, _FULL_RATE_UP_TO = 0.03, 8  # with more steps each weight moves less: a chain of many sums up all of them
_TAIL_SLOWNESS = 0.1


@dataclass(frozen=True)
class CalibratedSampler(TableSampler):
    """A table fitted to one denoiser: it has one grid, and runs no other number of steps.

    Parameters
    ----------
    times : tuple of float
        The grid 1 = t_0 > ... > t_{n-1} > t_n = 0.
    on_x, on_denoised : tuple of tuples of float
        Row k holds the coefficients of x and D at lags 0 ... k in x_{k+1}, the last of which is at t = 0.

    >>> sampler = CalibratedSampler((1.0, 0.5, 0.0), ((0.5,), (0.0, 0.0)), ((0.5,), (1.0, 0.0)))
    >>> sampler.nfe(2)
    2
    """

    times: tuple[float, ...]
    on_x: tuple[tuple[float, ...], ...]
    on_denoised: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(float(t) for t in self.times))
        FixedGrid(self.times)
        for name in ("on_x", "on_denoised"):
            rows = tuple(tuple(float(value) for value in row) for row in getattr(self, name))
            object.__setattr__(self, name, rows)
            lengths, wanted = [len(row) for row in rows], list(range(1, len(self.times)))
            if lengths != wanted:
                raise ValueError(f"{name} must have one row per step, of {wanted} coefficients, but the rows have {lengths}")
            if not all(math.isfinite(value) for row in rows for value in row):
                raise ValueError(f"{name} must hold finite numbers, got {rows}")

    @property
    def order(self) -> int:
        """0: a table for one grid converges to nothing."""
        return 0

    @property
    def grid(self) -> Grid:
        """The grid of the table."""
        return FixedGrid(self.times)

    def nfe(self, steps: int) -> int:
        """Network calls of ``run(steps=steps)``, for the one number of steps that the table has."""
        if check_steps(steps) != len(self.times) - 1:
            raise ValueError(f"this sampler was calibrated for {len(self.times) - 1} steps and has no table for {steps}")
        return steps

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        if tuple(times) != self.times[:-1]:
            raise ValueError(
                f"this sampler was calibrated for the times {list(self.times)} and runs no others, got {list(times)}"
            )
        for k, (start, end) in enumerate(itertools.pairwise(times)):
            builder.row(start, end, dict(enumerate(self.on_x[k])), dict(enumerate(self.on_denoised[k])))

    def _finish(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        builder.row(times[-1], 0.0, dict(enumerate(self.on_x[-1])), dict(enumerate(self.on_denoised[-1])))


@dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` found.

    Attributes
    ----------
    sampler : CalibratedSampler
    error, default_error : float
        Root mean square difference per element to the fine-step solution on held-out noises, of the calibrated sampler and of
        the default sampler with as many steps. A fit that is no gain on them is not kept: then the table is the default one.
    held_out : int
        Number of these noises.
    seed : int
        The seed that calibration was called with.
    """

    sampler: CalibratedSampler
    error: float
    default_error: float
    held_out: int
    seed: int

    @property
    def gain(self) -> float:
        """The default sampler's error over the calibrated one's; above 1 calibration has helped."""
        return self.default_error / self.error if self.error else math.inf


def calibrate(
    denoiser: AbstractDenoiser,
    noise: Tensor,
    *,
    steps: int,
    condition: Tensor | None = None,
    iterations: int = 300,
    batch_size: int = 128,
    fine_steps: int = 100,
    held_out: float = 0.25,
    default: Sampler | None = None,
    seed: int = 0,
    on_iteration: Callable[[int, float], None] | None = None,
) -> Calibration:
    """Fit a table of ``steps`` steps to this denoiser.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        A guided one is fitted for its guidance scale.
    noise : Tensor (N, *D)
        Standard normal, or drawn from the source that the denoiser was trained with. About 2,000 rows are enough.
    steps : int
        At least 2: one step has nothing to fit.
    condition : Tensor (N, K), optional
    iterations : int
        Steps of the optimizer; each costs ``steps`` calls forwards and backwards on ``batch_size`` rows.
    batch_size : int
    fine_steps : int
        Steps of the default sampler that make the solution to reach.
    held_out : float
        Share of the noises on which the result is measured instead.
    default : Sampler, optional
        A deterministic sampler to compare with, and to begin with if it is an ``AngleSolver``; default :func:`default_sampler`.
    seed : int
        Names the order of the noises, by which they are held out.
    on_iteration : function, optional
        Called as ``on_iteration(done, loss)`` after each step of the optimizer; the loss is a mean squared difference.

    Raises
    ------
    ValueError
        If there are fewer than 2 steps, too few noises to hold any out, not one condition per noise, a stochastic sampler to
        compare with, or a denoiser that returns NaN or infinity.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser
    >>> from pushforward.probability import GaussianMixture
    >>> law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[0.01, 0.01])
    >>> noise = torch.linspace(-2, 2, 64, dtype=torch.float64)[:, None]
    >>> calibrate(ExactDenoiser(law, Cosine()), noise, steps=3, iterations=30).gain > 1
    True
    """
    kept = len(noise) - math.ceil(len(noise) * held_out)
    _check_sizes(len(noise), steps, iterations, batch_size, held_out, kept)
    if condition is not None and len(condition) != len(noise):
        raise ValueError(f"there are {len(noise)} noises but {len(condition)} conditions; give one condition per noise")
    default = default_sampler(steps) if default is None else default
    _check_deterministic(default, denoiser.schedule, steps)
    order = random.permutation(len(noise), seed=seed, purpose="calibration").to(noise.device)
    noise, condition = noise[order], None if condition is None else condition[order]
    fine = _in_batches(default_sampler(fine_steps), denoiser, noise, condition, fine_steps, batch_size)
    if not bool(fine.isfinite().all()):
        raise ValueError("the denoiser returns NaN or infinity on its way from noise to data, so there is nothing to fit to")
    fitted = _Fit(denoiser.schedule, steps, default if isinstance(default, AngleSolver) else default_sampler(steps))
    start = fitted.sampler()
    given, rest = (None, None) if condition is None else (condition[:kept], condition[kept:])
    fitted.optimize(denoiser, noise[:kept], fine[:kept], given, iterations, batch_size, on_iteration)

    def error(chosen: Sampler) -> float:
        made = _in_batches(chosen, denoiser, noise[kept:], rest, steps, batch_size)
        return (made - fine[kept:]).double().square().mean().sqrt().item()

    reached, sampler = min(((error(one), one) for one in (fitted.sampler(), start)), key=lambda pair: pair[0])
    return Calibration(sampler, reached, error(default), len(noise) - kept, seed)


def _check_sizes(noises: int, steps: int, iterations: int, batch_size: int, held_out: float, kept: int) -> None:
    if check_steps(steps) < 2:
        raise ValueError("calibration needs at least 2 steps; one step is the denoiser itself and has nothing to fit")
    for name, count, least in (("iterations", iterations, 0), ("batch_size", batch_size, 1)):
        if count < least:
            raise ValueError(f"{name} must be at least {least}, got {count}")
    if not 0 < held_out < 1 or kept < 1:
        raise ValueError(f"of {noises} noises a share of {held_out} cannot be held out; give more noises or another share")


def _check_deterministic(sampler: Sampler, schedule: Schedule, steps: int) -> None:
    if isinstance(sampler, TableSampler) and sampler.table(schedule, sampler.grid(schedule, steps)).stochastic:
        raise ValueError(
            f"{sampler} adds noise at each step, but a calibrated table is deterministic and solves the probability flow, so "
            "the two cannot be compared; compare with a deterministic sampler such as DPMSolver(), or with the default"
        )


def _in_batches(
    sampler: Sampler, denoiser: AbstractDenoiser, noise: Tensor, condition: Tensor | None, steps: int, size: int
) -> Tensor:
    parts = []
    for begin in range(0, len(noise), size):
        c = None if condition is None else condition[begin : begin + size]
        parts.append(sampler.run(denoiser, noise[begin : begin + size], steps=steps, condition=c))
    return torch.cat(parts)


class _Fit:
    """The free numbers of a table and the chain that they make; all float64.

    They begin as the table of ``start``. The inner times are kept in order by the softmax of their gaps, in the clock sqrt(v)
    of :class:`VPGrid`. The last gap is that to t_min, below which no call is made.
    """

    def __init__(self, schedule: Schedule, steps: int, start: AngleSolver) -> None:
        self.schedule, self.steps = schedule, steps
        times = start.grid(schedule, steps)[:-1]

        def clock(t: Tensor) -> Tensor:
            return torch.log1p(schedule.noise_level(t).clamp(max=VPGrid().sigma_max) ** 2) ** 0.25

        marks = clock(times)
        self.top, self.floor = marks[0], clock(torch.tensor(schedule.t_min, dtype=torch.float64))
        last = (marks[-1:] - self.floor).clamp(min=_LEAST_GAP * (self.top - self.floor))  # with many steps the grid ends there
        self.gaps = torch.cat((-marks.diff(), last)).log().requires_grad_()
        self.scale = start.scale
        table = start.table(schedule, torch.cat((times, times.new_zeros(1))))
        self.weights, self.tail = self._weights(table, times), self._tail(table, times)

    def times(self) -> Tensor:
        """Return the times 1 = t_0 > ... > t_{n-1}, differentiable."""
        shares = self.gaps.softmax(0)
        v = (self.floor + (self.top - self.floor) * shares.flip(0).cumsum(0).flip(0)[1:]) ** 2
        inner = self.schedule.t_of_log_snr(-torch.expm1(v**2).log())
        return torch.cat((torch.ones(1, dtype=torch.float64), inner.clamp(min=self.schedule.t_min)))

    def _weights(self, table: Table, times: Tensor) -> list[Tensor]:
        """Return the w_kj of a table of AngleSolver: its coefficients of D without the length of the angle."""
        _, sigma, rho, theta = self._scales(times)
        rows = []
        for k in range(self.steps - 1):
            lags = min(k + 1, table.B.shape[1])
            on_denoised = torch.zeros(k + 1, dtype=torch.float64)
            on_denoised[k + 1 - lags :] = table.B[k, :lags].flip(0)
            on_f = on_denoised * self.scale * sigma[: k + 1] / (rho[k + 1] * rho[: k + 1])
            rows.append((on_f / (theta[k + 1] - theta[k])).requires_grad_())
        return rows

    def _tail(self, table: Table, times: Tensor) -> Tensor:
        """Return the u_j of the last step of a table of AngleSolver."""
        alpha, sigma, _, _ = self._scales(times)
        tail = torch.zeros(self.steps - 1, dtype=torch.float64)
        lags = min(self.steps, table.A.shape[1])
        tail[self.steps - lags :] = table.A[-1, 1:lags].flip(0) * sigma[self.steps - lags : -1] * alpha[-1] / sigma[-1]
        return tail.requires_grad_()

    def _scales(self, times: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        return alpha, sigma, torch.hypot(self.scale * alpha, sigma), torch.atan2(self.scale * alpha, sigma)

    def optimize(
        self,
        denoiser: AbstractDenoiser,
        noise: Tensor,
        fine: Tensor,
        condition: Tensor | None,
        iterations: int,
        batch_size: int,
        on_iteration: Callable[[int, float], None] | None,
    ) -> None:
        """Lower the mean squared difference to ``fine`` by Adam, with a rate that falls to 0."""
        free = [self.gaps, *self.weights, self.tail]
        highest = _RATE * min(1.0, (_FULL_RATE_UP_TO / self.steps) ** 2)
        groups: list[dict[str, Any]] = [{"params": free[:-1]}, {"params": [self.tail], "lr": _TAIL_SLOWNESS * highest}]
        optimizer = torch.optim.Adam(groups, lr=highest, betas=(0.9, 0.99))
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 + 0.5 * math.cos(math.pi * i / max(iterations, 1)))
        for i in range(iterations):
            rows = torch.arange(i * batch_size, (i + 1) * batch_size, device=noise.device) % len(noise)
            rows = rows[: len(noise)]
            c = None if condition is None else condition[rows]
            loss = (self.chain(denoiser, noise[rows], c) - fine[rows]).square().mean()
            for parameter, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(free, 1e-2)  # one row that changes its mode must not throw the table
            optimizer.step()
            rate.step()
            if on_iteration is not None:
                on_iteration(i + 1, loss.item())

    def chain(self, denoiser: AbstractDenoiser, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Run the table as it stands, with gradients to its numbers."""
        times = self.times()
        alpha, sigma, rho, theta = self._scales(times)
        x = noise * sigma[0].to(noise.dtype)
        smooth: list[Tensor] = []
        noises: list[Tensor] = []

        def noise_in(x: Tensor, denoised: Tensor, k: int) -> Tensor:
            return (x - alpha[k].to(x.dtype) * denoised) / sigma[k].to(x.dtype)

        for k in range(self.steps - 1):
            denoised = denoiser(x, times[k], condition)
            noises.append(noise_in(x, denoised, k))
            on_x, on_denoised = -self.scale * alpha[k] / (sigma[k] * rho[k]), rho[k] / (self.scale * sigma[k])
            smooth.append(on_x.to(x.dtype) * x + on_denoised.to(x.dtype) * denoised)
            x = (rho[k + 1] / rho[k]).to(x.dtype) * x
            for weight, value in zip(
                (rho[k + 1] * (theta[k + 1] - theta[k]) * self.weights[k]).to(x.dtype), smooth, strict=True
            ):
                x = x + weight * value
        last: Tensor = denoiser(x, times[-1], condition)
        own = noise_in(x, last, self.steps - 1)
        for weight, value in zip((self.tail * sigma[-1] / alpha[-1]).to(x.dtype), noises, strict=True):
            last = last + weight * (value - own)
        return last

    @torch.no_grad()
    def sampler(self) -> CalibratedSampler:
        """Return the table as plain numbers, by lag."""
        times = self.times()
        alpha, sigma, rho, theta = self._scales(times)
        on_x, on_denoised = [], []
        for k in range(self.steps - 1):
            weight = rho[k + 1] * (theta[k + 1] - theta[k]) * self.weights[k]
            a = -weight * self.scale * alpha[: k + 1] / (sigma[: k + 1] * rho[: k + 1])
            a[k] += rho[k + 1] / rho[k]
            b = weight * rho[: k + 1] / (self.scale * sigma[: k + 1])
            on_x.append(tuple(a.flip(0).tolist()))
            on_denoised.append(tuple(b.flip(0).tolist()))
        tail = torch.cat((self.tail, -self.tail.sum(0, keepdim=True))) * sigma[-1] / alpha[-1] / sigma
        on_x.append(tuple(tail.flip(0).tolist()))
        on_denoised.append((1 - (tail * alpha)[-1].item(), *(-tail * alpha).flip(0).tolist()[1:]))
        return CalibratedSampler((*times.tolist(), 0.0), tuple(on_x), tuple(on_denoised))
