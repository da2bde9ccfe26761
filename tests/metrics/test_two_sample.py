"""Equal laws are not told apart, at the stated level; shifted Gaussians give the distances of the formulas."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

import pushforward.metrics.two_sample as two_sample
from pushforward.metrics import classifier
from pushforward.metrics.two_sample import c2st, energy_distance, mmd, sliced_wasserstein, wasserstein_columns

METRICS = [c2st, mmd, energy_distance, sliced_wasserstein]


def _normal(n, dim, seed):
    return np.random.default_rng(seed).normal(size=(n, dim))


def test_the_classifier_reaches_the_best_accuracy_for_shifted_gaussians():
    result = c2st(_normal(1000, 2, 0) + np.array([2.0, 0.0]), _normal(1000, 2, 1))
    best = stats.norm.cdf(1.0)
    assert best - 0.04 < result.value < best + 0.02
    assert result.low < result.value < result.high
    assert result.p_value < 1e-30
    assert result.n == 1000


def test_any_classifier_is_fooled_by_equal_laws_at_the_stated_level(monkeypatch):
    def nearest_mean(x, label, fresh, seed):
        means = np.stack([x[label == kind].mean(0) for kind in (0, 1)])
        return ((fresh[:, None] - means) ** 2).sum(-1).argmin(1)

    monkeypatch.setattr(classifier, "_predicted_labels", nearest_mean)
    results = [c2st(_normal(50, 2, 2 * seed), _normal(50, 2, 2 * seed + 1), seed=seed) for seed in range(400)]
    p_values, values = (np.array([getattr(result, name) for result in results]) for name in ("p_value", "value"))
    assert np.mean(p_values <= 0.05) < 0.05 + 3 * 0.011
    assert 0.2 < np.mean(p_values <= 0.5) < 0.5 + 3 * 0.025  # few values of discrete counts, so below the level
    # A binomial test of the same answers, as if the folds were independent, rejects far too often.
    assert np.mean((values - 0.5) / 0.05 > 1.645) > 0.08
    assert 0.9 < np.mean([result.low <= 0.5 <= result.high for result in results]) < 0.99


def test_the_tail_is_that_of_all_orders_of_the_labels():
    answer, label = np.array([1, 1, 0, 1, 0, 0]), np.array([1, 1, 0, 0, 1, 0])
    right = (answer == label).sum()
    counts = [(answer == np.array(order)).sum() >= right for order in permutations(label)]
    above, below = classifier._log_tails(answer, label)
    assert math.isclose(math.exp(above), np.mean(counts))
    equal = np.mean([(answer == np.array(order)).sum() == right for order in permutations(label)])
    assert math.isclose(math.exp(above) + math.exp(below), 1 + equal)


def test_the_test_never_judges_rows_by_a_classifier_that_saw_them_or_later_ones(monkeypatch):
    seen = []

    def spy(x, label, fresh, seed):
        seen.append((set(x[:, 0]), set(fresh[:, 0])))
        return np.ones(len(fresh), dtype=int)

    monkeypatch.setattr(classifier, "_predicted_labels", spy)
    rows = np.arange(40.0)[:, None]
    result = classifier.cross_validated_accuracy(rows[:20], rows[20:], folds=5, seed=0)
    assert result.value == 0.5
    assert all(not trained & judged for trained, judged in seen)
    assert set.union(*(judged for _, judged in seen[:5])) == set(range(40))
    last_trained, last_judged = seen[4]
    early, middle = seen[5]
    assert early | middle == last_trained
    assert len(early) == len(middle) == 16
    assert len(last_judged) == 8


def test_a_copier_is_told_from_rows_less_often_than_by_chance():
    rows = _normal(200, 2, 0)
    assert c2st(rows, rows).high < 0.5


def test_the_classifier_sees_a_rounded_column():
    rows = _normal(300, 3, 0)
    rounded = np.column_stack([rows[:, 0].round(1), rows[:, 1:]])
    fresh = _normal(300, 3, 1)
    assert c2st(np.clip(rounded, 0, None), fresh).p_value < 1e-6


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_energy_distance_of_shifted_gaussians(shift):
    # E|N(s, 2)| = 2 exp(-s^2 / 4) / sqrt(pi) + s erf(s / 2).
    apart = 2 * math.exp(-(shift**2) / 4) / math.sqrt(math.pi) + shift * math.erf(shift / 2)
    truth = 2 * (apart - 2 / math.sqrt(math.pi))
    values = [energy_distance(_normal(400, 1, s) + shift, _normal(300, 1, 100 + s), test=False) for s in range(30)]
    found, error = np.mean([v.value for v in values]), np.std([v.value for v in values]) / 30**0.5
    assert abs(found - truth) < 4 * error
    assert np.mean([v.low <= truth <= v.high for v in values]) > 0.85


def test_mmd_of_shifted_gaussians_in_the_width_of_the_median():
    values = [mmd(_normal(500, 1, s) + 1, _normal(500, 1, 50 + s), test=False).value for s in range(20)]
    # The median of |a - b| over the pool of N(0, 1) and N(1, 1), half of whose pairs are of one law.
    distances = np.linspace(0, 8, 80001)
    chance = 0.5 * (2 * stats.norm.cdf(distances / 2**0.5) - 1)
    chance += 0.5 * (stats.norm.cdf((distances - 1) / 2**0.5) - stats.norm.cdf((-distances - 1) / 2**0.5))
    square = distances[np.searchsorted(chance, 0.5)] ** 2
    truth = 2 * (square / (square + 2)) ** 0.5 * (1 - math.exp(-1 / (2 * (square + 2))))
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / 20**0.5 + 0.02 * truth  # the width is estimated


@pytest.mark.parametrize("metric", [mmd, energy_distance], ids=["mmd", "energy"])
def test_tests_by_permutation_keep_their_level_and_find_a_shift(metric):
    p_values = [metric(_normal(30, 2, s), _normal(50, 2, 500 + s), seed=s).p_value for s in range(100)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12
    assert 0.4 < np.mean(p_values) < 0.6
    assert metric(_normal(100, 2, 0) + 1, _normal(100, 2, 1)).p_value < 0.001


def test_mmd_of_rows_that_are_mostly_or_all_equal():
    assert mmd(np.zeros((10, 2)), np.zeros((10, 2))).p_value == 1.0
    mostly = np.zeros((50, 1))
    mostly[:5] = 1
    assert mmd(mostly, np.zeros((50, 1))).value > 0


def test_mmd_is_that_by_hand():
    P, Q = _normal(30, 3, 0), _normal(41, 3, 1) + 1
    pooled = np.concatenate([P, Q])
    distances = np.linalg.norm(pooled[:, None] - pooled, axis=-1)
    kernel = np.exp(-(distances**2) / (2 * np.median(distances[np.triu_indices(71, 1)]) ** 2))
    within = [(part.sum() - len(part)) / (len(part) * (len(part) - 1)) for part in (kernel[:30, :30], kernel[30:, 30:])]
    assert math.isclose(mmd(P, Q).value, sum(within) - 2 * kernel[:30, 30:].mean(), rel_tol=1e-9)


@pytest.mark.parametrize("dim", [1, 2, 7, 300])
def test_sliced_wasserstein_of_a_shift_is_its_length_over_the_root_of_the_dimension(dim):
    rows, shift = _normal(60, dim, 0), _normal(1, dim, 1)[0]
    result = sliced_wasserstein(rows + shift, rows, projections=300)
    assert math.isclose(result.value, np.linalg.norm(shift) / dim**0.5, rel_tol=1e-9)
    assert result.low < result.value < result.high


def test_sliced_wasserstein_of_gaussians_of_two_widths():
    result = sliced_wasserstein(3 * _normal(4000, 2, 0), _normal(3000, 2, 1))
    assert result.low < 2 < result.high  # |3 - 1| along every direction
    assert result.high - result.low < 0.3


def test_sliced_wasserstein_is_that_of_the_quantiles_for_unequal_numbers():
    p, q = _normal(30, 1, 0), _normal(45, 1, 1) * 2 + 1
    # 90 copies of either law: each row of p three times and each of q twice.
    truth = np.sqrt(np.mean((np.repeat(np.sort(p[:, 0]), 3) - np.repeat(np.sort(q[:, 0]), 2)) ** 2))
    assert math.isclose(sliced_wasserstein(p, q).value, truth, rel_tol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_intervals_of_wasserstein_distances_are_those_of_repeated_draws(scale):
    sliced, columns = [], []
    for seed in range(80):
        P, Q = scale * _normal(200, 2, seed), _normal(300, 2, 1000 + seed)
        sliced.append(sliced_wasserstein(P, Q, projections=20, test=False))
        columns.append(wasserstein_columns(P, Q, test=False)[0])
    for results, transform in ((sliced, np.square), (columns, np.asarray)):
        values = transform([r.value for r in results])
        inside = [r.low <= np.sqrt(values.mean()) <= r.high for r in results] if transform is np.square else None
        inside = inside or [r.low <= values.mean() <= r.high for r in results]
        assert 0.85 <= np.mean(inside) <= 1.0


def test_columns_agree_with_an_independent_distance():
    P, Q = _normal(50, 3, 0), 2 * _normal(70, 3, 1) + 1
    found = wasserstein_columns(P, Q)
    assert np.allclose([m.value for m in found], [stats.wasserstein_distance(p, q) for p, q in zip(P.T, Q.T, strict=True)])
    shifted = wasserstein_columns(P + np.array([0.0, 1.0, -2.5]), P)
    assert np.allclose([m.value for m in shifted], [0, 1, 2.5])
    assert all(m.low <= m.value <= m.high for m in found)


@pytest.mark.parametrize("metric", METRICS, ids=["c2st", "mmd", "energy", "sliced"])
def test_a_seed_gives_the_same_figure_and_images_are_flattened(metric):
    rows = load_digits().images[:200]
    first, again = metric(rows[:100], rows[100:], seed=1), metric(rows[:100].reshape(100, 64), rows[100:], seed=1)
    assert first == again


@pytest.mark.parametrize("metric", [mmd, energy_distance], ids=["mmd", "energy"])
def test_more_rows_than_are_looked_at_are_chosen_by_seed(monkeypatch, metric):
    monkeypatch.setattr(two_sample, "_MOST", 50)
    P, Q = _normal(200, 2, 0), _normal(200, 2, 1)
    results = [metric(P, Q, seed=seed, test=False) for seed in (0, 0, 1)]
    assert results[0].n == 50
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("dim", [2, 100])
def test_the_classifier_looks_at_fewer_rows_of_many_columns(monkeypatch, dim):
    monkeypatch.setattr(two_sample, "_MOST_JUDGED", 4000)
    monkeypatch.setattr(two_sample, "cross_validated_accuracy", lambda P, Q, **_: (len(P), len(Q)))
    monkeypatch.setattr(two_sample, "_MOST_NUMBERS", 200_000)
    rows = np.zeros((6000, dim))
    assert c2st(rows, rows[:5000]) == ((4000, 4000) if dim == 2 else (2000, 2000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c2st(_normal(20, 1, 0), _normal(20, 1, 0), folds=1), "folds must be at least 2, but is 1"),
        (
            lambda: c2st(_normal(9, 1, 0), _normal(20, 1, 0)),
            "samples must be at least 10 rows for this figure, but there are 9",
        ),
        (lambda: mmd(_normal(2, 1, 0), _normal(20, 1, 0)), "samples must be at least 3 rows"),
        (lambda: energy_distance(_normal(5, 1, 0), _normal(5, 2, 0)), "same number of columns"),
        (lambda: sliced_wasserstein(_normal(5, 1, 0), _normal(5, 1, 0), projections=0), "projections must be at least 1"),
        (lambda: wasserstein_columns(_normal(5, 1, 0), np.full((5, 1), np.nan)), "reference rows must be finite"),
    ],
    ids=["folds", "few", "three", "width", "projections", "nan"],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
