"""Calibration: noise levels and coefficients of a sampler's table, fitted to one denoiser.

With few steps no fixed rule is best for every model. :class:`CalibratedSampler` has the form of all explicit methods with one
call per step, so every choice is in its numbers. :func:`calibrate` starts from those of the default sampler and minimizes the
mean squared difference to the denoiser's own fine-step solution from the same noises, by gradients through the chain. The table
is valid only for this denoiser (at this guidance scale); the result includes its gain over the default sampler on held-out
noises.

References
----------
Neta Shaul et al. Bespoke non-stationary solvers. 2024. https://arxiv.org/abs/2403.01329
Eric Frankel et al. S4S: solving for a diffusion model solver. 2025. https://arxiv.org/abs/2502.17423
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pushforward._fields import check_instance
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.calibrated import CalibratedSampler
from pushforward.diffusion.samplers.default import default_sampler
from pushforward.diffusion.samplers.grid import check_steps
from pushforward.diffusion.samplers.table import Sampler, TableSampler
from pushforward.diffusion.schedule import Schedule
from pushforward.probability.counts import check_count
from pushforward.probability.noise import permutation

__all__ = ["Calibration", "TableFit", "calibrate"]

_LEAST_GAP, _NOISIEST = 1e-9, 200.0  # least gap between log noise levels, as a share of their range; top of that range
_LARGEST_UNIT = 10.0  # limit of the unit of numbers that hardly matter
_RATE, _FULL_RATE_UP_TO = 0.025, 8  # divided by the number of steps; beyond 8 smaller still, as a chain adds up all changes
_TAIL_SLOWNESS = 0.1


@dataclass(frozen=True)
class Calibration:
    """The result of :func:`calibrate`.

    Attributes
    ----------
    sampler : CalibratedSampler
    error, default_error : float
        Root mean square difference per element to the fine-step solution on held-out noises, of the calibrated sampler and of
        the default sampler with as many steps. If the fit is worse on them than its start, the table is that of the start.
    held_out : int
        Number of these noises.
    seed : int
        The seed of the calibration.
    """

    sampler: CalibratedSampler
    error: float
    default_error: float
    held_out: int
    seed: int

    @property
    def gain(self) -> float:
        """The default sampler's error over the calibrated one's; above 1 calibration helps."""
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
        At least 2, since a single step has nothing to fit.
    condition : Tensor (N, K), optional
    iterations : int
        Steps of the optimizer; each costs ``steps`` forward and backward calls on ``batch_size`` rows.
    batch_size : int
    fine_steps : int
        Steps of the default sampler for the target solution.
    held_out : float
        Share of the noises that is left out of the fit and measures the result.
    default : Sampler, optional
        A deterministic sampler to compare with, and to start from if it makes one call per step; default
        :func:`default_sampler`.
    seed : int
        Determines the order of the noises, and so which are held out.
    on_iteration : function, optional
        Called as ``on_iteration(done, loss)`` after each step of the optimizer; the loss is a mean squared difference.

    Raises
    ------
    ValueError
        If there are fewer than 2 steps, too few noises to hold any out, not one condition per noise, the default is stochastic,
        or the denoiser returns NaN or infinity.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser
    >>> from pushforward.probability import GaussianMixture
    >>> law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[0.01, 0.01])
    >>> noise = torch.linspace(-2, 2, 64, dtype=torch.float64)[:, None]
    >>> calibrate(ExactDenoiser(law, Cosine()), noise, steps=3, iterations=30).gain > 1
    True
    """
    count = len(noise) - math.ceil(len(noise) * held_out)
    _check_sizes(len(noise), steps, iterations, batch_size, held_out, count)
    if condition is not None and len(condition) != len(noise):
        raise ValueError(f"there are {len(noise)} noises but {len(condition)} conditions; give one condition per noise")
    default = default_sampler(steps) if default is None else default
    _check_deterministic(default, denoiser.schedule, steps)
    order = permutation(len(noise), seed=seed, purpose="calibration").to(noise.device)
    noise, condition = noise[order], None if condition is None else condition[order]
    fine = _in_batches(default_sampler(fine_steps), denoiser, noise, condition, fine_steps, batch_size)
    if not bool(fine.isfinite().all()):
        raise ValueError("the denoiser returns NaN or infinity between noise and data, so there is nothing to fit")
    begin = default if isinstance(default, TableSampler) and default.nfe(steps) == steps else default_sampler(steps)
    start = CalibratedSampler.of(begin, denoiser.schedule, steps)
    fit = TableFit(denoiser.schedule, start)
    fit_condition, rest_condition = (None, None) if condition is None else (condition[:count], condition[count:])
    fit.optimize(denoiser, noise[:count], fine[:count], fit_condition, iterations, batch_size, on_iteration)

    def error(candidate: Sampler) -> float:
        result = _in_batches(candidate, denoiser, noise[count:], rest_condition, steps, batch_size)
        return (result - fine[count:]).double().square().mean().sqrt().item()

    least_error, sampler = min(((error(one), one) for one in (fit.sampler(), start)), key=lambda pair: pair[0])
    return Calibration(sampler, least_error, error(default), len(noise) - count, seed)


def _check_sizes(noises: int, steps: int, iterations: int, batch_size: int, held_out: float, fitted: int) -> None:
    if check_steps(steps) < 2:
        raise ValueError("calibration needs at least 2 steps; one step is the denoiser itself and has nothing to fit")
    check_count("iterations", iterations, 0)
    check_count("batch_size", batch_size)
    if not 0 < held_out < 1 or fitted < 1:
        raise ValueError(f"of {noises} noises a share of {held_out} cannot be held out; give more noises or another share")


def _check_deterministic(sampler: Sampler, schedule: Schedule, steps: int) -> None:
    check_instance("default", sampler, Sampler)
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


class TableFit:
    """The free numbers of a table, all float64, and the chain that they define.

    They start from those of ``start``. The softmax of the gaps between the logarithms of the levels keeps the levels in order;
    the last gap is that to the schedule's t_min, below which there is no call. A change of a weight is compensated by that of
    the newest call, so that the sum of a row is constant. The noise kept in the last step is fixed.

    Weights and kept noise are scaled so that equal changes have about equal effects on the next state, for data of unit
    variance: with h^2 = 1 + s^2 a state has scale h, and as predictions are a martingale, E (D_k - D_j)^2 is
    1 / h_k^2 - 1 / h_j^2.
    """

    def __init__(self, schedule: Schedule, start: CalibratedSampler) -> None:
        ends = schedule.noise_level(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
        levels = torch.tensor(start.levels, dtype=torch.float64)
        top = ends[:1].clamp(max=max(_NOISIEST, 2 * start.levels[0]))
        marks = torch.cat((top, levels, ends[1:])).log()
        self.top, self.floor = marks[0], marks[-1]
        gaps = (-marks.diff()).clamp(min=_LEAST_GAP * (self.top - self.floor))  # with many steps the grid ends at t_min
        self.gaps = gaps.log().requires_grad_()
        self.start, n = start, len(start.kept)
        s = [math.inf, *start.levels, 0.0]
        h = [math.hypot(1, level) for level in s]

        def units(k: int) -> list[float]:
            taken, moved = 1 - s[k + 1] / s[k], [math.sqrt(max(h[k] ** -2 - h[j] ** -2, 0)) for j in range(k)]
            return [min(h[k + 1] / (taken * move), _LARGEST_UNIT) if move else _LARGEST_UNIT for move in moved]

        self.units = [torch.tensor(units(k), dtype=torch.float64) for k in range(n)]
        self.kept_units = torch.tensor([min(h[k] / s[k], _LARGEST_UNIT) for k in range(1, n)], dtype=torch.float64)
        self.weights = [torch.zeros(k, dtype=torch.float64).requires_grad_() for k in range(1, n)]
        self.kept = torch.zeros(n - 1, dtype=torch.float64).requires_grad_()

    def free(self) -> list[Tensor]:
        """Return all free numbers, those of the last step last."""
        return [self.gaps, self.kept, *self.weights]

    def levels(self) -> Tensor:
        """Return the noise levels after the first, differentiable, (n - 1,)."""
        shares = self.gaps.softmax(0)
        return (self.floor + (self.top - self.floor) * shares.flip(0).cumsum(0).flip(0)[1:]).exp()

    def rows(self) -> list[Tensor]:
        """Return the rows of weights, differentiable."""
        changes = [unit * free for unit, free in zip(self.units, [self.kept.new_zeros(0), *self.weights], strict=True)]
        return [
            torch.tensor(row, dtype=torch.float64) + torch.cat((change, -change.sum(0, keepdim=True)))
            for row, change in zip(self.start.weights, changes, strict=True)
        ]

    def noise_kept(self) -> Tensor:
        """Return the noise kept in each step but the last, differentiable."""
        return torch.tensor(self.start.kept[:-1], dtype=torch.float64) + self.kept_units * self.kept

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
        """Minimize the mean squared difference to ``fine`` by Adam, with a rate that decays to 0."""
        free = self.free()
        n = len(self.start.kept)
        highest = _RATE / n * min(1.0, (_FULL_RATE_UP_TO / n) ** 2)
        groups: list[dict[str, Any]] = [{"params": free[:-1]}, {"params": free[-1:], "lr": _TAIL_SLOWNESS * highest}]
        optimizer = torch.optim.Adam(groups, lr=highest, betas=(0.9, 0.99))
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 + 0.5 * math.cos(math.pi * i / max(iterations, 1)))
        for i in range(iterations):
            rows = torch.arange(i * batch_size, (i + 1) * batch_size, device=noise.device) % len(noise)
            rows = rows[: len(noise)]
            c = None if condition is None else condition[rows]
            loss = (self.chain(denoiser, noise[rows], c) - fine[rows]).square().mean()
            for parameter, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(free, 1e-2)  # limits the effect of a row that changes its mode
            optimizer.step()
            rate.step()
            if on_iteration is not None:
                on_iteration(i + 1, loss.item())

    def chain(self, denoiser: AbstractDenoiser, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Run the current table, with gradients to its numbers."""
        schedule, rows, kept = denoiser.schedule, self.rows(), self.noise_kept()
        inner = schedule.t_of_log_snr(-2 * self.levels().log()).clamp(min=schedule.t_min)
        times = torch.cat((inner.new_ones(1), inner))
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
        x = noise * sigma[0].to(noise.dtype)
        calls: list[Tensor] = []
        for k, row in enumerate(rows):
            calls.append(denoiser(x, times[k], condition))
            prediction = sum(weight * call for weight, call in zip(row.to(x.dtype), calls, strict=True))
            inside = k + 1 < len(rows)
            on_x = kept[k] * sigma[k + 1] / sigma[k] if inside else self.start.kept[-1] / alpha[k]
            on_prediction = (alpha[k + 1] if inside else 1.0) - alpha[k] * on_x
            x = on_x.to(x.dtype) * x + on_prediction.to(x.dtype) * prediction
        return x

    @torch.no_grad()
    def sampler(self) -> CalibratedSampler:
        """Return the table as plain numbers."""
        kept = (*self.noise_kept().tolist(), self.start.kept[-1])
        return CalibratedSampler(tuple(self.levels().tolist()), kept, tuple(tuple(row.tolist()) for row in self.rows()))
