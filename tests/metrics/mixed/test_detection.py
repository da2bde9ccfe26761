"""What boosted trees can tell, where the best that can be told is known."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from pushforward.metrics.mixed.auc import area
from pushforward.metrics.mixed.detection import detection
from pushforward.metrics.mixed.trees import Features
from pushforward.probability.domain import Domain

BINARY = (Domain("category", 0, 1), Domain("category", 0, 1))


def test_the_area_is_that_of_scikit_learn_with_ties_and_its_error_that_of_resamples():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=150).round(1) + 0.5, rng.normal(size=90).round(1)

    def truth(a, b):
        return roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), np.concatenate([a, b]))

    value, above, below = area(positive, negative)
    assert value == pytest.approx(truth(positive, negative), abs=1e-12)
    draws = [truth(rng.choice(positive, 150), rng.choice(negative, 90)) for _ in range(120)]
    assert np.sqrt(above.var() / 150 + below.var() / 90) == pytest.approx(np.std(draws), rel=0.2)


def test_a_shift_is_told_nearly_as_well_as_it_can_be():
    rng = np.random.default_rng(0)
    found = detection(rng.normal(size=(2000, 1)) + 1, rng.normal(size=(2000, 1)), (Domain("real"),))
    best = stats.norm.cdf(1 / np.sqrt(2))
    assert best - 0.05 < found.auc.value < best + 0.01
    assert found.score.value == pytest.approx(2 * (1 - found.auc.value), abs=1e-12)
    assert found.score.low < found.score.value < found.score.high


def test_categories_that_go_together_only_in_the_data_are_told():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 1000)
    found = detection(rng.integers(0, 2, (1000, 2)), np.stack([a, a], axis=1), BINARY)
    assert found.auc.value == pytest.approx(0.75, abs=0.02)  # half of the samples are impossible rows


def test_gaps_are_told():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(2, 600, 1))
    P[::2] = np.nan
    assert detection(P, Q, (Domain("real"),)).auc.value == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(("tries", "least"), [(3, 2), pytest.param(60, 54, marks=pytest.mark.full)])
def test_the_interval_holds_a_half_for_equal_laws(tries, least):
    held = 0
    for seed in range(tries):
        P, Q = np.random.default_rng(seed).normal(size=(2, 60, 2))
        found = detection(P, Q, (Domain("real"),) * 2, seed=seed).auc
        held += found.low <= 0.5 <= found.high
    assert held >= least


def test_copies_are_told_less_often_than_by_guessing():
    Q = np.random.default_rng(0).normal(size=(300, 3))
    copies = detection(Q, Q, (Domain("real"),) * 3)
    assert copies.auc.high < 0.5
    assert copies.score.value == 1


def test_of_many_levels_the_frequent_ones_have_numbers_of_their_own():
    rng = np.random.default_rng(0)
    domain = Domain("category", 0, 399)
    rare, frequent = rng.permutation(400)[:200], np.arange(200)
    frequent = np.setdiff1d(np.arange(400), rare)
    rows = np.concatenate([np.repeat(frequent, 3), rare])[:, None].astype(float)
    features = Features(rows, (domain,))
    numbers = features.of(np.arange(400.0)[:, None])[:, 0]
    assert len(np.unique(numbers[frequent])) == 200
    assert numbers.max() <= 254
    assert np.isnan(features.of(np.array([[np.nan]]))).all()


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least 6 rows"):
        detection(np.zeros((5, 1)), np.zeros((9, 1)), (Domain("real"),))
    with pytest.raises(ValueError, match="folds must be at least 2"):
        detection(np.zeros((5, 1)), np.zeros((9, 1)), (Domain("real"),), folds=1)
