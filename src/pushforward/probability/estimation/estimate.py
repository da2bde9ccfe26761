r"""Maximum likelihood in closed form, and by expectation-maximization (EM).

For data x, latent variables h and parameters theta, any law r(h) bounds the log-likelihood from below:

    log p(x; theta) >= E_r[log p(x, h; theta)] + H(r) = Q(theta) + H(r),

with equality for r = p(h | x; theta). EM raises this bound by alternating steps: the E-step sets r to the posterior at the
current parameters, the M-step maximizes Q. At the current parameters Q *plus the entropy* is the log-likelihood. No step
lowers the likelihood, but the maximum may be local.

References
----------
Arthur P. Dempster, Nan M. Laird, Donald B. Rubin. Maximum likelihood from incomplete data via the EM algorithm. Journal of the
Royal Statistical Society B, 1977.
Radford M. Neal, Geoffrey E. Hinton. A view of the EM algorithm that justifies incremental, sparse, and other variants.
Learning in graphical models, 1998.
Chuong B. Do, Serafim Batzoglou. What is the expectation maximization algorithm? Nature Biotechnology, 2008.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite
from pushforward.probability.divergence import as_probabilities
from pushforward.probability.laws.gaussian import Gaussian

__all__ = [
    "CoinMixture",
    "EMResult",
    "OnIteration",
    "expectation_maximization",
    "fit_bernoulli",
    "fit_binomial",
    "fit_coins",
    "fit_gaussian",
    "fit_uniform",
]

Parameters = TypeVar("Parameters")
Posterior = TypeVar("Posterior")
OnIteration = Callable[[int, float], None]
"""Called with the iterations done and the bound."""


def fit_gaussian(X: ArrayLike) -> Gaussian:
    """Return the Gaussian of largest likelihood: the mean, and the covariance of the *centered* rows divided by n (not n - 1).

    Parameters
    ----------
    X : array (n, D)

    Raises
    ------
    ValueError
        If X is not (n, D) and finite, or the centered rows do not span R^D, so that the likelihood is unbounded.

    >>> law = fit_gaussian([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> law.mean.tolist(), law.cov.tolist()
    ([1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    X = as_float_tensor(X)
    if X.ndim != 2 or not len(X):
        raise ValueError(f"X must have the shape (n, D), but has {tuple(X.shape)}")
    check_finite("X", X)
    mean = X.mean(0)
    centered = X - mean
    rank = int(torch.linalg.matrix_rank(centered))
    if rank < X.shape[1]:
        raise ValueError(
            f"the {len(X)} centered rows span {rank} of {X.shape[1]} dimensions, so the likelihood is unbounded; "
            f"give at least {X.shape[1] + 1} rows in general position, or omit columns that depend on others"
        )
    return Gaussian(mean, centered.T @ centered / len(X))


def fit_uniform(x: ArrayLike) -> float:
    """Return the theta of largest likelihood for x (n,) uniform on [0, theta]: the largest x.

    The likelihood is theta^-n for theta >= max x and 0 below. Its maximum is at this edge, where the derivative does not
    exist. The estimate falls short of theta by theta / (n + 1) on average.

    >>> fit_uniform([0.5, 2.0, 1.25])
    2.0
    """
    x = as_float_tensor(x)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"x must have the shape (n,), n >= 1, but has {tuple(x.shape)}")
    check_finite("x", x)
    if bool((x < 0).any()):
        raise ValueError(f"x cannot come from U(0, theta): entry {int(x.argmin())} is {x.min().item():g}, below 0")
    if not bool(x.max() > 0):
        raise ValueError("all of x is 0, so the likelihood theta^-n grows without bound as theta goes to 0")
    return x.max().item()


def fit_bernoulli(x: ArrayLike) -> float:
    """Return the bias of largest likelihood for tosses x (n,) of 0 and 1: the fraction of ones.

    >>> fit_bernoulli([1, 0, 1, 1])
    0.75
    """
    x = as_float_tensor(x)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"x must have the shape (n,), n >= 1, but has {tuple(x.shape)}")
    odd = (x != 0) & (x != 1)
    if bool(odd.any()):
        raise ValueError(f"a toss is 0 or 1, but entry {int(odd.nonzero()[0])} is {x[odd][0].item():g}")
    return x.double().mean().item()


def fit_binomial(heads: ArrayLike, tosses: ArrayLike) -> float:
    """Return the bias of largest likelihood for ``heads`` (n,) out of ``tosses`` () or (n,): all heads over all tosses.

    >>> fit_binomial([5, 9, 8], 10)
    0.733...
    """
    heads, tosses = _counts(heads, tosses)
    return (heads.sum() / tosses.sum()).item()


@dataclass(frozen=True, eq=False)
class EMResult(Generic[Parameters]):
    """The result of EM.

    Parameters
    ----------
    parameters
        The parameters at the last bound.
    bounds : tuple of float
        The bound at the start and after each iteration: it never falls.
    converged : bool
        Whether the last iteration gained at most the tolerance.
    """

    parameters: Parameters
    bounds: tuple[float, ...]
    converged: bool

    @property
    def iterations(self) -> int:
        """Number of M-steps."""
        return len(self.bounds) - 1


def expectation_maximization(
    start: Parameters,
    *,
    e_step: Callable[[Parameters], Posterior],
    m_step: Callable[[Parameters, Posterior], Parameters],
    bound: Callable[[Parameters, Posterior], Tensor | float],
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    rounding: float = 1e-9,
    on_iteration: OnIteration | None = None,
) -> EMResult[Parameters]:
    """Maximize a bound on the log-likelihood by alternating E-steps and M-steps; raise if the bound falls.

    Parameters
    ----------
    start
        First parameters, of any type; another start may lead to another maximum.
    e_step : callable
        parameters -> what the M-step and the bound need of the latent variables (responsibilities, moments, a
        log-likelihood), of any type.
    m_step : callable
        (parameters, posterior) -> new parameters that do not lower the bound at this posterior.
    bound : callable
        (parameters, posterior) -> Q + entropy in nats, for the result of ``e_step`` at the same parameters: the
        log-likelihood itself if the E-step is exact.
    tolerance : float
        Stop when an iteration gains at most this many nats, in units of the bound (for a tolerance per row, return a mean).
    max_iterations : int
        Largest number of M-steps; ``converged`` says whether they were enough.
    rounding : float
        A fall of at most ``rounding * max(1, |bound|)`` counts as rounding; raise it for float32.
    on_iteration : function, optional
        Called as ``on_iteration(done, bound)`` after each M-step.

    Raises
    ------
    ValueError
        If the bound falls by more than rounding, or is NaN or infinite, because a step is wrong; names iteration and size.

    >>> heads = torch.tensor([5.0, 9.0, 8.0, 4.0, 7.0])  # of 10 tosses each, one coin: EM without latent variables
    >>> result = expectation_maximization(
    ...     0.5,
    ...     e_step=lambda bias: heads.mean() / 10,
    ...     m_step=lambda bias, mean: mean.item(),
    ...     bound=lambda bias, mean: 50 * (mean * math.log(bias) + (1 - mean) * math.log(1 - bias)),
    ... )
    >>> round(result.parameters, 4), result.iterations, result.converged
    (0.66, 2, True)
    """
    if max_iterations < 0 or tolerance < 0 or rounding < 0:
        raise ValueError(
            "max_iterations, tolerance and rounding must be at least 0, "
            f"but they are {max_iterations}, {tolerance:g} and {rounding:g}"
        )
    parameters, bounds, converged = start, list[float](), False
    while True:
        posterior = e_step(parameters)
        bounds.append(float(bound(parameters, posterior)))
        _check_climb(bounds, rounding)
        if on_iteration is not None and len(bounds) > 1:
            on_iteration(len(bounds) - 1, bounds[-1])
        converged = len(bounds) > 1 and bounds[-1] - bounds[-2] <= tolerance
        if converged or len(bounds) > max_iterations:
            return EMResult(parameters, tuple(bounds), converged)
        parameters = m_step(parameters, posterior)


@dataclass(frozen=True, eq=False)
class CoinMixture:
    """K coins, of which one is drawn with the probabilities ``weights`` before each row of tosses.

    Parameters
    ----------
    biases : array (K,)
        Probability of heads, in [0, 1].
    weights : array (K,), optional
        Probability of each coin, by default equal.

    >>> mixture = CoinMixture([0.6, 0.5])
    >>> mixture.responsibilities([5, 9], 10).tolist()
    [[0.449..., 0.550...], [0.804..., 0.195...]]
    """

    biases: Tensor
    weights: Tensor

    def __init__(self, biases: ArrayLike, weights: ArrayLike | None = None) -> None:
        biases = as_float_tensor(biases).double()
        if biases.ndim != 1 or not len(biases):
            raise ValueError(f"biases must have the shape (K,), but has {tuple(biases.shape)}")
        if not bool(((biases >= 0) & (biases <= 1)).all()):
            bad = int((~((biases >= 0) & (biases <= 1))).nonzero()[0])
            raise ValueError(f"a bias lies in [0, 1], but bias {bad} is {biases[bad].item():g}")
        weights = (
            torch.full_like(biases, 1 / len(biases)) if weights is None else as_probabilities(weights, "weights").to(biases)
        )
        if weights.shape != biases.shape:
            raise ValueError(f"weights must have the shape ({len(biases)},), but has {tuple(weights.shape)}")
        object.__setattr__(self, "biases", biases)
        object.__setattr__(self, "weights", weights)

    def log_joint(self, heads: ArrayLike, tosses: ArrayLike) -> Tensor:
        """Return log p(heads, coin k), binomial coefficient included: heads (n,) of tosses () or (n,) to (n, K)."""
        heads, tosses = _counts(heads, tosses)
        heads, tosses = heads[:, None].to(self.biases), tosses[:, None].to(self.biases)
        ways = (tosses + 1).lgamma() - (heads + 1).lgamma() - (tosses - heads + 1).lgamma()
        likelihood: Tensor = torch.xlogy(heads, self.biases) + torch.special.xlog1py(tosses - heads, -self.biases)
        return self.weights.log() + ways + likelihood

    def log_likelihood(self, heads: ArrayLike, tosses: ArrayLike) -> Tensor:
        """Sum over the rows of log p(heads), in nats."""
        return self.log_joint(heads, tosses).logsumexp(-1).sum()

    def responsibilities(self, heads: ArrayLike, tosses: ArrayLike) -> Tensor:
        """Posterior probability of each coin, (n, K)."""
        return self.log_joint(heads, tosses).softmax(-1)

    def q(self, heads: ArrayLike, tosses: ArrayLike, responsibilities: Tensor) -> Tensor:
        """Q: the mean of log p(heads, coin) when the coins follow ``responsibilities`` (n, K), summed over the rows."""
        log_joint = self.log_joint(heads, tosses)
        return (responsibilities * log_joint.where(responsibilities > 0, 0.0)).sum()


def fit_coins(
    heads: ArrayLike,
    tosses: ArrayLike,
    start: CoinMixture,
    *,
    fixed_weights: bool = False,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
) -> EMResult[CoinMixture]:
    """Fit a mixture of K coins by EM; the coin of each row is a latent variable.

    Coins that start with equal biases stay equal, and different starts may end in different local maxima.

    Parameters
    ----------
    heads : array (n,)
        Number of heads in each row.
    tosses : array () or (n,)
        Number of tosses in each row.
    start : CoinMixture
        Sets the number of coins.
    fixed_weights : bool
        Whether the weights stay those of ``start``.
    tolerance, max_iterations
        As in :func:`expectation_maximization`; the bound is the log-likelihood of all rows.

    Raises
    ------
    ValueError
        If the counts are not valid, or a row is impossible under ``start``.

    >>> result = fit_coins([5, 9, 8, 4, 7], 10, CoinMixture([0.6, 0.5]), fixed_weights=True)
    >>> [round(bias, 2) for bias in result.parameters.biases.tolist()]
    [0.8, 0.52]
    """
    heads, tosses = _counts(heads, tosses)
    impossible = start.log_joint(heads, tosses).amax(-1) == -math.inf
    if bool(impossible.any()):
        row = int(impossible.nonzero()[0])
        raise ValueError(
            f"row {row}, {heads[row].item():g} heads of {tosses[row].item():g}, is impossible under the start; "
            "start from biases inside (0, 1) and positive weights"
        )

    def m_step(mixture: CoinMixture, responsibilities: Tensor) -> CoinMixture:
        thrown = responsibilities.T @ tosses.to(responsibilities)
        # A coin that no row uses keeps its bias.
        biases = torch.where(thrown > 0, responsibilities.T @ heads.to(responsibilities) / thrown, mixture.biases)
        return CoinMixture(biases.clamp(0.0, 1.0), mixture.weights if fixed_weights else responsibilities.mean(0))

    return expectation_maximization(
        start,
        e_step=lambda mixture: mixture.responsibilities(heads, tosses),
        m_step=m_step,
        bound=lambda mixture, r: mixture.q(heads, tosses, r) + torch.special.entr(r).sum(),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def _check_climb(bounds: list[float], rounding: float) -> None:
    iteration, now = len(bounds) - 1, bounds[-1]
    if not math.isfinite(now):
        raise ValueError(f"the bound is {now} after iteration {iteration}: a step left the valid parameters")
    if iteration and bounds[-2] - now > rounding * max(1.0, abs(now)):
        raise ValueError(
            f"iteration {iteration} lowered the bound by {bounds[-2] - now:.6g}, from {bounds[-2]:.12g} to {now:.12g}: "
            "no EM step can do that; the E-step, the M-step or the bound is wrong, or `rounding` too small for this precision"
        )


def _counts(heads: ArrayLike, tosses: ArrayLike) -> tuple[Tensor, Tensor]:
    heads = as_float_tensor(heads).double()
    tosses = as_float_tensor(tosses).to(heads)
    if heads.ndim != 1 or not len(heads) or tosses.shape not in ((), heads.shape):
        raise ValueError(
            "heads must have the shape (n,) and tosses () or (n,), "
            f"but they have {tuple(heads.shape)} and {tuple(tosses.shape)}"
        )
    tosses = tosses.expand_as(heads)
    bad = ~((heads >= 0) & (heads <= tosses) & (tosses >= 1) & (heads == heads.round()) & (tosses == tosses.round()))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"row {row} has {heads[row].item():g} heads of {tosses[row].item():g} tosses; "
            "counts are whole, with 0 <= heads <= tosses and tosses >= 1"
        )
    return heads, tosses
