r"""Mixtures of Gaussians of largest likelihood, by expectation-maximization.

A component is linear in features of the row: with the products phi(x) of (1, x_1, ..., x_D) with each other,

    log w_k N(x; m_k, S_k) = theta_k . phi(x),

so the E-step is one matrix product and a softmax, r_k(x) = softmax_k theta_k . phi(x), and the M-step needs one more product,
sum_x r_k(x) phi(x): the sums of r_k, r_k x and r_k x x^T. phi is computed in chunks that fit the cache. Rows are centered
beforehand, which keeps the digits of the products. With diagonal covariances phi is (1, x, x^2).

Rows with gaps (NaN) enter by the expected moments of their completion (:mod:`pushforward.probability.laws.gaps`).

The likelihood has no maximum: a component on one row, whose variance goes to 0, raises it without bound. So the covariance
S_k is kept above a floor F (a diagonal matrix: S_k - F is positive semidefinite). The M-step is the exact maximum under this
constraint, by clipping eigenvalues of F^-1/2 S_k F^-1/2 at 1, and the likelihood still never falls.

References
----------
Arthur P. Dempster, Nan M. Laird, Donald B. Rubin. Maximum likelihood from incomplete data via the EM algorithm. 1977.
Zoubin Ghahramani, Michael I. Jordan. Supervised learning from incomplete data via an EM approach. NeurIPS 1993.
Olivier Cappé, Eric Moulines. On-line expectation-maximization algorithm for latent data models. JRSS B, 2009.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pushforward.probability.estimation.estimate import EMResult, OnIteration, expectation_maximization
from pushforward.probability.laws import gaps
from pushforward.probability.laws.mixture import GaussianMixture

__all__ = [
    "Covariance",
    "Form",
    "Moments",
    "fit_mixture",
    "fit_mixture_in_batches",
    "free_numbers",
    "moments",
    "start_mixture",
    "sums",
]

Covariance = Literal["full", "diag", "tied", "spherical"]

_CACHED = 1 << 19  # numbers in the features of one chunk
_START_ROWS = 20_000
_DECAY = 0.6


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over rows that the M-step needs.

    Attributes
    ----------
    weight, first, second : Tensor (K,), (K, D), and (K, D, D) or (K, D)
        Means of r_k, r_k x and r_k x x^T (only its diagonal if the covariances are diagonal).
    log_likelihood : float
        Mean log p(x) in nats.
    """

    weight: Tensor
    first: Tensor
    second: Tensor
    log_likelihood: float

    def blended(self, other: "Moments", share: float) -> "Moments":
        """Return the interpolation from these moments to ``other`` by a share in [0, 1]."""
        return Moments(
            torch.lerp(self.weight, other.weight, share),
            torch.lerp(self.first, other.first, share),
            torch.lerp(self.second, other.second, share),
            self.log_likelihood + share * (other.log_likelihood - self.log_likelihood),
        )


def moments(law: GaussianMixture, x: Tensor) -> Moments:
    """Return the moments of rows x (N, D), float64 with NaN in gaps, under a law (E-step).

    >>> law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[[1.0], [1.0]])
    >>> moments(law, torch.tensor([[-3.0], [3.0]], dtype=torch.float64)).weight
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    weight, first, second, total = sums(law, x)
    return Moments(weight / len(x), first / len(x), second / len(x), total / len(x))


def sums(law: GaussianMixture, x: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return the sums over rows x (N, D) of r_k, r_k x, r_k x x^T and log p(x).

    ``beside`` (N, K) is the logarithm of a further factor of the density of each row under each component; it is overwritten
    with the posterior probabilities r_k.
    """
    whole = ~x.isnan().any(1)
    if bool(whole.all()):
        return _of_complete_rows(law, x, beside)
    filled = gaps.completed(law, x[~whole], None if beside is None else beside[~whole])
    weight, first, second = filled.weight, filled.first, filled.second
    total = float(filled.log_joint.logsumexp(1).sum())
    if beside is not None:
        beside[~whole] = filled.log_joint.softmax(1)
    if bool(whole.any()):
        part = None if beside is None else beside[whole]
        more = _of_complete_rows(law, x[whole], part)
        weight, first, second, total = weight + more[0], first + more[1], second + more[2], total + more[3]
        if beside is not None and part is not None:
            beside[whole] = part
    return weight, first, second, total


def fit_mixture(
    x: Tensor,
    start: GaussianMixture,
    *,
    covariance: Covariance = "full",
    floor: Tensor | float = 0.0,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
    on_iteration: OnIteration | None = None,
) -> EMResult[GaussianMixture]:
    """Maximize the likelihood by EM from a start; the result is a local maximum.

    Parameters
    ----------
    x : Tensor (N, D)
        float64, with NaN in gaps.
    start : GaussianMixture
        On R^D, in float64; its covariances are converted to the form of ``covariance``.
    covariance : {"full", "diag", "tied", "spherical"}
        A matrix for each component, variances by coordinate, one matrix for all, or one variance for each component.
    floor : float or Tensor (D,)
        Least variance by coordinate; no component falls below it in any direction.
    tolerance, max_iterations, on_iteration
        As in :func:`~pushforward.probability.estimation.estimate.expectation_maximization`; the bound is the mean
        log-likelihood of a row.

    >>> x = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]], dtype=torch.float64)
    >>> result = fit_mixture(x, GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]]), tolerance=1e-9)
    >>> result.parameters.means.flatten().round(decimals=3).tolist(), result.converged
    ([-2.5, 2.5], True)
    """
    form = Form(covariance, _floor_of(floor, x))
    center = _center(x)
    centered = x - center
    result = expectation_maximization(
        form.law(_moved(start, -center)),
        e_step=lambda law: moments(law, centered),
        m_step=form.maximum,
        bound=lambda law, posterior: posterior.log_likelihood,
        tolerance=tolerance,
        max_iterations=max_iterations,
        rounding=1e-8,
        on_iteration=on_iteration,
    )
    return EMResult(_moved(result.parameters, center), result.bounds, result.converged)


def fit_mixture_in_batches(
    batches: Callable[[], Iterable[Tensor]],
    start: GaussianMixture,
    *,
    covariance: Covariance = "full",
    floor: Tensor | float = 0.0,
    tolerance: float = 1e-4,
    passes: int = 20,
    on_iteration: OnIteration | None = None,
) -> EMResult[GaussianMixture]:
    """Stepwise EM: an M-step after every batch, for rows that do not fit into memory.

    The moments of batch t are blended into the previous ones with the weight (t + 2)^-0.6, so that the law converges. The
    bounds are mean log-likelihoods of each pass, of every row under the law current at that row; they need not rise.

    Parameters
    ----------
    batches : callable
        Returns one pass over the rows: tensors (n, D), float64, with NaN in gaps. Rows should come in random order.
    start, covariance, floor, tolerance
        As in :func:`fit_mixture`; the fit ends after a pass that gains no more than the tolerance.
    passes : int
        Largest number of passes.
    on_iteration : function, optional
        Called as ``on_iteration(done, bound)`` after each pass.

    Raises
    ------
    ValueError
        If a pass has no rows.

    >>> x = torch.tensor([[-3.0], [3.0], [-2.0], [2.0]], dtype=torch.float64).repeat(50, 1)
    >>> start = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]])
    >>> fit_mixture_in_batches(lambda: x.split(20), start).parameters.means.flatten().round(decimals=3).tolist()
    [-2.5, 2.5]
    """
    form: Form | None = None
    law, average, bounds, batch_number, converged = start, None, list[float](), 0, False
    center = start.mean
    while len(bounds) < passes and not converged:
        total, rows = 0.0, 0
        for batch in batches():
            form = form or Form(covariance, _floor_of(floor, batch))
            law = form.law(_moved(start, -center)) if average is None else law
            new = moments(law, batch - center)
            average = new if average is None else average.blended(new, (batch_number + 2.0) ** -_DECAY)
            law = form.maximum(law, average)
            total, rows, batch_number = total + new.log_likelihood * len(batch), rows + len(batch), batch_number + 1
        if not rows:
            raise ValueError("batches() gave no rows; return a fresh iterable of tensors (n, D) at each call")
        bounds.append(total / rows)
        if on_iteration is not None:
            on_iteration(len(bounds), bounds[-1])
        converged = len(bounds) > 1 and bounds[-1] - bounds[-2] <= tolerance
    return EMResult(_moved(law, center), tuple(bounds), converged)


def start_mixture(
    x: Tensor, components: int, *, covariance: Covariance = "full", floor: Tensor | float = 0.0, seed: int
) -> GaussianMixture:
    """Return a start for EM by k-means on standardized rows: its centers and shares, and one within-cluster covariance.

    Parameters
    ----------
    x : Tensor (N, D)
        float64; NaN in gaps counts as the column mean here. At most 20,000 rows, evenly spaced, are used.
    components : int
        Largest number; empty clusters are left out.
    covariance, floor
        As in :func:`fit_mixture`.
    seed : int
        Seed of k-means++.

    >>> x = torch.tensor([[-3.0], [-2.0], [2.0], [3.0]], dtype=torch.float64)
    >>> start_mixture(x, 2, seed=0).means.flatten().sort().values.tolist()
    [-2.5, 2.5]
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    chosen = x[torch.linspace(0, len(x) - 1, min(len(x), _START_ROWS), dtype=torch.float64).long()]
    center = _center(chosen)
    rows = torch.where(chosen.isnan(), center, chosen)
    deviation = rows.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    z = (rows - center) / deviation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        clusters = KMeans(min(components, len(z)), n_init=1, random_state=seed % (1 << 32)).fit(z.numpy())
    share = torch.nn.functional.one_hot(torch.as_tensor(clusters.labels_).long(), len(clusters.cluster_centers_)).to(z)
    share = share[:, share.sum(0) > 0]
    means = (share.T @ z) / share.sum(0)[:, None]
    within = z - share @ means
    # One covariance for all: a cluster of a single row would start as a spike and stay one.
    spread = within.T @ within / len(z) + 1e-3 * torch.eye(z.shape[1]).to(z)
    cov = spread * deviation[:, None] * deviation
    law = GaussianMixture(share.mean(0), center + means * deviation, cov.expand(len(means), -1, -1))
    return Form(covariance, _floor_of(floor, x)).law(law)


def free_numbers(components: int, dim: int, covariance: Covariance) -> int:
    """Return the number of free parameters of a mixture: weights, means and covariances.

    >>> free_numbers(2, 3, "full"), free_numbers(2, 3, "spherical")
    (19, 9)
    """
    matrix = dim * (dim + 1) // 2
    spread = {"full": components * matrix, "tied": matrix, "diag": components * dim, "spherical": components}[covariance]
    return components - 1 + components * dim + spread


@dataclass(frozen=True, eq=False)
class Form:
    """The form of the covariances, and their floor (D,): the M-step.

    Attributes
    ----------
    covariance : {"full", "diag", "tied", "spherical"}
    floor : Tensor (D,)
    """

    covariance: Covariance
    floor: Tensor

    def maximum(self, law: GaussianMixture, seen: Moments) -> GaussianMixture:
        """Return the law of largest expected log-likelihood; a component without rows is left unchanged."""
        alive = seen.weight > 1e-12
        weight = torch.where(alive, seen.weight, 1e-12)
        means = torch.where(alive[:, None], seen.first / weight[:, None], law.means)
        matrices = seen.second.ndim == 3
        square = means[:, :, None] * means[:, None, :] if matrices else means**2
        spread = seen.second / weight.reshape(-1, *[1] * (seen.second.ndim - 1)) - square
        old = law.covs if matrices else law.components.factor**2
        spread = torch.where(alive.reshape(-1, *[1] * (spread.ndim - 1)), spread, old)
        return GaussianMixture(weight / weight.sum(), means, self._formed(spread, weight))

    def law(self, law: GaussianMixture) -> GaussianMixture:
        """Return ``law`` with covariances of this form, above the floor."""
        matrices = self.covariance in ("full", "tied")
        spread = law.components.full_covs if matrices else law.components.full_covs.diagonal(dim1=1, dim2=2)
        return GaussianMixture(law.weights, law.means, self._formed(spread, law.weights))

    def _formed(self, spread: Tensor, weight: Tensor) -> Tensor:
        if self.covariance == "tied":
            spread = ((weight / weight.sum())[:, None, None] * spread).sum(0).expand_as(spread)
            return self._raised(spread[:1]).expand_as(spread).contiguous()
        if self.covariance == "full":
            return self._raised(spread)
        if self.covariance == "diag":
            return torch.maximum(spread, self.floor)
        return spread.mean(1).clamp(min=self.floor.mean().item())

    def _raised(self, covs: Tensor) -> Tensor:
        """Return covariances (K, D, D) with eigenvalues below 1, in units of F, raised to 1."""
        covs = 0.5 * (covs + covs.mT)
        if not bool((self.floor > 0).any()):
            return covs
        above = torch.linalg.cholesky_ex(covs - torch.diag(self.floor)).info == 0
        if bool(above.all()):
            return covs
        root = self.floor.sqrt()
        values, vectors = torch.linalg.eigh(covs[~above] / root[:, None] / root)
        raised = (vectors * values.clamp(min=1.0)[:, None, :]) @ vectors.mT * root[:, None] * root
        covs = covs.clone()
        covs[~above] = 0.5 * (raised + raised.mT)
        return covs


def _of_complete_rows(law: GaussianMixture, x: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return the sums of :func:`sums`."""
    matrices = law.covs.ndim == 3
    theta = _natural(law)
    dim, count = law.dim, theta.shape[1]
    totals, total, begun = torch.zeros_like(theta), 0.0, 0
    wide = torch.cat([x.new_ones(1, len(x)), x.T])
    size = min(len(x), max(64, _CACHED // count))
    buffer = x.new_empty(count, size)
    for part in torch.split(wide, size, dim=1):
        phi = buffer[:, : part.shape[1]]
        if matrices:
            begin = 0
            for i in range(dim + 1):
                torch.mul(part[i:], part[i], out=phi[begin : begin + dim + 1 - i])
                begin += dim + 1 - i
        else:
            phi[: dim + 1] = part
            torch.mul(part[1:], part[1:], out=phi[dim + 1 :])
        joint = theta @ phi
        rows = slice(begun, begun := begun + part.shape[1])
        if beside is not None:
            joint += beside[rows].T
        log_prob = joint.logsumexp(0)
        total += float(log_prob.sum())
        totals.addmm_(joint.sub_(log_prob).exp_(), phi.T)
        if beside is not None:
            beside[rows] = joint.T
    weight, first, rest = totals[:, 0], totals[:, 1 : dim + 1], totals[:, dim + 1 :]
    if not matrices:
        return weight, first, rest, total
    row, column = torch.triu_indices(dim, dim)
    second = x.new_empty(len(weight), dim, dim)
    second[:, row, column] = rest
    second[:, column, row] = rest
    return weight, first, second, total


def _natural(law: GaussianMixture) -> Tensor:
    """Return theta (K, number of features), with log w_k N(x; k) = theta_k . phi(x)."""
    matrices, unit = law.covs.ndim == 3, torch.eye(law.dim).to(law.means)
    const = law.weights.log() - law.components.log_volumes - 0.5 * law.dim * math.log(2 * math.pi)
    if not matrices:
        precision = law.components.factor**-2
        pulled = precision * law.means
        return torch.cat([(const - 0.5 * (pulled * law.means).sum(1))[:, None], pulled, -0.5 * precision], 1)
    inverse = torch.linalg.solve_triangular(law.components.factor, unit.expand_as(law.covs), upper=False)
    white = torch.einsum("kij,kj->ki", inverse, law.means)
    precision = inverse.mT @ inverse
    row, column = torch.triu_indices(law.dim, law.dim)
    quadratic = precision[:, row, column] * torch.where(row == column, -0.5, -1.0).to(precision)
    linear = torch.einsum("kji,kj->ki", inverse, white)
    return torch.cat([(const - 0.5 * (white**2).sum(1))[:, None], linear, quadratic], 1)


def _floor_of(floor: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(floor, dtype=x.dtype).expand(x.shape[1])


def _center(x: Tensor) -> Tensor:
    return x.nanmean(0)


def _moved(law: GaussianMixture, by: Tensor) -> GaussianMixture:
    return GaussianMixture(law.weights, law.means + by, law.covs)
