"""Combinations of categories that samples have and no real row has."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.measure import Measure
from pushforward.metrics.mixed.rows import Floats, level_numbers, mixed_pair
from pushforward.probability.domain import Domain

__all__ = ["Unseen", "unseen_combinations"]


@dataclass(frozen=True, eq=False)
class Unseen:
    """Shares of rows with two levels that were never seen together.

    Attributes
    ----------
    rows : Measure
        Share of samples with at least one such pair.
    pairs : array (C, C)
        Share of samples by pair of columns, NaN where one of the two is no category.
    unseen : array (n,)
        Whether each sample has such a pair.
    """

    rows: Measure
    pairs: Floats
    unseen: NDArray[np.bool_]


def unseen_combinations(P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain]) -> Unseen:
    """Return the shares of samples P (n, C) with two levels that no row of Q (m, C) has together; a gap is a level.

    Rare combinations are unseen in fresh real rows too: compare with another set of real rows in place of P, against the same
    Q.

    Raises
    ------
    ValueError
        If fewer than two columns are categories, or as :func:`~pushforward.metrics.mixed.rows.as_mixed`.

    >>> pair = (Domain("category", 0, 1), Domain("category", 0, 1))
    >>> unseen_combinations([[0, 0], [1, 0]], [[0, 0], [1, 1]], pair).rows.value
    0.5
    """
    P, Q = mixed_pair(P, Q, domains, least=1)
    columns = [j for j, domain in enumerate(domains) if domain.type == "category"]
    if len(columns) < 2:
        raise ValueError(f"combinations need two columns of categories, but there {'is' if columns else 'are'} {len(columns)}")
    pairs = np.full((len(domains), len(domains)), np.nan)
    any_unseen = np.zeros(len(P), dtype=bool)
    for i, j in combinations(columns, 2):
        width = domains[j].levels + 1
        p, q = (level_numbers(rows[:, i], domains[i]) * width + level_numbers(rows[:, j], domains[j]) for rows in (P, Q))
        unseen = ~np.isin(p, q)
        pairs[i, j] = pairs[j, i] = unseen.mean()
        any_unseen |= unseen
    return Unseen(Measure.of_share(int(any_unseen.sum()), len(P)), pairs, any_unseen)
