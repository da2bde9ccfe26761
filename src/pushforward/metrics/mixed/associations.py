r"""Associations of all pairs of columns in one matrix, over the rows without gaps in the two.

- Two numbers: Pearson's correlation, in [-1, 1].
- Two categories: Cramer's V with Bergsma's correction, V^2 = max(0, phi^2 - (a - 1)(b - 1) / (n - 1)) / min(a' - 1, b' - 1),
  a' = a - (a - 1)^2 / (n - 1), where phi^2 is chi^2 / n and a, b are the numbers of levels that occur, in [0, 1].
- A category and a number: the correlation ratio, eta^2 = 1 - (variance within the levels) / variance, in [0, 1].

References
----------
Wicher Bergsma. A bias-correction for Cramer's V and Tschuprow's T. 2013.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure
from pushforward.metrics.mixed.rows import Floats, as_mixed, mixed_pair
from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["association_gap", "associations"]

_BLOCKS = 20
_MOST = 20_000


def associations(rows: ArrayLike, domains: Sequence[Domain]) -> Floats:
    """Return the association of each pair of columns (C, C), 1 on the diagonal.

    NaN where one of the two columns is constant or empty over the rows without gaps in the two.

    Parameters
    ----------
    rows : array (n, C)
        Mixed rows under ``domains``.
    domains : sequence of Domain

    >>> rows = [[0, 1.0, 5.0], [0, 2.0, 4.0], [1, 3.0, 3.0], [1, 4.0, 2.0]]
    >>> associations(rows, (Domain("category", 0, 1), Domain("real"), Domain("integer"))).round(3).tolist()
    [[1.0, 0.894, 0.894], [0.894, 1.0, -1.0], [0.894, -1.0, 1.0]]
    """
    rows = as_mixed(rows, domains)
    matrix = np.eye(len(domains))
    for i, j in combinations(range(len(domains)), 2):
        valid = ~np.isnan(rows[:, [i, j]]).any(axis=1)
        a, b = rows[valid, i], rows[valid, j]
        if domains[i].type != "category":
            a, b, first, second = b, a, domains[j].type, domains[i].type
        else:
            first, second = domains[i].type, domains[j].type
        if first != "category":
            found = _correlation(a, b)
        elif second != "category":
            found = _correlation_ratio(a.astype(np.int64), b)
        else:
            found = _cramer(a.astype(np.int64), b.astype(np.int64))
        matrix[i, j] = matrix[j, i] = found
    return matrix


def association_gap(P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, seed: int = 0) -> Measure:
    """Return the mean absolute difference of the associations of all pairs of columns, with a jackknife interval.

    Parameters
    ----------
    P, Q : array (n, C), (m, C)
        Samples and reference rows, mixed rows under ``domains``, at least 20; 20,000 of either are used.
    domains : sequence of Domain
    seed : int
        Of the rows that are used, and of the blocks that the jackknife leaves out.

    Raises
    ------
    ValueError
        If no pair of columns varies among the reference rows. A pair of which a column is constant among the samples alone
        has no association there: 0.

    >>> rng = np.random.default_rng(0)
    >>> Q = np.repeat(rng.normal(size=(500, 1)), 2, axis=1)
    >>> found = association_gap(rng.normal(size=(500, 2)), Q, (Domain("real"), Domain("real")))
    >>> found.low < 1.0 < found.high
    True
    """
    P, Q = mixed_pair(P, Q, domains, least=_BLOCKS)
    generator = np.random.default_rng(noise.derive(seed, "associations"))
    P, Q = (rows[generator.permutation(len(rows))[:_MOST]] for rows in (P, Q))
    of_p, of_q = associations(P, domains), associations(Q, domains)
    pairs = np.triu(~np.isnan(of_q), 1)
    if not pairs.any():
        raise ValueError("no pair of columns varies among the reference rows, so nothing is associated; omit this gap")

    def gap(of_p: Floats, of_q: Floats) -> float:
        return float(np.abs(np.nan_to_num(of_p) - np.nan_to_num(of_q))[pairs].mean())

    without_p = [gap(associations(_without(P, block), domains), of_q) for block in range(_BLOCKS)]
    without_q = [gap(of_p, associations(_without(Q, block), domains)) for block in range(_BLOCKS)]
    error = ((_BLOCKS - 1) * float(np.var(without_p) + np.var(without_q))) ** 0.5
    return Measure.normal(gap(of_p, of_q), error, len(P), least=0.0)


def _without(rows: Floats, block: int) -> Floats:
    kept: Floats = rows[np.arange(len(rows)) % _BLOCKS != block]
    return kept


def _correlation(a: Floats, b: Floats) -> float:
    if not len(a) or (a == a[0]).all() or (b == b[0]).all():
        return np.nan
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()  # squares of numbers near the ends of the range of floats would overflow
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _correlation_ratio(levels: np.ndarray, values: Floats) -> float:
    if not len(values) or (values == values[0]).all() or (levels == levels[0]).all():
        return np.nan
    centered = values - values.mean()
    centered /= np.abs(centered).max()
    counts = np.bincount(levels)
    sums = np.bincount(levels, centered)
    between = float((sums**2 / np.maximum(counts, 1)).sum())
    return float(np.clip(between / (centered @ centered), 0.0, 1.0) ** 0.5)


def _cramer(a: np.ndarray, b: np.ndarray) -> float:
    if not len(a) or (a == a[0]).all() or (b == b[0]).all():
        return np.nan
    n = len(a)
    shares_a, shares_b = np.bincount(a) / n, np.bincount(b) / n
    cells, counts = np.unique(a * len(shares_b) + b, return_counts=True)
    expected = shares_a[cells // len(shares_b)] * shares_b[cells % len(shares_b)]
    phi = float(((counts / n) ** 2 / expected).sum()) - 1
    size_a, size_b = np.count_nonzero(shares_a), np.count_nonzero(shares_b)
    above = max(0.0, phi - (size_a - 1) * (size_b - 1) / (n - 1))
    least = min(size - (size - 1) ** 2 / (n - 1) for size in (size_a, size_b)) - 1
    return min(above / least, 1.0) ** 0.5 if least > 0 else 0.0
