r"""Adaptive steps of rows along the probability flow, each with its own time and step length.

With theta = atan(sigma / alpha) and u = x_t / sqrt(alpha^2 + sigma^2) the flow is independent of the schedule and finite,

    du/dtheta = (cos(theta) u - D) / sin(theta),          D = E[x | x_t],

also where alpha(1) = 0 or sigma grows without bound. Steps are uniform in the clock w = asinh(theta / 0.1): nearly uniform in
log theta, and below 0.1 in theta.

A step is one of Dormand and Prince: order 5, with an error estimate e of order 4 from the same six calls. It is accepted if

    rms(e) <= atol + rtol max(rms(u_t), rms(u_s)),        rms over the elements of a row,

and its length is multiplied by 0.9 (bound / rms(e))^(1/5), between 0.2 and 3. Finished rows leave the batch. Lengths are
rounded down to powers of 2^(1/4), so that a row takes the same steps whatever the rest of the batch is: otherwise rounding
differences would grow from step to step. (In the rare case of an estimate within rounding of a limit, the row is another one
within the tolerance.)

Steps of at most 1e-5 of the clock are accepted whatever their error, so lengths cannot fall to zero. A row that has used up
its calls, or meets numbers that are not finite, finishes in ten steps of the midpoint rule. Tolerances below ten roundings of
the dtype are raised to that.

References
----------
J. R. Dormand, P. J. Prince. A family of embedded Runge-Kutta formulae. J. Comput. Appl. Math. 6, 1980.
Ernst Hairer, Syvert Norsett, Gerhard Wanner. Solving ordinary differential equations I. Springer, 1993.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.likelihood import continuation
from pushforward.diffusion.schedule import widen

__all__ = ["CALLS", "FIXED_STEPS", "FlowBelow", "FlowField", "Limits", "RowStates", "advance"]

_SOFT = 0.1  # angle below which the clock is uniform in the angle
_FIRST_STEP = 0.125
_SHORTEST_STEP = 1e-5
CALLS = 6  # per step: the first stage is the last one of the previous step
FIXED_STEPS = 10

_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # the step itself
)
_ORDER_4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR = tuple(five - four for five, four in zip((*_STAGES[-1], 0.0), _ORDER_4, strict=True))


class Limits(NamedTuple):
    """Error allowed in a step, relative and absolute, and the calls after which a row finishes in fixed steps."""

    rtol: float
    atol: float
    max_nfe: int


@dataclass(frozen=True, eq=False)
class FlowField:
    """The flow du/dw from t_min to 1, for the rows of a batch."""

    denoiser: AbstractDenoiser
    condition: Tensor | None
    cost = 1

    def take(self, rows: Tensor) -> Self:
        """Return the flow of some rows."""
        condition = None if self.condition is None else self.condition[rows]
        return type(self)(self.denoiser.take(rows), condition)

    def clock_at(self, t: float) -> float:
        """Return the clock w at time t."""
        return math.asinh(self._angle(t) / _SOFT)

    def __call__(self, u: Tensor, clock: Tensor) -> Tensor:
        """Return du/dw of rows (B, *D) at clocks (B,)."""
        t, cos, sin, radius, rate = self._scales(clock)
        denoised = self.denoiser(_times(radius, u), t, self.condition)
        return _times(rate / sin, _times(cos, u) - denoised)

    def finish(self, rows: "RowStates") -> tuple[Tensor, Tensor]:
        """Return x_t and D at the current clock of the rows."""
        _, cos, sin, radius, rate = self._scales(rows.clock)
        return _times(radius, rows.u), _times(cos, rows.u) - _times(sin / rate, rows.slope)

    @functools.cached_property
    def _last(self) -> float:
        return self._angle(1.0)

    def _angle(self, t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        return math.atan2(self.denoiser.schedule.sigma(time).item(), self.denoiser.schedule.alpha(time).item())

    def _scales(self, clock: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return t, cos, sin, sqrt(alpha^2 + sigma^2) and dtheta/dw, float64."""
        schedule = self.denoiser.schedule
        theta = (_SOFT * clock.sinh()).clamp(max=self._last)
        t = schedule.t_of_log_snr(-2 * theta.tan().log()).clamp(schedule.t_min, 1.0)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        radius = torch.hypot(alpha, sigma)
        return t, alpha / radius, sigma / radius, radius, _SOFT * clock.cosh()


class FlowBelow(FlowField):
    """The flow below t_min, extrapolated from two angles above it."""

    cost = 2

    def __call__(self, u: Tensor, clock: Tensor) -> Tensor:
        """Return du/dw of rows (B, *D) at clocks (B,)."""
        theta = _SOFT * clock.sinh()
        total = torch.zeros_like(u)
        for angle, weight in continuation(theta, self._angle(self.denoiser.schedule.t_min), self.denoiser.gaussian_source):
            at = torch.full_like(clock, math.asinh(angle / _SOFT))
            slope = super().__call__(u, at)
            total = total + _times(weight * clock.cosh() / at.cosh(), slope)
        return total


@dataclass(frozen=True, eq=False)
class RowStates:
    """The state of each row: clock w, u, slope du/dw, length of the next step, calls so far.

    ``capped`` marks the rows that finished an interval in fixed steps.
    """

    clock: Tensor
    u: Tensor
    slope: Tensor
    length: Tensor
    nfe: Tensor
    capped: Tensor

    @classmethod
    def start(cls, field: FlowField, x_t: Tensor, t: float) -> "RowStates":
        """Start with the states x_t (B, *D) at time t."""
        time = torch.tensor(t, dtype=torch.float64)
        radius = torch.hypot(field.denoiser.schedule.alpha(time), field.denoiser.schedule.sigma(time)).item()
        return cls._at(field, x_t / radius, field.clock_at(t))

    @classmethod
    def start_at_data(cls, field: FlowField, x: Tensor) -> "RowStates":
        """Start with clean rows (B, *D), at theta = 0."""
        return cls._at(field, x, 0.0)

    @classmethod
    def _at(cls, field: FlowField, u: Tensor, clock: float) -> "RowStates":
        clocks = torch.full((len(u),), clock, dtype=torch.float64, device=u.device)
        nfe = torch.full((len(u),), field.cost, dtype=torch.int64, device=u.device)
        return cls(
            clocks, u, field(u, clocks), torch.full_like(clocks, _FIRST_STEP), nfe, torch.zeros_like(nfe, dtype=torch.bool)
        )

    def restarted(self) -> "RowStates":
        """Return the rows with the length of a first step, because the flow ahead may be unlike the flow so far."""
        return replace(self, length=torch.full_like(self.length, _FIRST_STEP))

    def take(self, rows: Tensor) -> "RowStates":
        """Return some of the rows."""
        return RowStates(*(part[rows] for part in self._parts()))

    @classmethod
    def join(cls, several: "Sequence[RowStates]", order: Tensor) -> "RowStates":
        """Join parts of a batch; ``order`` gives the number of each row."""
        joined = cls(*(torch.cat(parts) for parts in zip(*(rows._parts() for rows in several), strict=True)))
        return joined.take(order.argsort())

    def _parts(self) -> tuple[Tensor, ...]:
        return self.clock, self.u, self.slope, self.length, self.nfe, self.capped


def advance(field: FlowField, rows: RowStates, end: float, limits: Limits) -> RowStates:
    """Advance all rows to the clock ``end``."""
    numbers = torch.arange(len(rows.u), device=rows.u.device)
    done: list[RowStates] = []
    order: list[Tensor] = []
    while len(numbers):
        stopped = torch.zeros_like(rows.capped)
        spent = rows.nfe + CALLS * field.cost > limits.max_nfe
        if bool(spent.any()):
            stopped = spent
        else:
            rows, stopped = _attempt(field, rows, end, limits)
        if bool(stopped.any()):
            failed = stopped.nonzero()[:, 0]
            done.append(_by_fixed_steps(field.take(failed), rows.take(failed), end))
            order.append(numbers[failed])
        arrived = (rows.clock == end) & ~stopped
        if bool(arrived.any()):
            done.append(rows.take(arrived.nonzero()[:, 0]))
            order.append(numbers[arrived])
        finished = stopped | arrived
        if bool(finished.any()):
            rest = (~finished).nonzero()[:, 0]
            rows, numbers, field = rows.take(rest), numbers[rest], field.take(rest)
    return RowStates.join(done, torch.cat(order)) if done else rows


def _attempt(field: FlowField, rows: RowStates, end: float, limits: Limits) -> tuple[RowStates, Tensor]:
    """Try one step of each row; also return which rows cannot continue because numbers are not finite."""
    rest = end - rows.clock
    length = torch.minimum(rows.length, rest.abs())
    h = length.copysign(rest)
    slopes, u = [rows.slope], rows.u
    for node, weights in zip(_NODES, _STAGES, strict=True):
        u = rows.u + _times(h, _sum(weights, slopes))
        slopes.append(field(u, torch.where(length == rest.abs(), end, rows.clock + h) if node == 1 else rows.clock + node * h))
    error = _rms(_times(h, _sum(_ERROR, slopes)))
    rtol = max(limits.rtol, 10 * torch.finfo(u.dtype).eps)
    ratio = error / (limits.atol + rtol * torch.maximum(_rms(rows.u), _rms(u)))
    ratio = ratio.nan_to_num(nan=math.inf)
    shortest = length <= _SHORTEST_STEP
    accepted = (ratio <= 1) | (shortest & ratio.isfinite())
    grown = _rounded_down(length * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 3))
    reached = accepted & (length == rest.abs())  # the end cut this step short, so its length is no estimate for the next
    after = RowStates(
        clock=torch.where(reached, end, torch.where(accepted, rows.clock + h, rows.clock)),
        u=_choose(accepted, u, rows.u),
        slope=_choose(accepted, slopes[-1], rows.slope),
        length=torch.where(reached, torch.maximum(rows.length, grown), grown).clamp(min=_SHORTEST_STEP),
        nfe=rows.nfe + CALLS * field.cost,
        capped=rows.capped,
    )
    return after, shortest & ~accepted


def _by_fixed_steps(field: FlowField, rows: RowStates, end: float) -> RowStates:
    """Advance rows to the clock ``end`` by the midpoint rule, each with its own step length."""
    h = (end - rows.clock) / FIXED_STEPS
    u, slope = rows.u, rows.slope
    for k in range(FIXED_STEPS):
        clock = rows.clock + k * h
        u = u + _times(h, field(u + _times(h / 2, slope), clock + h / 2))
        slope = field(u, torch.full_like(clock, end) if k == FIXED_STEPS - 1 else clock + h)
    nfe = rows.nfe + 2 * FIXED_STEPS * field.cost
    return RowStates(torch.full_like(rows.clock, end), u, slope, rows.length, nfe, torch.ones_like(rows.capped))


def _rounded_down(length: Tensor) -> Tensor:
    """Return the power of 2^(1/4) below each length."""
    return ((4 * length.log2()).floor() / 4).exp2()


def _sum(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = torch.add(total, slope, alpha=weight)
    return total


def _times(scale: Tensor, x: Tensor) -> Tensor:
    """Multiply rows (B, *D) by float64 scales (B,), in the dtype of the rows."""
    return widen(scale.to(x.dtype), x) * x


def _choose(first: Tensor, x: Tensor, other: Tensor) -> Tensor:
    return torch.where(widen(first, x), x, other)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each row, float64; it only controls steps, so it has no gradient."""
    return x.detach().flatten(1).double().square().mean(1).sqrt()
