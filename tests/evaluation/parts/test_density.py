"""Mean log-densities against closed forms, and ranks against laws whose distance is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

import pushforward as pf
from pushforward.diffusion import LogProb
from pushforward.evaluation.parts.density import held_out_density, rank_calibration, ranks
from pushforward.probability import Gaussian


class Known:
    """A model whose density is that of a law, as certain as it is told to be."""

    def __init__(self, log_prob, *, kind="exact", dims=1, numerical=0.0, integer=False):
        self.of, self.kind, self.dims, self.numerical = log_prob, kind, dims, numerical
        self.space_ = SimpleNamespace(
            transform=SimpleNamespace(integer=torch.tensor([integer]), constant=torch.tensor([False])), conditions=None
        )

    def log_prob(self, X, *, condition=None, seed=0, batch_size=256):
        self.given = condition, seed, batch_size
        values = self.of(X)
        none = np.zeros(len(values))
        return LogProb(values, self.kind, none, none + self.numerical, none, nfe=7, dims=self.dims, constants=2)


def standard(X):
    return stats.norm.logpdf(np.asarray(X)).sum(1)


def test_the_mean_of_a_fitted_gaussian_is_that_of_scipy_with_its_normal_interval():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)) + 5
    model = pf.PPCA(n_components=3, held_out=0, random_state=0).fit(X[:200])
    found = held_out_density(model, X[200:])
    truth = stats.multivariate_normal(X[:200].mean(0), np.cov(X[:200].T)).logpdf(X[200:])
    half = 1.959964 * truth.std(ddof=1) / 10
    assert found.nats.value == pytest.approx(truth.mean(), rel=1e-9)
    assert (found.nats.low, found.nats.high) == pytest.approx((truth.mean() - half, truth.mean() + half), rel=1e-9)
    assert found.standard_error == pytest.approx(truth.std(ddof=1) / 10)
    assert found.bits_per_dim.value == pytest.approx(-truth.mean() / (3 * math.log(2)))
    assert found.bits_per_dim.low == pytest.approx(-(truth.mean() + half) / (3 * math.log(2)))
    assert found.bits_per_dim.high == pytest.approx(-(truth.mean() - half) / (3 * math.log(2)))
    assert (found.kind, found.dims, found.nats.n, found.integer) == ("exact", 3, 100, False)
    np.testing.assert_allclose(found.rows, truth)


def test_the_interval_holds_the_negative_entropy_of_the_law_nineteen_times_of_twenty():
    truth = -stats.norm().entropy() * 2
    held = 0
    for seed in range(400):
        found = held_out_density(Known(standard, dims=2), np.random.default_rng(seed).normal(size=(80, 2)))
        held += found.nats.low < truth < found.nats.high
    assert stats.binomtest(held, 400, 0.94).pvalue > 1e-3


def test_what_the_integration_may_be_off_is_added_to_both_ends():
    X = np.random.default_rng(0).normal(size=(50, 1))
    exact, rough = (held_out_density(Known(standard, numerical=error), X) for error in (0.0, -0.25))
    assert rough.nats.high - exact.nats.high == pytest.approx(0.25)
    assert exact.nats.low - rough.nats.low == pytest.approx(0.25)
    assert rough.bits_per_dim.high - exact.bits_per_dim.high == pytest.approx(0.25 / math.log(2))
    assert rough.numerical_error == 0.25


def test_the_note_says_kind_integers_constants_and_impossible_rows():
    values = np.array([-1.0, -np.inf, -2.0])
    found = held_out_density(Known(lambda X: values, kind="lower bound", integer=True, dims=4), np.zeros((3, 1)))
    assert found.note == (
        "lower bound, 4 dimensions, of probabilities of integers, 2 constant elements left out, 1 rows have density 0"
    )
    assert found.nats.value == -math.inf
    assert found.bits_per_dim.value == math.inf
    assert found.nfe == 7


def test_condition_seed_and_batch_size_reach_the_model():
    model = Known(standard)
    held_out_density(model, np.zeros((4, 1)), condition=[1, 2, 3, 4], seed=9, batch_size=2)
    assert model.given == ([1, 2, 3, 4], 9, 2)


def test_a_model_without_a_density_and_a_single_row_are_refused():
    with pytest.raises(TypeError, match="object has no log_prob"):
        held_out_density(object(), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="at least 2 rows, but X has 1"):
        held_out_density(Known(standard), np.zeros((1, 1)))


def test_rows_of_the_law_itself_are_rejected_at_the_stated_level():
    rejected = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rejected += rank_calibration(standard(rng.normal(size=(60, 2))), standard(rng.normal(size=(90, 2)))).p_value < 0.05
    assert stats.binomtest(rejected, 400, 0.05, alternative="greater").pvalue > 1e-3


def test_the_distance_of_a_law_that_is_too_narrow_is_the_known_one():
    """Rows N(0, 4) under N(0, 1): log p falls with |x|, so the distance is that of |x|, max 2 Phi(t) - 2 Phi(t / 2)."""
    t = np.linspace(0, 5, 100_001)
    truth = (2 * stats.norm.cdf(t) - 2 * stats.norm.cdf(t / 2)).max()
    held, values = 0, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = rank_calibration(standard(rng.normal(0, 2, (400, 1))), standard(rng.normal(size=(400, 1))))
        held += found.low < truth < found.high
        values.append(found.value)
        assert found.p_value < 1e-6
    assert held >= 95
    assert abs(np.mean(values) - truth) < 0.02
    large = rank_calibration(standard(rng.normal(0, 2, (50_000, 1))), standard(rng.normal(size=(50_000, 1))))
    assert large.value == pytest.approx(truth, abs=0.012)


def test_ranks_are_uniform_for_the_law_low_where_a_mode_is_missing_and_high_where_it_is_too_wide():
    law, other = Gaussian([0.0], 1.0), Gaussian([30.0], 1.0)
    samples = law.log_prob(law.sample(4000, seed=0))
    rows = law.sample(4000, seed=1)
    assert stats.kstest(ranks(law.log_prob(rows), samples), "uniform").pvalue > 1e-3
    assert ranks(law.log_prob(other.sample(100, seed=2)), samples).max() < 0.01
    wide = Gaussian([0.0], 100.0)
    assert ranks(wide.log_prob(rows), wide.log_prob(wide.sample(4000, seed=3))).mean() > 0.9


def test_ranks_count_equal_densities_half_and_rows_of_density_zero_last():
    assert ranks([1.0, -np.inf, 9.0], [1.0, 1.0, 0.0, 2.0]).tolist() == [0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0.0] * 5, "n at least 20, but its shape is"),
        ([np.nan] * 20, "20 values that are NaN"),
        ([[0.0]] * 20, "one log-density"),
    ],
    ids=["few", "nan", "shape"],
)
def test_log_densities_that_cannot_be_ranked_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        rank_calibration(rows, np.zeros(20))
    with pytest.raises(ValueError, match=message):
        rank_calibration(np.zeros(20), rows)
