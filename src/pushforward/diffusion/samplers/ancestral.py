r"""Ancestral samplers: DDPM and DDIM sample from the posterior of the forward process.

From time t to time s, with D the denoised prediction at x_t, a = alpha_t / alpha_s and b2 = sigma_t^2 - a^2 sigma_s^2,

    q(x_s | x_t, x) = N(a sigma_s^2 / sigma_t^2 x_t + alpha_s b2 / sigma_t^2 x,  b2 sigma_s^2 / sigma_t^2).

With ``DiscreteBeta`` and a :class:`~pushforward.diffusion.samplers.grid.ChainGrid` they are the discrete chains of the papers,
with all 1,000 steps or any sub-sequence.

References
----------
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
Jiaming Song, Chenlin Meng, Stefano Ermon. Denoising diffusion implicit models. 2021. https://arxiv.org/abs/2010.02502
Fan Bao et al. Analytic-DPM. 2022. https://arxiv.org/abs/2201.06503  (fitted reverse variance)
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.coefficients import Scales, forward_variance, posterior
from pushforward.diffusion.samplers.grid import Grid, UniformGrid
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler, check_falling
from pushforward.diffusion.schedule import Schedule, widen

__all__ = ["DDIM", "DDPM", "EtaSampler", "FittedVariance"]


@dataclass(frozen=True)
class EtaSampler(TableSampler):
    """Base of first-order samplers that add a share ``eta`` in [0, 1] of noise."""

    eta: float = 0.0
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {self.eta}")

    @property
    def order(self) -> int:
        """1; with noise the weak order."""
        return 1


@dataclass(frozen=True)
class DDIM(EtaSampler):
    """DDIM: the deterministic first-order exponential step, with a share ``eta`` of DDPM's noise.

    Parameters
    ----------
    eta : float
        0 is deterministic; 1 is DDPM with the smaller variance beta-tilde.
    grid : Grid
    """

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        if self.eta > 0:
            check_falling(self, times)
        scales = Scales.of(schedule, times)
        for k in range(len(times) - 1):
            alpha_t, alpha_s, sigma_t, sigma_s = scales.pair(k)
            variance = self.eta**2 * posterior(alpha_t, alpha_s, sigma_t, sigma_s)[2] if self.eta > 0 else 0.0
            on_x = math.sqrt(max(sigma_s**2 - variance, 0.0)) / sigma_t
            noise = {0: math.sqrt(variance)} if variance > 0 else {}
            builder.row(times[k], times[k + 1], {0: on_x}, {0: alpha_s - on_x * alpha_t}, noise)


@dataclass(frozen=True)
class FittedVariance(CheckedFields):
    """The mean squared error of a denoiser as a function of time, which determines DDPM's best reverse variance.

    The optimal Gaussian reverse step has the variance beta-tilde + (alpha_s b2 / sigma_t^2)^2 E|x - D|^2 / D, which this
    object computes by linear interpolation between ``times``.

    Parameters
    ----------
    times : tuple of float
        Increasing.
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
class DDPM(TableSampler):
    """Ancestral sampling: the posterior of the forward process at x = denoised, plus noise.

    Parameters
    ----------
    variance : "beta", "beta-tilde" or FittedVariance
        Reverse variance: that of the forward step, b2 (exact for data of unit variance); that of the posterior (exact for a
        single data point); or the best one for a measured denoiser error.
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
        check_falling(self, times)
        scales = Scales.of(schedule, times)
        for k in range(len(times) - 1):
            pair = scales.pair(k)
            on_x, on_denoised, variance = posterior(*pair)
            if self.variance == "beta":
                variance = forward_variance(*pair)
            elif isinstance(self.variance, FittedVariance):
                variance += on_denoised**2 * self.variance(times[k])
            builder.row(times[k], times[k + 1], {0: on_x}, {0: on_denoised}, {0: math.sqrt(variance)})
