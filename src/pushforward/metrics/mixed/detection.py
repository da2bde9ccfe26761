r"""Detection: whether boosted trees can tell samples from real rows.

Rows are split into folds; trees trained on the other folds score the rows of each. AUC is the mean over folds of the area
under the curve: 1/2 if nothing tells the two apart, 1 if a row alone shows which it is. The score is that of sdmetrics, the
mean over folds of min(1, 2 (1 - AUC)): 1 if they cannot be told apart. Even for equal laws it is a little below 1, since
single folds are cut there.

The interval of AUC is DeLong's, widened by Nadeau and Bengio's factor for folds that share training rows; that of the score
follows from it.

References
----------
SDMetrics, https://docs.sdv.dev/sdmetrics: Detection.
Claude Nadeau, Yoshua Bengio. Inference for the generalization error. Machine Learning, 2003.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.mixed.auc import area
from pushforward.metrics.mixed.rows import mixed_pair
from pushforward.metrics.mixed.trees import Features, class_probabilities
from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["Detection", "detection"]


@dataclass(frozen=True)
class Detection:
    """How well samples are told from real rows.

    Attributes
    ----------
    auc : Measure
        0.5 if nothing tells them apart; below 0.5 if samples are copies of the real rows.
    score : Measure
        Mean of min(1, 2 (1 - AUC)) over folds; 1 if nothing tells them apart.
    """

    auc: Measure
    score: Measure


def detection(
    P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, folds: int = 3, most: int = 50_000, seed: int = 0
) -> Detection:
    """Return how well boosted trees tell samples P (n, C) from real rows Q (m, C), by cross-validation.

    Give held-out rows as Q where there are enough: against training rows, copies pass as good samples.

    Parameters
    ----------
    P, Q : array (n, C), (m, C)
        Mixed rows under ``domains``; the longer is cut to the shorter, and both to ``most``.
    domains : sequence of Domain
    folds : int
        At least 2.
    most : int
    seed : int
        Of rows, folds and trees.

    Raises
    ------
    ValueError
        If either has fewer than two rows per fold, or as :func:`~pushforward.metrics.mixed.rows.as_mixed`.

    >>> rows = np.random.default_rng(0).normal(size=(2, 200, 1))
    >>> detection(rows[0] + 2.0, rows[1], (Domain("real"),)).auc.value > 0.85  # 0.92 for the best classifier
    True
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, but is {folds}")
    P, Q = mixed_pair(P, Q, domains, least=2 * folds)
    generator = np.random.default_rng(noise.derive(seed, "detection"))
    n = min(len(P), len(Q), most)
    rows = np.concatenate([part[generator.permutation(len(part))[:n]] for part in (P, Q)])
    features = Features(rows, domains)
    X, label = features.of(rows), np.repeat([1, 0], n)
    fold = np.tile(np.arange(n) % folds, 2)
    areas, variances = [], []
    for held in range(folds):
        test = fold == held
        sampled = class_probabilities(X[~test], label[~test], X[test], features.categories, seed=seed)[:, 1]
        value, of_p, of_q = area(sampled[label[test] == 1], sampled[label[test] == 0])
        areas.append(value)
        variances.append(two_sample_error(of_p, of_q) ** 2)
    error = (sum(variances) / folds**2 * (1 + folds / (folds - 1))) ** 0.5
    auc = Measure.normal(float(np.mean(areas)), error, n, least=0.0, most=1.0)
    score = float(np.mean([_score(value) for value in areas]))
    ends = min(score, _score(auc.high)), max(score, _score(auc.low))
    return Detection(auc, Measure(score, *ends, n))


def _score(auc: float) -> float:
    return min(1.0, 2 * (1 - auc))
