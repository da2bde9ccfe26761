"""The mean and the covariance of x given x_t, by the denoiser and its Jacobian.

    D = E[x | x_t],          V = Cov[x | x_t] = (sigma^2 / alpha) (dD / dx_t)^T

Noise. Let s be the standard deviation of the data, l = sigma / alpha the noise level and r^2 = l^2 s^2 / (l^2 + s^2). The V of
a network is wrong by about r^2 l / s times the error of its own Jacobian (with ``edm`` preconditioning). Where l is far above
s, V is nearly Cov[x], while this error grows without bound: near pure noise V consists of nothing else. Therefore no network is
called above l = 10 s. Where it would be, x_t = sigma z is replaced by the state at that level with the same z; for Gaussian
data of covariance C the variance of x is then wrong by the share (C / (C + 100 s^2))^2, 1e-4 for C = s^2.

Bounds. By the law of total covariance the mean of V over x_t is at most Cov[x], whose eigenvalues are at most its trace: about
D s^2 for rows of D elements. The least curvature is 1 % of r^2, the variance of isotropic data: where a network claims to know
x better than that, the error of its Jacobian dominates.
"""

import math
from functools import partial

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.posterior.krylov import Covariance
from pushforward.diffusion.posterior.operators import pullback
from pushforward.diffusion.schedule import widen

__all__ = ["TOP_LEVEL", "moments", "top_time"]

TOP_LEVEL = 10.0  # in units of the standard deviation of the data
_LEAST = 0.01


def top_time(denoiser: AbstractDenoiser) -> float:
    """Return the time of the highest noise level at which Jacobians are used."""
    log_snr = torch.tensor(-2 * math.log(TOP_LEVEL * denoiser.data_std), dtype=torch.float64)
    end = denoiser.schedule.log_snr(torch.ones((), dtype=torch.float64))
    return 1.0 if bool(log_snr <= end) else float(denoiser.schedule.t_of_log_snr(log_snr))


def moments(denoiser: AbstractDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> tuple[Tensor, Covariance]:
    """Return D (B, *D) and V at x_t and t, () or (B,)."""
    schedule, std = denoiser.schedule, denoiser.data_std
    at = t.clamp(max=top_time(denoiser))
    x_t = widen((schedule.sigma(at) / schedule.sigma(t)).to(x_t.dtype), x_t) * x_t
    denoised, pull = pullback(partial(denoiser, t=at, condition=condition), x_t)
    factor = widen((schedule.sigma(at) ** 2 / schedule.alpha(at)).to(x_t.dtype), x_t)
    level2 = schedule.noise_level(at) ** 2
    isotropic = (level2 * std**2 / (level2 + std**2)).to(x_t)
    largest = x_t[0].numel() * std**2
    return denoised, Covariance(lambda v: factor * pull(v), least=_LEAST * isotropic, largest=largest)
