r"""DDPM's variational bound: the cost of a chain of Gaussian steps, term by term.

On a grid 1 = t_T > ... > t_1 > 0 the forward chain q(x_k | x) = N(alpha_k x, sigma_k^2) is reversed by Gaussian steps p whose
means replace x by denoised = D(x_k, t_k). With E over the noise of x_k,

    -log p(x) <= L_T + sum_{k=2}^T L_{k-1} + L_0
    L_T     = KL(q(x_T | x) || p(x_T)),                p(x_T) = N(0, sigma_T^2)
    L_{k-1} = E KL(q(x_{k-1} | x_k, x) || p(x_{k-1} | x_k))
            = E (alpha_s b2 / sigma_t^2)^2 |x - D|^2 / (2 v) + D/2 (w/v - 1 - log(w/v)),      t = t_k, s = t_{k-1}
    L_0     = -E log p(x | x_1).

where b2 = sigma_t^2 - (alpha_t sigma_s / alpha_s)^2 is the variance of the forward step, w = b2 sigma_s^2 / sigma_t^2
("beta-tilde") that of q(x_{k-1} | x_k, x), and v that of p. The best v is w + (alpha_s b2 / sigma_t^2)^2 E |x - D|^2 / D, where
the error of the denoiser is measured (``FittedVariance``) or, by default, sigma^2 / (alpha^2 + sigma^2), that for normal data
of unit variance; where alpha^2 + sigma^2 = 1 the latter gives b2 itself ("beta").

The last step goes to x itself, so its variance is the error E |x - D|^2 / D alone, measured or by default. For real data p(x |
x_1) is the density of this Gaussian; for integers it is its mass on the interval of the integer, unbounded at the ends of the
range, so that the masses of the integers in the range sum to one. The chain may have any schedule and length: with
``DiscreteBeta`` and the times k / T it is DDPM's own.

An integer is decoded as early as possible: its last step is the last one with a noise level sigma / alpha of at least half the
width of its interval (for DDPM's chain and images of 256 levels this is the last step of all). At lower levels a denoiser that
has learned the density of dequantized data would pay again for an integer that is already known. The rest of the chain uses the
integer noised by q, at no cost.

Each KL is computed in closed form for the drawn x_k. (Drawing the whole chain and averaging log q(x_k | x_{k-1}) - log p has
the same mean.) At low noise D - x is nearly (sigma / alpha) eps, so most of the variance of a term is that of |eps|^2, whose
mean is known: c (|eps|^2 - D) is subtracted, where c is the factor of a denoiser of unit Gaussian data.

References
----------
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
Alex Nichol, Prafulla Dhariwal. Improved DDPM. 2021. https://arxiv.org/abs/2102.09672
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["Bins", "Bound", "variational_bound"]

Variance = Literal["beta", "beta-tilde"] | Callable[[float], float]
Scales = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Bins:
    """The intervals of integers.

    Attributes
    ----------
    low, high : Tensor (B, *D)
        Edges of the interval of each element; infinite at the ends of the range.
    width : Tensor (*D)
        Distance of consecutive integers; 0 where data are real numbers.

    >>> bins = Bins(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), torch.tensor([2.0]))
    >>> bins.decoded(noise_level=0.9, after=0.8).tolist(), bins.decoded(noise_level=1.2, after=0.9).tolist()
    ([False], [True])
    """

    low: Tensor
    high: Tensor
    width: Tensor

    def open(self, noise_level: float) -> Tensor:
        """Return which elements (*D) still cost at a step from this noise level: reals, and integers not yet decoded."""
        return (self.width <= 0) | (self.width <= 2 * noise_level)

    def decoded(self, noise_level: float, after: float) -> Tensor:
        """Return which elements (*D) are integers whose last step is this one; ``after`` is the noise level of the next."""
        return (self.width > 0) & (self.width <= 2 * noise_level) & (self.width > 2 * after)

    def cost(self, denoised: Tensor, std: float) -> Tensor:
        """Return -log of the mass of N(denoised, std^2) on the interval of each element, (B, *D)."""
        low, high = (self.low.to(denoised) - denoised) / std, (self.high.to(denoised) - denoised) / std
        # Where both ends have the same sign, the interval is reflected to the left tail, where differences of logs are
        # accurate.
        flip = low > 0
        low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
        log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        share = -torch.expm1((log_low - log_high).clamp(max=-torch.finfo(low.dtype).tiny))
        cost: Tensor = -log_high - share.log()
        return cost


@dataclass(frozen=True, eq=False)
class Bound:
    """A variational bound of rows, term by term.

    Attributes
    ----------
    times : array (T,)
        Time t_T ... t_1 from which each step starts, decreasing.
    prior : array (N,)
        L_T of each row in nats.
    terms : array (N, T)
        L_{T-1}, ..., L_1, L_0 of each row in nats, averaged over the draws. The L_0 of an integer belongs to the term of the
        step that decodes it.
    variances : array (N, T)
        Estimated variance of each of these averages; NaN if there was one draw.
    nfe : int
        Network calls per row.
    dims, constants : int
        Numbers of counted elements of a row and of constant elements, which are left out.
    offset : float or array (N,)
        Nats included in ``values`` besides the terms: the log-determinant of a change of units, and the log-shares of integers
        at the ends of a range (:mod:`pushforward.data.transform`).

    >>> bound = Bound(np.array([1.0]), np.array([0.1]), np.array([[2.0]]), np.array([[0.04]]), nfe=2, dims=1)
    >>> bound.values, bound.standard_error
    (array([-2.1]), array([0.2]))
    """

    times: np.ndarray
    prior: np.ndarray
    terms: np.ndarray
    variances: np.ndarray
    nfe: int
    dims: int
    constants: int = 0
    offset: float | np.ndarray = 0.0

    @property
    def values(self) -> np.ndarray:
        """Lower bound of log p of each row in nats, (N,)."""
        return np.asarray(self.offset - self.prior - self.terms.sum(1))

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of ``values`` from the drawn noise, (N,)."""
        return np.asarray(np.sqrt(self.variances.sum(1)))

    @property
    def bits_per_dim(self) -> np.ndarray:
        """Upper bound of -log2 p / dims of each row, (N,)."""
        return -self.values / (self.dims * math.log(2))

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean over rows of each term in bits per dimension, (T,), and its Monte-Carlo error.

        The terms, the mean of ``prior`` and minus that of ``offset``, all in this unit, sum to the mean of ``bits_per_dim``.
        """
        scale = 1 / (self.dims * math.log(2))
        return self.terms.mean(0) * scale, np.sqrt(self.variances.sum(0)) / len(self.terms) * scale

    def shifted(self, nats: float | np.ndarray) -> "Bound":
        """Return the bound with ``nats``, a number or one per row, added to ``values``."""
        return replace(self, offset=self.offset + nats)

    @classmethod
    def concatenate(cls, parts: "Sequence[Bound]") -> "Bound":
        """Join batches of rows."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ("prior", "terms", "variances")
        }
        arrays["offset"] = np.concatenate([np.broadcast_to(part.offset, part.prior.shape) for part in parts])
        return replace(parts[0], **arrays)


@torch.no_grad()
def variational_bound(
    denoiser: AbstractDenoiser,
    x: Tensor,
    times: Tensor | Sequence[float],
    *,
    condition: Tensor | None = None,
    bins: Bins | None = None,
    varies: Tensor | None = None,
    variance: Variance | None = None,
    draws: int = 2,
    seed: int = 0,
    first: int = 0,
) -> Bound:
    """Return DDPM's bound of rows for the chain of a denoiser on a grid.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        With independent Gaussian noise.
    x : Tensor (B, *D)
        Clean rows; integers are the middle of their interval.
    times : tensor or sequence
        Grid from 1 to 0, as of a sampler: T steps are T + 1 times.
    condition : Tensor (B, K), optional
    bins : Bins, optional
        Intervals of integers. Default: all data are real.
    varies : bool Tensor (*D), optional
        False for constant elements; they are noised, but not counted.
    variance : "beta", "beta-tilde" or function of t, optional
        Variance of the reverse steps; a function, such as a ``FittedVariance``, returns the mean squared error of denoised at
        t. Default: that for standard normal data.
    draws : int
        Draws of x_k for each term, at least 1; the standard error needs 2.
    seed, first : int
        Determine the noise: row i of x is row ``first + i`` of ``seed``.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser, UniformGrid
    >>> from pushforward.probability import Gaussian
    >>> law, x = Gaussian([0.0], 0.25), torch.tensor([[0.5]], dtype=torch.float64)
    >>> bound = variational_bound(ExactDenoiser(law, Cosine()), x, UniformGrid()(Cosine(), 100), draws=2)
    >>> bool(abs(bound.values[0] - law.log_prob(x)[0]) < 0.5), bound.nfe
    (True, 200)
    """
    grid = _check(denoiser, x, times, variance, draws)
    alpha, sigma = (
        scale(torch.tensor(grid, dtype=torch.float64)).tolist() for scale in (denoiser.schedule.alpha, denoiser.schedule.sigma)
    )
    counted = torch.ones(x.shape[1:], dtype=torch.bool) if varies is None else varies.cpu()
    rows = torch.arange(first, first + len(x), device=x.device)
    mask = counted.flatten().to(x.device)
    means, variances = [], []
    levels = [math.inf, *(sigma_t / alpha_t for alpha_t, sigma_t in zip(alpha[1:], sigma[1:], strict=True))]
    levels[-1] = 0.0
    for k, t in enumerate(grid[:-1]):
        now, after = (alpha[k], sigma[k]), (alpha[k + 1], sigma[k + 1])
        error = variance(t) if callable(variance) else _error(now)
        chosen = variance if isinstance(variance, str) else error
        weight, offset = _last(error) if k == len(grid) - 2 else _step(now, after, chosen)
        costs = []
        for draw in range(draws):
            step = k * draws + draw
            eps = noise.normal(x.shape[1:], seed=seed, purpose="bound", rows=rows, step=step, dtype=x.dtype, device=x.device)
            denoised = denoiser(now[0] * x + now[1] * eps, torch.tensor(t, dtype=torch.float64), condition)
            cost = weight * ((denoised - x).square() - _like(now) * (eps.square() - 1)) + offset
            if bins is not None:
                decoded = bins.decoded(levels[k], levels[k + 1]).to(x.device)
                cost = torch.where(decoded, bins.cost(denoised, math.sqrt(error)), cost) * bins.open(levels[k]).to(x.device)
            costs.append(cost.flatten(1)[:, mask].sum(1).cpu().double())
        stack = torch.stack(costs)
        means.append(stack.mean(0))
        variances.append(stack.var(0) / draws if draws > 1 else torch.full_like(stack[0], math.nan))
    square = x.flatten(1)[:, mask].cpu().double().square().sum(1)
    return Bound(
        times=np.array(grid[:-1]),
        prior=(square * (alpha[0] / sigma[0]) ** 2 / 2).numpy(),
        terms=torch.stack(means, 1).numpy(),
        variances=torch.stack(variances, 1).numpy(),
        nfe=(len(grid) - 1) * draws * denoiser.calls,
        dims=int(counted.sum()),
        constants=int((~counted).sum()),
    )


def _step(now: Scales, after: Scales, variance: float | Literal["beta", "beta-tilde"]) -> tuple[float, float]:
    """Return (a, c) of the KL of one step, a |x - D|^2 + c per element."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, after
    forward = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    own = forward * (sigma_s / sigma_t) ** 2
    on_denoised = alpha_s * forward / sigma_t**2
    if variance == "beta-tilde":
        chosen = own
    elif variance == "beta":
        chosen = forward
    else:
        chosen = own + on_denoised**2 * float(variance)
    ratio = own / chosen
    return on_denoised**2 / (2 * chosen), (ratio - 1 - math.log(ratio)) / 2


def _error(now: Scales) -> float:
    """Return E |x - D|^2 per element for standard normal data."""
    alpha, sigma = now
    return sigma**2 / (alpha**2 + sigma**2)


def _last(error: float) -> tuple[float, float]:
    """Return (a, c) of -log p(x | x_1) = a |x - D|^2 + c per element."""
    return 1 / (2 * error), math.log(2 * math.pi * error) / 2


def _like(now: Scales) -> float:
    """Return the squared factor of eps in D - x for standard normal data."""
    alpha, sigma = now
    return (alpha * sigma / (alpha**2 + sigma**2)) ** 2


def _check(
    denoiser: AbstractDenoiser, x: Tensor, times: Tensor | Sequence[float], variance: Variance | None, draws: int
) -> list[float]:
    if x.ndim < 2 or not len(x) or not x.is_floating_point():
        raise ValueError(f"x must hold rows of floats, (B, *D) with B at least 1, got {tuple(x.shape)} of {x.dtype}")
    if not denoiser.gaussian_source:
        raise ValueError(
            "the bound needs independent Gaussian noise, but this denoiser was trained with its own source or coupling"
        )
    if not callable(variance) and variance not in (None, "beta", "beta-tilde"):
        raise ValueError(f"variance must be 'beta', 'beta-tilde', None or a function of t, got {variance!r}")
    check_count("draws", draws)
    grid: list[float] = torch.as_tensor(times, dtype=torch.float64).tolist()
    if len(grid) < 2 or grid[0] != 1 or grid[-1] != 0 or any(after >= before for before, after in itertools.pairwise(grid)):
        raise ValueError("the times of a bound fall strictly from 1 (noise) to 0 (data), like those of a sampler's grid")
    return grid
