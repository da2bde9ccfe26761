"""Shapes against SciPy, against sums by hand, and against laws whose distance is known."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.mixed.shapes import column_shapes
from pushforward.probability.domain import Domain

NUMBER, LEVELS = Domain("real"), Domain("category", 0, 4)


def rows(seed, n):
    """A number with ties and gaps, an integer, and a category with gaps."""
    rng = np.random.default_rng(seed)
    columns = np.stack([rng.normal(size=n).round(1), rng.poisson(3 + seed, n), rng.integers(0, 5 - seed, n)], axis=1)
    columns[rng.random(n) < 0.2, 0] = np.nan
    columns[rng.random(n) < 0.1, 2] = np.nan
    return columns


def test_distances_are_those_of_scipy_over_the_values_that_are_there():
    P, Q = rows(0, 80), rows(1, 130)
    found = column_shapes(P, Q, (NUMBER, Domain("integer"), LEVELS))
    a, b, c = (column.value for column in found.columns)
    assert a == pytest.approx(1 - stats.ks_2samp(P[~np.isnan(P[:, 0]), 0], Q[~np.isnan(Q[:, 0]), 0]).statistic, abs=1e-12)
    assert b == pytest.approx(1 - stats.ks_2samp(P[:, 1], Q[:, 1]).statistic, abs=1e-12)
    shares = [[np.mean(part[~np.isnan(part)] == level) for level in range(5)] for part in (P[:, 2], Q[:, 2])]
    assert c == pytest.approx(1 - np.abs(np.subtract(*shares)).sum() / 2, abs=1e-12)
    assert found.mean.value == pytest.approx((a + b + c) / 3, abs=1e-12)


@pytest.mark.parametrize("change", [lambda x: 1e-15 * x, lambda x: 1e12 * x - 5e11, np.exp], ids=["tiny", "shifted", "exp"])
def test_the_shape_of_a_number_does_not_depend_on_its_unit(change):
    P, Q = rows(0, 80)[:, :1], rows(1, 130)[:, :1] + 0.3
    before, after = (column_shapes(a, b, (NUMBER,)).mean.value for a, b in ((P, Q), (change(P), change(Q))))
    assert after == pytest.approx(before, abs=1e-12)


def test_rounding_makes_no_difference():
    P, Q = np.full((10, 1), 0.1 + 0.2), np.full((10, 1), 0.3)
    assert column_shapes(P, Q, (NUMBER,)).mean.value == 1


def test_intervals_hold_known_distances():
    truth = 1 - (2 * stats.norm.cdf(0.25) - 1), 1 - 0.2
    held = np.zeros(2)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        P = np.stack([rng.normal(size=800) + 0.5, rng.random(800) < 0.5], axis=1)
        Q = np.stack([rng.normal(size=500), rng.random(500) < 0.3], axis=1)
        found = column_shapes(P, Q, (NUMBER, Domain("category", 0, 1)), test=False).columns
        held += [column.low <= value <= column.high for column, value in zip(found, truth, strict=True)]
    assert (held >= 88).all()


def test_the_interval_of_the_mean_knows_that_columns_go_together():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(400, 1)) + 0.5, rng.normal(size=(400, 1))
    one, twice = (column_shapes(np.repeat(P, k, 1), np.repeat(Q, k, 1), (NUMBER,) * k).mean for k in (1, 4))
    assert (twice.value, twice.low) == pytest.approx((one.value, one.low), abs=1e-12)


def test_gaps_widen_the_interval_as_rows_without_them_would():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(4000, 1)) + 0.5, rng.normal(size=(4000, 1))
    P[::2], Q[::2] = np.nan, np.nan
    with_gaps, without = (column_shapes(a, b, (NUMBER,)).mean for a, b in ((P, Q), (P[1::2], Q[1::2])))
    assert with_gaps.low == pytest.approx(without.low, abs=1e-4)


def test_an_empty_column_has_no_shape_and_a_table_without_values_none_at_all():
    P = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    found = column_shapes(P, np.ones((3, 2)), (NUMBER, NUMBER))
    assert found.columns[0] is None
    assert found.mean.value == found.columns[1].value
    with pytest.raises(ValueError, match="no column has values"):
        column_shapes(P[:, :1], np.ones((3, 1)), (NUMBER,))
