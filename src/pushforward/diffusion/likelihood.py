r"""Log-densities by the probability flow, with error estimates.

The flow dx_t/dt = alpha_dot D + (sigma_dot / sigma) (x_t - alpha D), with D = denoised, transports the law of the data at t = 0
to that at t = 1. Along it the log-density changes by the divergence of the velocity. In the variables

    u = x_t / sqrt(alpha^2 + sigma^2),       theta = atan(sigma / alpha) in [0, pi / 2]

every schedule is one rotation from data to noise, u = cos(theta) x + sin(theta) eps, whose velocity is finite at both ends:

    du/dtheta    = (cos(theta) u - D) / sin(theta) = v(u, theta)
    log p_0(x)   = log p_1(u_1) + int_0^theta_1  div v  dtheta,        u_0 = x.

No noise is added to the data, and the path is not cut off at t_min. Below it, where networks were not trained, the law of the
data is taken as Gaussian near each row (:mod:`pushforward.diffusion.last_step`), with mean and covariance from the denoiser at
t_min; so the density of components narrower than the noise at t_min is right too. For a source or a coupling of its own, v is
extrapolated from two angles just above t_min, as a + b theta.

Integration. Classical Runge-Kutta on a grid uniform in asinh(theta / 0.1): nearly uniform in log-SNR near the data, as laws
with small variances require. The numerical error is the change of the value when the steps are doubled, or a sixteenth of the
change before if that is larger, plus the change when the part below t_min begins at 1.5 times that angle. The last change alone
says too little while the steps are too long for the order 4 to show: values on both sides of the truth can be close to each
other by chance. By default the steps of a row are doubled until the error of the steps is at most the largest of 0.01 nats,
0.001 nats per element, and a quarter of the standard error of random probes.

Divergence. Exactly, or by Rademacher probes that stay fixed along the whole path, so that each probe gives an unbiased estimate
of the log-density and their scatter gives its standard error.

Prior. By default p_1 is the law that sampling starts from, x_1 = sigma(1) eps, and the value is the density of the law that the
exact flow of this denoiser generates. Where alpha(1) > 0 the noised data differ slightly from that law; per row

    prior mismatch = KL(N(alpha_1 x, sigma_1^2) || N(0, sigma_1^2)) = alpha_1^2 |x|^2 / (2 sigma_1^2),

bounds this difference: its mean is an upper bound of KL(law of x_1 || prior). A prior given by the caller is taken as exact.

References
----------
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
Will Grathwohl et al. FFJORD. 2019. https://arxiv.org/abs/1810.01367
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.last_step import last_step
from pushforward.diffusion.log_prob import LogProb, standard_error
from pushforward.diffusion.trace import exact_trace, probed_trace, rademacher
from pushforward.probability import noise
from pushforward.probability.counts import check_count, check_steps

__all__ = ["EXACT_UP_TO", "DensityLaw", "Divergence", "StandardNoise", "continuation", "flow_log_prob"]

Divergence = Literal["exact", "hutchinson"]
Scalar = TypeVar("Scalar", float, Tensor)

EXACT_UP_TO = 32
"""Largest number of elements of a row for which the divergence is exact by default."""

_SOFT = 0.1  # angle below which the grid becomes uniform
_RATIO = 1.5  # second angle of the continuation below t_min, in units of the first
_FIRST_STEPS, _DOUBLINGS = 32, 4
_GAIN = 16  # of a doubling of the steps: the order is 4
_ENOUGH, _ENOUGH_PER_ELEMENT, _ENOUGH_OF_RANDOM = 0.01, 1e-3, 0.25  # numerical error in nats, and in standard errors


@runtime_checkable
class DensityLaw(Protocol):
    """A law with a density, like those of :mod:`pushforward.probability`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats of x (B, D)."""


@dataclass(frozen=True)
class StandardNoise(CheckedFields):
    """Independent Gaussian noise of standard deviation ``std`` about 0, in any dimension.

    >>> round(StandardNoise(1.0).log_prob(torch.zeros(1, 2)).item(), 4)
    -1.8379
    """

    std: float

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats of x (B, D)."""
        square = (x.cpu().double() / self.std).square().sum(1)
        return -square / 2 - x.shape[1] * (math.log(2 * math.pi) / 2 + math.log(self.std))


@torch.no_grad()
def flow_log_prob(
    denoiser: AbstractDenoiser,
    x: Tensor,
    *,
    condition: Tensor | None = None,
    prior: DensityLaw | None = None,
    varies: Tensor | None = None,
    divergence: Divergence | None = None,
    probes: int = 4,
    steps: int | None = None,
    first_steps: int = _FIRST_STEPS,
    seed: int = 0,
    first: int = 0,
) -> LogProb:
    """Return the log-density of rows under the law that the flow of a denoiser generates.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        With any source law and coupling; for a source other than Gaussian noise, pass its law of x_1 as ``prior``.
    x : Tensor (B, *D)
        Clean rows in the units of the denoiser.
    condition : Tensor (B, K), optional
    prior : law with ``log_prob``, optional
        The law of the varying elements of x_1, (B, D); default that of sigma(1) eps.
    varies : bool Tensor (*D), optional
        False for constant elements: their noise is drawn, and they add nothing to the density.
    divergence : {"exact", "hutchinson"}, optional
        Default "exact" for rows of up to 32 elements.
    probes : int
        Number of Hutchinson probes per row, at least 1; the standard error needs 2.
    steps : int, optional
        Runge-Kutta steps, at least 2, of four calls each; the numerical error takes slightly more calls again. By default the
        steps of each row are doubled, up to 16 times ``first_steps``, until its error is small (see the module's docstring).
    first_steps : int
        Where the default begins.
    seed, first : int
        Determine the random numbers: row i of x is row ``first + i`` of ``seed``.

    Returns
    -------
    LogProb
        In nats.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser
    >>> from pushforward.probability import Gaussian
    >>> law, x = Gaussian([1.0], 0.25), torch.tensor([[0.5]], dtype=torch.float64)
    >>> result = flow_log_prob(ExactDenoiser(law, Cosine()), x)
    >>> bool(abs(result.values[0] - law.log_prob(x)[0]) < 1e-5), result.kind, result.nfe
    (True, 'exact', 298)
    """
    _check(denoiser, x, prior, divergence, probes, first_steps if steps is None else steps)
    dims = x[0].numel() if varies is None else int(varies.sum())
    exact = (divergence or ("exact" if dims <= EXACT_UP_TO else "hutchinson")) == "exact"
    field = _Flow(denoiser, condition, _Fixed.of(x, varies, seed, first))
    signs = None if exact else rademacher(x, probes, seed=seed, first=first) * (1 if varies is None else varies.to(x))
    run = _Integration(field, x, signs, prior, dims)
    fine, error = run.solve(first_steps, _DOUBLINGS) if steps is None else run.solve(steps, 0)
    values = fine.numpy()
    alpha, sigma = _scales(denoiser, 1.0)
    square = x.double() if varies is None else torch.where(varies.to(x.device), x.double(), 0.0)
    mismatch = square.square().flatten(1).sum(1).cpu().numpy() * (alpha / sigma) ** 2 / 2
    return LogProb(
        values=values.mean(0),
        kind="exact" if exact else "estimate",
        standard_error=np.zeros(len(x)) if exact else standard_error(values),
        numerical_error=error.numpy(),
        prior_mismatch=mismatch if prior is None else np.zeros(len(x)),
        nfe=int(run.nfe.max()) * denoiser.calls,
        dims=dims,
        constants=x[0].numel() - dims,
    )


class _Fixed:
    """The path of the noised constant elements."""

    def __init__(self, x: Tensor, varies: Tensor, eps: Tensor) -> None:
        self.x, self.varies, self.eps = x, varies.to(x.device), eps

    @classmethod
    def of(cls, x: Tensor, varies: Tensor | None, seed: int, first: int) -> "_Fixed | None":
        if varies is None or bool(varies.all()):
            return None
        rows = torch.arange(first, first + len(x), device=x.device)
        eps = noise.normal(x.shape[1:], seed=seed, purpose="constants", rows=rows, dtype=x.dtype, device=x.device)
        return cls(x, varies, eps)

    def take(self, rows: Tensor) -> "_Fixed":
        return _Fixed(self.x[rows], self.varies, self.eps[rows])

    def put(self, u: Tensor, theta: float) -> Tensor:
        return torch.where(self.varies, u, math.cos(theta) * self.x + math.sin(theta) * self.eps)


class _Flow:
    """The velocity v(u, theta), with a count of its calls; ``low`` is the angle where the part below t_min begins."""

    def __init__(self, denoiser: AbstractDenoiser, condition: Tensor | None, fixed: _Fixed | None) -> None:
        self.denoiser, self.condition, self.fixed = denoiser, condition, fixed
        self.low = _angle(denoiser, denoiser.schedule.t_min)
        self.high = _angle(denoiser, 1.0)
        self.nfe = 0

    def take(self, rows: Tensor) -> "_Flow":
        """Return the flow of some rows, with a count of its own."""
        condition = None if self.condition is None else self.condition[rows]
        return _Flow(self.denoiser.take(rows), condition, None if self.fixed is None else self.fixed.take(rows))

    def denoised(self, theta: float) -> Callable[[Tensor], Tensor]:
        """Return E[x | x_t] as a function of x_t at an angle."""
        t, _, _, radius = self._scales(theta)

        def denoised(x_t: Tensor) -> Tensor:
            self.nfe += 1
            x_t = x_t if self.fixed is None else radius * self.fixed.put(x_t / radius, theta)
            return torch.as_tensor(self.denoiser(x_t, t, self.condition))

        return denoised

    def at(self, theta: float, low: float) -> Callable[[Tensor], Tensor]:
        """Return v(., theta), extrapolated below the angle ``low``."""
        parts = [(theta, 1.0)] if theta >= low * (1 - 1e-9) else continuation(theta, low, odd=False)
        self.nfe += len(parts)
        scales = [(*self._scales(angle), weight) for angle, weight in parts]

        def velocity(u: Tensor) -> Tensor:
            u = u if self.fixed is None else self.fixed.put(u, theta)
            total = torch.zeros_like(u)
            for t, cos, sin, radius, weight in scales:
                denoised = self.denoiser(radius * u, t, self.condition)
                total = total + (weight / sin) * (cos * u - denoised)
            return total

        return velocity

    def grid(self, steps: int, low: float) -> list[float]:
        """Return the angles from ``low`` to noise, ``steps`` intervals; without Gaussian noise also a few from 0 to ``low``."""
        below = [] if self.denoiser.gaussian_source else np.linspace(0, low, max(2, steps // 32 + 1))[:-1].tolist()
        ramp = np.linspace(np.arcsinh(low / _SOFT), np.arcsinh(self.high / _SOFT), steps + 1)
        above = _SOFT * np.sinh(ramp)
        above[0], above[-1] = low, self.high
        return [*below, *above.tolist()]

    def _scales(self, theta: float) -> tuple[Tensor, float, float, float]:
        schedule = self.denoiser.schedule
        t = torch.ones((), dtype=torch.float64)
        if theta < self.high:
            log_snr = torch.tensor(-2 * math.log(math.tan(theta)), dtype=torch.float64)
            t = schedule.t_of_log_snr(log_snr).clamp(schedule.t_min, 1.0)
        alpha, sigma = _scales(self.denoiser, t.item())
        radius = math.hypot(alpha, sigma)
        return t, alpha / radius, sigma / radius, radius


def continuation(theta: Scalar, low: float, odd: bool) -> list[tuple[float, Scalar]]:
    """Return two angles and the weights of v(u, .) there that extrapolate it to ``theta`` below ``low``.

    Parameters
    ----------
    theta : float or Tensor
        In [0, low].
    low : float
        The angle of t_min.
    odd : bool
        Whether v is odd in theta, as for independent Gaussian noise: a theta + b theta^3 instead of a + b theta.

    >>> continuation(0.5, 1.0, odd=False)
    [(1.0, 2.0), (1.5, -1.0)]
    """
    a, b = low, _RATIO * low
    if not odd:
        return [(a, (b - theta) / (b - a)), (b, (theta - a) / (b - a))]
    span = b**2 - a**2
    return [(a, theta / a * (b**2 - theta**2) / span), (b, theta / b * (theta**2 - a**2) / span)]


class _Integration:
    """The integral along the flow of rows x, with the number of calls of each row."""

    def __init__(self, field: _Flow, x: Tensor, signs: Tensor | None, prior: DensityLaw | None, dims: int) -> None:
        self.field, self.x, self.signs, self.prior, self.dims = field, x, signs, prior, dims
        self.nfe = torch.zeros(len(x), dtype=torch.int64)
        self._begun: dict[float, tuple[Tensor, Tensor]] = {}

    def solve(self, steps: int, doublings: int) -> tuple[Tensor, Tensor]:
        """Return log p_0 of each probe (P, B), float64, and the numerical error of its mean (B,).

        The steps of the rows that change too much are doubled, at most ``doublings`` times.
        """
        low = self.field.low
        values, coarse = self._along(steps, low), self._along(steps // 2, low)
        change = (values - coarse).mean(0).abs()
        if steps >= 4:
            change = torch.maximum(change, (coarse - self._along(steps // 4, low)).mean(0).abs() / _GAIN)
        of_last_step = (self._along(steps // 2, min(_RATIO * low, 1.0)) - coarse).mean(0).abs()
        random = torch.zeros_like(change) if len(values) == 1 else values.std(0) / math.sqrt(len(values))
        enough = (_ENOUGH_OF_RANDOM * random).clamp(min=max(_ENOUGH, _ENOUGH_PER_ELEMENT * self.dims))
        for _ in range(doublings):
            rows = (~(change <= enough)).nonzero()[:, 0]
            if not len(rows):
                break
            steps *= 2
            part = self._take(rows.to(self.x.device))
            fine = part._along(steps, low)
            change[rows] = torch.maximum((fine - values[:, rows]).mean(0).abs(), change[rows] / _GAIN)
            values[:, rows] = fine
            self.nfe[rows] += part.nfe
        return values, change + of_last_step

    def _take(self, rows: Tensor) -> "_Integration":
        signs = None if self.signs is None else self.signs[:, rows]
        part = _Integration(self.field.take(rows), self.x[rows], signs, self.prior, self.dims)
        part._begun = {low: (u[rows], ratio[:, rows.cpu()] if ratio.ndim else ratio) for low, (u, ratio) in self._begun.items()}
        return part

    def _along(self, steps: int, low: float) -> Tensor:
        """Return log p_0 for each probe, (P, B) on the CPU; without probes P is 1."""
        field, signs, before = self.field, self.signs, self.field.nfe
        varies = None if field.fixed is None else field.fixed.varies

        def slope(theta: float, u: Tensor) -> tuple[Tensor, Tensor]:
            velocity = field.at(theta, low)
            rate, trace = exact_trace(velocity, u, varies) if signs is None else probed_trace(velocity, u, signs)
            return rate, trace.cpu().double()

        if low not in self._begun:
            self._begun[low] = self._begin(low)
        u, log_ratio = self._begun[low]
        for a, b in itertools.pairwise(field.grid(steps, low)):
            h, middle = b - a, (a + b) / 2
            k1, d1 = slope(a, u)
            k2, d2 = slope(middle, u + h / 2 * k1)
            k3, d3 = slope(middle, u + h / 2 * k2)
            k4, d4 = slope(b, u + h * k3)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            log_ratio = log_ratio + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
        alpha, sigma = _scales(field.denoiser, 1.0)
        radius = math.hypot(alpha, sigma)
        x_1 = (radius * u).flatten(1)
        varying = x_1 if varies is None else x_1[:, varies.flatten()]
        log_prior = (self.prior or StandardNoise(sigma)).log_prob(varying).cpu().double()
        self.nfe += field.nfe - before
        return (log_prior + self.dims * math.log(radius) + log_ratio).reshape(-1, len(self.x))

    def _begin(self, low: float) -> tuple[Tensor, Tensor]:
        """Return u where the integration begins, and log p_0 minus its log-density, by the last step for Gaussian noise."""
        field, x = self.field, self.x
        if not field.denoiser.gaussian_source:
            return x, torch.zeros((), dtype=torch.float64)
        _, cos, _, radius = field._scales(low)
        every = torch.ones(x.shape[1:], dtype=torch.bool, device=x.device)
        varies = every if field.fixed is None else field.fixed.varies
        x_t, log_ratio = last_step(field.denoised(low), x, cos * radius, varies, self.signs)
        return x_t / radius, log_ratio - self.dims * math.log(radius)


def _scales(denoiser: AbstractDenoiser, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return denoiser.schedule.alpha(time).item(), denoiser.schedule.sigma(time).item()


def _angle(denoiser: AbstractDenoiser, t: float) -> float:
    alpha, sigma = _scales(denoiser, t)
    return math.atan2(sigma, alpha)


def _check(
    denoiser: AbstractDenoiser, x: Tensor, prior: DensityLaw | None, divergence: str | None, probes: int, steps: int
) -> None:
    if x.ndim < 2 or not len(x) or not x.is_floating_point():
        raise ValueError(f"x must hold rows of floats, (B, *D) with B at least 1, got {tuple(x.shape)} of {x.dtype}")
    if divergence not in (None, "exact", "hutchinson"):
        raise ValueError(f"divergence must be 'exact', 'hutchinson' or None (by the size of a row), got {divergence!r}")
    check_count("probes", probes)
    check_steps(steps, 2)
    if prior is None and not denoiser.gaussian_source:
        raise ValueError(
            "this denoiser was trained with its own source or coupling: give the law of x_1 as prior=..., "
            "which is StandardNoise(sigma(1)) if its noise was Gaussian"
        )
