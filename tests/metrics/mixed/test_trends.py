"""Trends against SciPy and a known correlation; sdmetrics' own numbers stand in test_sdmetrics."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.mixed import trends
from pushforward.metrics.mixed.trends import pair_trends
from pushforward.probability.domain import Domain

NUMBERS = (Domain("real"), Domain("real"))


def correlated(seed, n, r):
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return np.stack([x[:, 0], r * x[:, 0] + np.sqrt(1 - r**2) * x[:, 1]], axis=1)


def test_a_pair_of_numbers_has_the_correlations_of_scipy_over_rows_without_gaps():
    P, Q = correlated(0, 60, 0.2), correlated(1, 90, 0.8)
    P[::5, 0] = np.nan
    P[::7, 1] = np.nan
    valid = ~np.isnan(P).any(axis=1)
    truth = 1 - abs(stats.pearsonr(*P[valid].T).statistic - stats.pearsonr(*Q.T).statistic) / 2
    assert pair_trends(P, Q, NUMBERS).mean.value == pytest.approx(truth, abs=1e-12)
    assert pair_trends(P * [1e3, 1e-9] + [1e6, 0], Q * [1e3, 1e-9] + [1e6, 0], NUMBERS).mean.value == pytest.approx(
        truth, abs=1e-8
    )


def test_the_interval_holds_the_known_trend():
    held = 0
    for seed in range(100):
        found = pair_trends(correlated(seed, 300, 0.0), correlated(seed + 1000, 200, 0.6), NUMBERS, test=False).mean
        held += found.low <= 0.7 <= found.high
    assert held >= 90


def test_the_error_is_that_of_the_correlations_of_normal_rows():
    found = pair_trends(correlated(0, 20_000, 0.8), correlated(1, 10_000, 0.3), NUMBERS).mean
    truth = np.sqrt((1 - 0.8**2) ** 2 / 20_000 + (1 - 0.3**2) ** 2 / 10_000) / 2
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(truth, rel=0.03)


def test_pairs_of_so_many_levels_that_no_table_holds_them_have_the_same_trends(monkeypatch):
    rng = np.random.default_rng(0)
    P, Q = rng.integers(0, 30, (200, 2)), rng.integers(0, 25, (300, 2))
    domains = (Domain("category", 0, 29), Domain("category", 0, 40_000))
    dense = pair_trends(P, Q, domains)
    monkeypatch.setattr(trends, "_DENSE", 0)
    assert pair_trends(P, Q, domains).mean == dense.mean


def test_only_strongly_associated_pairs_count_for_the_second_mean():
    Q = np.concatenate([correlated(0, 400, 0.9), correlated(1, 400, 0.0)], axis=1)
    P = np.concatenate([correlated(2, 400, 0.0), correlated(3, 400, 0.0)], axis=1)
    found = pair_trends(P, Q, NUMBERS * 2)
    assert found.associated.value == pytest.approx(found.scores[0, 1])
    assert pair_trends(Q[:, 2:], P[:, 2:], NUMBERS).associated is None


def test_one_column_has_no_trend():
    with pytest.raises(ValueError, match="no pair of columns can be compared"):
        pair_trends(np.ones((5, 1)), np.ones((5, 1)), NUMBERS[:1])
