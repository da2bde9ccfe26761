r"""Metrics of tables: correlations, associations, categories, and predictors trained on samples.

Columns of whole numbers with at most 20 different values in the reference rows count as *categories*, all others as numbers.

- *Correlation gap*: mean over pairs of columns of numbers of |r_P - r_Q|, Pearson's correlations among samples and rows.
- *Association gap*: the same over pairs with a category. For two categories Cramer's V with Bergsma's correction,
  V^2 = max(0, phi^2 - (a - 1)(b - 1) / (n - 1)) / min(a' - 1, b' - 1), a' = a - (a - 1)^2 / (n - 1), where phi^2 is chi^2 / n
  and a, b are the numbers of categories; for a category and a number the correlation ratio, eta^2 = 1 - (variance within the
  categories) / variance.
- *Total variation* of a column of categories: 1/2 sum_c |P(c) - Q(c)|, the mass in the wrong category.
- *Coverage*: categories of the reference rows that no sample has are lost; categories of samples that no row has are invented.
- *Train on synthetic, test on real*: gradient boosting predicts one column from the others, once trained on samples and once on
  as many training rows, and is tested on the same held-out rows.

Intervals. A gap is a norm of a difference, |d|. Noise adds to a norm, so resampled gaps are too large. By the triangle
inequality | |d_observed| - |d| | <= |d_observed - d|, and the bootstrap estimates the law of the right side. The interval is
the gap plus and minus the 95 % quantile of |d_resampled - d_observed|. It is valid wherever the bootstrap of d is, also at
d = 0, and is somewhat too wide. The p-value is that of the permutation test of gaps (:mod:`~pushforward.metrics.relabel`):
correlations, associations and shares are functions of moments, which are sums over rows.

References
----------
Wicher Bergsma. A bias-correction for Cramer's V and Tschuprow's T. 2013.
Cristóbal Esteban, Stephanie Hyland, Gunnar Rätsch. Real-valued (medical) time series generation with recurrent conditional
GANs. 2017.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from pushforward.metrics.arrays import pair
from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import BlockSwaps, chance
from pushforward.probability import noise

__all__ = [
    "Categories",
    "Utility",
    "association_gap",
    "category_columns",
    "category_coverage",
    "correlation_gap",
    "total_variation",
    "train_on_synthetic",
]

_FEW = 20
_RESAMPLES = 200
_LEAST = 10
_ROUNDING = 1e-12  # of a variance, in units of the reference's
_NUMBERS = 1 << 22
_MOST_NUMBERS = 1 << 27  # of moments of all relabelings: fewer relabelings if one has many


def category_columns(Q: ArrayLike, *, most: int = _FEW) -> NDArray[np.bool_]:
    """Return which columns of the reference rows (n, D) are categories: whole numbers with at most ``most`` different values.

    >>> category_columns([[0, 1.5], [1, 2.5], [0, 3.5]]).tolist()
    [True, False]
    """
    rows = np.asarray(Q)
    return np.array(
        [bool((column == np.rint(column)).all()) and len(np.unique(column)) <= most for column in rows.T], dtype=bool
    )


def correlation_gap(
    P: ArrayLike, Q: ArrayLike, *, categories: ArrayLike | None = None, seed: int = 0, test: bool = True
) -> Measure:
    """Return the mean absolute difference of the correlations of all pairs of columns that are numbers, in [0, 2].

    Parameters
    ----------
    P, Q : array (n, D), (m, D)
        Samples and reference rows, at least 10.
    categories : bool array (D,), optional
        Columns that are not numbers; default :func:`category_columns` of Q.
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
    P, Q, chosen = _columns(P, Q, categories)
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
    P, Q, chosen = _columns(P, Q, categories)
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
    P, Q = (rows.astype(np.float64) for rows in pair(P, Q, least=_LEAST))

    def column(j: int) -> Measure:
        level, place = np.unique(np.concatenate([P[:, j], Q[:, j]]), return_inverse=True)
        shares = _Statistic(
            lambda weights: np.asarray(np.bincount(place, weights, len(level)), np.float64), lambda moments, n: moments
        )
        return _gap(shares, len(P), len(Q), noise.derive(seed, "column", j), test, scale=len(level) / 2)

    return [column(j) for j in range(P.shape[1])]


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
    P, Q, chosen = _columns(P, Q, categories)

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


@dataclass(frozen=True)
class Utility:
    """How well one column is predicted on held-out rows.

    Attributes
    ----------
    synthetic, real : Measure
        Score of the predictor trained on samples, and of that trained on as many training rows.
    loss : Measure
        real - synthetic on the same rows: what is lost by training on samples instead of rows.
    score : {"accuracy", "R2"}
        Share of right predictions of a category; share of the variance of a number that is explained.
    target : int
        The column.
    trained_on : int
        Rows that either predictor saw.
    """

    synthetic: Measure
    real: Measure
    loss: Measure
    score: Literal["accuracy", "R2"]
    target: int
    trained_on: int


def train_on_synthetic(
    P: ArrayLike, Q_train: ArrayLike, Q_test: ArrayLike, target: int, *, categories: ArrayLike | None = None, seed: int = 0
) -> Utility:
    """Train gradient boosting on samples and on training rows, and test both on held-out rows.

    Parameters
    ----------
    P, Q_train, Q_test : array (n, D), (N, D), (m, D)
        Samples, training rows and held-out rows, at least 10 each. The longer of the first two is cut to the shorter.
    target : int
        Column that is predicted from all others. If it is a category, a sample between categories counts as the nearest one.
    categories : bool array (D,), optional
        Default :func:`category_columns` of Q_train.
    seed : int
        Of the predictors and of the resamples.

    Returns
    -------
    Utility
        Intervals are of 1,000 bootstrap resamples of the held-out rows: two other sets of training rows are not in them.

    Raises
    ------
    ValueError
        If the target is no column, is the only column, or is constant in the held-out rows.

    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(600, 2))
    >>> rows[:, 1] = rows[:, 0] ** 2
    >>> found = train_on_synthetic(rng.normal(size=(200, 2)), rows[:200], rows[200:], 1)
    >>> found.score, found.real.value > 0.5, found.synthetic.value < 0.0
    ('R2', True, True)
    """
    P, Q_train, chosen = _columns(P, Q_train, categories)
    Q_test = pair(Q_test, Q_train, least=_LEAST)[0].astype(np.float64)
    width = P.shape[1]
    if not 0 <= target < width or width < 2:
        raise ValueError(f"target must be one of at least two columns, 0 to {width - 1}, but is {target}")
    if (Q_test[:, target] == Q_test[0, target]).all():
        raise ValueError(
            f"column {target} is constant in the held-out rows, so nothing can be predicted; choose another target"
        )
    n = min(len(P), len(Q_train))
    truth, is_class = Q_test[:, target], bool(chosen[target])
    if is_class:
        known = np.unique(Q_train[:, target])
        P[:, target] = known[np.abs(P[:, target, None] - known).argmin(axis=1)]
    predictions = [_predicted(rows[:n], Q_test, target, chosen, seed) for rows in (P, Q_train)]
    if is_class:
        per_row = [(prediction == truth).astype(np.float64) for prediction in predictions]
        spread = np.ones(len(truth))
    else:
        spread = (truth - truth.mean()) ** 2
        per_row = [spread - (prediction - truth) ** 2 for prediction in predictions]
    synthetic, real = per_row
    return Utility(
        synthetic=_score(synthetic, spread, seed),
        real=_score(real, spread, seed),
        loss=_score(real - synthetic, spread, seed),
        score="accuracy" if is_class else "R2",
        target=target,
        trained_on=n,
    )


def _predicted(
    rows: NDArray[np.float64], test: NDArray[np.float64], target: int, chosen: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    others = np.arange(rows.shape[1]) != target
    X, unseen, y = rows[:, others].copy(), test[:, others].copy(), rows[:, target]
    if (y == y[0]).all():
        return np.full(len(test), y[0])
    kinds = chosen[others]
    for j in np.flatnonzero(kinds):  # number the categories from 0; those never seen become gaps
        level = np.unique(X[:, j])
        place = np.searchsorted(level, unseen[:, j]).clip(max=len(level) - 1)
        unseen[:, j] = np.where(level[place] == unseen[:, j], place, np.nan)
        X[:, j] = np.searchsorted(level, X[:, j])
        kinds[j] = len(level) <= 255  # the most that scikit-learn takes as categories; more are treated as numbers
    booster = HistGradientBoostingClassifier if chosen[target] else HistGradientBoostingRegressor
    model = booster(categorical_features=kinds, random_state=noise.derive(seed, "boosting") % (1 << 31), early_stopping=False)
    return np.asarray(model.fit(X, y).predict(unseen), dtype=np.float64)


def _score(values: NDArray[np.float64], spread: NDArray[np.float64], seed: int) -> Measure:
    """Return sum(values) / sum(spread) over rows, with the percentile interval of resamples of the rows."""
    generator = np.random.default_rng(noise.derive(seed, "utility"))
    n = len(values)
    weights = generator.multinomial(n, np.full(n, 1 / n), 5 * _RESAMPLES)
    low, high = np.quantile((weights @ values) / np.maximum(weights @ spread, 1e-300), (0.025, 0.975))
    return Measure(float(values.sum() / spread.sum()), float(low), float(high), n)


def _columns(
    P: ArrayLike, Q: ArrayLike, categories: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    P, Q = (rows.astype(np.float64) for rows in pair(P, Q, least=_LEAST))
    chosen = category_columns(Q) if categories is None else np.asarray(categories)
    if chosen.dtype != bool or chosen.shape != (Q.shape[1],):
        raise ValueError(f"categories must be True or False for each of the {Q.shape[1]} columns, but is {categories!r}")
    return P, Q, chosen


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
