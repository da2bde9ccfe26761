r"""Shape: how well each column by itself is reproduced.

The Shape of a column is one minus a distance between the laws of its values, gaps left out:

- numbers: 1 - max_x |F_P(x) - F_Q(x)|, the complement of Kolmogorov and Smirnov's statistic;
- categories: 1 - 1/2 sum_c |P(c) - Q(c)|, the complement of the total variation.

These are the column shapes of sdmetrics. Shape says nothing about how columns go together: columns drawn independently of each
other reach it too.

The distances of two finite sets are above 0 even for equal laws. The interval is for the distance at this number of rows, by
the delta method. Compare with the Shape of two sets of real rows: the noise floor. The p-values are those of permutation tests
(:mod:`~pushforward.metrics.mixed.relabeled`), which look at the distribution function of a number at 256 points.

References
----------
SDMetrics, https://docs.sdv.dev/sdmetrics: Quality Report, Column Shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.mixed.relabeled import chance_of_each, chance_of_mean, column_cells
from pushforward.metrics.mixed.rows import Floats, Integers, level_numbers, mixed_pair
from pushforward.probability.domain import Domain

__all__ = ["Shapes", "column_shapes", "variation"]

_BITS = 46  # values that agree in their first 46 bits, 14 digits, count as equal, so that rounding makes no difference


@dataclass(frozen=True)
class Shapes:
    """Shape of each column and their mean, in [0, 1]; 1 for equal laws.

    Attributes
    ----------
    columns : tuple of Measure or None
        None for a column without values among the samples or the reference rows.
    mean : Measure
        Over the columns that have one.
    """

    columns: tuple[Measure | None, ...]
    mean: Measure


def column_shapes(
    P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, seed: int = 0, test: bool = True, jointly: bool = False
) -> Shapes:
    """Return the Shape of each column and their mean.

    Parameters
    ----------
    P, Q : array (n, C), (m, C)
        Samples and reference rows, mixed rows under ``domains``.
    domains : sequence of Domain
    seed : int
        Of the relabelings.
    test : bool
        Whether to test.
    jointly : bool
        Whether to correct the p-values of columns for their number, as is needed where only the worst are looked at.

    Raises
    ------
    ValueError
        If no column has values on both sides, or as :func:`~pushforward.metrics.mixed.rows.as_mixed`.

    >>> P, Q = [[0.0, 1.0], [0.0, 2.0]], [[0.0, 1.0], [1.0, 5.0]]
    >>> [column.value for column in column_shapes(P, Q, (Domain("category", 0, 1), Domain("real"))).columns]
    [0.5, 0.5]
    """
    P, Q = mixed_pair(P, Q, domains)
    columns: list[Measure | None] = []
    of_p, of_q = np.zeros(len(P)), np.zeros(len(Q))
    for j, domain in enumerate(domains):
        valid_p, valid_q = ~np.isnan(P[:, j]), ~np.isnan(Q[:, j])
        if not (valid_p.any() and valid_q.any()):
            columns.append(None)
            continue
        p, q = P[valid_p, j], Q[valid_q, j]
        if domain.type == "category":
            distance, slope_p, slope_q = variation(level_numbers(p, domain), level_numbers(q, domain))
        else:
            distance, slope_p, slope_q = _kolmogorov(p, q)
        rows_p, rows_q = _among_all(slope_p, valid_p), _among_all(slope_q, valid_q)
        columns.append(Measure.normal(1 - distance, two_sample_error(rows_p, rows_q), len(P), least=0.0, most=1.0))
        of_p += rows_p
        of_q += rows_q
    found = [column.value for column in columns if column is not None]
    if not found:
        raise ValueError("no column has values among both samples and reference rows, so no shapes can be compared")
    error = two_sample_error(of_p, of_q) / len(found)
    mean = Measure.normal(float(np.mean(found)), error, len(P), least=0.0, most=1.0)
    if not test:
        return Shapes(tuple(columns), mean)
    cells = [column_cells(P[:, j], Q[:, j], domains[j]) for j, column in enumerate(columns) if column is not None]
    chances = iter(chance_of_each(cells, len(P), seed, jointly=jointly))
    tested = tuple(None if column is None else column.tested(*next(chances)) for column in columns)
    return Shapes(tested, mean.tested(*chance_of_mean(cells, len(P), seed)))


def variation(p: Integers, q: Integers) -> tuple[float, Floats, Floats]:
    """Return the total variation of two samples of whole numbers from 0, and its derivative by the mass at each row of both."""
    size = int(max(p.max(), q.max())) + 1
    difference = np.bincount(p, minlength=size) / len(p) - np.bincount(q, minlength=size) / len(q)
    sign = np.sign(difference) / 2
    return float(np.abs(difference).sum() / 2), sign[p], sign[q]


def _kolmogorov(p: Floats, q: Floats) -> tuple[float, Floats, Floats]:
    """Return Kolmogorov and Smirnov's statistic and its derivative by the mass at each row of both."""
    p, q = _rounded(p), _rounded(q)
    points = np.union1d(p, q)
    below_p, below_q = (np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (p, q))
    place = int(np.argmax(np.abs(below_p - below_q)))
    return float(abs(below_p - below_q)[place]), (p <= points[place]) * 1.0, (q <= points[place]) * 1.0


def _rounded(values: Floats) -> Floats:
    fraction, exponent = np.frexp(values)
    rounded: Floats = np.ldexp(np.rint(np.ldexp(fraction, _BITS)), exponent - _BITS)
    return rounded


def _among_all(slope: Floats, valid: np.ndarray) -> Floats:
    """Return derivatives by the mass at all rows, given those by the mass at the valid rows, whose share is itself random."""
    found = np.zeros(len(valid))
    found[valid] = (slope - slope.mean()) / valid.mean()
    return found
