"""Fresh rows are told from copies, at the stated level, for every law; exact p-values against counting."""

import math

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.memorization import distance_ratio, memorization


def heavy(rng, n):
    return rng.standard_t(2, size=(n, 2))


def test_fresh_rows_are_called_copies_no_more_often_than_stated():
    copies, closer, ratio, shares = 0, 0, 0, []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = memorization(heavy(rng, 60), heavy(rng, 100), heavy(rng, 100), seed=seed)
        copies += found.near_copies.p_value < 0.05
        closer += found.closer.p_value < 0.05
        ratio += found.ratio.low <= 1 <= found.ratio.high
        shares.append(found.near_copies.value)
    assert stats.binomtest(copies, 200, 0.05, alternative="greater").pvalue > 1e-3
    assert stats.binomtest(closer, 200, 0.05).pvalue > 1e-3
    assert ratio >= 0.91 * 200
    assert abs(np.mean(shares) - found.expected) < 4 * np.std(shares) / math.sqrt(200)


def test_a_model_that_returns_training_rows_is_caught():
    rng = np.random.default_rng(0)
    train, held_out = heavy(rng, 200), heavy(rng, 100)
    picked = rng.integers(0, 200, 50)
    found = memorization(train[picked], train, held_out)
    assert found.ratio.value == found.ratio.high == 0.0
    assert found.copies.value == found.near_copies.value == found.closer.value == 1.0
    assert found.near_copies.p_value < 1e-6
    assert found.nearest.tolist() == picked.tolist()
    assert sorted(found.suspects.tolist()) == list(range(50))
    assert found.held_out_copies == 0.0
    assert found.closer.p_value < 1e-6


def test_a_few_noisy_copies_among_good_samples_show_in_the_near_copies_alone():
    rng = np.random.default_rng(1)
    train, held_out, samples = rng.normal(size=(500, 8)), rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    samples[:40] = train[:40] + 1e-2 * rng.normal(size=(40, 8))
    found = memorization(samples, train, held_out)
    assert found.ratio.value > 0.9
    assert found.near_copies.value >= 0.1
    assert found.near_copies.p_value < 1e-9
    assert set(range(40)) <= set(found.suspects.tolist())
    assert found.suspects[:40].max() < 40
    assert found.near_copies.low < 0.1 < found.near_copies.high + 0.05
    assert found.copies.value == 0


def test_samples_off_the_data_are_no_copies_and_farther():
    rng = np.random.default_rng(2)
    found = memorization(rng.normal(size=(100, 3)) + 9, rng.normal(size=(200, 3)), rng.normal(size=(100, 3)))
    assert found.ratio.low > 5
    assert found.closer.value < 0.05
    assert found.near_copies.value == 0
    assert found.near_copies.p_value == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.4, -0.4])
def test_the_ratio_has_the_median_test_of_mood(shift):
    rng = np.random.default_rng(4)
    train, held_out = np.zeros((1, 1)), rng.uniform(1, 2, (60, 1))
    samples = rng.uniform(1, 2, (45, 1)) + shift
    median = np.median(np.concatenate([samples, held_out]))
    table = [[(part > median).sum(), (part <= median).sum()] for part in (samples, held_out)]
    above, below = (stats.fisher_exact(table, alternative=side).pvalue for side in ("greater", "less"))
    ratio = memorization(samples, train, held_out).ratio
    assert ratio.p_value == pytest.approx(min(1, 2 * min(above, below)), rel=1e-9)
    assert ratio.side == ("above" if above <= below else "below")


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_the_p_value_of_near_copies_is_the_share_of_orders_with_as_many(copies):
    """With fewer than 200 held-out rows k = 1: P(c of n come before all m) = n! / (n - c)! (n + m - c)! / (n + m)!."""
    n, m = 12, 20
    held_out = np.arange(10.0, 10 + m)[:, None]
    samples = np.concatenate([np.linspace(1, 9, copies), np.linspace(50, 60, n - copies)])[:, None]
    found = memorization(samples, [[0.0]], held_out)
    assert found.threshold == 10.0
    assert found.expected == 1 / (m + 1)
    assert found.near_copies.value == copies / n
    assert found.near_copies.p_value == pytest.approx(math.perm(n, copies) / math.perm(n + m, copies))


def test_the_threshold_is_the_nearest_hundredth_of_the_held_out_rows():
    found = memorization(np.full((10, 1), 2.5), [[0.0]], np.arange(1.0, 301)[:, None])
    assert found.threshold == 3.0
    assert found.expected == 3 / 301
    assert found.near_copies.value == 1.0
    assert found.note == "nearer to a training row than 99 % of 300 held-out rows; of fresh rows 1 % are"


def test_closer_is_the_chance_over_pairs_with_delongs_interval():
    rng = np.random.default_rng(3)
    samples, held_out = np.abs(rng.normal(0, 1, 40)), np.abs(rng.normal(0, 1.5, 50))
    found = memorization(samples[:, None], [[0.0]], held_out[:, None])
    wins = (samples[:, None] < held_out).astype(float)
    value = wins.mean()
    half = 1.959964 * math.sqrt(wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 50)
    assert found.closer.value == pytest.approx(value)
    assert (found.closer.low, found.closer.high) == pytest.approx((value - half, value + half))


def test_the_interval_of_the_ratio_is_that_of_a_plain_bootstrap_of_the_medians():
    rng = np.random.default_rng(4)
    samples, held_out = rng.exponential(1, 201), rng.exponential(2, 301)
    found = memorization(samples[:, None], [[0.0]], held_out[:, None])
    medians = [np.median(x[rng.integers(0, len(x), (20_000, len(x)))], axis=1) for x in (samples, held_out)]
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    assert found.ratio.value == np.median(samples) / np.median(held_out)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((low, high), rel=0.05)


def test_doubles_in_the_data_are_no_memorization():
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 2, (300, 3)).astype(float)
    found = memorization(rows[:100], rows[100:200], rows[200:])
    assert found.copies.value == found.held_out_copies == 1.0
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (1.0, 1.0, 1.0)
    assert found.near_copies.value == 0
    assert found.closer.value == 0.5
    assert not len(found.suspects)


def test_held_out_rows_among_the_training_rows_and_samples_that_are_not_make_the_ratio_infinite():
    found = memorization(np.ones((10, 1)), [[0.0]], np.zeros((10, 1)))
    assert found.ratio.value == found.ratio.high == math.inf


def test_images_are_compared_pixel_by_pixel():
    rng = np.random.default_rng(6)
    images = rng.integers(0, 17, (60, 4, 4)).astype(np.uint8)
    found = memorization(images[:20], images[20:40], images[40:])
    truth = np.sqrt(((images[0].astype(float) - images[20:40].astype(float)) ** 2).sum((1, 2)))
    assert found.distances[0] == pytest.approx(truth.min(), rel=1e-6)


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(7)
    parts = [rng.normal(size=(50, 2)) for _ in range(3)]
    assert memorization(*parts, seed=1).ratio == memorization(*parts, seed=1).ratio
    assert memorization(*parts, seed=1).ratio != memorization(*parts, seed=2).ratio


def test_too_few_rows_and_other_widths_are_refused():
    rows = np.zeros((20, 2))
    with pytest.raises(ValueError, match="samples has 9 rows, but at least 10 are needed"):
        memorization(rows[:9], rows, rows)
    with pytest.raises(ValueError, match="held_out has 3 rows"):
        memorization(rows, rows, rows[:3])
    with pytest.raises(ValueError, match="same number of columns"):
        memorization(rows, rows, np.zeros((20, 3)))


def test_the_quick_ratio_is_that_of_the_medians():
    rng = np.random.default_rng(0)
    samples, train, held_out = (rng.normal(size=(n, 3)) for n in (50, 80, 40))
    medians = [np.median(np.linalg.norm(rows[:, None] - train, axis=2).min(axis=1)) for rows in (samples, held_out)]
    found = distance_ratio(samples, [train[:7], train[7:]], held_out)
    assert found == pytest.approx({"samples": medians[0], "held_out": medians[1], "ratio": medians[0] / medians[1]})
    assert found["ratio"] == memorization(samples, train, held_out).ratio.value
    assert distance_ratio(train, [train], train)["ratio"] == 1.0
