r"""Multistep samplers: one denoiser call per step, order from the history of earlier calls.

Each writes the probability-flow ODE as an integral of something smooth, replaces that by the Lagrange polynomial through its
last values, and integrates exactly. With D the denoised prediction at x_t and lambda = log_snr / 2:

DPM-Solver++   x_s / sigma_s = x_t / sigma_t + int e^lambda D d(lambda)             D is a polynomial in lambda
UniPC          the same; then each step is done again with the new D, without a new call
DEIS           x_s / alpha_s = x_t / alpha_t + int eps d(sigma / alpha)             eps is a polynomial in t
AngleSolver    x_s / rho_s = x_t / rho_t + int F d(theta)                           F is a polynomial in theta

In the last, rho^2 = alpha^2 c^2 + sigma^2 and theta = atan(c alpha / sigma) for data of scale c, and

    F = (rho / (c sigma)) (D - (alpha c^2 / rho^2) x_t)

is what a network with ``edm`` preconditioning gives: unit variance, and zero for Gaussian data of standard deviation c. Where
alpha(1) = 0 the angle is 0 and F is finite, so nothing special happens at either end.

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

from pushforward.diffusion.coefficients import Scales, exponential_integrals, lagrange_integrals
from pushforward.diffusion.grid import Grid, UniformGrid, VPGrid
from pushforward.diffusion.sampler import Sampler, TableBuilder
from pushforward.diffusion.schedule import Schedule

__all__ = ["DEIS", "AngleSolver", "DPMSolver", "UniPC"]

_LONG, _LONGER = 0.5, 0.9  # from digits, images and spikes alike; see AngleSolver


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++, multistep: one call per step, order 1 to 3 after a start at lower order.

    Parameters
    ----------
    order : int
        1, 2 or 3: number of denoised predictions that the polynomial in log-SNR runs through. Order 1 is DDIM.
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
            kept = scales.sigma[k + 1] / scales.sigma[k]
            builder.row(times[k], times[k + 1], {0: kept}, dict(enumerate(_of_denoised(scales, k, k, self.order))))


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC: the predictor of DPM-Solver++, and each step corrected once the next call has been made; no extra call.

    With the predicted state x_k at time t_k, the call D_k there, the polynomial P_k of degree order - 2 through D_k, D_{k-1},
    ..., and Q_k of degree order - 1 through one more of them, one step is

        x_{k+1} / sigma_{k+1} = x_k / sigma_k + int_{k-1}^k e^lambda (Q_k - P_{k-1}) d(lambda)
                                              + int_k^{k+1} e^lambda P_k d(lambda).

    All integrals are exact, which is the paper's method with varying coefficients; its B(h) then drops out.

    Parameters
    ----------
    order : int
        2, 3 or 4: the order of the whole, one more than that of its predictor. The paper's UniPC-p has the order p + 1.
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
            kept = scales.sigma[k + 1] / scales.sigma[k]
            weights = _of_denoised(scales, k, k, count)
            if k > 0:
                before = [0.0, *_of_denoised(scales, k - 1, k - 1, count)]
                change = _difference(before, _of_denoised(scales, k - 1, k, count + 1))
                weights = _difference(weights, [kept * part for part in change])
            builder.row(times[k], times[k + 1], {0: kept}, dict(enumerate(weights)))


@dataclass(frozen=True)
class DEIS(Sampler):
    """DEIS: Adams-Bashforth on the predicted noise, with the polynomial in t and the noise level as clock ("tAB").

    Parameters
    ----------
    order : int
        1 to 4: number of predictions that the polynomial runs through. Order 1 is DDIM.
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
class AngleSolver(Sampler):
    """Adams' predictor and corrector in the angle between data and noise; the default sampler.

    The interpolated F has the data's own linear part taken off, so large steps over the noisy half cost little, and it is as
    smooth near the data as near the noise. As in :class:`UniPC`, each step is corrected when the next call has been made
    (here by the polynomial through as many values as the predictor's), without an extra call. Long steps near the data, those
    on which cos(theta) = sigma / rho falls by more than e^0.5 and e^0.9, are taken with order 2 and 1: on data in narrow
    spikes higher ones are not stable there, and on other data they gain nothing.

    Parameters
    ----------
    order : int
        1 to 4: number of values that the polynomials run through.
    scale : float
        The scale c of the data in units of x, positive. What matters is the scale of its broad structure: for data of unit
        variance 1 to 2 are about equally good.
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
        scales, c = Scales.of(schedule, times), self.scale
        theta = [math.atan2(c * alpha, sigma) for alpha, sigma in zip(scales.alpha, scales.sigma, strict=True)]
        rho = [math.hypot(c * alpha, sigma) for alpha, sigma in zip(scales.alpha, scales.sigma, strict=True)]

        def integrals(interval: int, newest: int) -> list[float]:
            # Where the data lies in narrow spikes, x falls towards D as fast as the noise level does.
            pull = abs(math.log(rho[interval] * scales.sigma[interval + 1] / (rho[interval + 1] * scales.sigma[interval])))
            order = min(self.order, 1 if pull > _LONGER else 2 if pull > _LONG else self.order)
            nodes = [theta[j] for j in range(newest, max(newest - order, -1), -1)]
            return lagrange_integrals(nodes, theta[interval], theta[interval + 1])

        for k in range(len(times) - 1):
            weights = integrals(k, k)
            if k > 0:
                change = _difference([0.0, *integrals(k - 1, k - 1)], integrals(k - 1, k))
                weights = _difference(weights, change)
            a, b = {0: rho[k + 1] / rho[k]}, {}
            for lag, weight in enumerate(weights):
                alpha, sigma, at = scales.alpha[k - lag], scales.sigma[k - lag], rho[k - lag]
                a[lag] = a.get(lag, 0.0) - rho[k + 1] * weight * alpha * c / (sigma * at)
                b[lag] = rho[k + 1] * weight * at / (c * sigma)
            builder.row(times[k], times[k + 1], a, b)


def _of_denoised(scales: Scales, interval: int, newest: int, count: int) -> list[float]:
    """Weights of D at lags 0, 1, ... behind ``newest`` in sigma_s int e^lambda D d(lambda) over the step from ``interval``."""
    nodes = [scales.lam[j] for j in range(newest, max(newest - count, -1), -1)]
    begin, end = scales.lam[interval : interval + 2]
    alpha_t, alpha_s, sigma_t, sigma_s = scales.pair(interval)
    scale = alpha_s if end > begin else sigma_s / sigma_t * alpha_t  # sigma_s e^top
    return [scale * weight for weight in exponential_integrals(nodes, begin, end)]


def _difference(first: list[float], second: list[float]) -> list[float]:
    """``first`` - ``second``, with missing entries at the end taken as 0."""
    return [x - y for x, y in itertools.zip_longest(first, second, fillvalue=0.0)]


def _check_order(sampler: "DPMSolver | UniPC | DEIS | AngleSolver", allowed: tuple[int, ...]) -> None:
    if sampler.order not in allowed:
        listed = ", ".join(map(str, allowed[:-1]))
        raise ValueError(f"the order of {type(sampler).__name__} is {listed} or {allowed[-1]}, got {sampler.order!r}")
