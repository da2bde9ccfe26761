r"""Schedules: the scales of signal and noise at time t.

    x_t = alpha(t) x + sigma(t) eps,       t in [0, 1], 0 = data, 1 = noise

``x`` is clean data and ``eps`` standard normal noise (or a draw from the source law of flow matching). A schedule is the
pair of scales alpha, sigma >= 0. It does not depend on networks, steps or samplers.

    noise_level = sigma / alpha                  (EDM's sigma)
    log_snr     = 2 log(alpha / sigma)           strictly decreasing in t

Domain. alpha, sigma and log_snr are defined on [0, 1]; their time derivatives ``alpha_dot`` and ``sigma_dot`` on
[t_min, 1], since sigma of the variance-preserving schedules has a vertical tangent at 0. At t = 0 log_snr may be
+inf; at t = 1 it is -inf where alpha(1) = 0 (``Cosine``, ``StraightLine``). ``t_min`` is the smallest time at which
the conversions of :mod:`pushforward.diffusion.prediction` are finite.

Shapes and dtypes. Every function takes a float tensor of any shape, usually () or (B,), and returns the same shape and
dtype. Near both ends the formulas avoid small differences of large numbers.

References
----------
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
Alex Nichol, Prafulla Dhariwal. Improved DDPM. 2021. https://arxiv.org/abs/2102.09672
Yaron Lipman et al. Flow matching for generative modeling. 2023. https://arxiv.org/abs/2210.02747
"""

import abc
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pushforward._fields import CheckedFields

__all__ = ["Cosine", "DiscreteBeta", "Exploding", "LinearBeta", "Schedule", "StraightLine", "SubVP", "widen"]


def widen(t: Tensor, x: Tensor) -> Tensor:
    """Add trailing axes to ``t`` of shape () or (B,), so that it broadcasts against ``x`` of shape (B, *D)."""
    if t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must be a scalar or have one entry per row: x has {x.shape[0]} rows, t the shape {tuple(t.shape)}")
    return t.reshape(-1, *([1] * (x.ndim - 1)))


class Schedule(CheckedFields, abc.ABC):
    """The scales of x_t = alpha(t) x + sigma(t) eps; subclasses are frozen dataclasses.

    A new schedule defines ``alpha``, ``sigma``, their derivatives and ``t_of_log_snr``.
    """

    @property
    def t_min(self) -> float:
        """Smallest time at which conversions between predictions are finite."""
        return 1e-4

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale."""

    @abc.abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """Time derivative of alpha, on [t_min, 1]."""

    @abc.abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """Time derivative of sigma, on [t_min, 1]."""

    @abc.abstractmethod
    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Inverse of :meth:`log_snr`."""

    def log_snr(self, t: Tensor) -> Tensor:
        """2 log(alpha / sigma); may be infinite at the ends."""
        return 2 * (self.alpha(t) / self.sigma(t)).log()

    def noise_level(self, t: Tensor) -> Tensor:
        """Return sigma / alpha; infinite where alpha = 0."""
        return self.sigma(t) / self.alpha(t)


@dataclass(frozen=True)
class StraightLine(Schedule):
    """alpha = 1 - t, sigma = t: the path of flow matching and rectified flow.

    >>> StraightLine().noise_level(torch.tensor(0.5)).item()
    1.0
    """

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Equal to t."""
        return t.clone()

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """sigmoid(-log_snr / 2)."""
        return torch.sigmoid(-log_snr / 2)


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2); alpha(1) = 0 exactly."""

    def alpha(self, t: Tensor) -> Tensor:
        """cos(pi t / 2), computed as a sine of 1 - t."""
        return torch.sin((1 - t) * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """sin(pi t / 2)."""
        return torch.sin(t * (math.pi / 2))

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-(pi / 2) sigma."""
        return self.sigma(t) * (-math.pi / 2)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """(pi / 2) alpha."""
        return self.alpha(t) * (math.pi / 2)

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """(2 / pi) atan(exp(-log_snr / 2))."""
        return torch.atan(torch.exp(-log_snr / 2)) * (2 / math.pi)


@dataclass(frozen=True)
class LinearBeta(Schedule):
    """The VP SDE: beta(t) linear, alpha = exp(-B(t) / 2), sigma^2 = 1 - alpha^2 with B the integral of beta.

    Parameters
    ----------
    beta_min, beta_max : float
        beta at t = 0 and t = 1; 0 < beta_min < beta_max.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check_betas(self.beta_min, self.beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B / 2)."""
        return torch.exp(-self._integral(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B))."""
        return torch.expm1(-self._integral(t)).neg().sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-beta alpha / 2."""
        return self._beta(t) * self.alpha(t) / -2

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Equal to beta alpha^2 / (2 sigma)."""
        return self._beta(t) * torch.exp(-self._integral(t)) / (2 * self.sigma(t))

    def log_snr(self, t: Tensor) -> Tensor:
        """-log(exp(B) - 1)."""
        return -torch.expm1(self._integral(t)).log()

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Solve B(t) = log(1 + exp(-log_snr))."""
        return self._t_of_integral(softplus(-log_snr))

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _integral(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + t * ((self.beta_max - self.beta_min) / 2))

    def _t_of_integral(self, integral: Tensor) -> Tensor:
        """Return the positive root of the quadratic B(t) = integral, without cancellation."""
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * integral))


@dataclass(frozen=True)
class SubVP(Schedule):
    """The sub-VP SDE: alpha of :class:`LinearBeta`, sigma = 1 - alpha^2.

    Parameters
    ----------
    beta_min, beta_max : float
        As in :class:`LinearBeta`.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check_betas(self.beta_min, self.beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-B / 2)."""
        return self._vp.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """1 - exp(-B)."""
        return self._vp.sigma(t) ** 2

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-beta alpha / 2."""
        return self._vp.alpha_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Equal to beta alpha^2."""
        return -2 * self.alpha(t) * self.alpha_dot(t)

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Solve r = alpha / (1 - alpha^2) with r = exp(log_snr / 2): a quadratic in alpha, then in t."""
        ratio = torch.exp(log_snr / 2)
        alpha_over_ratio = 2 / (1 + torch.sqrt(1 + 4 * ratio**2))  # = sigma
        return self._vp._t_of_integral(-torch.log1p(-alpha_over_ratio))

    @functools.cached_property
    def _vp(self) -> LinearBeta:
        return LinearBeta(self.beta_min, self.beta_max)


@dataclass(frozen=True)
class Exploding(Schedule):
    """The VE SDE: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.

    Parameters
    ----------
    sigma_min, sigma_max : float
        Noise scale at t = 0 and t = 1 in units of the scaled data; 0 < sigma_min < sigma_max. ``sigma_max`` should exceed the
        largest distance between two data rows, otherwise the start of sampling is not the end of the forward process.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"Exploding needs 0 < sigma_min < sigma_max, got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Geometric between sigma_min and sigma_max."""
        return self.sigma_min * torch.exp(t * self._rate)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """Equal to sigma log(sigma_max / sigma_min)."""
        return self.sigma(t) * self._rate

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Linear in log_snr."""
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._rate

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class DiscreteBeta(Schedule):
    """DDPM's discrete chain: alpha^2 at t = k / T is the product of the first k factors 1 - beta.

    Between these times log_snr is linear in t; below 1 / T it extends the first segment, so that it is finite at 0.

    Parameters
    ----------
    betas : tuple of float, optional
        T >= 2 noise variances in (0, 1). Default: 1000 of them, linear from 1e-4 to 0.02.
    """

    betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.betas is None:
            return
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if len(self.betas) < 2:
            raise ValueError(f"DiscreteBeta needs at least two betas, got {len(self.betas)}")
        for index, beta in enumerate(self.betas):
            if not 0 < beta < 1:
                raise ValueError(f"every beta must lie between 0 and 1, but betas[{index}] is {beta}")

    @property
    def t_min(self) -> float:
        """1 / T, the first step of the chain."""
        return 1 / len(self._knots)

    def alpha(self, t: Tensor) -> Tensor:
        """sqrt(sigmoid(log_snr))."""
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(sigmoid(-log_snr))."""
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        """Slope of log_snr times alpha sigma^2 / 2."""
        return self._slope(t) * self.alpha(t) * self.sigma(t) ** 2 / 2

    def sigma_dot(self, t: Tensor) -> Tensor:
        """-(slope of log_snr) sigma alpha^2 / 2."""
        return self._slope(t) * self.sigma(t) * self.alpha(t) ** 2 / -2

    def log_snr(self, t: Tensor) -> Tensor:
        """Piecewise linear in t through log(alpha_bar / (1 - alpha_bar)) at t = k / T."""
        knots = self._knots.to(t)
        segment = self._segment(t)
        position = t * len(knots) - (segment + 1)
        return knots[segment] + position * (knots[segment + 1] - knots[segment])

    def t_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """Inverse of the piecewise linear log_snr."""
        knots = self._knots.to(log_snr)
        segment = (torch.searchsorted(-knots, -log_snr.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
        position = (log_snr - knots[segment]) / (knots[segment + 1] - knots[segment])
        return (segment + 1 + position) / len(knots)

    def _slope(self, t: Tensor) -> Tensor:
        knots, segment = self._knots.to(t), self._segment(t)
        return (knots[segment + 1] - knots[segment]) * len(knots)

    def _segment(self, t: Tensor) -> Tensor:
        """Index of the knot at or below t, with a tolerance for rounding; knot k - 1 is at t = k / T."""
        count = len(self._knots)
        return (torch.floor(t * count + 1e-6).long() - 1).clamp(0, count - 2)

    @functools.cached_property
    def _knots(self) -> Tensor:
        """log_snr at t = 1/T, ..., 1, float64."""
        if self.betas is None:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        else:
            betas = torch.tensor(self.betas, dtype=torch.float64)
        log_alpha_bar = torch.log1p(-betas).cumsum(0)
        return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


def _check_betas(beta_min: float, beta_max: float) -> None:
    if not 0 < beta_min < beta_max < math.inf:
        raise ValueError(f"the schedule needs 0 < beta_min < beta_max, got beta_min={beta_min}, beta_max={beta_max}")
