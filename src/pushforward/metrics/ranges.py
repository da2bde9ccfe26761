r"""Where single values lie: outside the seen range, and exactly on the most frequent value.

A law with bounds or with mass at a point (amounts that are never negative, debts that are exactly 0 for most people) is missed
by a model that smooths it, and distances between laws hardly show it. Two counts do:

- *Outside the range*: rows with a number below the least or above the largest of its column among the seen rows. Few fresh rows
  are: one in n + 1 of a continuous column for each end, if n rows were seen.
- *Most frequent value*: rows that hold exactly the value of a column that most of the seen rows hold.

Given the seen rows, samples and fresh rows of one law are exchangeable, so Fisher's exact test compares their counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import compared_shares

__all__ = ["Outside", "Spike", "most_frequent", "outside_range"]


@dataclass(frozen=True, eq=False)
class Outside:
    """Rows with a value outside the seen range.

    Attributes
    ----------
    samples, rows : Measure
        Share of the samples, with its test, and of fresh rows.
    columns : array (C,)
        Share of the samples that are outside by this column.
    """

    samples: Measure
    rows: Measure
    columns: NDArray[np.float64]


@dataclass(frozen=True)
class Spike:
    """The most frequent value of a column.

    Attributes
    ----------
    column : int
    value : float
    samples, rows : Measure
        Share of the samples that hold it, with its test, and of fresh rows.
    """

    column: int
    value: float
    samples: Measure
    rows: Measure


def outside_range(P: ArrayLike, Q: ArrayLike, seen: ArrayLike, columns: Sequence[int] | None = None) -> Outside:
    """Count samples P (m, C) and fresh rows Q (n, C) outside the range of the rows that were ``seen`` (k, C); NaN is a gap.

    ``columns`` are those to look at, by default all. A column without a seen value has no range.

    >>> found = outside_range([[-1.0], [2.0]], [[0.0], [1.0]], [[0.0], [1.0]])
    >>> found.samples.value, found.rows.value
    (1.0, 0.0)
    """
    P, Q, seen = (np.asarray(rows, dtype=np.float64) for rows in (P, Q, seen))
    chosen = np.isin(np.arange(seen.shape[1]), range(seen.shape[1]) if columns is None else columns)
    known = np.where(chosen & ~np.isnan(seen), seen, np.nan)
    low = np.where(np.isnan(known), np.inf, known).min(axis=0)
    high = np.where(np.isnan(known), -np.inf, known).max(axis=0)
    ranged = low <= high
    of_samples, of_rows = (ranged & ((rows < low) | (rows > high)) for rows in (P, Q))
    return Outside(*compared_shares(of_samples.any(axis=1), of_rows.any(axis=1)), of_samples.mean(axis=0))


def most_frequent(
    P: ArrayLike, Q: ArrayLike, seen: ArrayLike, columns: Sequence[int] | None = None, *, least: float = 0.02
) -> list[Spike]:
    """Count samples P (m, C) and fresh rows Q (n, C) that hold the most frequent value of each column of the rows ``seen``.

    A column has none if that value holds less than the share ``least`` of the seen rows, or is the only value. Of equally
    frequent values the least one counts. ``columns`` are those to look at, by default all.

    >>> spike, = most_frequent([[0.0], [1.0]], [[0.0], [0.0]], [[0.0], [0.0], [3.0]])
    >>> spike.value, spike.samples.value, spike.rows.value
    (0.0, 0.5, 1.0)
    """
    P, Q, seen = (np.asarray(rows, dtype=np.float64) for rows in (P, Q, seen))
    found = []
    for column in range(seen.shape[1]) if columns is None else columns:
        values, counts = np.unique(seen[~np.isnan(seen[:, column]), column], return_counts=True)
        if len(values) > 1 and counts.max() >= max(2, least * len(seen)):
            value = float(values[counts.argmax()])
            found.append(Spike(column, value, *compared_shares(P[:, column] == value, Q[:, column] == value)))
    return found
