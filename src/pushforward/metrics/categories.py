"""Which columns are categories, and which categories samples cover.

Columns of whole numbers with at most 20 different values in the reference rows count as *categories*, all others as numbers.
Categories of the reference rows that no sample has are lost; categories of samples that no row has are invented.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.arrays import pair
from pushforward.metrics.measure import Measure
from pushforward.probability.domain import Domain

__all__ = ["LEAST_ROWS", "Categories", "category_columns", "category_coverage", "columns_of", "with_levels"]

LEAST_ROWS = 10
"""The fewest samples, and the fewest reference rows, that metrics of columns take."""
_FEW = 20


def category_columns(Q: ArrayLike, *, most: int = _FEW) -> NDArray[np.bool_]:
    """Return which columns of the reference rows (n, D) are categories: whole numbers with at most ``most`` different values.

    >>> category_columns([[0, 1.5], [1, 2.5], [0, 3.5]]).tolist()
    [True, False]
    """
    rows = np.asarray(Q)
    return np.array(
        [bool((column == np.rint(column)).all()) and len(np.unique(column)) <= most for column in rows.T], dtype=bool
    )


@dataclass(frozen=True)
class Categories:
    """Which categories of one column the samples cover.

    Attributes
    ----------
    column : int
    covered, lost, invented : tuple of float
        Categories of the reference rows that samples have, those that samples lack, and those that samples alone have.
    lost_share : Measure
        Share of the reference rows whose category is lost, with Clopper and Pearson's interval, for these samples.
    invented_share : Measure
        Share of the samples whose category is invented, likewise, for these reference rows.
    chance : float
        Probability that at least one category is lost among as many rows of the reference's own law: near 1 where categories
        are so rare that a loss says nothing. (A bound: the sum over categories of (1 - share)^n, at most 1.)
    """

    column: int
    covered: tuple[float, ...]
    lost: tuple[float, ...]
    invented: tuple[float, ...]
    lost_share: Measure
    invented_share: Measure
    chance: float


def category_coverage(P: ArrayLike, Q: ArrayLike, *, categories: ArrayLike | None = None) -> list[Categories]:
    """Return for each column of categories which of them the samples cover, lose and invent.

    Parameters
    ----------
    P, Q : array (n, D), (m, D)
        Samples and reference rows: the training rows, since a model can know no other categories.
    categories : bool array (D,), optional
        Default :func:`category_columns` of Q.

    >>> [found] = category_coverage([[0.0]] * 9 + [[3.0]], [[0.0]] * 5 + [[1.0]] * 5)
    >>> found.covered, found.lost, found.invented, found.lost_share.value, found.invented_share.value
    ((0.0,), (1.0,), (3.0,), 0.5, 0.1)
    """
    P, Q, chosen = columns_of(P, Q, categories)

    def column(j: int) -> Categories:
        in_rows, counts = np.unique(Q[:, j], return_counts=True)
        in_samples = np.unique(P[:, j])
        lost, invented = np.setdiff1d(in_rows, in_samples), np.setdiff1d(in_samples, in_rows)
        return Categories(
            column=j,
            covered=tuple(np.intersect1d(in_rows, in_samples).tolist()),
            lost=tuple(lost.tolist()),
            invented=tuple(invented.tolist()),
            lost_share=Measure.of_share(int(np.isin(Q[:, j], lost).sum()), len(Q)),
            invented_share=Measure.of_share(int(np.isin(P[:, j], invented).sum()), len(P)),
            chance=float(min(((1 - counts / len(Q)) ** len(P)).sum(), 1.0)),
        )

    return [column(j) for j in np.flatnonzero(chosen).tolist()]


def columns_of(
    P: ArrayLike, Q: ArrayLike, categories: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return samples and reference rows as float64, and which columns are categories.

    Raises
    ------
    ValueError
        If ``categories`` does not say so for each column.
    """
    P, Q = (rows.astype(np.float64) for rows in pair(P, Q, least=LEAST_ROWS))
    chosen = category_columns(Q) if categories is None else np.asarray(categories)
    if chosen.dtype != bool or chosen.shape != (Q.shape[1],):
        raise ValueError(f"categories must be True or False for each of the {Q.shape[1]} columns, but is {categories!r}")
    return P, Q, chosen


def with_levels(
    P: ArrayLike, references: Sequence[ArrayLike], categories: ArrayLike
) -> tuple[tuple[Domain, ...], list[NDArray[np.float64]]]:
    """Return domains of columns, and samples P (n, D) and each of the reference rows as mixed rows under these.

    Categories are numbered as they occur in the reference rows; a sample between categories counts as the nearest one.

    >>> domains, (P, Q) = with_levels([[6.0, 0.5]], [[[5.0, 1.5], [7.0, 2.5], [9.0, 2.5]]], [True, False])
    >>> [domain.type for domain in domains], P.tolist(), Q[:, 0].tolist()
    (['category', 'real'], [[0.0, 0.5]], [0.0, 1.0, 2.0])
    """
    rows = [np.array(part, dtype=np.float64) for part in (P, *references)]
    domains = [Domain("real")] * rows[0].shape[1]
    for j in np.flatnonzero(np.asarray(categories)).tolist():
        known = np.unique(np.concatenate([part[:, j] for part in rows[1:]]))
        domains[j] = Domain("category", 0, len(known) - 1)
        for part in rows:
            part[:, j] = np.abs(part[:, j, None] - known).argmin(axis=1)
    return tuple(domains), rows
