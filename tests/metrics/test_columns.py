"""Correlations, associations and categories against SciPy and plain formulas."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.associations import association_gap, correlation_gap, total_variation
from pushforward.metrics.categories import category_columns, category_coverage, with_levels


def correlated(rng, n, r):
    x = rng.normal(size=(n, 2))
    return np.stack([x[:, 0], r * x[:, 0] + np.sqrt(1 - r**2) * x[:, 1]], axis=1)


def mixed(rng, n):
    """Two categories, the second often equal to the first, and a number that follows the first."""
    a = rng.integers(0, 3, n)
    b = np.where(rng.random(n) < 0.6, a, rng.integers(0, 3, n))
    return np.stack([a, b, a + rng.normal(size=n)], axis=1)


def test_columns_of_few_whole_numbers_are_categories():
    rows = np.stack([np.arange(60) % 20, np.arange(60) % 21, np.arange(60) / 2, np.full(60, 3.0)], axis=1)
    assert category_columns(rows).tolist() == [True, False, False, True]
    assert category_columns(rows, most=21).tolist() == [True, True, False, True]


def test_the_correlation_gap_is_the_mean_over_pairs_of_what_numpy_says():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(70, 4)) @ rng.normal(size=(4, 4))
    truth = np.abs(np.corrcoef(P.T) - np.corrcoef(Q.T))[np.triu_indices(4, 1)].mean()
    assert correlation_gap(P, Q).value == pytest.approx(truth, rel=1e-12)
    shifted = P * [1, 1e3, 1, 1e-3] + [1e7, 0, -5, 1], Q * [1, 1e3, 1, 1e-3] + [1e7, 0, -5, 1]
    assert correlation_gap(*shifted).value == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("r", [0.0, pytest.param(0.7, marks=pytest.mark.full)])
def test_the_interval_holds_the_known_gap_at_least_nineteen_times_of_twenty(r):
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = correlation_gap(correlated(rng, 80, 0.0), correlated(rng, 120, r), seed=seed, test=False)
        held += found.low <= r <= found.high
    assert held >= 91


def test_a_gap_is_zero_for_the_same_rows_and_not_significant_for_the_same_law():
    rng = np.random.default_rng(1)
    rows = mixed(rng, 200)
    assert correlation_gap(rows, rows, categories=np.zeros(3, dtype=bool)).value == 0
    assert association_gap(rows, rows).value == 0
    assert total_variation(rows[:, :1], rows[:, :1])[0].value == 0
    low = [
        association_gap(mixed(np.random.default_rng(s), 150), mixed(np.random.default_rng(s + 99), 150), test=False).low
        for s in range(25)
    ]
    assert np.mean(np.array(low) == 0) >= 0.9


def test_a_column_that_collapsed_among_the_samples_has_no_correlation_and_a_constant_one_of_the_rows_is_left_out():
    rng = np.random.default_rng(2)
    Q = np.concatenate([correlated(rng, 500, 0.9), np.full((500, 1), 0.5)], axis=1)
    P = Q + 0.0
    P[:, 1] = 1e6 + 0.1
    P[:, 2] = rng.normal(size=500)
    assert correlation_gap(P, Q).value == pytest.approx(abs(np.corrcoef(Q[:, :2].T)[0, 1]), rel=1e-6)
    with pytest.raises(ValueError, match="two columns of numbers that vary, but there are 1"):
        correlation_gap(Q[:, 1:], Q[:, 1:])


def cramer(a, b):
    """Bergsma's corrected V from SciPy's chi-square."""
    table = stats.contingency.crosstab(a, b).count
    n, (r, c) = table.sum(), table.shape
    phi = max(stats.chi2_contingency(table, correction=False).statistic / n - (r - 1) * (c - 1) / (n - 1), 0)
    return np.sqrt(phi / (min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1))


def ratio(a, x):
    between = sum((a == level).mean() * (x[a == level].mean() - x.mean()) ** 2 for level in np.unique(a))
    return np.sqrt(between / x.var())


def test_the_association_gap_is_the_mean_over_pairs_of_cramers_v_and_of_correlation_ratios():
    rng = np.random.default_rng(3)
    P, Q = mixed(rng, 90), mixed(rng, 140)
    Q[:7, 1] = 5  # a category that no sample has
    P[:, 2] += 100
    P[:30, 0] = rng.integers(0, 3, 30)

    def associations(rows):
        a, b, x = rows.T
        return np.array([cramer(a, b), ratio(a, x), ratio(b, x)])

    truth = np.abs(associations(P) - associations(Q)).mean()
    assert truth > 0.03
    assert association_gap(P, Q).value == pytest.approx(truth, rel=1e-9)


def test_the_correction_takes_the_association_of_independent_categories_to_zero():
    rng = np.random.default_rng(4)
    found = [
        association_gap(rng.integers(0, 9, (60, 2)), np.repeat(np.arange(9), 9).reshape(-1, 1)[:, [0, 0]], test=False)
        for _ in range(10)
    ]
    assert np.mean([gap.value for gap in found]) > 0.9  # 1 - V, where V uncorrected is 0.36 from 60 rows of nothing


def test_associations_need_a_category_and_one_more_column():
    numbers = np.random.default_rng(5).normal(size=(30, 3))
    with pytest.raises(ValueError, match="a column of categories and one more"):
        association_gap(numbers, numbers)
    with pytest.raises(ValueError, match="a column of categories and one more"):
        association_gap(np.zeros((30, 1)), np.arange(30.0)[:, None] % 2)
    with pytest.raises(ValueError, match="True or False for each of the 3 columns"):
        association_gap(numbers, numbers, categories=[0, 1, 0])


def test_total_variation_is_half_of_the_sum_of_differences_and_its_interval_holds_the_known_one():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.2, 0.3, 0.1, 0.4])
    held, values = 0, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        draws = [rng.choice(4, n, p=law).astype(float) for n, law in ((150, p), (200, q))]
        [found] = total_variation(draws[0][:, None], draws[1][:, None], seed=seed, test=False)
        counts = [np.bincount(draw.astype(int), minlength=4) / len(draw) for draw in draws]
        assert found.value == pytest.approx(np.abs(counts[0] - counts[1]).sum() / 2)
        held += found.low <= 0.4 <= found.high
        values.append(found.high - found.low)
    assert held >= 95
    assert max(values) < 0.4


def test_coverage_names_covered_lost_and_invented_categories_with_their_shares():
    Q = np.array([[0.0, 0.5]] * 60 + [[1.0, 1.5]] * 39 + [[2.0, 2.5]])
    P = np.array([[0.0, 0.5]] * 40 + [[1.0, 0.5]] * 9 + [[7.0, 0.5]])
    [found] = category_coverage(P, Q)
    assert (found.column, found.covered, found.lost, found.invented) == (0, (0.0, 1.0), (2.0,), (7.0,))
    interval = stats.binomtest(1, 100).proportion_ci(0.95, "exact")
    assert found.lost_share.value == 0.01
    assert (found.lost_share.low, found.lost_share.high) == (interval.low, interval.high)
    assert found.invented_share.value == 1 / 50
    assert found.chance == pytest.approx(0.4**50 + 0.61**50 + 0.99**50)
    both = category_coverage(P, Q, categories=[True, True])
    assert both[1].lost == (1.5, 2.5)


def test_categories_have_numbers_of_the_rows_and_samples_the_nearest():
    P, Q, R = np.array([[4.4, 0.3], [9.0, -1.0]]), np.array([[3.0, 1.0], [5.0, 2.0]]), np.array([[8.0, 1.0]])
    domains, rows = with_levels(P, (Q, R), [True, False])
    assert (domains[0].levels, domains[1].type) == (3, "real")
    for part, expected in zip(rows, ([[1, 0.3], [2, -1]], [[0, 1], [1, 2]], [[2, 1]]), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert P[0, 0] == 4.4  # what is given is left as it is
