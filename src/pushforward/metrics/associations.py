r"""Correlations and associations of pairs of columns, and shares of categories.

- *Correlation gap*: mean over pairs of columns of numbers of |r_P - r_Q|, Pearson's correlations among samples and rows.
- *Association gap*: the same over pairs with a category. For two categories Cramer's V with Bergsma's correction,
  V^2 = max(0, phi^2 - (a - 1)(b - 1) / (n - 1)) / min(a' - 1, b' - 1), a' = a - (a - 1)^2 / (n - 1), where phi^2 is chi^2 / n
  and a, b are the numbers of categories; for a category and a number the correlation ratio, eta^2 = 1 - (variance within the
  categories) / variance.
- *Total variation* of a column of categories: 1/2 sum_c |P(c) - Q(c)|, the mass in the wrong category.

Intervals. A gap is a norm of a difference, |d|. Noise adds to a norm, so resampled gaps are too large. By the triangle
inequality | |d_observed| - |d| | <= |d_observed - d|, and the bootstrap estimates the law of the right side. The interval is
the gap plus and minus the 95 % quantile of |d_resampled - d_observed|. It is valid wherever the bootstrap of d is, also at
d = 0, and is somewhat too wide. The p-value is that of the permutation test of gaps (:mod:`~pushforward.metrics.relabel`):
correlations, associations and shares are functions of moments, which are sums over rows.

References
----------
Wicher Bergsma. A bias-correction for Cramer's V and Tschuprow's T. 2013.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.arrays import pair
from pushforward.metrics.categories import LEAST_ROWS, columns_of
from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import BlockSwaps, chance
from pushforward.probability import noise

__all__ = ["association_gap", "correlation_gap", "total_variation"]

_RESAMPLES = 200
_ROUNDING = 1e-12  # of a variance, in units of the reference's
_NUMBERS = 1 << 22
_MOST_NUMBERS = 1 << 27  # of moments of all relabelings: fewer relabelings if one has many


def correlation_gap(
    P: ArrayLike, Q: ArrayLike, *, categories: ArrayLike | None = None, seed: int = 0, test: bool = True
) -> Measure:
    """Return the mean absolute difference of the correlations of all pairs of columns that are numbers, in [0, 2].

    Parameters
    ----------
    P, Q : array (n, D), (m, D)
        Samples and reference rows, at least 10.
    categories : bool array (D,), optional
        Columns that are not numbers; default :func:`~pushforward.metrics.categories.category_columns` of Q.
    seed : int
        Of the resamples and relabelings.
    test : bool
        Whether to test.

    Raises
    ------
    ValueError
        If fewer than two columns of numbers vary in Q. A column that is constant in P alone has no correlation there: 0.

    >>> rng = np.random.default_rng(0)
    >>> Q = rng.normal(size=(2000, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    >>> found = correlation_gap(rng.normal(size=(2000, 2)), Q)
    >>> found.low < 0.8 < found.high
    True
    """
    P, Q, chosen = columns_of(P, Q, categories)
    numbers = np.flatnonzero(~chosen & (Q[0] != Q).any(axis=0))
    if len(numbers) < 2:
        raise ValueError(f"correlations need two columns of numbers that vary, but there are {len(numbers)}; omit this gap")
    above = np.triu_indices(len(numbers), 1)

    width = len(numbers)
    values = _centered(np.concatenate([P[:, numbers], Q[:, numbers]]), Q[:, numbers])

    def moments(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([weights @ values, ((values * weights[:, None]).T @ values).ravel()])

    def correlations(moments: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        mean, square = moments[:, :width], moments[:, width:].reshape(len(moments), width, width)
        covariance = square - mean[:, :, None] * mean[:, None]
        std = np.sqrt(np.clip(np.diagonal(covariance, axis1=1, axis2=2), 0.0, None))
        return _divided(covariance, std[:, :, None] * std[:, None], zero=_ROUNDING)[:, *above]

    return _gap(_Statistic(moments, correlations), len(P), len(Q), seed, test)


def association_gap(
    P: ArrayLike, Q: ArrayLike, *, categories: ArrayLike | None = None, seed: int = 0, test: bool = True
) -> Measure:
    """Return the mean absolute difference of the associations of all pairs of columns with a category among them, in [0, 1].

    Cramer's V for two categories, the correlation ratio for a category and a number. Parameters are those of
    :func:`correlation_gap`. The cost grows with the square of the number K of categories of all columns, as 400 n K^2.

    Raises
    ------
    ValueError
        If Q has no such pair of columns that vary.

    >>> rng = np.random.default_rng(0)
    >>> a = rng.integers(0, 3, 1000)
    >>> found = association_gap(rng.integers(0, 3, (1000, 2)), np.stack([a, a], axis=1))
    >>> found.low < 1.0 <= found.high, found.value > 0.95
    (True, True)
    """
    P, Q, chosen = columns_of(P, Q, categories)
    varies = (Q[0] != Q).any(axis=0)
    names, numbers = np.flatnonzero(chosen & varies), np.flatnonzero(~chosen & varies)
    if len(names) + len(numbers) < 2 or not len(names):
        raise ValueError("associations need a column of categories and one more column, both varying; omit this gap")
    levels = [np.unique(np.concatenate([P[:, j], Q[:, j]])) for j in names]
    starts, above = np.cumsum([0, *map(len, levels)])[:-1], np.triu_indices(len(names), 1)
    rows = np.concatenate([P, Q])
    hot = np.concatenate([rows[:, [j]] == level for j, level in zip(names, levels, strict=True)], axis=1).astype(np.float64)
    values = _centered(rows[:, numbers], Q[:, numbers])
    count, width = hot.shape[1], len(numbers)
    ends = np.cumsum([count * count, count * width, width])

    def moments(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        weighted = hot * weights[:, None]
        table, sums = weighted.T @ hot, weighted.T @ values
        return np.concatenate([table.ravel(), sums.ravel(), weights @ values, weights @ values**2])

    def associations(moments: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        table, sums, mean, square = np.split(moments, ends, axis=1)
        table, sums = table.reshape(len(table), count, count), sums.reshape(len(sums), count, width)
        mean, square = mean[:, None], square[:, None]
        shares = np.diagonal(table, axis1=1, axis2=2)
        between = np.add.reduceat(_divided(sums**2, shares[:, :, None]), starts, axis=1)
        eta = np.sqrt(np.clip(_divided(between - mean**2, square - mean**2, zero=_ROUNDING), 0.0, 1.0))
        return np.concatenate([_cramer(table, shares, starts, n)[:, *above], eta.reshape(len(eta), -1)], axis=1)

    return _gap(_Statistic(moments, associations), len(P), len(Q), seed, test)


def total_variation(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True) -> list[Measure]:
    """Return for each column of categories 1/2 sum_c |P(c) - Q(c)|, in [0, 1].

    P (n, D) and Q (m, D) hold columns of categories only. Where rows are few for the number of categories, even equal laws
    differ; the noise floor shows by how much.

    >>> [round(found.value, 2) for found in total_variation([[0.0]] * 10, [[0.0]] * 5 + [[1.0]] * 5)]
    [0.5]
    """
    P, Q = (rows.astype(np.float64) for rows in pair(P, Q, least=LEAST_ROWS))

    def column(j: int) -> Measure:
        level, place = np.unique(np.concatenate([P[:, j], Q[:, j]]), return_inverse=True)
        shares = _Statistic(
            lambda weights: np.asarray(np.bincount(place, weights, len(level)), np.float64), lambda moments, n: moments
        )
        return _gap(shares, len(P), len(Q), noise.derive(seed, "column", j), test, scale=len(level) / 2)

    return [column(j) for j in range(P.shape[1])]


def _centered(rows: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns about their own means in units of the reference, so that large offsets cost no digits."""
    std = reference.std(axis=0)
    return np.asarray((rows - rows.mean(axis=0)) / np.where(std > 0, std, 1.0))


def _cramer(table: NDArray[np.float64], shares: NDArray[np.float64], starts: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Return Cramer's V of all pairs of columns (B, C, C), corrected for the bias of n rows; empty categories do not count.

    ``table`` (B, K, K) holds the shares of all pairs of categories, ``shares`` (B, K) those of each; a column begins at its
    start.
    """
    expected = shares[:, :, None] * shares[:, None]
    phi = _divided((table - expected) ** 2, expected, zero=_ROUNDING)
    phi = np.add.reduceat(np.add.reduceat(phi, starts, axis=1), starts, axis=2)
    sizes = np.add.reduceat((shares > _ROUNDING).astype(np.float64), starts, axis=1)
    bias = (sizes[:, :, None] - 1) * (sizes[:, None] - 1) / (n - 1)
    corrected = sizes - (sizes - 1) ** 2 / (n - 1)
    least = np.minimum(corrected[:, :, None], corrected[:, None]) - 1
    return np.asarray(np.sqrt(np.clip(_divided(np.clip(phi - bias, 0.0, None), least), 0.0, 1.0)))


def _divided(above: NDArray[np.float64], below: NDArray[np.float64], *, zero: float = 0.0) -> NDArray[np.float64]:
    """Return above / below, and 0 where below is not above ``zero``."""
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros_like(above), where=below > zero)


@dataclass(frozen=True, eq=False)
class _Statistic:
    """A statistic of weighted rows, in two steps.

    Attributes
    ----------
    moments : callable
        Weights of all rows (m + n,) to sums over rows (F,); linear.
    of : callable
        Moments (B, F) of weights that sum to 1, and the number of rows behind them, to the statistic (B, S).
    """

    moments: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    of: Callable[[NDArray[np.float64], int], NDArray[np.float64]]

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the statistic of rows with these numbers of copies, (S,)."""
        n = int(weights.sum())
        return np.asarray(self.of(self.moments(weights / n)[None], n)[0])


def _gap(statistic: _Statistic, m: int, n: int, seed: int, test: bool, *, scale: float = 1.0) -> Measure:
    """Return ``scale`` times the mean absolute difference of a statistic of the first m rows and of the other n.

    The interval is that of the module's text.
    """
    generator = np.random.default_rng(noise.derive(seed, "tables"))
    no_samples, no_rows = np.zeros(m), np.zeros(n)

    def gap(of_samples: NDArray[Any], of_rows: NDArray[Any]) -> NDArray[np.float64]:
        return statistic(np.concatenate([of_samples, no_rows])) - statistic(np.concatenate([no_samples, of_rows]))

    def copies(size: int) -> NDArray[np.int64]:
        return generator.multinomial(size, np.full(size, 1 / size))

    difference = gap(np.ones(m), np.ones(n))
    errors = [np.abs(gap(copies(m), copies(n)) - difference).mean() for _ in range(_RESAMPLES)]
    value, half = scale * float(np.abs(difference).mean()), scale * float(np.quantile(errors, 0.95))
    measure = Measure(value, max(value - half, 0.0), value + half, m)
    return measure.tested(*chance(_relabeled_gaps(statistic, m, n, seed))[0]) if test else measure


def _relabeled_gaps(statistic: _Statistic, m: int, n: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the gap for the relabelings, (1, C)."""
    swaps = BlockSwaps.draw(m, n, seed)
    sums = np.stack([statistic.moments(indicator) for indicator in swaps.hot().T])
    width, most = sums.shape[1], swaps.member.shape[1]
    swaps = replace(swaps, member=swaps.member[:, : min(most, max(256, _MOST_NUMBERS // width))])
    for member in swaps.chunks(max(1, min(1_024, _NUMBERS // width))):
        of_samples, of_rows = statistic.of(member.T @ sums / m, m), statistic.of((1 - member).T @ sums / n, n)
        yield np.abs(of_samples - of_rows).mean(axis=-1)[None]
