"""Drawing against SciPy's laws: Kolmogorov-Smirnov tests at fixed seeds, and closed forms for rates and errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pushforward.probability import Gaussian, GaussianMixture, noise
from pushforward.probability.draw import box_muller, importance, inverse_cdf, open_uniform, quantile, rejection
from pushforward.probability.laws.uniform import TabulatedDensity, Uniform


def _uniforms(n, purpose):
    return noise.uniform((), seed=1, purpose=purpose, rows=n, dtype=torch.float64)


def test_box_muller_gives_two_independent_gaussians():
    first, second = box_muller(_uniforms(40_000, "u"), 1 - _uniforms(40_000, "v"), mean=2.0, std=3.0)
    for half in (first, second):
        assert stats.kstest(half.numpy(), stats.norm(2, 3).cdf).pvalue > 0.01
    radius = ((first - 2) ** 2 + (second - 2) ** 2) / 9
    assert stats.kstest(radius.numpy(), stats.chi2(2).cdf).pvalue > 0.01
    angle = torch.atan2(second - 2, first - 2)
    assert stats.kstest((angle.numpy() + np.pi) / (2 * np.pi), "uniform").pvalue > 0.01
    assert stats.spearmanr(radius, angle).pvalue > 0.01


def test_box_muller_is_its_formula():
    """u = 1/8 is 45 degrees, v = exp(-1/2) the radius 1."""
    first, second = box_muller(0.125, math.exp(-0.5), mean=1.0, std=2.0)
    assert first.item() == pytest.approx(1 + math.sqrt(2), rel=1e-14)
    assert second.item() == pytest.approx(1 + math.sqrt(2), rel=1e-14)
    first, second = box_muller(0.25, math.exp(-2))
    assert first.item() == pytest.approx(0, abs=1e-15)
    assert second.item() == pytest.approx(2, rel=1e-14)
    assert box_muller(0.3, 1.0)[0].item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [0.0]), r"v must lie in \(0, 1\]; draw it as 1 - u .* 1 of 1 do not, the first being 0"),
        (([0.5], [1.5]), r"v must lie in .* the first being 1\.5"),
        (([0.5, -0.1], [0.5, 0.5]), r"u must lie in \[0, 1\), but 1 of 2 do not, the first being -0\.1"),
    ],
)
def test_box_muller_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        box_muller(*arguments)
    with pytest.raises(ValueError, match="at least 0, but is -1"):
        box_muller(0.5, 0.5, std=-1.0)


@pytest.mark.parametrize(
    "law", [stats.norm(), stats.norm(1e4, 0.01), stats.expon(), stats.cauchy(), stats.beta(0.5, 0.5), stats.norm(0, 1e-6)]
)
def test_quantile_is_that_of_scipy(law):
    u = np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(quantile(law.cdf, u).numpy(), law.ppf(u), rtol=1e-9, atol=1e-15)


def test_quantile_of_a_law_with_jumps_is_the_smallest_point_that_reaches_u():
    """Also of a flat part: at u = 0.25 exactly a whole interval has that CDF, and its left end is the quantile."""

    def cdf(x):
        return torch.where(x < 0, 0.0, torch.where(x < 2, 0.25, 1.0)).double()

    torch.testing.assert_close(quantile(cdf, [[0.1, 0.25], [0.26, 0.9]]).tolist(), [[0.0, 0.0], [2.0, 2.0]], atol=1e-12, rtol=0)
    u = torch.tensor([0.1, 0.25, 0.26, 0.9], dtype=torch.float64)
    assert (cdf(quantile(cdf, u)) >= u).all()


def test_inverse_cdf_draws_follow_the_law_and_are_addressed():
    law = stats.gamma(2.5)
    draws = inverse_cdf(law.cdf, 5000, seed=0)
    assert draws.shape == (5000, 1)
    assert stats.kstest(draws[:, 0].numpy(), law.cdf).pvalue > 0.01
    assert torch.equal(inverse_cdf(law.cdf, 10, seed=0, first=90), draws[90:100])
    assert not torch.equal(inverse_cdf(law.cdf, 10, seed=1), draws[:10])


@pytest.mark.parametrize(
    ("cdf", "message"),
    [
        (lambda x: torch.sin(x) ** 2 * 0.5 + torch.special.ndtr(x) * 0.5, "never falls, but this one goes from"),
        (lambda x: 1.2 * torch.special.ndtr(x), r"values of the CDF must lie in \[0, 1\].*the first being 1\.\d+"),
        (lambda x: 0.5 * torch.special.ndtr(x), r"never crosses u = 0\.9"),
        (lambda x: x * math.nan, r"values of the CDF must lie in \[0, 1\]"),
    ],
)
def test_a_function_that_is_no_cdf_is_refused(cdf, message):
    with pytest.raises(ValueError, match=message):
        quantile(cdf, [0.1, 0.9])
    with pytest.raises(ValueError, match=r"u must lie in \(0, 1\), but 1 of 2 do not, the first being 0"):
        quantile(torch.special.ndtr, [0.0, 0.5])


def test_open_uniforms_are_uniform_and_never_at_the_ends():
    u = open_uniform(20_000, seed=1, purpose="test")
    assert stats.kstest(u.numpy(), "uniform").pvalue > 0.01
    assert (u * 2**33 % 2 == 1).all()  # the middles of cells of width 2^-32, so 2^-33 at the least
    assert torch.equal(open_uniform(3, seed=1, purpose="test", first=7), u[7:10])


GRID, VALUES = np.array([-1.0, 0.0, 0.5, 2.0, 3.0]), np.array([0.0, 4.0, 0.0, 0.0, 1.0])


def test_tabulated_density_is_its_linear_interpolant_with_area_one():
    law = TabulatedDensity(GRID, VALUES)
    x = torch.linspace(-0.99, 2.99, 57, dtype=torch.float64)
    area = np.trapezoid(VALUES, GRID)
    np.testing.assert_allclose(law.log_prob(x[:, None]).exp().numpy(), np.interp(x, GRID, VALUES) / area, atol=1e-14)
    assert law.log_prob(torch.tensor([[-1.1], [3.1]])).tolist() == [-math.inf, -math.inf]
    for point, value in zip(x.tolist(), law.cdf(x).tolist(), strict=True):
        truth, _ = integrate.quad(
            lambda y: np.interp(y, GRID, VALUES) / area, -1, point, points=[p for p in GRID if -1 < p < point] or None
        )
        assert value == pytest.approx(truth, abs=1e-12)
    assert law.cdf([-5.0, 5.0]).tolist() == [0.0, 1.0]


def test_a_density_may_exceed_one():
    law = TabulatedDensity([0.0, 0.1], [1.0, 1.0])
    assert law.log_prob(torch.tensor([[0.05]])).exp().item() == pytest.approx(10)
    assert Uniform([0.0], [0.1]).log_prob(torch.tensor([[0.05]])).exp().item() == pytest.approx(10)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=8).filter(lambda v: sum(v) > 0.1), st.floats(0.001, 0.999))
def test_tabulated_quantile_inverts_the_cdf(values, u):
    law = TabulatedDensity(np.cumsum(np.linspace(0.3, 1.1, len(values))), values)
    assert law.cdf(law.quantile([u])).item() == pytest.approx(u, abs=1e-9)


def test_tabulated_draws_follow_the_law():
    law = TabulatedDensity(GRID, VALUES)
    draws = law.sample(20_000, seed=0)
    assert draws.shape == (20_000, 1)
    assert stats.kstest(draws[:, 0].numpy(), lambda x: law.cdf(x).numpy()).pvalue > 0.01
    assert not ((draws > 0.5) & (draws < 2)).any()
    assert law.quantile([0.0, 1.0]).tolist() == [-1.0, 3.0]
    assert torch.equal(law.sample(5, seed=0, first=5), draws[5:10])


@pytest.mark.parametrize(
    ("grid", "values", "message"),
    [
        ([0, 1, 2], [1.5, -1, 1.5], r"a density is at least 0 everywhere, but values\[1\] is -1 at 1"),
        ([0, 1, 1], [1, 1, 1], r"grid must rise, but grid\[1\] is 1 and grid\[2\] 1"),
        ([0, 1], [0, 0], "every value is 0"),
        ([0], [1], r"grid must have the shape \(G,\) with G >= 2"),
        ([0, 1], [1, 1, 1], r"values must have the shape \(2,\), but has \(3,\)"),
        ([0, 1], [1, math.nan], "values must be finite, but entry 1 is nan"),
    ],
)
def test_bad_tables_say_what_is_wrong(grid, values, message):
    with pytest.raises(ValueError, match=message):
        TabulatedDensity(grid, values)


def test_tabulated_density_refuses_wrong_arguments():
    law = TabulatedDensity(GRID, VALUES)
    with pytest.raises(ValueError, match="x has 2 columns, but the law lives in 1 dim"):
        law.log_prob(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"u must lie in \[0, 1\], but is between -0\.5 and 0\.5"):
        law.quantile([-0.5, 0.5])


def test_uniform_law_is_that_of_scipy():
    law = Uniform([0.0, -1.0], [2.0, 3.0])
    x = torch.tensor([[0.5, 0.5], [0.5, 3.5], [-0.1, 0.0], [2.0, 3.0]], dtype=torch.float64)
    truth = stats.uniform(0, 2).logpdf(x[:, 0]) + stats.uniform(-1, 4).logpdf(x[:, 1])
    np.testing.assert_allclose(law.log_prob(x).numpy(), truth, rtol=1e-14)
    draws = law.sample(20_000, seed=0)
    assert stats.kstest(draws[:, 0].numpy(), stats.uniform(0, 2).cdf).pvalue > 0.01
    assert stats.kstest(draws[:, 1].numpy(), stats.uniform(-1, 4).cdf).pvalue > 0.01
    assert torch.equal(law.sample(5, seed=0, first=5), draws[5:10])
    assert law.dim == 2


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0, 1.0], [1.0, 1.0], r"low must be below high, but low\[1\] is 1 and high\[1\] 1"),
        ([0.0], [1.0, 1.0], r"high must have the shape \(1,\)"),
        (0.0, 1.0, r"low must have the shape \(D,\)"),
        ([0.0], [math.inf], "high must be finite"),
    ],
)
def test_bad_boxes_say_what_is_wrong(low, high, message):
    with pytest.raises(ValueError, match=message):
        Uniform(low, high)


MIXTURE = GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [0.25, 0.5])


def _mixture_cdf(x):
    return 0.3 * stats.norm(-2, 0.5).cdf(x) + 0.7 * stats.norm(1, math.sqrt(0.5)).cdf(x)


def _bound(target, proposal):
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    return (target.log_prob(grid) - proposal.log_prob(grid)).max().item()


def test_rejection_samples_follow_the_target_at_the_promised_rate():
    proposal = Gaussian([0.0], 9.0)
    log_bound = _bound(MIXTURE, proposal)
    kept = rejection(MIXTURE.log_prob, proposal, log_bound, 10_000, seed=0)
    assert kept.samples.shape == (10_000, 1)
    assert stats.kstest(kept.samples[:, 0].numpy(), _mixture_cdf).pvalue > 0.01
    rate = math.exp(-log_bound)
    assert abs(kept.acceptance - rate) < 4 * math.sqrt(rate * (1 - rate) / kept.proposals)
    assert kept.acceptance == 10_000 / kept.proposals


def test_rejection_needs_no_normalizing_constant_and_estimates_it():
    proposal = Gaussian([0.0], 9.0)
    log_bound = _bound(MIXTURE, proposal) + math.log(5)
    kept = rejection(lambda x: MIXTURE.log_prob(x) + math.log(5), proposal, log_bound, 5000, seed=0)
    plain = rejection(MIXTURE.log_prob, proposal, log_bound - math.log(5), 5000, seed=0)
    torch.testing.assert_close(kept.samples, plain.samples, rtol=0, atol=0)
    assert log_bound + math.log(kept.acceptance) == pytest.approx(math.log(5), abs=0.05)


def test_rejection_begins_with_the_same_samples_and_keeps_the_order_of_proposals():
    proposal = Gaussian([0.0], 9.0)
    log_bound = _bound(MIXTURE, proposal) + 2  # few are kept, so several batches are needed
    many = rejection(MIXTURE.log_prob, proposal, log_bound, 3000, seed=4)
    few = rejection(MIXTURE.log_prob, proposal, log_bound, 7, seed=4)
    torch.testing.assert_close(few.samples, many.samples[:7], rtol=0, atol=0)
    drawn = proposal.sample(few.proposals, seed=4)
    assert torch.equal(drawn[-1], few.samples[-1])


def test_rejection_in_two_dimensions_with_bounded_support():
    """Uniform on the disc, from the square: pi / 4 are kept, and the squared radius is uniform."""

    def disc(x):
        return torch.where((x**2).sum(-1) <= 1, 0.0, -math.inf).double()

    kept = rejection(disc, Uniform([-1.0, -1.0], [1.0, 1.0]), math.log(4), 10_000, seed=0)
    assert stats.kstest((kept.samples**2).sum(-1).numpy(), "uniform").pvalue > 0.01
    assert kept.acceptance == pytest.approx(math.pi / 4, abs=4 * math.sqrt(0.17 / 12_700))


def test_rejection_says_where_the_bound_is_violated():
    target, proposal = Gaussian([0.0], 1.0), Gaussian([0.0], 4.0)
    truth = math.log(2)
    rejection(target.log_prob, proposal, truth, 1000, seed=0)
    with pytest.raises(ValueError, match=r"violated at x = \[-?0\.0.*log_bound = 0\.593147 by 0\.0999\d+; raise log_bound"):
        rejection(target.log_prob, proposal, truth - 0.1, 1000, seed=0)


def test_rejection_gives_up_and_says_how_far_it_came():
    target, proposal = Gaussian([0.0], 1.0), Gaussian([0.0], 4.0)
    with pytest.raises(RuntimeError, match=r"2000 proposals gave only \d of 1000 samples; take a proposal closer"):
        rejection(target.log_prob, proposal, 8.0, 1000, seed=0, max_proposals=2000)
    with pytest.raises(ValueError, match="n must be at least 1, but is 0"):
        rejection(target.log_prob, proposal, 8.0, 0, seed=0)
    with pytest.raises(ValueError, match="log-density of the target is NaN at x"):
        rejection(lambda x: x[:, 0] * math.nan, proposal, 8.0, 10, seed=0)
    with pytest.raises(ValueError, match=r"log-density of the target must have the shape \(20,\), but has \(20, 1\)"):
        rejection(lambda x: x, proposal, 8.0, 10, seed=0)


def test_importance_agrees_with_closed_forms_within_its_error():
    drawn = importance(MIXTURE.log_prob, Gaussian([0.0], 9.0), 40_000, seed=0)
    second = 0.3 * (4 + 0.25) + 0.7 * (1 + 0.5)
    for estimate in (drawn.expectation(lambda x: x[:, 0] ** 2), drawn.plain_expectation(lambda x: x[:, 0] ** 2)):
        assert abs(estimate.value - second) < 3 * estimate.standard_error
        assert estimate.standard_error < 0.02 * second
    one = drawn.normalizer()
    assert abs(one.value - 1) < 3 * one.standard_error
    assert drawn.weights.sum().item() == pytest.approx(1)


def test_effective_sample_size_is_that_of_the_closed_form():
    """Of N(0, 1) drawn from N(0, s^2): E[w]^2 / E[w^2] = sqrt(2 s^2 - 1) / s^2."""
    drawn = importance(Gaussian([0.0], 1.0).log_prob, Gaussian([0.0], 4.0), 100_000, seed=0)
    assert drawn.effective_sample_size / 100_000 == pytest.approx(math.sqrt(7) / 4, rel=0.01)
    equal = importance(Gaussian([0.0], 1.0).log_prob, Gaussian([0.0], 1.0), 100, seed=0)
    assert equal.effective_sample_size == pytest.approx(100, rel=1e-12)


def test_standard_errors_are_the_spread_of_repeated_estimates():
    law, proposal = Gaussian([0.5], 1.0), Gaussian([0.0], 4.0)
    runs = [importance(law.log_prob, proposal, 400, seed=1, first=400 * k) for k in range(400)]
    for verb in ("expectation", "plain_expectation"):
        estimates = [getattr(run, verb)(lambda x: x[:, 0]) for run in runs]
        spread = np.std([e.value for e in estimates], ddof=1)
        assert np.mean([e.standard_error for e in estimates]) == pytest.approx(spread, rel=0.1)


def test_only_the_plain_estimate_depends_on_the_constant():
    proposal = Gaussian([0.0], 9.0)
    drawn = importance(MIXTURE.log_prob, proposal, 1000, seed=0)
    scaled = importance(lambda x: MIXTURE.log_prob(x) + math.log(3), proposal, 1000, seed=0)
    for verb, factor in (("expectation", 1), ("plain_expectation", 3)):
        value, other = getattr(drawn, verb)(lambda x: x[:, 0]).value, getattr(scaled, verb)(lambda x: x[:, 0]).value
        assert other == pytest.approx(factor * value, rel=1e-10)
    assert scaled.normalizer().value == pytest.approx(3 * drawn.normalizer().value, rel=1e-10)
    assert scaled.effective_sample_size == pytest.approx(drawn.effective_sample_size, rel=1e-10)


def test_importance_survives_weights_that_underflow():
    proposal = Gaussian([0.0], 4.0)
    far = importance(lambda x: Gaussian([0.0], 1.0).log_prob(x) - 2000, proposal, 1000, seed=0)
    near = importance(Gaussian([0.0], 1.0).log_prob, proposal, 1000, seed=0)
    assert far.expectation(lambda x: x[:, 0] ** 2).value == pytest.approx(near.expectation(lambda x: x[:, 0] ** 2).value)


def test_importance_is_addressed_and_says_what_is_wrong():
    proposal = Gaussian([0.0], 1.0)
    whole = importance(MIXTURE.log_prob, proposal, 100, seed=0)
    torch.testing.assert_close(importance(MIXTURE.log_prob, proposal, 10, seed=0, first=40).samples, whole.samples[40:50])
    with pytest.raises(ValueError, match="none of 100 draws of the proposal falls where the target has mass"):
        importance(Uniform([50.0], [51.0]).log_prob, proposal, 100, seed=0)
    with pytest.raises(ValueError, match="n must be at least 2"):
        importance(MIXTURE.log_prob, proposal, 1, seed=0)
    with pytest.raises(ValueError, match=r"one number per draw, \(100,\), but returned \(100, 1\)"):
        whole.expectation(lambda x: x)
    with pytest.raises(ValueError, match="target's density is infinite compared with the proposal's"):
        importance(lambda x: torch.full((len(x),), math.inf), proposal, 10, seed=0)
