r"""Utility: how well one column is predicted from the others after training on samples, tested on real rows.

Boosted trees are trained once on samples and once on as many training rows, and tested on the same held-out rows.

- A category: the area under the curve, of many levels the mean over levels, each against the rest, weighted by their shares.
  Levels beyond the ten most frequent count as one. A guess has 1/2.
- A number: the share R^2 of its variance that is explained. A guess has 0.

The ratio is (score of samples - guess) / (score of rows - guess): 1 if samples teach as much as rows, 0 if nothing.
Held-out rows with a gap in the target are left out, and so are training rows with one.

References
----------
Cristóbal Esteban, Stephanie Hyland, Gunnar Rätsch. Real-valued (medical) time series generation with recurrent conditional
GANs. 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.measure import Measure
from pushforward.metrics.mixed.auc import area
from pushforward.metrics.mixed.rows import Floats, as_mixed, plural
from pushforward.metrics.mixed.trees import Features, class_probabilities, predicted_numbers
from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["Utility", "utility"]

_CLASSES = 10
_LEAST = 10


@dataclass(frozen=True)
class Utility:
    """How well one column is predicted on held-out rows.

    Attributes
    ----------
    synthetic, real : Measure
        Score after training on samples, and after training on as many training rows.
    loss : Measure
        real - synthetic on the same held-out rows.
    ratio : float
        (synthetic - guess) / (real - guess), NaN where rows teach nothing either.
    score : {"AUC", "R2"}
    target, trained_on : int
        The column, and the number of rows that either predictor saw.
    """

    synthetic: Measure
    real: Measure
    loss: Measure
    ratio: float
    score: Literal["AUC", "R2"]
    target: int
    trained_on: int


def utility(
    P: ArrayLike,
    Q_train: ArrayLike,
    Q_test: ArrayLike,
    domains: Sequence[Domain],
    target: int,
    *,
    most: int = 50_000,
    seed: int = 0,
) -> Utility:
    """Train boosted trees on samples and on training rows to predict one column, and test both on held-out rows.

    Parameters
    ----------
    P, Q_train, Q_test : array (n, C), (N, C), (m, C)
        Samples, training rows and held-out rows, mixed rows under ``domains``, at least 10 with a target each. The longer of
        the first two is cut to the shorter, and both to ``most``.
    domains : sequence of Domain
    target : int
        The column that is predicted from all others.
    most, seed : int

    Returns
    -------
    Utility
        Intervals are for the law of the held-out rows: two other sets of training rows are not in them.

    Raises
    ------
    ValueError
        If the target is no column, the only one, or constant in the held-out rows, or there are too few rows with a target.

    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(900, 2))
    >>> rows[:, 1] = rows[:, 0] > 0
    >>> found = utility(rows[:300], rows[300:600], rows[600:], (Domain("real"), Domain("category", 0, 1)), 1)
    >>> found.score, found.real.value > 0.98, 0.98 < found.ratio < 1.02
    ('AUC', True, True)
    """
    width = len(domains)
    if not 0 <= target < width or width < 2:
        raise ValueError(f"target must be one of at least two columns, 0 to {width - 1}, but is {target}")
    names = ("samples", "training rows", "held-out rows")
    P, train, test = (_with_target(rows, domains, target, name) for rows, name in zip((P, Q_train, Q_test), names, strict=True))
    if (test[:, target] == test[0, target]).all():
        raise ValueError(
            f"column {target} is constant in the held-out rows, so nothing can be predicted; choose another target"
        )
    generator = np.random.default_rng(noise.derive(seed, "utility"))
    n = min(len(P), len(train), most)
    P, train = (rows[generator.permutation(len(rows))[:n]] for rows in (P, train))
    others = np.arange(width) != target
    features = Features(np.concatenate([P, train])[:, others], [domain for j, domain in enumerate(domains) if j != target])
    inputs = [features.of(rows[:, others]) for rows in (P, train, test)]
    outputs = [rows[:, target] for rows in (P, train, test)]
    of = _areas if domains[target].type == "category" else _explained
    synthetic, real = (of(inputs[k], outputs[k], inputs[2], outputs[2], features.categories, seed) for k in (0, 1))
    guess = 0.5 if domains[target].type == "category" else 0.0
    gain = real[0] - guess
    return Utility(
        synthetic=_measure(*synthetic),
        real=_measure(*real),
        loss=_measure(real[0] - synthetic[0], real[1] - synthetic[1]),
        ratio=(synthetic[0] - guess) / gain if gain > 0 else float("nan"),
        score="AUC" if domains[target].type == "category" else "R2",
        target=target,
        trained_on=n,
    )


def _with_target(rows: ArrayLike, domains: Sequence[Domain], target: int, name: str) -> Floats:
    checked = as_mixed(rows, domains, name)
    checked = checked[~np.isnan(checked[:, target])]
    if len(checked) < _LEAST:
        raise ValueError(
            f"at least {_LEAST} {name} with a value in column {target} are needed, but there {plural(len(checked))}; "
            "choose another target"
        )
    return checked


def _areas(
    X: Floats, y: Floats, fresh: Floats, truth: Floats, categories: NDArray[np.bool_], seed: int
) -> tuple[float, Floats]:
    """Return the weighted mean of the areas of the levels, and its derivative by the mass at each held-out row."""
    levels, counts = np.unique(truth, return_counts=True)
    frequent = np.sort(levels[np.argsort(-counts, kind="stable")[:_CLASSES]])

    def classes(values: Floats) -> NDArray[np.int64]:
        place = np.searchsorted(frequent, values).clip(max=len(frequent) - 1)
        return np.where(frequent[place] == values, place, len(frequent))

    probabilities = class_probabilities(X, classes(y), fresh, categories, seed=seed)
    label = classes(truth)
    shares = np.bincount(label) / len(label)
    value, slope = 0.0, np.zeros(len(label))
    for level, share in enumerate(shares.tolist()):
        one = label == level
        scores = probabilities[:, level] if level < probabilities.shape[1] else np.zeros(len(label))
        found, of_one, of_rest = area(scores[one], scores[~one])
        value += share * found
        slope[one] += (of_one - found) + found
        slope[~one] += share * (of_rest - found) / (1 - share)
    return value, slope


def _explained(
    X: Floats, y: Floats, fresh: Floats, truth: Floats, categories: NDArray[np.bool_], seed: int
) -> tuple[float, Floats]:
    """Return R^2, and its derivative by the mass at each held-out row."""
    residual = (predicted_numbers(X, y, fresh, categories, seed=seed) - truth) ** 2
    spread = (truth - truth.mean()) ** 2
    value = 1 - residual.mean() / spread.mean()
    return float(value), np.asarray((spread * (1 - value) - residual) / spread.mean())


def _measure(value: float, slope: Floats) -> Measure:
    return Measure.normal(value, float(slope.std(ddof=1)) / len(slope) ** 0.5, len(slope))
