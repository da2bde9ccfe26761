r"""The probability flow by adaptive steps: as many calls as a tolerance asks for, row by row; and encoding, from data to noise.

With theta = atan(sigma / alpha) and u = x_t / sqrt(alpha^2 + sigma^2) the flow knows no schedule and is finite at both ends,

    du/dtheta = (cos(theta) u - D) / sin(theta),          D = E[x | x_t],

also where alpha(1) = 0 or sigma grows without bound. Steps are taken in the clock w = asinh(theta / 0.1): nearly
uniform in log theta, and below 0.1 in theta.

A step is one of Dormand and Prince: order 5, with an error estimate e of order 4 from the same six calls. It is kept if

    rms(e) <= atol + rtol max(rms(u_t), rms(u_s)),        rms over the elements of a row,

and its length is multiplied by 0.9 (bound / rms(e))^(1/5), between 0.2 and 3. Every row has its own time and length, and rows
that have arrived are computed no longer. Lengths are rounded down to powers of 2^(1/4), so that a row takes the same steps
whatever rows are beside it: otherwise their rounding would grow from step to step. (In the rare case of an estimate within
rounding of a limit the row is another one within the tolerance.)

Ends. No step is shorter than 3e-6 of the clock: one of that length is kept whatever its error, so lengths cannot run down to
zero. A row that has made ``max_nfe`` calls, or meets numbers that are not finite, goes the rest of its way by ten steps of the
midpoint rule. Tolerances below ten roundings of the dtype are taken as that.

Time 0 of a sampling run means "return denoised", as everywhere. :meth:`Adaptive.encode` and :meth:`Adaptive.decode` are
inverse maps instead, so they follow the flow through to theta = 0, below t_min along its continuation
(:func:`~pushforward.diffusion.likelihood.continuation`), and no noise is added to the data.

The flow holds for every source law and coupling.

References
----------
J. R. Dormand, P. J. Prince. A family of embedded Runge-Kutta formulae. J. Comput. Appl. Math. 6, 1980.
Ernst Hairer, Syvert Norsett, Gerhard Wanner. Solving ordinary differential equations I. Springer, 1993.
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
"""

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.grid import check_steps
from pushforward.diffusion.likelihood import continuation
from pushforward.diffusion.sampler import OnStep, Sampler, check_conditions, check_run_times, check_times
from pushforward.diffusion.schedule import widen

__all__ = ["Adaptive", "AdaptiveResult"]

_SOFT = 0.1  # angle below which the clock runs uniformly in the angle
_FIRST_STEP = 0.125
_SHORTEST_STEP = 1e-5
_CALLS = 6  # per step: the first stage is the last one of the step before
_FIXED_STEPS = 10

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


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """Where rows have arrived, and what that took.

    Attributes
    ----------
    x : Tensor (B, *D)
    nfe : int64 Tensor (B,)
        Denoiser calls of each row; guidance doubles those of the network.
    capped : bool Tensor (B,)
        Rows that ended in fixed steps, without control of their error.
    """

    x: Tensor
    nfe: Tensor
    capped: Tensor


@dataclass(frozen=True)
class Adaptive(Sampler):
    """The probability flow by steps of Dormand and Prince, with control of the error of each row.

    The tolerance decides on the number of calls: ``steps`` of :meth:`run` says nothing to it.

    Parameters
    ----------
    rtol, atol : float
        Error allowed in a step, relative to the root mean square of a row and absolute, in units of the scaled data;
        0 < rtol < 1, atol >= 0. The error at the end is mostly a few times as large with exact
        denoisers, and up to a hundred times with networks, which are rough in t.
    max_nfe : int
        Denoiser calls after which a row goes the rest of its way by 10 fixed steps of two calls; at least 10.

    Raises
    ------
    TypeError, ValueError
        If a tolerance or ``max_nfe`` is out of range.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser
    >>> from pushforward.probability import Gaussian
    >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
    >>> Adaptive(rtol=1e-6).run(denoiser, torch.ones(1, 1, dtype=torch.float64)).round(decimals=4).item()
    2.0
    """

    rtol: float = 1e-4
    atol: float = 1e-6
    max_nfe: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.rtol < 1:
            raise ValueError(f"rtol must lie between 0 and 1, such as 1e-4, got {self.rtol}")
        if not 0 <= self.atol < math.inf:
            raise ValueError(f"atol must be at least 0 and finite, got {self.atol}")
        if isinstance(self.max_nfe, bool) or not isinstance(self.max_nfe, int):
            raise TypeError(f"max_nfe must be an integer, got {self.max_nfe!r}")
        if self.max_nfe < 10:
            raise ValueError(f"max_nfe must be at least 10, got {self.max_nfe}; a step takes {_CALLS} calls")

    @torch.no_grad()
    def run(
        self,
        denoiser: AbstractDenoiser,
        noise: Tensor,
        *,
        steps: int | None = None,
        times: Tensor | Sequence[float] | None = None,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Turn noise into samples; the arguments are those of :meth:`Sampler.run`.

        Neither ``steps``, which is not used, nor ``times`` has to be given; ``times`` are met on the way, for ``on_step``.
        """
        if steps is not None:
            check_steps(steps)
        along = [1.0, 0.0] if times is None else check_run_times(times)
        x = noise * denoiser.schedule.sigma(torch.ones((), dtype=torch.float64))
        return self.solve(denoiser, x, along, condition=condition, on_step=on_step).x

    def integrate(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Tensor | Sequence[float],
        *,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Carry the state ``x_t`` at ``times[0]`` to ``times[-1]``; gradients flow, but not through the choice of the steps."""
        return self.solve(denoiser, x_t, times, condition=condition, on_step=on_step).x

    def solve(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Tensor | Sequence[float],
        *,
        condition: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> AdaptiveResult:
        """Do as :meth:`integrate` does, and tell the number of calls that each row took.

        Parameters
        ----------
        denoiser : AbstractDenoiser
        x_t : Tensor (B, *D)
            State at ``times[0]``.
        times : tensor or sequence
            Falling or rising, in [t_min, 1], at the end also 0: then the state at t_min is denoised. Each is met exactly.
        condition : Tensor (B, K), optional
        on_step : function, optional
            Called at each time but the first with (number, time, x, denoised).

        Warns
        -----
        RuntimeWarning
            If rows ended in fixed steps.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().solve(denoiser, torch.ones(1, 1, dtype=torch.float64), [1.0, 0.0]).nfe.tolist()
        [37]
        """
        check_conditions(condition, x_t)
        along = torch.as_tensor(times, dtype=torch.float64).tolist()
        check_times(denoiser.schedule, along)
        field = _Field(denoiser, condition)
        rows = _Rows.start(field, x_t, along[0])
        for number, (begin, end) in enumerate(itertools.pairwise(along)):
            goal = end or denoiser.schedule.t_min
            if goal != begin:
                rows = _travel(field, rows, field.clock_at(goal), self)
            x, denoised = field.finish(rows)
            if on_step is not None:
                on_step(number, end, x if end else denoised, denoised)
        self._warn(rows)
        return AdaptiveResult(x if end else denoised, rows.nfe, rows.capped)

    @torch.no_grad()
    def encode(self, denoiser: AbstractDenoiser, x: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the noise z (B, *D) that the flow turns into the clean rows ``x``: x_1 = sigma(1) z.

        The flow is followed from theta = 0, where x stands as it is; below t_min it is continued from just above.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().encode(denoiser, torch.full((1, 1), 3.0, dtype=torch.float64)).x.round(decimals=3).item()
        1.5
        """
        check_conditions(condition, x)
        field, below = _Field(denoiser, condition), _Below(denoiser, condition)
        low, high = field.clock_at(denoiser.schedule.t_min), field.clock_at(1.0)
        rows = _travel(below, _Rows.start_at_data(below, x), low, self)
        rows = _travel(field, replace(rows, length=torch.full_like(rows.length, _FIRST_STEP)), high, self)
        self._warn(rows)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        return AdaptiveResult(field.finish(rows)[0] / scale, rows.nfe, rows.capped)

    @torch.no_grad()
    def decode(self, denoiser: AbstractDenoiser, z: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the clean rows x that the flow makes of the noise z (B, *D): the inverse of :meth:`encode`.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().decode(denoiser, torch.full((1, 1), 1.5, dtype=torch.float64)).x.round(decimals=3).item()
        3.0
        """
        check_conditions(condition, z)
        field, below = _Field(denoiser, condition), _Below(denoiser, condition)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        rows = _travel(field, _Rows.start(field, z * scale, 1.0), field.clock_at(denoiser.schedule.t_min), self)
        rows = _travel(below, rows, 0.0, self)
        self._warn(rows)
        return AdaptiveResult(rows.u, rows.nfe, rows.capped)

    def _warn(self, rows: "_Rows") -> None:
        if not bool(rows.capped.any()):
            return
        broken = int((rows.capped & ~rows.u.flatten(1).isfinite().all(1)).sum())
        count, text = int(rows.capped.sum()) - broken, ""
        if count:
            text = (
                f"{count} of {len(rows.u)} rows were not done after max_nfe={self.max_nfe} calls at rtol={self.rtol:g}, "
                f"atol={self.atol:g}; what was left of them was done in {_FIXED_STEPS} fixed steps, without control of the "
                "error. Raise max_nfe or rtol"
            )
        if broken:
            text += ". " if text else ""
            text += f"The denoiser returned numbers that are not finite for {broken} of {len(rows.u)} rows"
        warnings.warn(text, RuntimeWarning, stacklevel=4)


@dataclass(frozen=True, eq=False)
class _Field:
    """The flow du/dw from t_min to 1, for the rows of a batch."""

    denoiser: AbstractDenoiser
    condition: Tensor | None
    cost = 1

    def take(self, rows: Tensor) -> Self:
        """Return the flow of some rows."""
        condition = None if self.condition is None else self.condition[rows]
        return type(self)(self.denoiser.take(rows), condition)

    def clock_at(self, t: float) -> float:
        return math.asinh(self._angle(t) / _SOFT)

    def __call__(self, u: Tensor, clock: Tensor) -> Tensor:
        """Return du/dw of rows (B, *D) at clocks (B,)."""
        t, cos, sin, radius, rate = self._scales(clock)
        denoised = self.denoiser(_times(radius, u), t, self.condition)
        return _times(rate / sin, _times(cos, u) - denoised)

    def finish(self, rows: "_Rows") -> tuple[Tensor, Tensor]:
        """Return x_t and D where the rows are."""
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


class _Below(_Field):
    """The flow below t_min, continued from two angles above it."""

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
class _Rows:
    """Rows on their way: clock w, state u, slope du/dw there, length of the next step, calls so far.

    ``capped`` tells which of them had to end an interval in fixed steps.
    """

    clock: Tensor
    u: Tensor
    slope: Tensor
    length: Tensor
    nfe: Tensor
    capped: Tensor

    @classmethod
    def start(cls, field: _Field, x_t: Tensor, t: float) -> "_Rows":
        time = torch.tensor(t, dtype=torch.float64)
        radius = torch.hypot(field.denoiser.schedule.alpha(time), field.denoiser.schedule.sigma(time)).item()
        return cls._at(field, x_t / radius, field.clock_at(t))

    @classmethod
    def start_at_data(cls, field: _Field, x: Tensor) -> "_Rows":
        return cls._at(field, x, 0.0)

    @classmethod
    def _at(cls, field: _Field, u: Tensor, clock: float) -> "_Rows":
        clocks = torch.full((len(u),), clock, dtype=torch.float64, device=u.device)
        nfe = torch.full((len(u),), field.cost, dtype=torch.int64, device=u.device)
        return cls(
            clocks, u, field(u, clocks), torch.full_like(clocks, _FIRST_STEP), nfe, torch.zeros_like(nfe, dtype=torch.bool)
        )

    def take(self, rows: Tensor) -> "_Rows":
        return _Rows(*(part[rows] for part in self._parts()))

    @classmethod
    def join(cls, several: "Sequence[_Rows]", order: Tensor) -> "_Rows":
        joined = cls(*(torch.cat(parts) for parts in zip(*(rows._parts() for rows in several), strict=True)))
        return joined.take(order.argsort())

    def _parts(self) -> tuple[Tensor, ...]:
        return self.clock, self.u, self.slope, self.length, self.nfe, self.capped


def _travel(field: _Field, rows: _Rows, end: float, control: Adaptive) -> _Rows:
    """Carry all rows to the clock ``end``."""
    numbers = torch.arange(len(rows.u), device=rows.u.device)
    done: list[_Rows] = []
    order: list[Tensor] = []
    while len(numbers):
        stopped = torch.zeros_like(rows.capped)
        spent = rows.nfe + _CALLS * field.cost > control.max_nfe
        if bool(spent.any()):
            stopped = spent
        else:
            rows, stopped = _attempt(field, rows, end, control)
        if bool(stopped.any()):
            given_up = stopped.nonzero()[:, 0]
            done.append(_by_fixed_steps(field.take(given_up), rows.take(given_up), end))
            order.append(numbers[given_up])
        arrived = (rows.clock == end) & ~stopped
        if bool(arrived.any()):
            done.append(rows.take(arrived.nonzero()[:, 0]))
            order.append(numbers[arrived])
        leaves = stopped | arrived
        if bool(leaves.any()):
            left = (~leaves).nonzero()[:, 0]
            rows, numbers, field = rows.take(left), numbers[left], field.take(left)
    return _Rows.join(done, torch.cat(order)) if done else rows


def _attempt(field: _Field, rows: _Rows, end: float, control: Adaptive) -> tuple[_Rows, Tensor]:
    """Try one step of each row; also return which rows can go no further, because numbers are not finite."""
    left = end - rows.clock
    length = torch.minimum(rows.length, left.abs())
    h = length.copysign(left)
    slopes, u = [rows.slope], rows.u
    for node, weights in zip(_NODES, _STAGES, strict=True):
        u = rows.u + _times(h, _sum(weights, slopes))
        slopes.append(field(u, torch.where(length == left.abs(), end, rows.clock + h) if node == 1 else rows.clock + node * h))
    error = _rms(_times(h, _sum(_ERROR, slopes)))
    rtol = max(control.rtol, 10 * torch.finfo(u.dtype).eps)
    ratio = error / (control.atol + rtol * torch.maximum(_rms(rows.u), _rms(u)))
    ratio = ratio.nan_to_num(nan=math.inf)
    shortest = length <= _SHORTEST_STEP
    kept = (ratio <= 1) | (shortest & ratio.isfinite())
    grown = _rounded_down(length * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 3))
    reached = kept & (length == left.abs())  # the last step was cut short by the end, which says nothing of the next
    after = _Rows(
        clock=torch.where(reached, end, torch.where(kept, rows.clock + h, rows.clock)),
        u=_choose(kept, u, rows.u),
        slope=_choose(kept, slopes[-1], rows.slope),
        length=torch.where(reached, torch.maximum(rows.length, grown), grown).clamp(min=_SHORTEST_STEP),
        nfe=rows.nfe + _CALLS * field.cost,
        capped=rows.capped,
    )
    return after, shortest & ~kept


def _by_fixed_steps(field: _Field, rows: _Rows, end: float) -> _Rows:
    """Carry rows to the clock ``end`` by the midpoint rule, each in steps of its own length."""
    h = (end - rows.clock) / _FIXED_STEPS
    u, slope = rows.u, rows.slope
    for k in range(_FIXED_STEPS):
        clock = rows.clock + k * h
        u = u + _times(h, field(u + _times(h / 2, slope), clock + h / 2))
        slope = field(u, torch.full_like(clock, end) if k == _FIXED_STEPS - 1 else clock + h)
    nfe = rows.nfe + 2 * _FIXED_STEPS * field.cost
    return _Rows(torch.full_like(rows.clock, end), u, slope, rows.length, nfe, torch.ones_like(rows.capped))


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
    """Root mean square of each row, float64; it steers alone, so no gradient."""
    return x.detach().flatten(1).double().square().mean(1).sqrt()
