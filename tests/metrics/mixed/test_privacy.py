"""Embeddings, closest records and membership attacks: planted copies are found, and fresh rows are not accused."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.mixed.closest import closest_records
from pushforward.metrics.mixed.embedding import Embedding
from pushforward.metrics.mixed.membership import distance_attack, membership_attack
from pushforward.probability.domain import Domain

DOMAINS = (Domain("category", 0, 4), Domain("real"), Domain("integer"))


def rows(seed, n):
    rng = np.random.default_rng(seed)
    table = np.stack([rng.integers(0, 5, n), np.exp(rng.normal(size=n)), rng.poisson(20, n)], axis=1).astype(float)
    table[rng.random((n, 3)) < 0.1] = np.nan
    return table


def squared(place, a, b):
    return float(((place([a]) - place([b])) ** 2).sum())


def test_every_column_moves_a_point_by_at_most_about_one():
    table, gap = rows(0, 500), np.nan
    place = Embedding(table, DOMAINS)
    middle = np.nanmedian(table, axis=0)
    assert squared(place, [0, *middle[1:]], [3, *middle[1:]]) == pytest.approx(1)
    assert squared(place, [0, *middle[1:]], [gap, *middle[1:]]) == pytest.approx(1)
    assert squared(place, [0, gap, gap], [0, gap, gap]) == 0
    assert squared(place, [0, 0.0, 0], [0, 1e9, 0]) == pytest.approx(1)
    known = table[~np.isnan(table[:, 1])]
    away = [squared(place, [0, value, 0], [0, gap, 0]) for value in known[:, 1]]
    assert np.mean(away) == pytest.approx(1, abs=1e-3)
    curved = Embedding(np.log(table[:, 1:2]), DOMAINS[1:2])
    assert curved(np.log(table[:, 1:2])) == pytest.approx(place(table)[:, 6:8])


def test_levels_without_a_dimension_of_their_own_are_still_apart():
    points = Embedding(np.zeros((1, 1)), (Domain("category", 0, 499),))(np.arange(500.0)[:, None])
    away = ((points[:, None] - points[None]) ** 2).sum(axis=2)[np.triu_indices(500, 1)]
    assert points.shape[1] == 64
    assert away.min() > 0.3
    assert away.mean() == pytest.approx(1, abs=0.01)


def test_copies_move_the_share_nearer_to_training():
    train, held, fresh = rows(0, 400), rows(1, 400), rows(2, 200)
    good = closest_records(fresh, train, held, DOMAINS)
    assert good.nearer.low < good.expected < good.nearer.high
    copied = closest_records(np.concatenate([fresh, train[:200]]), train, held, DOMAINS)
    assert copied.memorization.copies.low > 0.45
    assert copied.nearer.value == pytest.approx(0.75, abs=0.05)
    assert closest_records(fresh, train, held[:100], DOMAINS).expected == 0.8


def test_the_interval_knows_that_samples_share_their_closest_record():
    """Eight clusters of samples ask eight questions, not four hundred."""
    held = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        train, out, centers = rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), rng.normal(size=(8, 2))
        samples = np.repeat(centers, 50, axis=0) + 1e-6 * rng.normal(size=(400, 2))
        found = closest_records(samples, train, out, (Domain("real"),) * 2)
        held += found.nearer.low <= 0.5 <= found.nearer.high
    assert held >= 25


def test_equal_distances_count_half():
    same = np.zeros((20, 1))
    assert closest_records(same, same, same, (Domain("real"),)).nearer.value == 0.5


def test_the_advantage_is_that_of_the_best_threshold_and_zero_for_equal_laws():
    rng = np.random.default_rng(1)
    found = membership_attack(rng.normal(size=3000) + 1, rng.normal(size=2000))
    assert found.advantage.low < 2 * stats.norm.cdf(0.5) - 1 < found.advantage.high
    assert found.auc.low < stats.norm.cdf(1 / np.sqrt(2)) < found.auc.high
    none = [membership_attack(*rng.normal(size=(2, 60)), seed=seed).advantage for seed in range(200)]
    values = np.array([each.value for each in none])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(200)  # a threshold judged on its own rows gains 0.15
    assert np.mean([each.low <= 0 <= each.high for each in none]) > 0.9


def test_scores_of_minus_infinity_are_ranked_and_nan_refused():
    low, high = np.full(30, -np.inf), np.zeros(30)
    assert membership_attack(high, low).advantage.value == 1
    with pytest.raises(ValueError, match="members must be at least 20 scores without NaN"):
        membership_attack(np.full(30, np.nan), low)


def test_an_attack_by_distance_finds_who_was_copied():
    train, held = rows(0, 300), rows(1, 300)
    assert distance_attack(train, train, held, DOMAINS).advantage.low > 0.8
    fair = distance_attack(rows(2, 300), train, held, DOMAINS).advantage
    assert fair.low < 0 < fair.high
