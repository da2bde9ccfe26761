r"""Posterior sampling: rows x given y = A x + noise, with a denoiser trained without measurements.

The posterior has its own denoiser, E[x | x_t, y], with which every sampler draws from it. By Tweedie's formula

    E[x | x_t, y] = D + (sigma^2 / alpha) grad log p(y | x_t),      D = E[x | x_t],

where the gradient is the difficulty: p(y | x_t) is an integral over x given x_t. With e = y - A D, the Jacobian J = dD / dx_t
and R the covariance of the noise, the methods replace it by

    ==============  ==========================================================================================
    ``MMPS``        V A^T (R + A V A^T)^-1 e,  V = Cov[x | x_t] = (sigma^2 / alpha) J^T       (exact for a Gaussian law)
    ``PiGDM``       V A^T (R + r^2 A A^T)^-1 e,  r^2 = sigma^2 s^2 / (alpha^2 s^2 + sigma^2)
    ``DiffPIR``     A^T (R / v + A A^T)^-1 e,  v = (sigma / alpha)^2 / pull                   (no pass back through the network)
    ``DPS``         after each step of DDPM: x_s - strength * grad |e|                        (one pass back)
    ``Replacement`` after each step: the measured part of x_s replaced by that of a noised y, with repeated steps
    ``Exact``       the law of x given y, for a law with a closed form
    ==============  ==========================================================================================

(s is the standard deviation of the data.) Linear systems are solved by conjugate gradients on the measurements, which only need
products with A, A^T, J^T. The Jacobian of a network is neither symmetric nor positive, so its curvatures are kept within the
bounds of a covariance (:mod:`~pushforward.diffusion.posterior.krylov`), and it is not used near pure noise
(:mod:`~pushforward.diffusion.posterior.moments`).

A draw of x given x_t and y needs the spread of x given x_t besides the corrected mean. ``MMPS`` draws from the Gaussian with
both moments; a sampler that only uses the mean, such as DDPM, gives rows that are too narrow unless its steps are many.

All methods need Gaussian noise independent of x, and refuse other denoisers.

References
----------
François Rozet et al. Learning diffusion priors from observations by expectation maximization. 2024.
https://arxiv.org/abs/2405.13712  (MMPS)
Jiaming Song et al. Pseudoinverse-guided diffusion models for inverse problems. 2023.  (PiGDM)
Yuanzhi Zhu et al. Denoising diffusion models for plug-and-play image restoration. 2023. https://arxiv.org/abs/2305.08995
Hyungjin Chung et al. Diffusion posterior sampling for general noisy inverse problems. 2023. https://arxiv.org/abs/2209.14687
Andreas Lugmayr et al. RePaint. 2022. https://arxiv.org/abs/2201.09865  (Replacement)
"""

from pushforward.diffusion.posterior.corrected import MMPS, DiffPIR, PiGDM, PosteriorDenoiser
from pushforward.diffusion.posterior.exact import Exact
from pushforward.diffusion.posterior.method import PosteriorMethod
from pushforward.diffusion.posterior.stepwise import DPS, Replacement

__all__ = ["DPS", "MMPS", "DiffPIR", "Exact", "PiGDM", "PosteriorDenoiser", "PosteriorMethod", "Replacement"]
