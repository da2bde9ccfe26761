r"""Multistep samplers: one denoiser call per step; earlier calls give the order.

Each writes the probability-flow ODE as an integral of a smooth function, replaces that by the Lagrange polynomial through its
last values, and integrates exactly. With D the denoised prediction at x_t and lambda = log_snr / 2:

DPM-Solver++   x_s / sigma_s = x_t / sigma_t + int e^lambda D d(lambda)             D is a polynomial in lambda
UniPC          the same; then each step is repeated with the new D, without a new call
DEIS           x_s / alpha_s = x_t / alpha_t + int eps d(sigma / alpha)             eps is a polynomial in t
AngleSolver    x_s / rho_s = x_t / rho_t + int F d(theta)                           F is a polynomial in theta

In the last, rho^2 = alpha^2 c^2 + sigma^2 and theta = atan(c alpha / sigma) for data of scale c, and

    F = (rho / (c sigma)) (D - (alpha c^2 / rho^2) x_t)

is the output of a network with ``edm`` preconditioning: unit variance, and zero for Gaussian data of standard deviation c.
Where alpha(1) = 0 the angle is 0 and F is finite, so neither end is a special case.

References
----------
Cheng Lu et al. DPM-Solver++. 2022. https://arxiv.org/abs/2211.01095
Wenliang Zhao et al. UniPC: a unified predictor-corrector framework. 2023. https://arxiv.org/abs/2302.04867
Qinsheng Zhang, Yongxin Chen. Fast sampling of diffusion models with exponential integrator. 2023. https://arxiv.org/abs/2204.13902
Kaiwen Zheng et al. DPM-Solver-v3. 2023. https://arxiv.org/abs/2310.13268  (taking a linear part off the prediction)
Marlis Hochbruck, Alexander Ostermann. Exponential integrators. Acta Numerica, 2010.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pushforward.diffusion.samplers.coefficients import Scales, exponential_integrals, lagrange_integrals
from pushforward.diffusion.samplers.grid import Grid, UniformGrid, VPGrid
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler
from pushforward.diffusion.schedule import Schedule

__all__ = ["DEIS", "AngleSolver", "DPMSolver", "UniPC"]

_NEAR = 0.05  # largest sigma / rho of the last call at which extrapolation to the data helps


@dataclass(frozen=True)
class DPMSolver(TableSampler):
    """DPM-Solver++, multistep: one call per step, order 1 to 3 after a start at lower order.

    Parameters
    ----------
    order : int
        1, 2 or 3: number of denoised predictions that the polynomial in log-SNR interpolates. Order 1 is DDIM.
    grid : Grid

    >>> [DPMSolver(order=2).nfe(10), DPMSolver(order=2).order]
    [10, 2]
    """

    order: int = 2
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        _check_order(self, (1, 2, 3))

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        scales = Scales.of(schedule, times)
        for k in range(len(times) - 1):
            on_x = scales.sigma[k + 1] / scales.sigma[k]
            builder.row(times[k], times[k + 1], {0: on_x}, dict(enumerate(_of_denoised(scales, k, k, self.order))))


@dataclass(frozen=True)
class UniPC(TableSampler):
    """UniPC: the predictor of DPM-Solver++, with each step corrected once the next call is made; no extra call.

    With the predicted state x_k at time t_k, the call D_k there, the polynomial P_k of degree order - 2 through D_k, D_{k-1},
    ..., and Q_k of degree order - 1 through one more of them, one step is

        x_{k+1} / sigma_{k+1} = x_k / sigma_k + int_{k-1}^k e^lambda (Q_k - P_{k-1}) d(lambda)
                                              + int_k^{k+1} e^lambda P_k d(lambda).

    All integrals are exact, which is the paper's method with varying coefficients, where B(h) cancels.

    Parameters
    ----------
    order : int
        2, 3 or 4: the order of the method, one more than that of its predictor. The paper's UniPC-p has the order p + 1.
    grid : Grid

    >>> UniPC(order=3).nfe(10)
    10
    """

    order: int = 3
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        _check_order(self, (2, 3, 4))

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        scales, count = Scales.of(schedule, times), self.order - 1
        for k in range(len(times) - 1):
            on_x = scales.sigma[k + 1] / scales.sigma[k]
            weights = _of_denoised(scales, k, k, count)
            if k > 0:
                before = [0.0, *_of_denoised(scales, k - 1, k - 1, count)]
                change = _difference(before, _of_denoised(scales, k - 1, k, count + 1))
                weights = _difference(weights, [on_x * part for part in change])
            builder.row(times[k], times[k + 1], {0: on_x}, dict(enumerate(weights)))


@dataclass(frozen=True)
class DEIS(TableSampler):
    """DEIS: Adams-Bashforth on the predicted noise, a polynomial in t integrated over the noise level ("tAB").

    Parameters
    ----------
    order : int
        1 to 4: number of predictions that the polynomial interpolates. Order 1 is DDIM.
    grid : Grid

    >>> DEIS(order=4).nfe(10)
    10
    """

    order: int = 3
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        _check_order(self, (1, 2, 3, 4))

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        scales = Scales.of(schedule, times)

        def level_dot(t: NDArray[np.float64]) -> NDArray[np.float64]:
            at = torch.from_numpy(t)
            alpha, sigma = schedule.alpha(at), schedule.sigma(at)
            slope: NDArray[np.float64] = ((schedule.sigma_dot(at) - sigma / alpha * schedule.alpha_dot(at)) / alpha).numpy()
            return slope

        for k in range(len(times) - 1):
            alpha_t, alpha_s, sigma_t, sigma_s = scales.pair(k)
            # eps = (x - alpha D) / sigma; the first order is exact where alpha = 0 and y = x / alpha is not defined.
            a, b = {0: sigma_s / sigma_t}, {0: alpha_s - alpha_t * sigma_s / sigma_t}
            nodes = [times[j] for j in range(k, max(k - self.order, -1), -1)]
            if len(nodes) > 1:
                weights = lagrange_integrals(nodes, times[k], times[k + 1], level_dot)
                weights[0] = -sum(weights[1:])  # relative to the first order, so that a constant eps is exact
                for lag, weight in enumerate(weights):
                    a[lag] = a.get(lag, 0.0) + alpha_s * weight / scales.sigma[k - lag]
                    b[lag] = b.get(lag, 0.0) - alpha_s * weight * scales.alpha[k - lag] / scales.sigma[k - lag]
            builder.row(times[k], times[k + 1], a, b)


@dataclass(frozen=True)
class AngleSolver(TableSampler):
    """Adams' predictor and corrector in the angle between data and noise; the default from 11 calls on.

    F has the linear part of the data removed, so large steps over the noisy half have small errors, and it is as smooth near
    the data as near the noise. As in :class:`UniPC`, each step is corrected when the next call is made (here by a polynomial
    through as many values as the predictor's), without an extra call.

    The effect of the correction dx of a state on the next step depends on the law. Where it is broad, F is unchanged and dx
    carries over; in a narrow spike D is unchanged, and a part s = w_0 c alpha / sigma of dx is undone, where w_0 is the weight
    of the newest F. Carrying over all of dx is unstable in spikes. The factor is 1 - min(s, 1)^3: near 1 for short steps, so no
    order is lost, and near 0 for long steps near the data.

    If the last call is at sigma / rho of at most 0.05, the result is not its D but D extrapolated to the data,

        D + int (eps - eps_last) d(sigma / alpha),

    with the polynomial in theta through the last values of eps = (x - alpha D) / sigma: exact where D or eps is constant.

    Parameters
    ----------
    order : int
        1 to 4: number of values that the polynomials interpolate.
    scale : float
        The scale c of the data in units of x, positive. It should match the broad structure of the data: for data of unit
        variance, values from 1 to 2 are about equally good.
    grid : Grid

    >>> AngleSolver().nfe(10)
    10
    """

    order: int = 3
    scale: float = 1.5
    grid: Grid = field(default=VPGrid())

    def __post_init__(self) -> None:
        _check_order(self, (1, 2, 3, 4))
        if not 0 < self.scale < math.inf:
            raise ValueError(f"the scale of an AngleSolver must be positive and finite, got {self.scale}")

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        clock = _Clock.of(schedule, times, self.scale)
        theta, rho = clock.theta, clock.rho

        def integrals(interval: int, newest: int) -> list[float]:
            return lagrange_integrals(clock.nodes(newest, self.order), theta[interval], theta[interval + 1])

        for k in range(len(times) - 1):
            weights = integrals(k, k)
            if k > 0:
                change = _difference([0.0, *integrals(k - 1, k - 1)], integrals(k - 1, k))
                undone = weights[0] * self.scale * clock.alpha[k] / clock.sigma[k]
                factor = 1 - min(max(undone, 0.0), 1.0) ** 3
                weights = _difference(weights, [factor * part for part in change])
            a, b = clock.coefficients(weights, k, rho[k + 1])
            a[0] += rho[k + 1] / rho[k]
            builder.row(times[k], times[k + 1], a, b)

    def _finish(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        clock, last = _Clock.of(schedule, times, self.scale), len(times) - 1
        order = self.order if clock.sigma[last] <= _NEAR * clock.rho[last] else 1
        nodes = clock.nodes(last, order)
        weights = lagrange_integrals(nodes, clock.theta[last], math.pi / 2, lambda theta: -self.scale / np.sin(theta) ** 2)
        weights[0] = -sum(weights[1:])  # relative to the first order, which returns D
        a, b = {}, {}
        for lag, weight in enumerate(weights):
            a[lag] = weight / clock.sigma[last - lag]
            b[lag] = (lag == 0) - weight * clock.alpha[last - lag] / clock.sigma[last - lag]
        builder.row(times[last], 0.0, a, b)


@dataclass(frozen=True)
class _Clock:
    """Scales, radii rho and angles theta of :class:`AngleSolver` at the times of a grid."""

    scale: float
    alpha: list[float]
    sigma: list[float]
    rho: list[float]
    theta: list[float]

    @classmethod
    def of(cls, schedule: Schedule, times: Sequence[float], scale: float) -> "_Clock":
        scales = Scales.of(schedule, times)
        pairs = [(scale * alpha, sigma) for alpha, sigma in zip(scales.alpha, scales.sigma, strict=True)]
        rho, theta = [math.hypot(*pair) for pair in pairs], [math.atan2(*pair) for pair in pairs]
        return cls(scale, scales.alpha, scales.sigma, rho, theta)

    def nodes(self, newest: int, count: int) -> list[float]:
        """Return up to ``count`` angles from that of ``newest`` backwards."""
        return [self.theta[j] for j in range(newest, max(newest - count, -1), -1)]

    def coefficients(self, weights: list[float], newest: int, radius: float) -> tuple[dict[int, float], dict[int, float]]:
        """Coefficients of x and D in ``radius`` times the sum of ``weights`` times F at lags 0, 1, ... from ``newest``."""
        a, b = {}, {}
        for lag, weight in enumerate(weights):
            alpha, sigma, rho = self.alpha[newest - lag], self.sigma[newest - lag], self.rho[newest - lag]
            a[lag] = -radius * weight * alpha * self.scale / (sigma * rho)
            b[lag] = radius * weight * rho / (self.scale * sigma)
        return a, b


def _of_denoised(scales: Scales, interval: int, newest: int, count: int) -> list[float]:
    """Weights of D at lags 0, 1, ... from ``newest`` in sigma_s int e^lambda D d(lambda) over the step from ``interval``."""
    nodes = [scales.lam[j] for j in range(newest, max(newest - count, -1), -1)]
    begin, end = scales.lam[interval : interval + 2]
    alpha_t, alpha_s, sigma_t, sigma_s = scales.pair(interval)
    scale = alpha_s if end > begin else sigma_s / sigma_t * alpha_t  # sigma_s e^top
    return [scale * weight for weight in exponential_integrals(nodes, begin, end)]


def _difference(first: list[float], second: list[float]) -> list[float]:
    """Return ``first`` - ``second``; missing entries at the end count as 0."""
    return [x - y for x, y in itertools.zip_longest(first, second, fillvalue=0.0)]


def _check_order(sampler: "DPMSolver | UniPC | DEIS | AngleSolver", allowed: tuple[int, ...]) -> None:
    if sampler.order not in allowed:
        listed = ", ".join(map(str, allowed[:-1]))
        raise ValueError(f"the order of {type(sampler).__name__} is {listed} or {allowed[-1]}, got {sampler.order!r}")
