"""Correlations, associations and categories against SciPy and plain formulas; what can be learned from samples, where it is known."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.associations import association_gap, correlation_gap, total_variation
from pushforward.metrics.categories import category_columns, category_coverage
from pushforward.metrics.utility import train_on_synthetic


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


def test_samples_of_another_law_lose_what_their_predictor_cannot_know():
    """The label is the sign of the first column, wrong one time of ten: the best accuracy is 0.9, of noise 0.5."""
    rng = np.random.default_rng(6)

    def rows(n, wrong=0.1):
        x = rng.normal(size=(n, 3))
        x[:, 2] = (x[:, 0] > 0) ^ (rng.random(n) < wrong)
        return x

    test = rows(1500)
    good = train_on_synthetic(rows(800), rows(600), test, 2)
    assert (good.score, good.target, good.trained_on) == ("accuracy", 2, 600)
    assert 0.83 < good.real.value < 0.92
    assert good.loss.low < 0 < good.loss.high
    assert good.loss.value == pytest.approx(good.real.value - good.synthetic.value)
    bad = train_on_synthetic(rows(800, wrong=0.5), rows(600), test, 2)
    assert 0.4 < bad.synthetic.value < 0.6
    assert bad.loss.low > 0.25
    half = 1.96 * np.sqrt(bad.synthetic.value * (1 - bad.synthetic.value) / 1500)
    assert bad.synthetic.high - bad.synthetic.low == pytest.approx(2 * half, rel=0.1)


def _again(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    x[:, 2] = x[:, 0] > 0
    return x[:20], x[20:40], x[40:]


def test_numbers_are_scored_by_the_share_of_their_variance():
    """y = x + e with e of the same variance: half of the variance can be explained."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(6000, 1))
    rows = np.concatenate([x, x + rng.normal(size=(6000, 1))], axis=1)
    found = train_on_synthetic(rng.normal(size=(2000, 2)) * [1, np.sqrt(2)], rows[:2000], rows[2000:], 1)
    assert found.score == "R2"
    assert 0.4 < found.real.value < 0.53
    assert found.synthetic.high < 0.05


def test_the_same_seed_gives_the_same_scores():
    parts = _again(9)
    assert train_on_synthetic(*parts, 2, seed=3) == train_on_synthetic(*parts, 2, seed=3)


def test_categories_are_no_numbers_to_the_predictor_and_unseen_ones_are_gaps():
    """y is 1 where the category is odd, which a few splits by size could not tell; categories 18 and 19 are in the test alone."""
    rng = np.random.default_rng(10)
    c = rng.integers(0, 18, 900)
    rows = np.stack([c, c % 2 == 1], axis=1).astype(float)
    test = np.concatenate([rows[600:], [[18.0, 0.0], [19.0, 1.0]]])
    found = train_on_synthetic(rows[:300], rows[300:600], test, 1)
    assert found.synthetic.value > 0.99


def test_an_unseen_category_is_not_taken_for_the_last_one():
    """The target is 1 for category 5 alone; of a category that the predictor never saw the likelier 0 is to be expected."""
    c = np.arange(300) % 6
    rows = np.stack([c, c == 5], axis=1).astype(float)
    test = np.concatenate([rows[:20], np.tile([6.0, 0.0], (80, 1))])
    assert train_on_synthetic(rows, rows, test, 1).real.value == 1.0


def test_samples_with_one_value_of_the_target_predict_that_value():
    samples, train, test = _again(11)
    samples[:, 2] = 1.0
    found = train_on_synthetic(samples, train, test, 2)
    assert found.synthetic.value == pytest.approx((test[:, 2] == 1).mean())


def test_targets_that_cannot_be_predicted_are_refused():
    rows = np.arange(60.0).reshape(20, 3)
    with pytest.raises(ValueError, match="one of at least two columns, 0 to 2, but is 3"):
        train_on_synthetic(rows, rows, rows, 3)
    with pytest.raises(ValueError, match="column 1 is constant in the held-out rows"):
        train_on_synthetic(rows, rows, rows * [1, 0, 1], 1)
    with pytest.raises(ValueError, match="at least 10 rows"):
        train_on_synthetic(rows, rows, rows[:5], 1)
