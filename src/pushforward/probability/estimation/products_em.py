r"""Mixtures of products of a Gaussian and categories (:mod:`pushforward.probability.laws.products`), by EM.

The E-step adds the logarithms of the densities of numbers and of the probabilities of levels, the latter as one product of the
table of levels with the rows' levels; blocks of rows bound the memory. The M-step maximizes for each column on its own, from
the sums of r_k over the rows with each level:

- :class:`Shares`, for categories: t_kl = (n_kl + a p_l) / (n_k + a), the mode under a Dirichlet prior of strength a about the
  shares p of all rows;
- :class:`Intervals`, for ordered levels such as integers: level l is the interval (e_l, e_l+1) of a Gaussian number,
  t_kl = Phi((e_l+1 - m_k) / s_k) - Phi((e_l - m_k) / s_k). Given its level, the number is a truncated Gaussian, whose moments
  give m_k and s_k. Further levels without an interval, such as a gap, have the shares of :class:`Shares`.

The objective is the log-likelihood of the rows plus the logarithm of the priors. The rows are divided into parts, and an M-step
follows the E-step of each part, from the latest sums of all parts: EM with many updates per pass.

References
----------
Arthur P. Dempster, Nan M. Laird, Donald B. Rubin. Maximum likelihood from incomplete data via the EM algorithm. 1977.
Radford M. Neal, Geoffrey E. Hinton. A view of the EM algorithm that justifies incremental, sparse, and other variants.
Learning in graphical models, 1998.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.estimation.mixture_em import Form, Moments, sums
from pushforward.probability.laws.products import ProductMixture

__all__ = ["Fitted", "Intervals", "Leaf", "Shares", "fit_products", "start_products", "truncated_normal"]

_BLOCK = 1 << 22  # numbers of rows times components at once
_FAR = 50.0  # standard deviations that stand for infinity
_START_SHARE, _START_VARIANCE = 0.5, 0.25  # in rows, and of the variance of all rows
_PARTS, _ROWS_PER_PART = 16, 500
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

    @property
    def size(self) -> int:
        """Number of levels."""
        return len(self.shares)

    @property
    def free(self) -> int:
        """Number of free parameters of one component."""
        return self.size - 1

    def start(self, counts: Tensor) -> "_Leaf":
        """Return the leaf that counts (K, L) give."""
        return self.maximum(counts, None)

    def maximum(self, counts: Tensor, old: "_Leaf | None") -> "_Leaf":
        """Return the leaf of largest expected log-likelihood plus prior, for counts (K, L)."""
        raised = counts + self.strength * self.shares
        total = raised.sum(1, keepdim=True)
        table = torch.where(total > _ALIVE, raised / total.clamp(min=_ALIVE), self.shares)
        return _Leaf(table, table[:, :0])


@dataclass(frozen=True, eq=False)
class Intervals:
    """A column of ordered levels.

    Attributes
    ----------
    edges : Tensor (V + 1,)
        e, rising; the first and the last may be infinite.
    floor : float
        Least variance.
    beside : Shares, optional
        Of the intervals together, and of each further level.
    """

    edges: Tensor
    floor: float
    beside: Shares | None = None

    @property
    def size(self) -> int:
        """Number of levels."""
        return len(self.edges) - 1 + (0 if self.beside is None else self.beside.size - 1)

    @property
    def free(self) -> int:
        """Number of free parameters of one component."""
        return 2 + (0 if self.beside is None else self.beside.free)

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

    def table(self, normal: Tensor) -> Tensor:
        """Return the probabilities (K, V) of the intervals under Gaussians of means and deviations ``normal`` (K, 2)."""
        table = truncated_normal(*self._ends, normal[:, :1], normal[:, 1:])[0].exp()
        return table / table.sum(1, keepdim=True)

    def _from_moments(self, counts: Tensor, mean: Tensor, variance: Tensor, old: Tensor) -> "_Leaf":
        inner, further = torch.split(counts, [len(self.edges) - 1, counts.shape[1] - len(self.edges) + 1], 1)
        total = inner.sum(1, keepdim=True)
        weight = total.clamp(min=_ALIVE)
        center = (inner * mean).sum(1, keepdim=True) / weight
        spread = (inner * ((mean - center) ** 2 + variance)).sum(1, keepdim=True) / weight
        normal = torch.cat([center, spread.clamp(min=self.floor).sqrt()], 1)
        normal = torch.where(total > _ALIVE, normal, old)
        table = self.table(normal)
        if self.beside is not None:
            share = self.beside.maximum(torch.cat([total, further], 1), None).table
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
    """A law, with the state from which EM continues.

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
    """Sums over rows of r_k, r_k z, r_k z z^T, and r_k by level of each column."""

    weight: Tensor
    first: Tensor
    second: Tensor
    levels: tuple[Tensor, ...]


def fit_products(
    z: Tensor, levels: Tensor, leaves: Sequence[Leaf], start: Fitted, form: Form, *, parts: int | None = None
) -> Iterator[Fitted]:
    """Yield the result of each pass over the rows, without end; passes lead to a local maximum of the objective.

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
    parts : int
        Number of parts of the rows, by default up to 16 with at least 500 rows; 1 is plain EM, with one M-step per pass.

    >>> levels = torch.tensor([[0], [0], [0], [1]])
    >>> z = torch.empty(4, 0).double()
    >>> leaves = [Shares(torch.tensor([0.75, 0.25]).double(), strength=4.0)]
    >>> form = Form("full", torch.empty(0).double())
    >>> passes = fit_products(z, levels, leaves, start_products(z, levels, leaves, 1, form, seed=0), form)
    >>> next(passes).law.tables[0]
    tensor([[0.7500, 0.2500]], dtype=torch.float64)
    """
    parts = parts or max(1, min(_PARTS, len(z) // _ROWS_PER_PART))
    rows = [(z[first::parts], levels[first::parts]) for first in range(min(parts, len(z)))]
    seen = [_e_step(start.law, *part) for part in rows]
    fitted = _m_step(start, _total(seen), leaves, form)
    while True:
        yield fitted
        for number, part in enumerate(rows):
            seen[number] = _e_step(fitted.law, *part)
            fitted = _m_step(fitted, _total(seen), leaves, form)


def start_products(z: Tensor, levels: Tensor, leaves: Sequence[Leaf], components: int, form: Form, *, seed: int) -> Fitted:
    """Return a start for EM: each component is fitted to one row, and to the law of each column with the weight of half a row.

    Parameters
    ----------
    z, levels, leaves, form
        As in :func:`fit_products`.
    components : int
        Largest number; there are not more than rows.
    seed : int
        Names the rows.
    """
    chosen = noise.permutation(len(z), seed=seed, purpose="start")[:components]
    count, tables, normal = len(chosen), [], []
    for column, leaf in enumerate(leaves):
        every = levels[:, column]
        share = torch.bincount(every[every >= 0], minlength=leaf.size).double()
        counts = _START_SHARE * (share / share.sum().clamp(min=1)).repeat(count, 1)
        known = every[chosen] >= 0
        counts[known, every[chosen][known]] += 1
        found = leaf.start(counts)
        tables.append(found.table)
        normal.append(found.normal)
    center = z.nanmean(0).nan_to_num()
    variance = (z - center).square().nanmean(0).nan_to_num()
    variance = variance.where(variance > 0, 1.0)
    weights, means = torch.full((count,), 1 / count, dtype=torch.float64), torch.where(z[chosen].isnan(), center, z[chosen])
    covs = torch.diag(_START_VARIANCE * variance).expand(count, -1, -1).contiguous()
    law = ProductMixture(weights, means, covs, tables)
    if law.dim:
        law = ProductMixture(weights, means, form.law(law.gaussians).covs, tables)
    return Fitted(law, tuple(normal))


def _e_step(law: ProductMixture, z: Tensor, levels: Tensor) -> _Sums:
    count = len(law.weights)
    weight = torch.zeros(count, dtype=torch.float64)
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
        else:
            r += law.weights.log()
            r = r.sub_(r.logsumexp(1, keepdim=True)).exp_()
        weight = weight + r.sum(0)
        if by_level is not None:
            for column in range(index.shape[1]):
                by_level.index_add_(0, index[:, column], r)
    tables = []
    for number, table in enumerate(law.tables):
        assert by_level is not None
        begin = int(law.level_table.first[number])
        tables.append(by_level[begin : begin + table.shape[1]].T)
    return _Sums(weight, first, second, tuple(tables))


def _total(seen: Sequence[_Sums]) -> _Sums:
    """Return the sums over the rows of all parts."""
    flat = zip(*((part.weight, part.first, part.second, *part.levels) for part in seen), strict=True)
    weight, first, second, *levels = (torch.stack(parts).sum(0) for parts in flat)
    return _Sums(weight, first, second, tuple(levels))


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
