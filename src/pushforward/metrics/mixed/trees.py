"""Boosted trees over mixed rows: histogram gradient boosting that takes levels as categories and gaps as they are.

Trees of depth 6, 100 of them at a learning rate of 0.3: the defaults of XGBoost, by which papers judge tables.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from pushforward.metrics.mixed.rows import Floats, level_numbers
from pushforward.probability.domain import Domain

__all__ = ["Features", "class_probabilities", "predicted_numbers"]

_MOST_LEVELS = 254  # scikit-learn takes 255 categories; the last one is for all rarer levels


class Features:
    """Columns as the trees take them: of a category with many levels the most frequent ones, the others as one.

    Parameters
    ----------
    rows : array (n, C)
        Mixed rows that say which levels are frequent.
    domains : sequence of Domain
    """

    def __init__(self, rows: Floats, domains: Sequence[Domain]) -> None:
        self.categories: NDArray[np.bool_] = np.array([domain.type == "category" for domain in domains])
        self._numbers: list[Floats | None] = []
        for j, domain in enumerate(domains):
            if domain.type != "category":
                self._numbers.append(None)
                continue
            counts = np.bincount(level_numbers(rows[:, j], domain), minlength=domain.levels + 1)[:-1]
            frequent = np.argsort(-counts, kind="stable")[:_MOST_LEVELS]
            number = np.full(domain.levels + 1, min(domain.levels, _MOST_LEVELS), dtype=np.float64)
            number[frequent] = np.arange(len(frequent))
            number[-1] = np.nan
            self._numbers.append(number)
        self._domains = tuple(domains)

    def of(self, rows: Floats) -> Floats:
        """Return mixed rows (n, C) as the trees take them."""
        columns = [
            rows[:, j] if number is None else number[level_numbers(rows[:, j], domain)]
            for j, (number, domain) in enumerate(zip(self._numbers, self._domains, strict=True))
        ]
        return np.stack(columns, axis=1)


def class_probabilities(
    X: Floats, labels: NDArray[np.int64], fresh: Floats, categories: NDArray[np.bool_], *, seed: int
) -> Floats:
    """Return the probabilities (m, K) of the classes 0 to K - 1 for fresh rows, after training on labelled ones.

    A class without training rows has probability 0.
    """
    size = int(labels.max()) + 1
    found = np.zeros((len(fresh), size))
    classes = np.unique(labels)
    if len(classes) == 1:
        found[:, classes] = 1.0
        return found
    model = HistGradientBoostingClassifier(categorical_features=categories, random_state=seed % (1 << 31), **_settings(X))
    found[:, classes] = model.fit(X, labels).predict_proba(fresh)
    return found


def predicted_numbers(X: Floats, y: Floats, fresh: Floats, categories: NDArray[np.bool_], *, seed: int) -> Floats:
    """Return the predictions (m,) of a number for fresh rows, after training on rows where it is known."""
    if (y == y[0]).all():
        return np.full(len(fresh), y[0])
    model = HistGradientBoostingRegressor(categorical_features=categories, random_state=seed % (1 << 31), **_settings(X))
    return np.asarray(model.fit(X, y).predict(fresh), dtype=np.float64)


def _settings(X: Floats) -> dict[str, object]:
    return {
        "learning_rate": 0.3,
        "max_depth": 6,
        "max_leaf_nodes": None,
        "min_samples_leaf": max(1, min(20, len(X) // 20)),
        "early_stopping": False,
    }
