r"""The samplers: each is the rule that fills a table (:mod:`pushforward.diffusion.sampler`).

From time t to time s, with D the denoised prediction at x_t and lambda = log_snr / 2:

Runge-Kutta (Euler, Heun, RK4) steps in t through dx/dt = (sigma_dot / sigma) x + (alpha_dot - alpha sigma_dot / sigma) D.

DDPM and DDIM step through the posterior of the forward process, with a = alpha_t / alpha_s and b2 = sigma_t^2 - a^2 sigma_s^2,

    q(x_s | x_t, x) = N(a sigma_s^2 / sigma_t^2 x_t + alpha_s b2 / sigma_t^2 x,  b2 sigma_s^2 / sigma_t^2).

DPM-Solver++ integrates x_s / sigma_s = x_t / sigma_t + int e^lambda D d(lambda) with D replaced by the polynomial through its
last ``order`` values; order 1 is DDIM with eta = 0.

References
----------
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
Jiaming Song, Chenlin Meng, Stefano Ermon. Denoising diffusion implicit models. 2021. https://arxiv.org/abs/2010.02502
Fan Bao et al. Analytic-DPM. 2022. https://arxiv.org/abs/2201.06503  (fitted reverse variance)
Cheng Lu et al. DPM-Solver++. 2022. https://arxiv.org/abs/2211.01095
Qinsheng Zhang, Yongxin Chen. Fast sampling of diffusion models with exponential integrator. 2023. https://arxiv.org/abs/2204.13902
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.grid import Grid, UniformGrid
from pushforward.diffusion.sampler import Sampler, TableBuilder
from pushforward.diffusion.schedule import Schedule, widen

__all__ = ["DDIM", "DDPM", "RK4", "DPMSolver", "Euler", "FittedVariance", "Heun"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_LONGEST = 40.0  # e^-40 of an exponential integral is below the rounding of float64


@dataclass(frozen=True)
class _Scales:
    """Scales of a schedule at the times of a grid, as lists of floats."""

    alpha: list[float]
    sigma: list[float]

    @classmethod
    def of(cls, schedule: Schedule, times: Sequence[float]) -> "_Scales":
        t = torch.tensor(times, dtype=torch.float64)
        return cls(schedule.alpha(t).tolist(), schedule.sigma(t).tolist())


def _runge_kutta(
    builder: TableBuilder,
    schedule: Schedule,
    times: Sequence[float],
    nodes: Sequence[float],
    stages: Sequence[Sequence[float]],
) -> None:
    """Append the rows of an explicit Runge-Kutta method in t.

    ``nodes`` are the c_i of its Butcher tableau; ``stages[i]`` are the weights of k_0 ... k_i that make the state of stage
    i + 1, the last of them the step itself.
    """
    for t, s in itertools.pairwise(times):
        at = torch.tensor([t + c * (s - t) for c in nodes], dtype=torch.float64)
        ratio = schedule.sigma_dot(at) / schedule.sigma(at)
        slope_x = ratio.tolist()
        slope_d = (schedule.alpha_dot(at) - ratio * schedule.alpha(at)).tolist()
        goals = [*at.tolist()[1:], s]
        for i, weights in enumerate(stages):
            a, b = {i: 1.0}, {}
            for j, weight in enumerate(weights):
                a[i - j] = a.get(i - j, 0.0) + (s - t) * weight * slope_x[j]
                b[i - j] = (s - t) * weight * slope_d[j]
            builder.row(at[i].item(), goals[i], a, b)


@dataclass(frozen=True)
class Euler(Sampler):
    """Explicit Euler in t: one call per step, order 1.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """1."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        _runge_kutta(builder, schedule, times, nodes=[0.0], stages=[[1.0]])


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method in t: two calls per step, order 2.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """2."""
        return 2

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        _runge_kutta(builder, schedule, times, nodes=[0.0, 1.0], stages=[[1.0], [0.5, 0.5]])


@dataclass(frozen=True)
class RK4(Sampler):
    """The classical Runge-Kutta method in t: four calls per step, order 4.

    Parameters
    ----------
    grid : Grid
    """

    grid: Grid = field(default=UniformGrid())

    @property
    def order(self) -> int:
        """4."""
        return 4

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        stages = [[0.5], [0.0, 0.5], [0.0, 0.0, 1.0], [1 / 6, 1 / 3, 1 / 3, 1 / 6]]
        _runge_kutta(builder, schedule, times, nodes=[0.0, 0.5, 0.5, 1.0], stages=stages)


@dataclass(frozen=True)
class DDIM(Sampler):
    """DDIM: the deterministic first-order exponential step, with a share ``eta`` of DDPM's noise.

    Parameters
    ----------
    eta : float
        0 is deterministic; 1 is DDPM with the smaller variance beta-tilde.
    grid : Grid
    """

    eta: float = 0.0
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {self.eta}")

    @property
    def order(self) -> int:
        """1."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        if self.eta > 0:
            _check_falling(self, times)
        scales = _Scales.of(schedule, times)
        for k in range(len(times) - 1):
            alpha_t, alpha_s, sigma_t, sigma_s = *scales.alpha[k : k + 2], *scales.sigma[k : k + 2]
            variance = self.eta**2 * _posterior(alpha_t, alpha_s, sigma_t, sigma_s)[2] if self.eta > 0 else 0.0
            kept = math.sqrt(max(sigma_s**2 - variance, 0.0)) / sigma_t
            noise = {0: math.sqrt(variance)} if variance > 0 else {}
            builder.row(times[k], times[k + 1], {0: kept}, {0: alpha_s - kept * alpha_t}, noise)


@dataclass(frozen=True)
class FittedVariance:
    """The mean squared error of a denoiser by time, from which DDPM's best reverse variance follows.

    The optimal Gaussian reverse step has the variance beta-tilde + (alpha_s b2 / sigma_t^2)^2 E|x - D|^2 / D, which this
    object supplies by linear interpolation between ``times``.

    Parameters
    ----------
    times : tuple of float
        Rising.
    errors : tuple of float
        Mean squared error per element of ``denoised`` at these times.
    """

    times: tuple[float, ...]
    errors: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.errors) or len(self.times) < 2:
            raise ValueError(
                f"times and errors must have the same length of at least 2, got {len(self.times)} and {len(self.errors)}"
            )
        if any(after <= before for before, after in itertools.pairwise(self.times)):
            raise ValueError(f"times must rise strictly, got {list(self.times)}")
        if any(not 0 <= error < math.inf for error in self.errors):
            raise ValueError(f"errors must be finite and not negative, got {list(self.errors)}")

    @classmethod
    @torch.no_grad()
    def fit(
        cls, denoiser: AbstractDenoiser, x: Tensor, eps: Tensor, *, condition: Tensor | None = None, count: int = 32
    ) -> "FittedVariance":
        """Measure the error on data ``x`` (B, *D) with noise ``eps`` (B, *D) at ``count`` times, uniform on [t_min, 1]."""
        times = torch.linspace(denoiser.schedule.t_min, 1, count, dtype=torch.float64)
        errors = []
        for t in times:
            alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
            x_t = widen(alpha, x) * x + widen(sigma, x) * eps
            errors.append((denoiser(x_t, t, condition) - x).square().mean().item())
        return cls(tuple(times.tolist()), tuple(errors))

    def __call__(self, t: float) -> float:
        """Return the interpolated mean squared error at ``t``."""
        k = min(max(bisect_left(self.times, t), 1), len(self.times) - 1)
        low, high = self.times[k - 1], self.times[k]
        share = min(max((t - low) / (high - low), 0.0), 1.0)
        return self.errors[k - 1] + share * (self.errors[k] - self.errors[k - 1])


@dataclass(frozen=True)
class DDPM(Sampler):
    """Ancestral sampling: the posterior of the forward process at x = denoised, plus noise.

    Parameters
    ----------
    variance : "beta", "beta-tilde" or FittedVariance
        Reverse variance: that of the forward step b2 (exact for data of variance one), that of the posterior (exact for a
        single data point), or the best one for a measured denoiser error.
    grid : Grid
    """

    variance: Literal["beta", "beta-tilde"] | FittedVariance = "beta-tilde"
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if self.variance not in ("beta", "beta-tilde") and not isinstance(self.variance, FittedVariance):
            raise ValueError(f"variance must be 'beta', 'beta-tilde' or a FittedVariance, got {self.variance!r}")

    @property
    def order(self) -> int:
        """1 (weak)."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        _check_falling(self, times)
        scales = _Scales.of(schedule, times)
        for k in range(len(times) - 1):
            pair = (*scales.alpha[k : k + 2], *scales.sigma[k : k + 2])
            on_x, on_denoised, variance = _posterior(*pair)
            if self.variance == "beta":
                variance = _forward_variance(*pair)
            elif isinstance(self.variance, FittedVariance):
                variance += on_denoised**2 * self.variance(times[k])
            builder.row(times[k], times[k + 1], {0: on_x}, {0: on_denoised}, {0: math.sqrt(variance)})


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++, multistep: one call per step, order 1 to 3 after a start at lower order.

    Parameters
    ----------
    order : int
        1, 2 or 3: number of denoised predictions that the polynomial in log-SNR runs through.
    grid : Grid
    """

    order: int = 2
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"the order of DPMSolver is 1, 2 or 3, got {self.order!r}")

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        scales = _Scales.of(schedule, times)
        lam = (schedule.log_snr(torch.tensor(times, dtype=torch.float64)) / 2).tolist()
        for k in range(len(times) - 1):
            history = [lam[j] for j in range(k, max(k - self.order, -1), -1)]
            # A node at infinity (alpha = 0) has weight 0 in the limit, unless it is the only one.
            usable = [j for j, node in enumerate(history) if math.isfinite(node)] or [0]
            weights = _exponential_weights([history[j] for j in usable], lam[k + 1])
            kept = scales.sigma[k + 1] / scales.sigma[k]
            # sigma_s e^max: the scale that the weights were taken relative to.
            scale = scales.alpha[k + 1] if lam[k + 1] > lam[k] else kept * scales.alpha[k]
            builder.row(times[k], times[k + 1], {0: kept}, {j: scale * w for j, w in zip(usable, weights, strict=True)})


def _exponential_weights(nodes: Sequence[float], goal: float) -> list[float]:
    """Integrals of e^(lambda - max) l_j(lambda) from nodes[0] to ``goal``, where l_j are the Lagrange polynomials of ``nodes``.

    ``max`` is the larger end, so that nothing overflows; Gauss-Legendre with 64 points is exact to rounding.
    """
    start = nodes[0]
    if not math.isfinite(start):  # one node, from alpha = 0: the integral of e^(lambda - goal) from -infinity
        return [1.0]
    low, high = min(start, goal), max(start, goal)
    low = max(low, high - _LONGEST)
    u = 0.5 * (high - low) * (_NODES + 1) + low
    mass = 0.5 * (high - low) * _WEIGHTS * np.exp(u - high) * (1.0 if goal > start else -1.0)
    weights = []
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        polynomial = np.prod([(u - other) / (node - other) for other in others], axis=0) if others else 1.0
        weights.append(float((mass * polynomial).sum()))
    return weights


def _posterior(alpha_t: float, alpha_s: float, sigma_t: float, sigma_s: float) -> tuple[float, float, float]:
    """Coefficients of x_t and x in the mean of q(x_s | x_t, x), and its variance."""
    b2 = _forward_variance(alpha_t, alpha_s, sigma_t, sigma_s)
    return alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * b2 / sigma_t**2, b2 * (sigma_s / sigma_t) ** 2


def _forward_variance(alpha_t: float, alpha_s: float, sigma_t: float, sigma_s: float) -> float:
    """Variance b2 of q(x_t | x_s), never below 0 by rounding."""
    return max(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2, 0.0)


def _check_falling(sampler: Sampler, times: Sequence[float]) -> None:
    if times[-1] > times[0]:
        raise ValueError(f"{sampler} adds noise and only runs from noise to data; rising times need a deterministic sampler")
