"""Quality and variety are told apart; equal laws give the numbers of the formulas; the regions are those of all distances."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import pushforward.metrics.coverage as module
from pushforward.metrics.coverage import density_coverage, precision_recall


def _modes(n, centers, seed):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 2)) + 10.0 * generator.integers(0, centers, n)[:, None]


def test_a_dropped_mode_costs_recall_and_coverage_and_not_precision():
    one, two = _modes(600, 1, 0), _modes(600, 2, 1)
    precision, recall = precision_recall(one, two)
    density, coverage = density_coverage(one, two)
    assert precision.low > 0.9
    assert recall.high < 0.6
    assert coverage.high < 0.6
    assert density.value > 0.9


def test_an_invented_mode_costs_precision_and_density_and_not_recall():
    two, one = _modes(600, 2, 0), _modes(600, 1, 1)
    precision, recall = precision_recall(two, one)
    density, coverage = density_coverage(two, one)
    assert precision.high < 0.6
    assert recall.low > 0.9
    assert density.high < 0.7
    assert coverage.low < 1 - (2 / 3) ** 5 < coverage.high  # a ball of 5 rows holds 2.5 samples on average


def test_all_four_are_those_of_all_distances(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", 700)
    generator = np.random.default_rng(0)
    P, Q = generator.normal(size=(50, 3)), generator.normal(size=(50, 3)) + 0.5
    apart, k = cdist(P, Q), 3
    r_p, r_q = (np.sort(cdist(rows, rows), 1)[:, k] for rows in (P, Q))
    precision, recall = precision_recall(P, Q, k=k)
    assert precision.value == (apart <= r_q).any(1).mean()
    assert recall.value == (apart <= r_p[:, None]).any(0).mean()
    density, coverage = density_coverage(P, Q, k=k)
    assert math.isclose(density.value, (apart <= r_q).sum(1).mean() / k)
    assert coverage.value == (apart.min(0) <= r_q).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_with_ties_are_on_the_edge_of_their_balls(dtype):
    """Balls of radius 0 hold the copies of their center, and balls of rows on a grid all rows on their edge."""
    generator = np.random.default_rng(0)
    for kinds in (3, 9):
        P, Q = (0.1 * generator.integers(0, kinds, (2, 150, 3)) + [100.0, 0.0, 7.0]).astype(dtype)
        apart, k = cdist(P.astype(float), Q.astype(float)), 3
        r_p, r_q = (np.sort(cdist(*2 * (rows.astype(float),)), 1)[:, k] * (1 + 1e-6) for rows in (P, Q))
        precision, recall = precision_recall(P, Q, k=k, test=False)
        assert precision.value == (apart <= r_q).any(1).mean()
        assert recall.value == (apart <= r_p[:, None]).any(0).mean()
        density, coverage = density_coverage(P, Q, k=k, test=False)
        assert math.isclose(density.value, (apart <= r_q).sum(1).mean() / k)
        assert coverage.value == (apart <= r_q).any(0).mean()


@pytest.mark.parametrize("dim", [1, 8])
def test_equal_laws_give_density_one_and_the_coverage_of_the_formula(dim):
    n, k = 100, 5
    results = [density_coverage(*np.random.default_rng(seed).normal(size=(2, n, dim)), k=k, test=False) for seed in range(60)]
    truth = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    for index, expected in ((0, 1.0), (1, truth)):
        values = np.array([result[index].value for result in results])
        assert abs(values.mean() - expected) < 4 * values.std() / 60**0.5
        assert np.mean([r[index].low <= expected <= r[index].high for r in results]) > 0.85


def test_intervals_are_as_wide_as_repeated_draws_scatter():
    generators = [np.random.default_rng(seed) for seed in range(80)]
    results = [precision_recall(0.9 * g.normal(size=(200, 4)), g.normal(size=(200, 4)), test=False) for g in generators]
    for index in (0, 1):
        scatter = np.std([result[index].value for result in results])
        width = np.mean([result[index].high - result[index].low for result in results]) / (2 * 1.959964)
        assert 0.8 < width / scatter < 1.6
    exact, _ = precision_recall(np.zeros((10, 1)), np.zeros((10, 1)))
    assert exact.value == 1.0
    assert 0.5 < exact.low < 1.0
    assert math.isclose(exact.high, 1.0)


def test_unequal_numbers_are_made_equal_by_seed():
    generator = np.random.default_rng(0)
    P, Q = generator.normal(size=(300, 2)), generator.normal(size=(80, 2))
    first, again, other = (precision_recall(P, Q, seed=seed) for seed in (0, 0, 1))
    assert first[0].n == 80
    assert first == again
    assert first != other


@pytest.mark.parametrize("metric", [precision_recall, density_coverage], ids=["precision", "density"])
def test_too_few_rows_and_impossible_balls_are_refused(metric):
    with pytest.raises(ValueError, match="samples must be at least 4 rows for this figure, but there are 3"):
        metric(np.zeros((3, 1)), np.zeros((9, 1)), k=3)
    with pytest.raises(ValueError, match="k must be at least 1, but is 0"):
        metric(np.zeros((3, 1)), np.zeros((9, 1)), k=0)
