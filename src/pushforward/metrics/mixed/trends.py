r"""Trend: how well each pair of columns goes together.

The Trend of a pair of columns is one minus a distance:

- two numbers: 1 - |r_P - r_Q| / 2, with Pearson's correlations r over the rows without gaps in the two;
- all other pairs: 1 - 1/2 sum_{a, b} |P(a, b) - Q(a, b)|, the complement of the total variation of the two columns together.
  Gaps are a level of their own in a category. A number stands in one of ten equally wide bins between the smallest and the
  largest value of its own table, P's bins for P and Q's for Q; gaps and the largest value share one more bin.

These are exactly the column pair trends of sdmetrics, in which one outlier among the samples moves the bins of its column. The
mean over all pairs is what papers report. sdmetrics' Quality Report (as of 0.32) averages over the associated pairs alone:
those with |r_Q| > 0.5, or Cramer's V > 0.3 among the reference rows. Both means are here.

Intervals are those of the delta method, for the distance at this number of rows; compare with two sets of real rows. The
p-value of the mean is that of a permutation test of the mean total variation over all pairs, in which numbers stand in ten
equally full bins (:mod:`~pushforward.metrics.mixed.relabeled`).

References
----------
SDMetrics, https://docs.sdv.dev/sdmetrics: Quality Report, Column Pair Trends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.mixed.relabeled import Cells, chance_of_mean, column_cells
from pushforward.metrics.mixed.rows import Floats, Integers, level_numbers, mixed_pair
from pushforward.metrics.mixed.shapes import variation
from pushforward.probability.domain import Domain

__all__ = ["Trends", "pair_trends"]

_BINS = 10
_LEAST_CORRELATION, _LEAST_V = 0.5, 0.3
_DENSE = 1 << 20


@dataclass(frozen=True, eq=False)
class Trends:
    """Trend of each pair of columns and their means, in [0, 1]; 1 for equal laws.

    Attributes
    ----------
    scores : array (C, C)
        NaN on the diagonal and for two numbers of which one is constant.
    mean : Measure
        Over all pairs that have one.
    associated : Measure or None
        Over the pairs that are associated among the reference rows, None if there are none.
    """

    scores: Floats
    mean: Measure
    associated: Measure | None


def pair_trends(P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, seed: int = 0, test: bool = True) -> Trends:
    """Return the Trend of each pair of columns and their means.

    Parameters
    ----------
    P, Q : array (n, C), (m, C)
        Samples and reference rows, mixed rows under ``domains``.
    domains : sequence of Domain
    seed : int
        Of the relabelings.
    test : bool
        Whether to test the mean.

    Raises
    ------
    ValueError
        If no pair can be compared, or as :func:`~pushforward.metrics.mixed.rows.as_mixed`.

    >>> P, Q = [[0.0, 0.0], [1.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]
    >>> pair_trends(P, Q, (Domain("category", 0, 1), Domain("category", 0, 1))).mean.value
    0.5
    """
    P, Q = mixed_pair(P, Q, domains)
    levels_p, levels_q = ([_levels(rows[:, j], domain) for j, domain in enumerate(domains)] for rows in (P, Q))
    scores = np.full((len(domains), len(domains)), np.nan)
    every, strong = _Mean(len(P), len(Q)), _Mean(len(P), len(Q))
    for i, j in combinations(range(len(domains)), 2):
        if "category" not in (domains[i].type, domains[j].type):
            found = _correlations(P[:, [i, j]], Q[:, [i, j]])
        else:
            found = _contingencies(levels_p[i], levels_p[j], levels_q[i], levels_q[j])
        if found is None:
            continue
        score, associated, of_p, of_q = found
        scores[i, j] = scores[j, i] = score
        every.add(score, of_p, of_q)
        if associated:
            strong.add(score, of_p, of_q)
    if not every.count:
        raise ValueError("no pair of columns can be compared: it takes two columns, and numbers that vary; omit the trends")
    mean = every.measure()
    if test:
        mean = mean.tested(*chance_of_mean(_pair_cells(P, Q, domains), len(P), seed))
    return Trends(scores, mean, strong.measure() if strong.count else None)


def _pair_cells(P: Floats, Q: Floats, domains: Sequence[Domain]) -> list[Cells]:
    """Return the cells of each pair of columns together; a gap is one more cell of a column."""
    columns = [column_cells(P[:, j], Q[:, j], domain, most=_BINS).cell + 1 for j, domain in enumerate(domains)]
    pairs = (a * (b.max() + 1) + b for a, b in combinations(columns, 2))
    return [Cells(np.unique(pair, return_inverse=True)[1]) for pair in pairs]


_Found = tuple[float, bool, Floats, Floats]


class _Mean:
    """The mean of scores over pairs, with the derivatives by the mass at each row that give its error."""

    def __init__(self, n: int, m: int) -> None:
        self.count, self.total = 0, 0.0
        self.of_p, self.of_q = np.zeros(n), np.zeros(m)

    def add(self, score: float, of_p: Floats, of_q: Floats) -> None:
        self.count += 1
        self.total += score
        self.of_p += of_p
        self.of_q += of_q

    def measure(self) -> Measure:
        error = two_sample_error(self.of_p, self.of_q) / self.count
        return Measure.normal(self.total / self.count, error, len(self.of_p), least=0.0, most=1.0)


def _levels(column: Floats, domain: Domain) -> Integers:
    """Return the levels of a category, or the bins of a number; gaps fall into the last bin, as they do in NumPy's order."""
    if domain.type == "category":
        return level_numbers(column, domain)
    edges = np.histogram_bin_edges(column[~np.isnan(column)], bins=_BINS)
    return np.digitize(column, edges).astype(np.int64)


def _correlations(P: Floats, Q: Floats) -> _Found | None:
    sampled, real = _correlation(P), _correlation(Q)
    if sampled is None or real is None:
        return None
    (r_p, of_p), (r_q, of_q) = sampled, real
    sign = np.sign(r_p - r_q) / 2
    return 1 - abs(r_p - r_q) / 2, abs(r_q) > _LEAST_CORRELATION, sign * of_p, sign * of_q


def _correlation(rows: Floats) -> tuple[float, Floats] | None:
    """Return Pearson's correlation of two columns and its derivative by the mass at each row, None if one is constant."""
    valid = ~np.isnan(rows).any(axis=1)
    part = rows[valid]
    if len(part) < 2 or (part == part[0]).all(axis=0).any():
        return None
    center = part - part.mean(axis=0)
    center /= np.abs(center).max(axis=0)
    z = center / np.sqrt((center**2).mean(axis=0))
    r = float(np.clip((z[:, 0] * z[:, 1]).mean(), -1.0, 1.0))
    slope = np.zeros(len(rows))
    slope[valid] = (z[:, 0] * z[:, 1] - r * (z**2).sum(axis=1) / 2) / valid.mean()
    return r, slope


def _contingencies(a_p: Integers, b_p: Integers, a_q: Integers, b_q: Integers) -> _Found:
    width = int(max(b_p.max(), b_q.max())) + 1
    p, q = a_p * width + b_p, a_q * width + b_q
    if width * (int(max(a_p.max(), a_q.max())) + 1) > _DENSE:
        both = np.unique(np.concatenate([p, q]), return_inverse=True)[1]
        distance, of_p, of_q = variation(both[: len(p)], both[len(p) :])
    else:
        distance, of_p, of_q = variation(p, q)
    return 1 - distance, _cramer(a_q, b_q) > _LEAST_V, of_p, of_q


def _cramer(a: Integers, b: Integers) -> float:
    """Return Cramer's V without correction: (chi^2 / n / (min(levels of a, levels of b) - 1))^(1/2)."""
    shares_a, shares_b = np.bincount(a) / len(a), np.bincount(b) / len(b)
    least = min(np.count_nonzero(shares_a), np.count_nonzero(shares_b)) - 1
    if not least:
        return 0.0
    cells, counts = np.unique(a * len(shares_b) + b, return_counts=True)
    expected = shares_a[cells // len(shares_b)] * shares_b[cells % len(shares_b)]
    # sum (o - e)^2 / e = sum o^2 / e - 1, so that empty cells need not be visited
    chi = float(((counts / len(a)) ** 2 / expected).sum()) - 1
    return float((max(chi, 0.0) / least) ** 0.5)
