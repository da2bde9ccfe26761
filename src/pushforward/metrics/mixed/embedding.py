r"""Mixed rows as points whose squared distance is a sum over columns, each at most about 1.

- A number x becomes its rank r(x) in [0, 1] among the rows that the embedding was made of, ties at the middle of their ranks
  and other values by interpolation: columns of any unit, tail and number of spikes count alike.
- A level becomes e_c / sqrt(2), so that two different levels are 1 apart. Of more than 64 levels each has one of as many unit
  vectors in 64 dimensions, drawn at random, and two of them are 1 apart to within an eighth.
- A gap is a level of a category. In a column of numbers it is a point outside the line of ranks: 0 from another gap, and 1 in
  the mean square from a number.

The points go to any metric of points: nearest neighbors, precision and recall, energy distance.

References
----------
John Gower. A general coefficient of similarity and some of its properties. Biometrics, 1971.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.mixed.rows import Floats, as_mixed, level_numbers
from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["Embedding"]

_MOST_LEVELS = 64


class Embedding:
    """The map from mixed rows to points.

    Parameters
    ----------
    rows : array (n, C)
        Mixed rows that ranks are taken of: all real rows of a comparison, so that none of its sides is favored.
    domains : sequence of Domain

    >>> place = Embedding([[0, 5.0], [1, 9.0]], (Domain("category", 0, 1), Domain("real")))
    >>> one, other = place([[0, 5.0], [1, 5.0]])
    >>> round(float(((one - other) ** 2).sum()), 12)
    1.0
    """

    def __init__(self, rows: ArrayLike, domains: Sequence[Domain]) -> None:
        self._domains = tuple(domains)
        checked = as_mixed(rows, self._domains)
        self._scales = [
            _codes(domain, j) if domain.type == "category" else _ranks(checked[:, j]) for j, domain in enumerate(self._domains)
        ]

    def __call__(self, rows: ArrayLike) -> Floats:
        """Return the points (n, D) of mixed rows (n, C)."""
        checked = as_mixed(rows, self._domains)
        columns = []
        for j, (domain, scale) in enumerate(zip(self._domains, self._scales, strict=True)):
            column = checked[:, j]
            if domain.type == "category":
                columns.append(scale[level_numbers(column, domain)])
                continue
            gap = np.isnan(column)
            filled, rank = np.where(gap, 0.0, column), np.zeros(len(gap))
            if scale.size:
                rank = np.interp(filled, scale[0], scale[1], left=0.0, right=1.0) - 0.5
            # ranks vary by 1/12 about their middle: a gap at the height (11/12)^(1/2) above it is 1 away in the mean square
            columns.append(np.stack([np.where(gap, 0.0, rank), np.where(gap, (11 / 12) ** 0.5, 0.0)], axis=1))
        return np.concatenate(columns, axis=1)


def _codes(domain: Domain, column: int) -> Floats:
    """Return a point for each level and, last, for the gap."""
    size = domain.levels + 1
    if size <= _MOST_LEVELS:
        return np.eye(size) / 2**0.5
    generator = np.random.default_rng(noise.derive(0, "codes of levels", column))
    codes = generator.normal(size=(size, _MOST_LEVELS))
    return np.asarray(codes / np.linalg.norm(codes, axis=1, keepdims=True) / 2**0.5)


def _ranks(column: Floats) -> Floats:
    """Return the different values and the middle of their ranks (2, K)."""
    values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    return np.stack([values, (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)])
