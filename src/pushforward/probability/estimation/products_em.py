r"""Mixtures of products of a Gaussian and categories (:mod:`pushforward.probability.laws.products`), by EM.

The E-step adds the logarithms of the densities of numbers and of the probabilities of levels, the latter as one product of the
table of levels with the rows' levels; blocks of rows bound the memory. The M-step maximizes for each column on its own, from
the sums of r_k over the rows with each level:

- :class:`Shares`, for categories: t_kl = (n_kl + a p_l) / (n_k + a), the mode under a Dirichlet prior of strength a about the
  shares p of all rows;
- :class:`Intervals`, for ordered levels such as integers: level l is the interval (e_l, e_l+1) of a Gaussian number,
  t_kl = Phi((e_l+1 - m_k) / s_k) - Phi((e_l - m_k) / s_k). Given its level, the number is a truncated Gaussian, whose moments
  give m_k and s_k. A last level without an interval, such as a gap, has the share of :class:`Shares`.

No iteration lowers the objective: the mean log-likelihood plus the logarithm of the priors, divided by the number of rows.

References
----------
Arthur P. Dempster, Nan M. Laird, Donald B. Rubin. Maximum likelihood from incomplete data via the EM algorithm. 1977.
"""

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.estimation.estimate import EMResult, OnIteration, expectation_maximization
from pushforward.probability.estimation.mixture_em import Form, Moments, sums
from pushforward.probability.laws.products import ProductMixture

__all__ = ["Fitted", "Intervals", "Leaf", "Shares", "fit_products", "start_products", "truncated_normal"]

_BLOCK = 1 << 22  # numbers of rows times components at once
_FAR = 50.0  # standard deviations that stand for infinity
_START_ROWS, _START_ITERATIONS = 10_000, 5
_ALIVE = 1e-9  # rows of a component that is still updated


@dataclass(frozen=True, eq=False)
class Shares:
    """A column of levels in no order.

    Attributes
    ----------
    shares : Tensor (L,)
        p.
    strength : float
        a, in rows.
    """

    shares: Tensor
    strength: float

    def start(self, counts: Tensor) -> "_Leaf":
        """Return the leaf that counts (K, L) give."""
        return self.maximum(counts, None)

    def maximum(self, counts: Tensor, old: "_Leaf | None") -> "_Leaf":
        """Return the leaf of largest expected log-likelihood plus prior, for counts (K, L)."""
        raised = counts + self.strength * self.shares
        total = raised.sum(1, keepdim=True)
        table = torch.where(total > _ALIVE, raised / total.clamp(min=_ALIVE), self.shares)
        return _Leaf(table, table[:, :0])

    def log_prior(self, table: Tensor) -> float:
        """Return the logarithm of the prior of a table (K, L), up to a constant."""
        return self.strength * float(torch.xlogy(self.shares, table).sum())


@dataclass(frozen=True, eq=False)
class Intervals:
    """A column of ordered levels.

    Attributes
    ----------
    edges : Tensor (V + 1,)
        e, rising; the first and the last may be infinite.
    floor : float
        Least variance.
    last : Shares, optional
        Of two levels: one of the intervals, or a last level without one.
    """

    edges: Tensor
    floor: float
    last: Shares | None = None

    @functools.cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        edges = self.edges.double().clamp(-_FAR, _FAR)
        return edges[:-1], edges[1:]

    def start(self, counts: Tensor) -> "_Leaf":
        """Return the leaf that counts (K, L) give, with numbers at the means of their intervals under N(0, 1)."""
        standard = torch.zeros(1, 1, dtype=torch.float64)
        _, mean, variance = truncated_normal(*self._ends, standard, standard + 1.0)
        return self._from_moments(counts, mean, variance, torch.tensor([[0.0, 1.0]]).double().expand(len(counts), -1))

    def maximum(self, counts: Tensor, old: "_Leaf | None") -> "_Leaf":
        """Return the leaf of largest expected log-likelihood plus prior, for counts (K, L)."""
        assert old is not None
        _, mean, variance = truncated_normal(*self._ends, old.normal[:, :1], old.normal[:, 1:])
        return self._from_moments(counts, mean, variance, old.normal)

    def log_prior(self, table: Tensor) -> float:
        """Return the logarithm of the prior of a table (K, L), up to a constant."""
        return 0.0 if self.last is None else self.last.log_prior(torch.cat([1 - table[:, -1:], table[:, -1:]], 1))

    def table(self, normal: Tensor) -> Tensor:
        """Return the probabilities (K, V) of the intervals under Gaussians of means and deviations ``normal`` (K, 2)."""
        table = truncated_normal(*self._ends, normal[:, :1], normal[:, 1:])[0].exp()
        return table / table.sum(1, keepdim=True)

    def _from_moments(self, counts: Tensor, mean: Tensor, variance: Tensor, old: Tensor) -> "_Leaf":
        inner = counts[:, : len(self.edges) - 1]
        total = inner.sum(1, keepdim=True)
        weight = total.clamp(min=_ALIVE)
        center = (inner * mean).sum(1, keepdim=True) / weight
        spread = (inner * ((mean - center) ** 2 + variance)).sum(1, keepdim=True) / weight
        normal = torch.cat([center, spread.clamp(min=self.floor).sqrt()], 1)
        normal = torch.where(total > _ALIVE, normal, old)
        table = self.table(normal)
        if self.last is not None:
            share = self.last.maximum(torch.cat([total, counts[:, -1:]], 1), None).table
            table = torch.cat([table * share[:, :1], share[:, 1:]], 1)
        return _Leaf(table, normal)


Leaf = Shares | Intervals


@dataclass(frozen=True, eq=False)
class _Leaf:
    """The law of one column under each component: its table (K, L), and means and deviations (K, 2) of intervals."""

    table: Tensor
    normal: Tensor


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law, with what EM goes on from.

    Attributes
    ----------
    law : ProductMixture
    normal : tuple of Tensor
        For each column of :class:`Intervals`, the means and standard deviations of its number (K, 2); otherwise (K, 0).
    """

    law: ProductMixture
    normal: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over rows of r_k, r_k z, r_k z z^T, r_k by level of each column, and log p."""

    weight: Tensor
    first: Tensor
    second: Tensor
    levels: tuple[Tensor, ...]
    log_likelihood: float


def fit_products(
    z: Tensor,
    levels: Tensor,
    leaves: Sequence[Leaf],
    start: Fitted,
    form: Form,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
    on_iteration: OnIteration | None = None,
) -> EMResult[Fitted]:
    """Maximize the objective of the module docstring from a start; the result is a local maximum.

    Parameters
    ----------
    z : Tensor (N, d)
        float64, NaN where a row has no such number.
    levels : int64 Tensor (N, J)
        ``ANY`` where a level is unknown.
    leaves : sequence of Shares or Intervals
        One per column.
    start : Fitted
        For example from :func:`start_products`.
    form : Form
        Form and floor of the covariances of z.
    tolerance, max_iterations, on_iteration
        As in :func:`~pushforward.probability.estimation.estimate.expectation_maximization`.

    >>> levels = torch.tensor([[0], [0], [0], [1]])
    >>> z = torch.empty(4, 0).double()
    >>> leaves = [Shares(torch.tensor([0.75, 0.25]).double(), strength=4.0)]
    >>> form = Form("full", torch.empty(0).double())
    >>> result = fit_products(z, levels, leaves, start_products(z, levels, leaves, 1, form, seed=0), form)
    >>> result.parameters.law.tables[0]
    tensor([[0.7500, 0.2500]], dtype=torch.float64)
    """

    def bound(fitted: Fitted, seen: _Sums) -> float:
        prior = sum(leaf.log_prior(table) for leaf, table in zip(leaves, fitted.law.tables, strict=True))
        return seen.log_likelihood + prior / len(z)

    return expectation_maximization(
        start,
        e_step=lambda fitted: _e_step(fitted.law, z, levels),
        m_step=lambda fitted, seen: _m_step(fitted, seen, leaves, form),
        bound=bound,
        tolerance=tolerance,
        max_iterations=max_iterations,
        rounding=1e-8,
        on_iteration=on_iteration,
    )


def start_products(z: Tensor, levels: Tensor, leaves: Sequence[Leaf], components: int, form: Form, *, seed: int) -> Fitted:
    """Return a start for EM by k-means on numbers, the numbers of intervals, and 0/1 coordinates of categories.

    Parameters
    ----------
    z, levels, leaves, form
        As in :func:`fit_products`. At most 10,000 rows, evenly spaced, are clustered.
    components : int
        Largest number; empty clusters are left out.
    seed : int
        Seed of k-means++.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    chosen = torch.linspace(0, len(z) - 1, min(len(z), _START_ROWS), dtype=torch.float64).long()
    points = _embedded(z[chosen], levels[chosen], leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        search = KMeans(min(components, len(points)), n_init=1, max_iter=_START_ITERATIONS, random_state=seed % (1 << 32))
        clusters = torch.as_tensor(search.fit(points.numpy()).labels_).long()
    _, clusters = torch.unique(clusters, return_inverse=True)
    count = int(clusters.max()) + 1
    r = torch.nn.functional.one_hot(clusters, count).double()
    weight, tables, normal = r.mean(0), [], []
    for column, leaf in enumerate(leaves):
        known = levels[chosen, column] >= 0
        size = len(leaf.shares) if isinstance(leaf, Shares) else len(leaf.edges) - 1 + (leaf.last is not None)
        counts = torch.zeros(size, count, dtype=torch.float64)
        found = leaf.start(counts.index_add_(0, levels[chosen, column][known], r[known]).T)
        tables.append(found.table)
        normal.append(found.normal)
    means, covs = _start_gaussians(z[chosen], r)
    law = ProductMixture(weight, means, covs, tables)
    if law.dim:
        law = ProductMixture(weight, means, form.law(law.gaussians).covs, tables)
    return Fitted(law, tuple(normal))


def _start_gaussians(z: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of clusters, and for all of them one covariance within, since a single row would start as a spike."""
    center = z.nanmean(0)
    filled = torch.where(z.isnan(), center, z)
    means = r.T @ filled / r.sum(0)[:, None]
    within = filled - r @ means
    spread = (filled - center).square().mean(0)
    cov = within.T @ within / len(z) + 1e-3 * torch.diag(torch.where(spread > 0, spread, 1.0))
    return means, cov.expand(len(means), -1, -1).contiguous()


def _embedded(z: Tensor, levels: Tensor, leaves: Sequence[Leaf]) -> Tensor:
    center, deviation = z.nanmean(0), (z - z.nanmean(0)).square().nanmean(0).sqrt()
    parts = [torch.where(z.isnan(), 0.0, (z - center) / deviation.where(deviation > 0, 1.0))]
    for column, leaf in enumerate(leaves):
        level = levels[:, column]
        if isinstance(leaf, Shares):
            parts.append(torch.nn.functional.one_hot(level.clamp(min=-1) + 1, len(leaf.shares) + 1)[:, 1:].double())
        else:
            low, high = leaf._ends
            standard = torch.zeros(1, 1, dtype=torch.float64)
            mean = torch.cat([truncated_normal(low, high, standard, standard + 1.0)[1][0], torch.zeros(2).double()])
            parts.append(mean[level.where(level >= 0, len(mean) - 1)][:, None])
    return torch.cat(parts, 1)


def _e_step(law: ProductMixture, z: Tensor, levels: Tensor) -> _Sums:
    count = len(law.weights)
    weight, total = torch.zeros(count, dtype=torch.float64), 0.0
    first, second = torch.zeros_like(law.means), 0.0 * law.covs
    by_level = None if not law.tables else torch.zeros_like(law.level_table.rows)
    for part in torch.split(torch.arange(len(z)), max(1, _BLOCK // count)):
        if law.tables:
            index = law.level_table.index(levels[part])
            r = law.level_table.log_prob(levels[part])
        else:
            r = torch.zeros(len(part), count, dtype=torch.float64)
        if law.dim:
            more = sums(law.gaussians, z[part], r)
            first, second = first + more[1], second + more[2]
            log_likelihood = more[3]
        else:
            r += law.weights.log()
            log_prob = r.logsumexp(1, keepdim=True)
            r = r.sub_(log_prob).exp_()
            log_likelihood = float(log_prob.sum())
        weight, total = weight + r.sum(0), total + log_likelihood
        if by_level is not None:
            for column in range(index.shape[1]):
                by_level.index_add_(0, index[:, column], r)
    tables = []
    for number, table in enumerate(law.tables):
        assert by_level is not None
        begin = int(law.level_table.first[number])
        tables.append(by_level[begin : begin + table.shape[1]].T)
    return _Sums(weight, first, second, tuple(tables), total / len(z))


def _m_step(fitted: Fitted, seen: _Sums, leaves: Sequence[Leaf], form: Form) -> Fitted:
    law = fitted.law
    weights = seen.weight.clamp(min=1e-12)
    weights, means, covs = weights / weights.sum(), law.means, law.covs
    if law.dim:
        n = float(seen.weight.sum())
        gaussians = form.maximum(law.gaussians, Moments(seen.weight / n, seen.first / n, seen.second / n, 0.0))
        weights, means, covs = gaussians.weights, gaussians.means, gaussians.covs
    old = map(_Leaf, law.tables, fitted.normal)
    found = [leaf.maximum(counts, last) for leaf, counts, last in zip(leaves, seen.levels, old, strict=True)]
    return Fitted(ProductMixture(weights, means, covs, [leaf.table for leaf in found]), tuple(leaf.normal for leaf in found))


def truncated_normal(low: Tensor, high: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities (K, V) of intervals (V,), and the means and variances of N(mean, deviation^2) within them."""
    a, b = (low - mean) / deviation, (high - mean) / deviation
    flip = a + b > 0  # in the lower tail logarithms of Phi keep their digits
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    upper, lower = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    log_mass = upper + torch.log(-torch.expm1((lower - upper).clamp(max=-1e-300)))
    middle = -((a + b) / 2).square() / 2 - 0.5 * math.log(2 * math.pi) + (b - a).log()
    narrow = b - a < 1e-5  # where the difference of two values of Phi would lose its digits
    log_mass = torch.where(narrow, middle, log_mass)
    pa, pb = ((-x.square() / 2 - 0.5 * math.log(2 * math.pi) - log_mass).exp() for x in (a, b))
    shift = torch.where(narrow, (a + b) / 2, pa - pb).clamp(a, b)
    variance = torch.where(narrow, (b - a).square() / 12, 1 + a * pa - b * pb - shift.square())
    variance = torch.minimum(variance.clamp(min=0.0), (b - a).square() / 4)
    return log_mass, mean + deviation * torch.where(flip, -shift, shift), deviation.square() * variance
