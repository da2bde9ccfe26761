r"""Stochastic differential equations in the sense of Ito, dx = f(x, t) dt + g(x, t) dW, and methods that solve them.

With a time step h and the Wiener increment dW = sqrt(h) eps, eps standard normal (its size is sqrt(h), not h),

    Euler-Maruyama    x + h f + g dW                                       strong order 1/2 (1 if g is constant in x), weak 1
    Milstein          x + h f + g dW + 1/2 g (dg/dx) (dW^2 - h)            strong order 1, weak 1

where Milstein's g dg/dx is replaced by the difference (g(x + h f + sqrt(h) g) - g(x)) / sqrt(h), as by Platen: the same
orders without a derivative.

The noise is diagonal: g has the shape of x and multiplies one independent Wiener process per coordinate. Milstein's formula
holds where coordinate i of g depends only on coordinate i of x (and on t), so that no iterated integrals of two different
Wiener processes appear; this is checked at the first step. The orders assume smooth f and g of linear growth.

References
----------
Gisiro Maruyama. Continuous Markov processes and stochastic equations. Rend. Circ. Mat. Palermo, 1955.
G. N. Milstein. Approximate integration of stochastic differential equations. Theory of Probability, 1974.
Peter E. Kloeden, Eckhard Platen. Numerical solution of stochastic differential equations. Springer, 1992.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite

__all__ = ["SDE", "Solution", "WienerPath", "integrate", "integrate_along", "wiener"]

Coefficient = Callable[[Tensor, Tensor], Tensor | float]
"""f(x, t) or g(x, t): x (B, *D) and t () to a number or a tensor that broadcasts to (B, *D)."""

Method = Literal["euler-maruyama", "milstein"]


@dataclass(frozen=True, eq=False)
class SDE:
    """The Ito equation dx = drift(x, t) dt + diffusion(x, t) dW with diagonal noise.

    Parameters
    ----------
    drift, diffusion : callable
        x (B, *D) and t () to a number or a tensor that broadcasts to (B, *D); rows independent of each other. ``diffusion``
        multiplies one Wiener process per coordinate.

    >>> decay = SDE(drift=lambda x, t: -x, diffusion=lambda x, t: 0.1)
    >>> integrate(decay, torch.ones(4, 2), torch.linspace(0, 1, 11), seed=0).states.shape
    torch.Size([11, 4, 2])
    """

    drift: Coefficient
    diffusion: Coefficient


@dataclass(frozen=True, eq=False)
class WienerPath:
    """Independent Wiener paths, given by their ``increments`` (T - 1, B, *D) between consecutive ``times`` (T,).

    Any increments are allowed; :func:`wiener` draws them.

    >>> path = WienerPath([0.0, 0.5, 1.0], [[[1.0]], [[2.0]]])
    >>> path.values.flatten().tolist(), path.coarsen(2).increments.flatten().tolist()
    ([0.0, 1.0, 3.0], [3.0])
    """

    times: Tensor
    increments: Tensor

    def __init__(self, times: ArrayLike, increments: ArrayLike) -> None:
        times, increments = _rising(times), as_float_tensor(increments)
        if increments.ndim < 2 or len(increments) != len(times) - 1:
            raise ValueError(
                f"increments must have the shape ({len(times) - 1}, B, *D) to go with {len(times)} times, "
                f"but has {tuple(increments.shape)}"
            )
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "increments", increments)

    @property
    def values(self) -> Tensor:
        """W at the times, (T, B, *D), starting from 0."""
        return torch.cat([torch.zeros_like(self.increments[:1]), self.increments.cumsum(0)])

    def coarsen(self, factor: int) -> "WienerPath":
        """Return the same paths at every ``factor``-th time: the increment of a long step is the sum over its parts."""
        steps = len(self.increments)
        if factor < 1 or steps % factor:
            raise ValueError(f"factor must be a divisor of the number of steps, {steps}, but is {factor}")
        return WienerPath(self.times[::factor], self.increments.reshape(-1, factor, *self.increments.shape[1:]).sum(1))


def wiener(
    times: ArrayLike,
    n: int,
    dim: int | Sequence[int],
    *,
    seed: int,
    first: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> WienerPath:
    """Draw paths ``first`` to ``first + n - 1`` of the Wiener process in R^D: independent, exact increments of N(0, dt).

    Parameters
    ----------
    times : array (T,)
        Increasing, T at least 2.
    n : int
        Number of paths.
    dim : int or sequence of int
        Shape D of one state.
    seed, first : int
        Determine the paths: path i does not depend on n.
    dtype, device
        Of the increments.

    >>> path = wiener(torch.linspace(0, 2, 9), 20_000, 1, seed=0)
    >>> abs(path.values[-1].var().item() - 2) < 0.1
    True
    """
    times = _rising(times)
    shape = (dim,) if isinstance(dim, int) else tuple(dim)
    return WienerPath(times, torch.stack([*_increments(times, n, shape, seed, first, dtype, device)]))


@dataclass(frozen=True, eq=False)
class Solution:
    """States (T, B, *D) at ``times`` (T,), and the numbers of calls of drift and diffusion, each on the whole batch.

    The calls by which Milstein's method checks its condition at the first step are included.
    """

    times: Tensor
    states: Tensor
    drift_calls: int
    diffusion_calls: int

    @property
    def end(self) -> Tensor:
        """State at the last time, (B, *D)."""
        return self.states[-1]


def integrate(
    sde: SDE, x: Tensor, times: ArrayLike, *, seed: int, first: int = 0, method: Method = "euler-maruyama", every: int = 1
) -> Solution:
    """Solve an SDE from ``x`` at ``times[0]``, with one step from each time to the next.

    Gradients flow through the steps unless the caller switches them off.

    Parameters
    ----------
    sde : SDE
    x : Tensor (B, *D)
    times : array (T,)
        Increasing.
    seed, first : int
        Row i of this batch follows path ``first + i`` of ``seed``, the one that :func:`wiener` draws.
    method : str
        One of ``euler-maruyama`` and ``milstein``; the module docstring gives orders and conditions.
    every : int
        Return the state only at every so many times, and at the last, to save memory in long runs.

    Raises
    ------
    ValueError
        If the times do not increase, the method is unknown, or Milstein's method meets a diffusion that mixes coordinates.
    ArithmeticError
        If a state becomes infinite or NaN; the error names the time.

    >>> still = SDE(lambda x, t: 0.0, lambda x, t: 1.0)
    >>> times = torch.linspace(0, 1, 5)
    >>> end = integrate(still, torch.zeros(2, 1, dtype=torch.float64), times, seed=3).end
    >>> torch.allclose(end, wiener(times, 2, 1, seed=3).values[-1])
    True
    """
    times = _rising(times)
    draws = _increments(times, len(x), tuple(x.shape[1:]), seed, first, x.dtype, x.device)
    return _follow(sde, x, times, draws, method, every)


def integrate_along(sde: SDE, x: Tensor, path: WienerPath, *, method: Method = "euler-maruyama", every: int = 1) -> Solution:
    """Solve an SDE along given Wiener paths, so that two methods or two step sizes use the same noise.

    ``path`` contains the times; the rest is as in :func:`integrate`.

    >>> path = wiener(torch.linspace(0, 1, 9), 3, 1, seed=0)
    >>> gbm = SDE(lambda x, t: 0.1 * x, lambda x, t: 0.5 * x)
    >>> x = torch.ones(3, 1, dtype=torch.float64)
    >>> gap = integrate_along(gbm, x, path, method="milstein").end - integrate_along(gbm, x, path.coarsen(4)).end
    >>> bool(gap.abs().max() < 0.5)
    True
    """
    if path.increments.shape[1:] != x.shape:
        raise ValueError(f"the path has states {tuple(path.increments.shape[1:])}, but x has {tuple(x.shape)}")
    return _follow(sde, x, path.times, path.increments.to(x), method, every)


def _follow(sde: SDE, x: Tensor, times: Tensor, increments: Iterable[Tensor], method: Method, every: int) -> Solution:
    if method not in _STEPS:
        raise ValueError(f"method must be one of {', '.join(_STEPS)}, but is {method!r}")
    if every < 1:
        raise ValueError(f"every must be at least 1, but is {every}")
    if x.ndim < 2 or not x.numel() or not x.is_floating_point():
        raise ValueError(f"x must be floating-point with the shape (B, *D), but is {x.dtype} of the shape {tuple(x.shape)}")
    check_finite("x", x)
    step, clock = _STEPS[method], times.tolist()
    f, g = _Counted("drift", sde.drift), _Counted("diffusion", sde.diffusion)
    states, indices = [x], [0]
    if method == "milstein":
        _check_diagonal(f, g, x, times[0].to(x), clock[1] - clock[0])
    for k, dw in enumerate(increments):
        x = step(f, g, x, torch.tensor(clock[k], dtype=x.dtype, device=x.device), clock[k + 1] - clock[k], dw)
        if not bool(x.isfinite().all()):
            raise ArithmeticError(f"the state is no longer finite at t = {clock[k + 1]:g} (step {k + 1}); take smaller steps")
        if (k + 1) % every == 0 or k + 2 == len(clock):
            states.append(x)
            indices.append(k + 1)
    return Solution(times[indices], torch.stack(states), f.calls, g.calls)


@dataclass
class _Counted:
    """A coefficient that counts its calls and raises if its value does not fit the state."""

    name: str
    coefficient: Coefficient
    calls: int = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        value = self.coefficient(x, t)
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
        fits = all(size in (1, want) for size, want in zip(value.shape[::-1], x.shape[::-1], strict=False))
        if value.dtype != x.dtype or value.ndim > x.ndim or not fits:
            raise ValueError(
                f"{self.name} must return {x.dtype} that broadcasts to x, {tuple(x.shape)}, "
                f"but returned {value.dtype} of the shape {tuple(value.shape)}"
            )
        return value.expand_as(x)


def _euler_maruyama(f: _Counted, g: _Counted, x: Tensor, t: Tensor, h: float, dw: Tensor) -> Tensor:
    return x + h * f(x, t) + g(x, t) * dw


def _milstein(f: _Counted, g: _Counted, x: Tensor, t: Tensor, h: float, dw: Tensor) -> Tensor:
    moved, spread = x + h * f(x, t), g(x, t)
    ahead = g(moved + math.sqrt(h) * spread, t)
    return moved + spread * dw + (ahead - spread) / (2 * math.sqrt(h)) * (dw**2 - h)


_STEPS = {"euler-maruyama": _euler_maruyama, "milstein": _milstein}


def _check_diagonal(f: _Counted, g: _Counted, x: Tensor, t: Tensor, h: float) -> None:
    """Raise if moving some coordinates, by about one step, changes the diffusion of the others.

    Each binary digit of the coordinate's number gives a mask and its complement: any two coordinates differ in a digit.
    """
    if x[0].numel() == 1:
        return
    spread = g(x, t)
    ahead = x + h * f(x, t) + math.sqrt(h) * spread
    number = torch.arange(x[0].numel(), device=x.device).reshape(x.shape[1:])
    rounding = 1e3 * torch.finfo(x.dtype).eps * (1 + spread.abs().max().item())
    for digit in range((x[0].numel() - 1).bit_length()):
        for moved in ((number >> digit) & 1 == 1, (number >> digit) & 1 == 0):
            change = (g(torch.where(moved, ahead, x), t) - spread).abs() * ~moved
            if change.max().item() > rounding:
                bad = int(change.flatten(1).amax(0).argmax())
                raise ValueError(
                    f"Milstein's method needs g_i to depend on x_i and t alone, but coordinate {bad} of the diffusion changes "
                    f"(by {change.max().item():.2g}) with other coordinates of x; use method='euler-maruyama'"
                )


def _increments(
    times: Tensor, n: int, shape: tuple[int, ...], seed: int, first: int, dtype: torch.dtype, device: torch.device | str
) -> Iterable[Tensor]:
    rows = torch.arange(first, first + n)
    for k, (start, stop) in enumerate(itertools.pairwise(times.tolist())):
        draw = noise.normal(shape, seed=seed, purpose="wiener", rows=rows, step=k, dtype=dtype, device=device)
        yield math.sqrt(stop - start) * draw


def _rising(times: ArrayLike) -> Tensor:
    times = as_float_tensor(times).double().cpu()
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must have the shape (T,) with T >= 2, but has {tuple(times.shape)}")
    check_finite("times", times)
    if not bool((times.diff() > 0).all()):
        bad = int((~(times.diff() > 0)).nonzero()[0])
        raise ValueError(
            f"times must rise, but times[{bad}] is {times[bad].item():g} and times[{bad + 1}] {times[bad + 1].item():g}"
        )
    return times
