r"""Information in nats: surprise, entropy and divergences of finite laws, Monte-Carlo KL, and maximum entropy.

A finite law is an array of probabilities, of any shape, that are at least 0 and sum to one:

    surprise       -log p_i                              entropy         H(p) = -sum_i p_i log p_i
    cross-entropy  H(p, q) = -sum_i p_i log q_i          KL divergence   KL(p | q) = H(p, q) - H(p) = +sum_i p_i log(p_i / q_i)

with 0 log 0 = 0. The KL divergence is at least 0, not symmetric, and infinite where q = 0 < p.
Divide by log 2 for bits.

References
----------
Claude E. Shannon. A mathematical theory of communication. Bell System Technical Journal, 1948.
Edwin T. Jaynes. Information theory and statistical mechanics. Physical Review, 1957.
Thomas M. Cover, Joy A. Thomas. Elements of information theory, chapters 2 and 12. Wiley, 2006.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite

__all__ = [
    "Estimate",
    "Law",
    "MaximumEntropy",
    "as_probabilities",
    "cross_entropy",
    "entropy",
    "jensen_shannon",
    "kl",
    "kl_estimate",
    "maximum_entropy",
    "surprise",
    "total_variation",
]

_Array = NDArray[np.float64]


class Law(Protocol):
    """Anything with a log-density in nats, x (*, D) to (*,), and addressed draws (n, D)."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log-density (or log-probability) in nats: x (*, D) to (*,)."""
        ...

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        ...


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` independent draws with its standard error, the standard deviation of one draw over sqrt(n).

    >>> Estimate.of(torch.tensor([1.0, 2.0, 3.0]))
    Estimate(value=2.0, standard_error=0.577..., n=3)
    """

    value: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, draws: Tensor) -> "Estimate":
        """Average the draws (n,), n at least 2; infinite draws give an infinite value, whose error is unknown (NaN)."""
        if draws.ndim != 1 or len(draws) < 2:
            raise ValueError(f"a standard error needs draws of the shape (n,) with n >= 2, not {tuple(draws.shape)}")
        if bool(draws.isnan().any()):
            raise ValueError(f"draw {int(draws.isnan().nonzero()[0])} of {len(draws)} is NaN")
        draws = draws.double()
        return cls(draws.mean().item(), draws.std(correction=1).item() / math.sqrt(len(draws)), len(draws))


def as_probabilities(p: ArrayLike, name: str = "p") -> Tensor:
    """Return ``p`` as a floating-point tensor, after checking that it is >= 0 and sums to one (to 1e-5).

    >>> as_probabilities([0.5, 0.6])
    Traceback (most recent call last):
    ValueError: p must sum to 1, but it sums to 1.1; divide it by its sum
    """
    p = as_float_tensor(p)
    _check_not_negative(p, name)
    total = p.sum().item()
    if not abs(total - 1) <= 1e-5:
        raise ValueError(f"{name} must sum to 1, but it sums to {total:g}; divide it by its sum")
    return p


def surprise(p: ArrayLike) -> Tensor:
    """Return -log p, elementwise, for probabilities of any events (they need not sum to one); inf at 0.

    A *density* may exceed 1, and its -log may be negative.

    >>> surprise([1.0, 0.5, 0.0]).tolist()
    [0.0, 0.693..., inf]
    """
    p = as_float_tensor(p)
    _check_not_negative(p, "p")
    if bool((p > 1).any()):
        raise ValueError(f"a probability is at most 1, but p has an entry {p.max().item():g}")
    return 0.0 - p.log()  # -p.log() would give -0 for a sure event


def entropy(p: ArrayLike) -> Tensor:
    """Return H(p) = -sum p log p, from 0 (one sure outcome) to log K (K equal ones).

    >>> round(entropy([0.5, 0.5]).item() / math.log(2), 6)  # bits
    1.0
    """
    terms: Tensor = torch.special.entr(as_probabilities(p))
    return terms.sum()


def cross_entropy(p: ArrayLike, q: ArrayLike) -> Tensor:
    """Return H(p, q) = -sum p log q, the mean surprise under the belief q when p is true; inf where q = 0 < p.

    >>> round(cross_entropy([0.5, 0.5], [0.25, 0.75]).item(), 4)
    0.837
    """
    p, q = _pair(p, q)
    return 0.0 - torch.xlogy(p, q).sum()


def kl(p: ArrayLike, q: ArrayLike) -> Tensor:
    """Return KL(p | q) = +sum p log(p / q) >= 0; zero only for p = q, inf where q = 0 < p. Not symmetric.

    >>> round(kl([0.5, 0.5], [0.25, 0.75]).item(), 4), round(kl([0.25, 0.75], [0.5, 0.5]).item(), 4)
    (0.1438, 0.1308)
    >>> kl([0.5, 0.5], [1.0, 0.0]).item()
    inf
    """
    p, q = _pair(p, q)
    # Rounding can put the sum slightly below 0.
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum().clamp_min(0.0)


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Tensor:
    """Return (KL(p | m) + KL(q | m)) / 2 with m = (p + q) / 2: symmetric, from 0 to log 2; its root is a metric.

    >>> round(jensen_shannon([1.0, 0.0], [0.0, 1.0]).item() / math.log(2), 6)
    1.0
    """
    p, q = _pair(p, q)
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def total_variation(p: ArrayLike, q: ArrayLike) -> Tensor:
    """Return sum |p - q| / 2, the largest difference of probability over all events, from 0 to 1.

    >>> round(total_variation([0.5, 0.5], [0.25, 0.75]).item(), 6)
    0.25
    """
    p, q = _pair(p, q)
    return (p - q).abs().sum() / 2


def kl_estimate(p: Law, q: Law, n: int, *, seed: int) -> Estimate:
    """Estimate KL(p | q) = E_p[log p(x) - log q(x)] from ``n`` draws of p, for any two laws on the same space.

    Returns
    -------
    Estimate
        In nats. The value may fall below 0 by chance, within its standard error; it is inf where q has no mass at a draw.

    Raises
    ------
    ValueError
        If n < 2, the log-densities do not have the shape (n,), or one is NaN.

    >>> from pushforward.probability.laws.gaussian import Gaussian
    >>> estimate = kl_estimate(Gaussian([0.0], 1.0), Gaussian([1.0], 1.0), 10_000, seed=0)  # exactly 1/2
    >>> abs(estimate.value - 0.5) < 3 * estimate.standard_error
    True
    """
    if n < 2:
        raise ValueError(f"a standard error needs n >= 2 draws, not {n}")
    x = p.sample(n, seed=seed)
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    for name, value in (("p", log_p), ("q", log_q)):
        if value.shape != (n,):
            raise ValueError(f"{name}.log_prob must return the shape ({n},) for {n} draws, but returned {tuple(value.shape)}")
    return Estimate.of(log_p - log_q)


@dataclass(frozen=True, eq=False)
class MaximumEntropy:
    """The law p_i = exp(multipliers . f_i - log_partition); its entropy is log_partition - multipliers . moments.

    Parameters
    ----------
    probabilities : Tensor (N,)
    multipliers : Tensor (J,)
        One per moment, in nats per unit of its feature. Redundant features share their effect.
    log_partition : float
        log sum_i exp(multipliers . f_i).
    """

    probabilities: Tensor
    multipliers: Tensor
    log_partition: float


def maximum_entropy(features: ArrayLike, moments: ArrayLike) -> MaximumEntropy:
    """Return the law of largest entropy on N outcomes with sum_i p_i f_ij = moments_j, by Newton's method on the convex dual.

    Moments on the edge of the possible set exclude some outcomes: these get less than 1e-12, and the multipliers are large
    where the exact ones are infinite.

    Parameters
    ----------
    features : array (N,) or (N, J)
        Value of each feature at each outcome.
    moments : array () or (J,)
        Mean that each feature must have.

    Raises
    ------
    ValueError
        If the shapes do not fit, or no law on these outcomes has these moments: the error names the first moment out of its
        feature's range, or the nearest moments that are possible together.

    >>> die = maximum_entropy([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4.5)
    >>> [round(p, 4) for p in die.probabilities.tolist()]
    [0.0544, 0.0788, 0.1142, 0.1654, 0.2398, 0.3475]
    """
    feature_table, target = as_float_tensor(features).double(), as_float_tensor(moments).double()
    if feature_table.ndim == 1:
        feature_table = feature_table[:, None]
    if feature_table.ndim != 2 or target.ndim > 1 or target.numel() != feature_table.shape[1] or not feature_table.numel():
        raise ValueError(
            "features must have the shape (N,) or (N, J) and moments () or (J,), "
            f"but they have {tuple(as_float_tensor(features).shape)} and {tuple(target.shape)}"
        )
    check_finite("features", feature_table)
    check_finite("moments", target)
    f, m = feature_table.detach().cpu().numpy(), target.detach().cpu().numpy().reshape(-1)
    _check_ranges(f, m)
    # In these units the rounding of the input is below 1e-12, even for a feature whose offset is much larger than its range.
    scale = np.maximum(np.abs(f - m).max(0), 1e-3 * np.abs(f).max(0))
    scale[scale == 0] = 1.0
    balance = (f - m) / scale
    multipliers, value, p = _dual_minimum(balance)
    if np.abs(p @ balance).max() > 1e-8:
        nearest = ", ".join(f"{moment:g}" for moment in _nearest_to_zero(balance) * scale + m)
        raise ValueError(
            f"no law on these {len(f)} outcomes has all these moments at once, though each is possible by itself; "
            f"the nearest possible moments are [{nearest}]"
        )
    multipliers = multipliers / scale
    device = feature_table.device
    return MaximumEntropy(
        torch.as_tensor(p, device=device), torch.as_tensor(multipliers, device=device), value + float(multipliers @ m)
    )


def _check_ranges(f: _Array, m: _Array) -> None:
    low, high = f.min(0), f.max(0)
    slack = 1e-12 * np.maximum(np.abs(low), np.abs(high))
    for j in np.flatnonzero((m < low - slack) | (m > high + slack)):
        raise ValueError(
            f"no law has moment {j} equal to {m[j]:g}: feature {j} takes values from {low[j]:g} to {high[j]:g}; "
            "choose a moment in that range"
        )


def _dual_minimum(balance: _Array) -> tuple[_Array, float, _Array]:
    """Minimize log sum_i exp(balance_i . l) over l (J,); return l, the minimum and the law p_i there.

    At the minimum p . balance = 0, and the minimum is the entropy of p. If no law has the mean 0 of ``balance`` (N, J), there
    is no minimum: the value falls below 0, which no entropy does, and the search ends.
    """
    # Coordinates in which every direction has unit scale, without the redundant ones.
    left, singular, right = np.linalg.svd(balance, full_matrices=False)
    rank = int((singular > 1e-12 * max(len(balance), singular[0])).sum())
    size = math.sqrt(len(balance))
    coordinates, back = left[:, :rank] * size, right[:rank].T * (size / singular[:rank])

    def dual(at: _Array) -> tuple[float, _Array]:
        logits = coordinates @ at
        top = logits.max()
        weights = np.exp(logits - top)
        return float(top + math.log(weights.sum())), weights / weights.sum()

    at = np.zeros(rank)
    value, p = dual(at)
    for _ in range(500):
        gradient = p @ coordinates
        if np.abs(gradient).max(initial=0.0) <= 1e-14 or value < -1e-6:
            break
        spread = coordinates - gradient
        step = -np.linalg.lstsq((spread * p[:, None]).T @ spread, gradient, rcond=None)[0]
        # Near an edge rounding dominates the curvature, so the change of a log-probability in one step is limited.
        step /= max(1.0, np.abs(coordinates @ step).max() / 1000)
        slope, length = float(gradient @ step), 1.0
        while length > 1e-6 and dual(at + length * step)[0] > value + 1e-4 * length * slope + 1e-15 * (1 + abs(value)):
            length /= 2
        at = at + length * step
        value, p = dual(at)
    return back @ at, value, p


def _nearest_to_zero(balance: _Array) -> _Array:
    """Return the point of the convex hull of the rows of ``balance`` (N, J) that has the least sum of absolute values."""
    from scipy import optimize

    count, features = balance.shape
    off = np.eye(features)
    result = optimize.linprog(
        np.repeat([0.0, 1.0], [count, 2 * features]),
        A_eq=np.block([[balance.T, off, -off], [np.ones((1, count)), np.zeros((1, 2 * features))]]),
        b_eq=np.append(np.zeros(features), 1.0),
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"the linear program over the outcomes failed: {result.message}")
    nearest: _Array = result.x[:count] @ balance
    return nearest


def _check_not_negative(p: Tensor, name: str) -> None:
    if not bool((p >= 0).all()):
        where = (~(p >= 0)).nonzero()[0].tolist()
        position = where[0] if len(where) == 1 else tuple(where)
        raise ValueError(f"{name} must be at least 0 everywhere, but entry {position} is {p[tuple(where)].item():g}")


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[Tensor, Tensor]:
    p, q = as_probabilities(p, "p"), as_probabilities(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"p and q must have one shape, but have {tuple(p.shape)} and {tuple(q.shape)}")
    return p, q.to(p)
