"""What samples teach, where it is known; scores against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from pushforward.metrics.mixed import utility as module
from pushforward.metrics.mixed.utility import utility
from pushforward.probability.domain import Domain

DOMAINS = (Domain("real"), Domain("category", 0, 1))


def ruled(seed, n, wrong=0.1):
    """A category that says, but for a tenth of the rows, whether the number is positive."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return np.stack([x, (x > 0) ^ (rng.random(n) < wrong)], axis=1).astype(float)


def test_samples_that_know_the_rule_teach_it_and_others_nothing():
    real, held = ruled(0, 1500), ruled(1, 3000)
    good = utility(ruled(2, 1500), real, held, DOMAINS, 1)
    assert good.real.value == pytest.approx(0.9, abs=0.03)  # the best score has the area 1 - 0.1
    assert good.ratio == pytest.approx(1, abs=0.08)
    assert good.loss.low < 0 < good.loss.high
    bad = utility(ruled(2, 1500, wrong=0.5), real, held, DOMAINS, 1)
    assert abs(bad.ratio) < 0.1
    assert bad.loss.low > 0.3


def test_the_score_of_many_levels_is_that_of_scikit_learn_and_its_error_that_of_the_jackknife(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.choice(4, p=[0.1, 0.2, 0.3, 0.4], size=300)
    given = rng.dirichlet(np.ones(4), 300) + np.eye(4)[truth] * rng.random((300, 1)) * [0.1, 0.3, 0.6, 0.9]
    given /= given.sum(axis=1, keepdims=True)
    monkeypatch.setattr(module, "class_probabilities", lambda *_, **__: given)
    rows = np.stack([rng.normal(size=300), truth], axis=1)
    found = utility(rows, rows, rows, (Domain("real"), Domain("category", 0, 3)), 1).synthetic

    def score(part):
        return roc_auc_score(truth[part], given[part], multi_class="ovr", average="weighted")

    assert found.value == pytest.approx(score(slice(None)), abs=1e-12)
    without = [score(np.arange(300) != row) for row in range(300)]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.sqrt(299) * np.std(without), rel=0.01)


def test_the_score_of_a_number_is_that_of_scikit_learn_and_its_error_that_of_resamples(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    given = truth + 0.5 * rng.normal(size=300)
    monkeypatch.setattr(module, "predicted_numbers", lambda *_, **__: given)
    rows = np.stack([rng.normal(size=300), truth], axis=1)
    found = utility(rows, rows, rows, (Domain("real"), Domain("real")), 1).synthetic
    assert found.value == pytest.approx(r2_score(truth, given), abs=1e-12)
    draws = [r2_score(truth[part], given[part]) for part in rng.integers(0, 300, (300, 300))]
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(draws), rel=0.15)


def test_rare_levels_levels_that_only_one_side_has_and_gaps_are_no_obstacle():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=400), rng.integers(0, 30, 400)], axis=1)
    rows[::9, 1] = np.nan
    rows[::7, 0] = np.nan
    some = rows[rows[:, 1] < 3]
    found = utility(some, rows, rows, (Domain("real"), Domain("category", 0, 29)), 1)
    assert found.trained_on == len(some)
    assert 0 <= found.synthetic.value <= 1


def test_categories_are_no_numbers_to_the_predictor_and_of_unseen_ones_the_likelier_is_expected():
    """The target is 1 where the category is odd, which a few splits by size could not tell."""
    rng = np.random.default_rng(10)
    c = rng.integers(0, 18, 900)
    rows = np.stack([c, c % 2 == 1], axis=1).astype(float)
    test = np.concatenate([rows[600:], [[18.0, 0.0], [19.0, 1.0]]])
    domains = (Domain("category", 0, 19), Domain("category", 0, 1))
    assert utility(rows[:300], rows[300:600], test, domains, 1).synthetic.value > 0.99
    c = np.arange(300) % 6
    rows = np.stack([c, c == 5], axis=1).astype(float)
    test = np.concatenate([rows[:20], np.tile([6.0, 0.0], (80, 1))])
    assert utility(rows, rows, test, domains, 1).real.value == 1.0


def test_samples_with_one_value_of_the_target_teach_nothing_and_the_same_seed_gives_the_same_scores():
    samples, real, held = ruled(3, 100), ruled(4, 100), ruled(5, 100)
    samples[:, 1] = 1.0
    found = utility(samples, real, held, DOMAINS, 1, seed=3)
    assert found.synthetic.value == 0.5
    assert found == utility(samples, real, held, DOMAINS, 1, seed=3)


def test_a_target_that_cannot_be_predicted_is_refused():
    rows = ruled(0, 50)
    constant = rows * [1.0, 0.0]
    for target, held, message in ((2, rows, "0 to 1, but is 2"), (1, constant, "column 1 is constant")):
        with pytest.raises(ValueError, match=message):
            utility(rows, rows, held, DOMAINS, target)
    rows[5:, 1] = np.nan
    with pytest.raises(ValueError, match="at least 10 samples with a value in column 1 are needed, but there are 5"):
        utility(rows, constant, constant, DOMAINS, 1)
