r"""Sampling from a law with uniform numbers: Box-Muller, inverse CDF, rejection, importance sampling.

Inverse CDF, rejection and importance sampling need only a CDF or a density, and the last two not even its normalizing
constant. With a proposal q that can be sampled,

    rejection     keep x ~ q with probability p(x) / (M q(x)),   which needs p <= M q everywhere,
    importance    weight x ~ q by w = p(x) / q(x):   E_p[f] = E_q[w f] = E_q[w f] / E_q[w],

where the last form also holds for a p known up to a factor. Correlated Gaussians are affine images of independent ones:
with cov = L L^T (Cholesky), mean + L z is N(mean, cov); that law is :class:`~pushforward.probability.Gaussian`.

>>> mean, cov = torch.tensor([1.0, 0.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]])
>>> z = noise.normal((2,), seed=0, purpose="example", rows=100_000)
>>> x = mean + z @ torch.linalg.cholesky(cov).mT
>>> (x.T.cov() - cov).abs().max().item() < 0.05
True

References
----------
George E. P. Box, Mervin E. Muller. A note on the generation of random normal deviates. Annals of Math. Statistics, 1958.
Luc Devroye. Non-uniform random variate generation, chapter 2. Springer, 1986.
Art B. Owen. Monte Carlo theory, methods and examples, chapter 9. 2013.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor
from pushforward.probability.divergence import Estimate, Law

__all__ = ["Accepted", "Weighted", "box_muller", "importance", "inverse_cdf", "open_uniform", "quantile", "rejection"]

LogDensity = Callable[[Tensor], Tensor]
"""Log-density in nats up to a constant: x (n, D) to (n,)."""


def box_muller(u: ArrayLike, v: ArrayLike, *, mean: float = 0.0, std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Turn two independent uniform numbers into two independent numbers of N(mean, std^2).

    They are mean + std sqrt(-2 ln v) cos(2 pi u) and mean + std sqrt(-2 ln v) sin(2 pi u): a uniform angle, and a
    radius whose square is exponential with mean 2.

    Parameters
    ----------
    u : array (*)
        Uniform on [0, 1).
    v : array (*)
        Uniform on (0, 1], since ln 0 is infinite: draw it as 1 - u' with u' on [0, 1).
    mean, std : float

    Returns
    -------
    two tensors (*)

    Raises
    ------
    ValueError
        If a number lies outside its range, or ``std`` is negative.

    >>> box_muller([0.0, 0.25], [1.0, 1.0], mean=3.0)[0].tolist()
    [3.0, 3.0]
    """
    u, v = as_float_tensor(u), as_float_tensor(v)
    _check_range("u", u, (u >= 0) & (u <= 1), "[0, 1)")
    _check_range("v", v, (v > 0) & (v <= 1), "(0, 1]; draw it as 1 - u with u in [0, 1)")
    if not std >= 0:
        raise ValueError(f"std is a standard deviation and at least 0, but is {std:g}")
    radius = std * (-2 * v.log()).sqrt()
    angle = 2 * math.pi * u
    return mean + radius * angle.cos(), mean + radius * angle.sin()


def quantile(cdf: Callable[[Tensor], ArrayLike], u: ArrayLike) -> Tensor:
    """Return the smallest x with cdf(x) >= u, elementwise, by bisection to rounding; jumps and flat parts are allowed.

    Parameters
    ----------
    cdf : callable
        Non-decreasing, from 0 to 1; called on float64 tensors of the shape of ``u`` (such as a SciPy ``cdf``).
    u : array (*)
        In (0, 1).

    Returns
    -------
    Tensor (*)
        float64.

    Raises
    ------
    ValueError
        If ``u`` is out of range, or ``cdf`` falls somewhere, leaves [0, 1], or does not reach ``u``.

    >>> quantile(torch.special.ndtr, [0.025, 0.975])
    tensor([-1.9600,  1.9600], dtype=torch.float64)
    """
    u = as_float_tensor(u).double()
    _check_range("u", u, (u > 0) & (u < 1), "(0, 1)")

    def at(x: Tensor) -> Tensor:
        return as_float_tensor(cdf(x)).double().expand(x.shape)

    low, high = -torch.ones_like(u), torch.ones_like(u)
    for _ in range(1023):
        below, above = at(low) >= u, at(high) < u
        if not bool((below | above).any()):
            break
        low, high = torch.where(below, 2 * low, low), torch.where(above, 2 * high, high)
    else:
        bad = u[(at(low) >= u) | (at(high) < u)][0].item()
        raise ValueError(f"the CDF never crosses u = {bad:g}: it must go from 0 to 1")
    if u.numel():
        _check_monotone(at, low.min().item(), high.max().item())
    for _ in range(100):  # the width falls by 2^-100, below the rounding of any x except those as close to 0
        middle = low + (high - low) / 2
        reached = at(middle) >= u
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high


def inverse_cdf(cdf: Callable[[Tensor], ArrayLike], n: int, *, seed: int, first: int = 0) -> Tensor:
    """Draw rows ``first`` to ``first + n - 1`` of a law on the line as quantiles of uniform numbers, (n, 1).

    ``cdf`` and the errors are those of :func:`quantile`. The law of a tabulated density is
    :class:`~pushforward.probability.laws.uniform.TabulatedDensity`.

    >>> x = inverse_cdf(lambda x: 1 - torch.exp(-x.clamp(min=0)), 10_000, seed=0)  # exponential
    >>> abs(x.mean().item() - 1) < 0.02
    True
    """
    return quantile(cdf, open_uniform(n, seed=seed, purpose="inverse cdf", first=first)[:, None])


def open_uniform(n: int, *, seed: int, purpose: str, first: int = 0) -> Tensor:
    """Draw float64 numbers uniform on the open interval (0, 1), (n,): the midpoints of the 2^32 cells of the generator.

    >>> bool((open_uniform(5, seed=0, purpose="example") > 0).all())
    True
    """
    rows = torch.arange(first, first + n)
    return noise.uniform((), seed=seed, purpose=purpose, rows=rows, dtype=torch.float64) + 2.0**-33


@dataclass(frozen=True, eq=False)
class Accepted:
    """Accepted draws of rejection sampling: ``samples`` (n, D), out of the first ``proposals`` draws of the proposal.

    For a p = Z p' known up to its constant, log Z is estimated by ``log_bound + log(acceptance)``.
    """

    samples: Tensor
    proposals: int

    @property
    def acceptance(self) -> float:
        """Share of the proposals that were accepted; its expectation is 1 / M for a normalized target."""
        return len(self.samples) / self.proposals


def rejection(
    target_log_prob: LogDensity, proposal: Law, log_bound: float, n: int, *, seed: int, max_proposals: int = 10_000_000
) -> Accepted:
    """Draw ``n`` exact samples of a target p by keeping x ~ q with probability p(x) / (M q(x)).

    Parameters
    ----------
    target_log_prob : callable
        log p up to a constant, x (m, D) to (m,); -inf outside the support.
    proposal : law
        q, with ``log_prob`` and ``sample``.
    log_bound : float
        log M, with p <= M q everywhere. A smaller M costs fewer proposals: a share 1 / M is accepted if p is normalized.
    n, seed : int
        A larger ``n`` begins with the same samples.
    max_proposals : int
        Number of proposals after which to stop.

    Raises
    ------
    ValueError
        If a proposal violates the bound by more than 1e-6 (the error says where and by how much; the draws would
        follow min(p, M q)), or a log-density is NaN.
    RuntimeError
        If ``max_proposals`` proposals do not suffice.

    >>> from pushforward.probability.laws.uniform import Uniform
    >>> accepted = rejection(lambda x: (2 * x[:, 0]).log(), Uniform([0.0], [1.0]), math.log(2), 1000, seed=0)
    >>> accepted.samples.shape, round(accepted.acceptance, 1)
    (torch.Size([1000, 1]), 0.5)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, but is {n}")
    accepted: list[Tensor] = []
    count, first = 0, 0
    while count < n:
        if first >= max_proposals:
            raise RuntimeError(
                f"{first} proposals gave only {count} of {n} samples; take a proposal closer to the target with a smaller "
                "bound, or raise max_proposals"
            )
        # The first batch size is a guess; later ones follow the acceptance so far. The accepted draws do not depend on it.
        guess = 2 * n if first == 0 else int(1.1 * (n - count) * first / max(count, 1)) + 64
        size = min(guess, max_proposals - first, 1_000_000)
        x = proposal.sample(size, seed=seed, first=first)
        excess = _log_ratio(target_log_prob, proposal, x) - log_bound
        _check_bound(excess, x, log_bound)
        u = open_uniform(size, seed=seed, purpose="rejection", first=first).to(excess)
        chosen = (u.log() < excess).nonzero()[: n - count, 0]
        accepted.append(x[chosen])
        count += len(chosen)
        first += int(chosen[-1]) + 1 if count == n else size
    return Accepted(torch.cat(accepted), first)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Draws of a proposal with importance weights for a target: ``samples`` (n, D), ``log_weights`` (n,)."""

    samples: Tensor
    log_weights: Tensor

    @functools.cached_property
    def weights(self) -> Tensor:
        """Weights that sum to one, (n,)."""
        return self.log_weights.softmax(0)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2, from 1 (one draw carries all weight) to n (equal weights).

        It does not notice a part of the target that no draw has reached.
        """
        return 1 / self.weights.square().sum().item()

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Estimate:
        """E_p[f] as sum w f / sum w, without a normalizing constant; its bias is O(1/n), its error by the delta method.

        ``f`` maps (n, D) to (n,).
        """
        values = self._values(f)
        mean = (self.weights * values).sum()
        error = (self.weights * (values - mean)).square().sum().sqrt()
        return Estimate(mean.item(), error.item(), len(values))

    def plain_expectation(self, f: Callable[[Tensor], Tensor]) -> Estimate:
        """E_p[f] as the mean of w f, unbiased; only for a target whose log-density is normalized."""
        return Estimate.of(self.log_weights.exp() * self._values(f))

    def normalizer(self) -> Estimate:
        """Integral of the target as the mean weight, unbiased: the partition function Z of exp(-E), 1 for a density."""
        return Estimate.of(self.log_weights.exp())

    def _values(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        values = f(self.samples)
        if values.shape != self.log_weights.shape:
            raise ValueError(
                f"f must return one number per draw, ({len(self.log_weights)},), but returned {tuple(values.shape)}"
            )
        return values


def importance(target_log_prob: LogDensity, proposal: Law, n: int, *, seed: int, first: int = 0) -> Weighted:
    """Draw from ``proposal`` and weight the draws by p / q, so that they represent the target p.

    Errors are finite only if w = p / q has a finite second moment under q: the proposal needs heavier tails than the target.

    Parameters
    ----------
    target_log_prob : callable
        log p, x (n, D) to (n,), up to a constant if only :meth:`Weighted.expectation` is used.
    proposal : law
        q, with ``log_prob`` and ``sample``.
    n, seed, first : int
        Draws ``first`` to ``first + n - 1`` of the sample that ``seed`` names.

    Raises
    ------
    ValueError
        If a log-density is NaN, or no draw falls where the target has mass.

    >>> from pushforward.probability import Gaussian
    >>> drawn = importance(Gaussian([1.0], 1.0).log_prob, Gaussian([0.0], 4.0), 20_000, seed=0)
    >>> mean = drawn.expectation(lambda x: x[:, 0])
    >>> abs(mean.value - 1) < 3 * mean.standard_error, round(drawn.effective_sample_size / 20_000, 1)
    (True, 0.6)
    """
    if n < 2:
        raise ValueError(f"n must be at least 2, for a standard error, but is {n}")
    x = proposal.sample(n, seed=seed, first=first)
    log_weights = _log_ratio(target_log_prob, proposal, x)
    if bool((log_weights == math.inf).any()):
        bad = x[log_weights == math.inf][0].tolist()
        raise ValueError(f"the target's density is infinite compared with the proposal's at x = {bad}")
    if bool((log_weights == -math.inf).all()):
        raise ValueError(f"none of {n} draws of the proposal falls where the target has mass; take a proposal that covers it")
    return Weighted(x, log_weights)


def _log_ratio(target_log_prob: LogDensity, proposal: Law, x: Tensor) -> Tensor:
    ratios: dict[str, Tensor] = {"target": target_log_prob(x), "proposal": proposal.log_prob(x)}
    for name, values in ratios.items():
        if values.shape != x.shape[:-1]:
            raise ValueError(f"the log-density of the {name} must have the shape ({len(x)},), but has {tuple(values.shape)}")
        if bool(values.isnan().any()):
            raise ValueError(f"the log-density of the {name} is NaN at x = {x[values.isnan()][0].tolist()}")
    return ratios["target"] - ratios["proposal"]


def _check_bound(excess: Tensor, x: Tensor, log_bound: float) -> None:
    worst = int(excess.argmax())
    # A bound computed on a grid is slightly too small; below 1e-6 the effect on the draws is negligible.
    if excess[worst].item() > 1e-6 + 64 * torch.finfo(excess.dtype).eps * abs(log_bound):
        over = excess[worst].item()
        raise ValueError(
            f"the bound is violated at x = {x[worst].tolist()}: log p - log q is {log_bound + over:g} there, above log_bound = "
            f"{log_bound:g} by {over:g}; raise log_bound, or take a proposal with heavier tails"
        )


def _check_range(name: str, value: Tensor, good: Tensor, interval: str) -> None:
    if not bool(good.all()):
        bad = value[~good].flatten()
        raise ValueError(
            f"{name} must lie in {interval}, but {len(bad)} of {value.numel()} do not, the first being {bad[0].item():g}"
        )


def _check_monotone(cdf: Callable[[Tensor], Tensor], low: float, high: float) -> None:
    x = torch.linspace(low, high, 1025, dtype=torch.float64)
    values = cdf(x)
    _check_range("the values of the CDF", values, (values >= -1e-12) & (values <= 1 + 1e-12), "[0, 1]")
    drop = values[:-1] - values[1:]
    worst = int(drop.argmax())
    if drop[worst].item() > 1e-12:
        raise ValueError(
            f"a CDF never falls, but this one goes from {values[worst].item():g} at x = {x[worst].item():g} "
            f"to {values[worst + 1].item():g} at x = {x[worst + 1].item():g}"
        )
