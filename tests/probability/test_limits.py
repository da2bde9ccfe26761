"""Limit theorems against exact laws: binomial walks, gamma sums, and bands that hold as often as they promise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.probability import noise
from pushforward.probability.limits import random_walk, running_mean, standardized_sums


def _exponential(rows):
    u = noise.uniform((), seed=0, purpose="exponential", rows=rows, dtype=torch.float64)
    return -(1 - u).log()


def test_running_mean_and_error_are_those_of_every_prefix():
    values = noise.normal((3,), seed=0, purpose="values", rows=50, dtype=torch.float64) + 1e6
    result = running_mean(values)
    for n in range(2, 51):
        np.testing.assert_allclose(result.mean[n - 1].numpy(), values[:n].numpy().mean(0), rtol=1e-14)
        np.testing.assert_allclose(result.standard_error[n - 1].numpy(), stats.sem(values[:n].numpy()), rtol=1e-7)
    assert result.mean[0].tolist() == pytest.approx(values[0].tolist(), rel=1e-15)
    assert result.standard_error[0].isinf().all()


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_band_holds_the_true_mean_as_often_as_it_says(level):
    values = _exponential(torch.arange(400 * 3000)).reshape(400, 3000)
    low, high = running_mean(values).band(level)
    hits = ((low[-1] <= 1) & (high[-1] >= 1)).sum().item()
    assert abs(hits / 3000 - level) < 4 * math.sqrt(level * (1 - level) / 3000) + 0.005


def test_the_band_is_that_of_the_normal_quantile_and_narrows_like_one_over_the_root():
    result = running_mean(_exponential(torch.arange(40_000)))
    low, high = result.band(0.9)
    torch.testing.assert_close(
        (high - low)[1:] / result.standard_error[1:] / 2, torch.tensor(stats.norm.ppf(0.95)).expand(39_999)
    )
    assert (result.standard_error[399] / result.standard_error[39_999]).item() == pytest.approx(10, rel=0.15)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"level is a probability between 0 and 1, but is {level:g}"):
            result.band(level)
    with pytest.raises(ValueError, match=r"values must have the shape \(n, \*\)"):
        running_mean(3.0)


def test_sums_of_exponentials_are_gamma():
    for n in (1, 5):
        z = standardized_sums(_exponential, n, 10_000, mean=1.0, std=1.0).numpy()
        assert stats.kstest(z, lambda x, n=n: stats.gamma(n).cdf(n + math.sqrt(n) * x)).pvalue > 0.01


def test_the_distance_to_the_normal_law_falls_like_one_over_the_root_of_n():
    """Against the exact distance of the gamma law, c / sqrt(n), which the empirical one follows up to 1 / sqrt(count)."""
    x = np.linspace(-4, 4, 20_001)
    exact, drawn = [], []
    for n in (2, 8, 32):
        exact.append(np.abs(stats.gamma(n).cdf(n + math.sqrt(n) * x) - stats.norm.cdf(x)).max())
        z = standardized_sums(_exponential, n, 50_000, mean=1.0, std=1.0).numpy()
        drawn.append(stats.kstest(z, "norm").statistic)
    np.testing.assert_allclose(drawn, exact, atol=2 / math.sqrt(50_000))
    slopes = np.diff(np.log(exact)) / math.log(4)
    np.testing.assert_allclose(slopes, -0.5, atol=0.05)
    slope = np.polyfit(np.log([2, 8, 32]), np.log(drawn), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.07)


def test_sums_are_addressed_and_independent_of_the_block():
    whole = standardized_sums(_exponential, 3000, 700, mean=1.0, std=1.0)  # more than one block
    torch.testing.assert_close(standardized_sums(_exponential, 3000, 5, mean=1.0, std=1.0, first=600), whole[600:605])
    rows = torch.arange(600 * 3000, 601 * 3000)
    assert whole[600].item() == pytest.approx((_exponential(rows).sum().item() - 3000) / math.sqrt(3000), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be at least 1, but is 0"),
        ({"count": 0}, "count must be at least 1, but is 0"),
        ({"std": 0.0}, "std must be positive, but is 0"),
        ({"draw": lambda rows: rows[:, None].double()}, r"one number per row, \(10,\), but returned \(10, 1\)"),
    ],
)
def test_bad_sums_say_what_is_wrong(change, message):
    arguments = {"draw": _exponential, "n": 2, "count": 5, "mean": 1.0, "std": 1.0} | change
    with pytest.raises(ValueError, match=message):
        standardized_sums(**arguments)


def test_the_walk_has_the_moments_of_a_wiener_path():
    walk = random_walk(64, 20_000, seed=0).numpy()
    assert walk.shape == (65, 20_000)
    assert (walk[0] == 0).all()
    times = np.linspace(0, 1, 65)[[8, 24, 40, 64]]
    covariance = np.cov(walk[[8, 24, 40, 64]])
    np.testing.assert_allclose(covariance, np.minimum.outer(times, times), atol=4 * math.sqrt(2 / 20_000))
    np.testing.assert_allclose(walk[[8, 24, 40, 64]].mean(1), 0, atol=4 / math.sqrt(20_000))
    steps = np.diff(walk, axis=0)
    np.testing.assert_allclose(np.abs(steps), 1 / 8, rtol=1e-12)
    increments = np.stack([walk[32] - walk[0], walk[64] - walk[32]]) * math.sqrt(2)
    assert abs(np.corrcoef(increments**2)[0, 1]) < 4 / math.sqrt(20_000)
    assert abs(np.corrcoef(increments)[0, 1]) < 4 / math.sqrt(20_000)


def test_the_end_of_the_walk_is_binomial_and_its_maximum_tends_to_that_of_a_wiener_path():
    walk = random_walk(10, 20_000, seed=1).numpy()
    heads = np.round((walk[-1] * math.sqrt(10) + 10) / 2).astype(int)
    counts, expected = np.bincount(heads, minlength=11), 20_000 * stats.binom(10, 0.5).pmf(np.arange(11))
    assert stats.chisquare(counts, expected).pvalue > 0.01
    maximum = random_walk(2500, 2000, seed=2).amax(0).numpy()
    # By reflection the maximum is |N(0, 1)|; one step of the walk, 1/50, is the error that is left.
    distance = stats.kstest(maximum, stats.halfnorm.cdf).statistic
    assert distance < 0.02 + 1.63 / math.sqrt(2000)


def test_walks_are_addressed():
    torch.testing.assert_close(random_walk(20, 3, seed=0, first=5), random_walk(20, 10, seed=0)[:, 5:8], rtol=0, atol=0)
    with pytest.raises(ValueError, match="steps must be at least 1, but is 0"):
        random_walk(0, 3, seed=0)
