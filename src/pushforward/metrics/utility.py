"""Train on synthetic, test on real.

Gradient boosting predicts one column from the others, once trained on samples and once on as many training rows, and is tested
on the same held-out rows.

References
----------
Cristóbal Esteban, Stephanie Hyland, Gunnar Rätsch. Real-valued (medical) time series generation with recurrent conditional
GANs. 2017.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from pushforward.metrics.arrays import pair
from pushforward.metrics.categories import LEAST_ROWS, columns_of
from pushforward.metrics.measure import Measure
from pushforward.probability import noise

__all__ = ["Utility", "train_on_synthetic"]

_RESAMPLES = 1_000


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
    P, Q_train, chosen = columns_of(P, Q_train, categories)
    Q_test = pair(Q_test, Q_train, least=LEAST_ROWS)[0].astype(np.float64)
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
    weights = generator.multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    low, high = np.quantile((weights @ values) / np.maximum(weights @ spread, 1e-300), (0.025, 0.975))
    return Measure(float(values.sum() / spread.sum()), float(low), float(high), n)
