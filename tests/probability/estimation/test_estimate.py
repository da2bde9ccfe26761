"""Maximum likelihood against SciPy and general minimizers; the EM driver and the mixture of coins against EM's theory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from pushforward.probability import noise
from pushforward.probability.estimation.estimate import (
    CoinMixture,
    expectation_maximization,
    fit_bernoulli,
    fit_binomial,
    fit_coins,
    fit_gaussian,
    fit_uniform,
)

HEADS, TOSSES = torch.tensor([5, 9, 8, 4, 7]), 10


def _random(seed, coins=3, rows=12):
    generator = np.random.default_rng(seed)
    tosses = generator.integers(1, 30, rows)
    heads = generator.binomial(tosses, generator.choice([0.2, 0.5, 0.9], rows))
    weights = generator.dirichlet(np.ones(coins))
    return heads, tosses, CoinMixture(generator.uniform(0.05, 0.95, coins), weights / weights.sum())


def _scipy_log_joint(mixture, heads, tosses):
    heads, tosses = np.asarray(heads)[:, None], np.broadcast_to(tosses, np.shape(heads))[:, None]
    return stats.binom.logpmf(heads, tosses, mixture.biases.numpy()) + np.log(mixture.weights.numpy())


def test_gaussian_fit_centers_and_divides_by_n():
    X = np.random.default_rng(0).normal(size=(9, 3)) @ np.diag([1.0, 2.0, 3.0]) + 10.0
    law = fit_gaussian(X)
    np.testing.assert_allclose(law.mean, X.mean(0), rtol=1e-12)
    np.testing.assert_allclose(law.cov, np.cov(X.T, bias=True), rtol=1e-12)
    assert not np.allclose(law.cov, X.T @ X / 9)


def test_gaussian_fit_has_the_largest_likelihood():
    X = np.random.default_rng(1).normal(size=(20, 2)) @ np.array([[1.0, 0.0], [0.7, 0.5]])

    def cost(w):
        factor = np.array([[np.exp(w[2]), 0.0], [w[3], np.exp(w[4])]])
        return -stats.multivariate_normal(w[:2], factor @ factor.T).logpdf(X).sum()

    best = optimize.minimize(cost, np.zeros(5), tol=1e-10)
    law = fit_gaussian(X)
    assert law.log_prob(torch.as_tensor(X)).sum().item() == pytest.approx(-best.fun, rel=1e-9)
    np.testing.assert_allclose(law.mean, best.x[:2], atol=1e-5)


def test_gaussian_fit_keeps_float32():
    assert fit_gaussian(torch.randn(10, 2)).cov.dtype == torch.float32


def test_uniform_fit_stands_at_the_edge():
    """The likelihood is largest at max x, where its derivative is not 0: from there it only falls."""
    x = 3.0 * noise.uniform((50,), seed=0, purpose="test", rows=1, dtype=torch.float64)[0]
    theta = fit_uniform(x)
    assert theta == x.max().item()

    def log_likelihood(value):
        return stats.uniform(0, value).logpdf(x.numpy()).sum()

    grid = np.linspace(0.5 * theta, 3 * theta, 400)
    assert log_likelihood(theta) >= max(log_likelihood(value) for value in grid)
    slope = (log_likelihood(theta * (1 + 1e-6)) - log_likelihood(theta)) / (theta * 1e-6)
    assert slope == pytest.approx(-50 / theta, rel=1e-4)


def test_uniform_fit_falls_short_by_its_formula():
    draws = 2.0 * noise.uniform((4,), seed=1, purpose="test", rows=4000, dtype=torch.float64)
    found = np.array([fit_uniform(row) for row in draws])
    assert abs(found.mean() - 2.0 * 4 / 5) < 4 * found.std() / math.sqrt(4000)


def test_coin_fits():
    assert fit_bernoulli([1, 1, 0, 1, 0]) == pytest.approx(0.6)
    assert fit_bernoulli(torch.zeros(3, dtype=torch.int64)) == 0.0
    heads, tosses = np.array([3, 0, 7]), np.array([5, 4, 9])
    best = optimize.minimize_scalar(lambda p: -stats.binom.logpmf(heads, tosses, p).sum(), bounds=(0, 1), method="bounded")
    assert fit_binomial(heads, tosses) == pytest.approx(best.x, abs=1e-5)
    assert fit_binomial(heads, tosses) == pytest.approx(10 / 18, rel=1e-14)  # not the mean of the fractions


@given(st.integers(0, 2**31))
def test_coin_mixture_is_that_of_scipy(seed):
    heads, tosses, mixture = _random(seed)
    joint = _scipy_log_joint(mixture, heads, tosses)
    np.testing.assert_allclose(mixture.log_joint(heads, tosses), joint, rtol=1e-9)
    total = np.logaddexp.reduce(joint, 1)
    np.testing.assert_allclose(mixture.responsibilities(heads, tosses), np.exp(joint - total[:, None]), rtol=1e-9)
    assert mixture.log_likelihood(heads, tosses).item() == pytest.approx(total.sum(), rel=1e-12)


@given(st.integers(0, 2**31))
def test_q_plus_entropy_is_the_log_likelihood_and_q_alone_is_below(seed):
    heads, tosses, mixture = _random(seed)
    r = mixture.responsibilities(heads, tosses)
    likelihood = np.logaddexp.reduce(_scipy_log_joint(mixture, heads, tosses), 1).sum()
    entropy = stats.entropy(r.numpy(), axis=1).sum()
    assert mixture.q(heads, tosses, r).item() + entropy == pytest.approx(likelihood, rel=1e-10)
    assert mixture.q(heads, tosses, r).item() < likelihood - 1e-3
    # For any other r the bound is lower, by KL(r | posterior).
    other = torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(3), len(heads)))
    bound = mixture.q(heads, tosses, other).item() + stats.entropy(other.numpy(), axis=1).sum()
    gap = stats.entropy(other.numpy(), r.numpy(), axis=1).sum()
    assert bound == pytest.approx(likelihood - gap, rel=1e-9)


@given(st.integers(0, 2**31))
def test_the_bound_never_falls_and_is_the_log_likelihood(seed):
    heads, tosses, start = _random(seed)
    result = fit_coins(heads, tosses, start, max_iterations=60)
    assert len(result.bounds) == result.iterations + 1 <= 61
    assert all(b - a >= -1e-9 * abs(a) for a, b in zip(result.bounds, result.bounds[1:], strict=False))
    for mixture, bound in ((start, result.bounds[0]), (result.parameters, result.bounds[-1])):
        assert np.logaddexp.reduce(_scipy_log_joint(mixture, heads, tosses), 1).sum() == pytest.approx(bound, rel=1e-10)


@pytest.mark.parametrize("fixed", [False, True])
def test_m_step_maximizes_q(fixed):
    """One iteration against a general minimizer of -Q over biases and weights."""
    heads, tosses, start = _random(4, coins=2)
    r = start.responsibilities(heads, tosses).numpy()
    got = fit_coins(heads, tosses, start, fixed_weights=fixed, max_iterations=1)
    assert (got.iterations, got.converged) == (1, False)

    def cost(w):
        biases, first = 1 / (1 + np.exp(-w[:2])), 1 / (1 + np.exp(-w[2]))
        weights = start.weights.numpy() if fixed else np.array([first, 1 - first])
        return -(r * (stats.binom.logpmf(heads[:, None], tosses[:, None], biases) + np.log(weights))).sum()

    best = 1 / (1 + np.exp(-optimize.minimize(cost, np.zeros(3), tol=1e-12).x))
    np.testing.assert_allclose(got.parameters.biases, best[:2], atol=1e-5)
    np.testing.assert_allclose(got.parameters.weights, start.weights if fixed else [best[2], 1 - best[2]], atol=1e-5)


def test_the_textbook_coins():
    """Five rows of ten tosses, coins chosen evenly, start 0.6 and 0.5 (Do and Batzoglou): 0.71 and 0.58, at last 0.80 and 0.52."""
    once = fit_coins(HEADS, TOSSES, CoinMixture([0.6, 0.5]), fixed_weights=True, max_iterations=1)
    assert [round(b, 2) for b in once.parameters.biases.tolist()] == [0.71, 0.58]
    tenth = fit_coins(HEADS, TOSSES, CoinMixture([0.6, 0.5]), fixed_weights=True, max_iterations=10)
    assert [round(b, 2) for b in tenth.parameters.biases.tolist()] == [0.8, 0.52]


@pytest.mark.parametrize("coins", [1, 2, 3])
def test_the_end_is_a_maximum(coins):
    heads, tosses, start = _random(7, coins=coins, rows=40)
    result = fit_coins(heads, tosses, start, tolerance=1e-12, max_iterations=20_000)
    assert result.converged
    biases, weights = result.parameters.biases.clone().requires_grad_(), result.parameters.weights
    table, of = torch.as_tensor(heads)[:, None], torch.as_tensor(tosses)[:, None]
    log_joint = weights.log() + table * biases.log() + (of - table) * (1 - biases).log()
    (gradient,) = torch.autograd.grad(log_joint.logsumexp(1).sum(), biases)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    if coins == 1:
        assert result.parameters.biases.item() == pytest.approx(fit_binomial(heads, tosses))


def test_a_symmetric_start_stays_and_is_worse():
    heads, tosses, _ = _random(3, rows=60)
    stuck = fit_coins(heads, tosses, CoinMixture([0.4, 0.4]))
    pooled = fit_binomial(heads, tosses)
    assert stuck.parameters.biases.tolist() == pytest.approx([pooled, pooled], rel=1e-12)
    assert stuck.converged
    free = fit_coins(heads, tosses, CoinMixture([0.3, 0.7]))
    assert free.bounds[-1] > stuck.bounds[-1] + 10


def test_there_are_local_maxima():
    """Four groups of rows for three coins: with two coins in one group, no small push frees the third."""
    heads, tosses = torch.tensor([2, 10, 12, 27]).repeat_interleave(6), 30
    good, poor = (fit_coins(heads, tosses, CoinMixture(start)) for start in ([0.16, 0.26, 0.85], [0.47, 0.86, 0.9]))
    assert good.converged
    assert poor.converged
    assert good.bounds[-1] > poor.bounds[-1] + 20
    end = poor.parameters
    for push in torch.tensor([[0.02, -0.02, 0.02], [-0.02, 0.02, 0.0], [0.0, -0.04, 0.03]], dtype=torch.float64):
        pushed = fit_coins(heads, tosses, CoinMixture(end.biases + push, end.weights))
        assert pushed.bounds[0] < poor.bounds[-1] - 1e-3
        assert pushed.bounds[-1] == pytest.approx(poor.bounds[-1], abs=1e-6)


def test_sure_coins_and_unused_coins():
    """Coins that show one side only make log 0; a coin that no row uses keeps its bias."""
    result = fit_coins([0, 0, 6, 6], 6, CoinMixture([0.2, 0.7]))
    np.testing.assert_allclose(result.parameters.biases, [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(result.parameters.weights, [0.5, 0.5], atol=1e-9)
    assert result.bounds[-1] == pytest.approx(4 * math.log(0.5), abs=1e-6)
    unused = fit_coins([3, 3], 6, CoinMixture([0.5, 0.0]), max_iterations=3)
    assert unused.parameters.biases.tolist() == [0.5, 0.0]
    assert unused.parameters.weights.tolist() == [1.0, 0.0]


def _gaussian_mixture_em(x, m_step):
    """Two unit-variance normals with equal weights: the parameters are the two means, a torch tensor."""

    def e_step(means):
        logits = -0.5 * (x[:, None] - means) ** 2 - 0.5 * math.log(2 * math.pi) - math.log(2)
        return logits.softmax(1), logits.logsumexp(1).sum()

    return expectation_maximization(
        torch.tensor([-0.1, 0.2]), e_step=e_step, m_step=m_step, bound=lambda means, posterior: posterior[1], rounding=1e-5
    )


def test_the_driver_serves_other_models_and_float32():
    x = torch.cat([torch.randn(100) - 2, torch.randn(100) + 2])
    result = _gaussian_mixture_em(x, lambda means, posterior: posterior[0].T @ x / posterior[0].sum(0))
    np.testing.assert_allclose(result.parameters, [-2, 2], atol=0.4)
    assert result.converged
    assert result.iterations < 100


def test_a_wrong_m_step_is_refused_with_iteration_and_amount():
    x = torch.cat([torch.randn(100) - 2, torch.randn(100) + 2]).double()

    def overshoots(means, posterior):
        return means + 2.5 * (posterior[0].T @ x / posterior[0].sum(0) - means)

    with pytest.raises(ValueError, match=r"iteration \d+ lowered the bound by \d.*no EM step can do that"):
        _gaussian_mixture_em(x, overshoots)
    bounds = iter([-3.0, -2.0, -2.5])
    with pytest.raises(ValueError, match=r"iteration 2 lowered the bound by 0\.5, from -2 to -2\.5"):
        expectation_maximization(0, e_step=lambda p: p, m_step=lambda p, r: p, bound=lambda p, r: next(bounds))


def test_rounding_is_no_fall_but_a_little_more_is():
    for fall, allowed in ((5e-8, True), (2e-7, False)):
        bounds = iter([-100.0, -100.0 - fall])
        arguments = {"e_step": lambda p: p, "m_step": lambda p, r: p, "bound": lambda p, r, b=bounds: next(b)}
        if allowed:
            assert expectation_maximization(0, **arguments).converged
        else:
            with pytest.raises(ValueError, match=r"iteration 1 lowered the bound by 2e-07"):
                expectation_maximization(0, **arguments)


def test_the_driver_stops_by_tolerance_or_number():
    def run(**limits):
        bounds = iter([0.0, 1.0, 1.5, 1.75, 1.875, 1.9375])
        return expectation_maximization(
            0, e_step=lambda p: p, m_step=lambda p, r: p + 1, bound=lambda p, r: next(bounds), **limits
        )

    by_gain = run(tolerance=0.25)
    assert (by_gain.parameters, by_gain.bounds, by_gain.converged) == (3, (0.0, 1.0, 1.5, 1.75), True)
    by_number = run(max_iterations=2)
    assert (by_number.parameters, by_number.iterations, by_number.converged) == (2, 2, False)
    assert run(max_iterations=0).bounds == (0.0,)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bound_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"the bound is -?(nan|inf) after iteration 0"):
        expectation_maximization(0, e_step=lambda p: p, m_step=lambda p, r: p, bound=lambda p, r: value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_gaussian([1.0, 2.0]), r"X must have the shape \(n, D\), but has \(2,\)"),
        (lambda: fit_gaussian([[1.0, 2.0], [math.nan, 0.0]]), r"X must be finite, but entry \(1, 0\) is nan"),
        (lambda: fit_gaussian([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), r"the 3 centered rows span 1 of 2 dimensions"),
        (lambda: fit_gaussian([[1.0, 2.0], [2.0, 5.0]]), r"give at least 3 rows"),
        (lambda: fit_uniform([0.5, -0.25]), r"entry 1 is -0\.25, below 0"),
        (lambda: fit_uniform([0.0, 0.0]), r"all of x is 0"),
        (lambda: fit_uniform([]), r"shape \(n,\), n >= 1, but has \(0,\)"),
        (lambda: fit_bernoulli([0, 1, 2]), r"a toss is 0 or 1, but entry 2 is 2"),
        (lambda: fit_bernoulli([[0, 1]]), r"shape \(n,\), n >= 1, but has \(1, 2\)"),
        (lambda: fit_binomial([3, 11], 10), r"row 1 has 11 heads of 10 tosses"),
        (lambda: fit_binomial([3.5], 10), r"row 0 has 3\.5 heads"),
        (lambda: fit_binomial([0], 0), r"row 0 has 0 heads of 0 tosses"),
        (lambda: fit_binomial([1, 2], [3, 4, 5]), r"they have \(2,\) and \(3,\)"),
        (lambda: CoinMixture([0.5, 1.5]), r"bias 1 is 1\.5"),
        (lambda: CoinMixture(0.5), r"biases must have the shape \(K,\), but has \(\)"),
        (lambda: CoinMixture([0.5, 0.5], [0.5, 0.6]), r"weights must sum to 1, but it sums to 1\.1"),
        (lambda: CoinMixture([0.5, 0.5], [1.0]), r"weights must have the shape \(2,\), but has \(1,\)"),
        (lambda: fit_coins([0, 3], 6, CoinMixture([0.0, 0.0])), r"row 1, 3 heads of 6, is impossible under the start"),
        (
            lambda: expectation_maximization(
                0, e_step=lambda p: p, m_step=lambda p, r: p, bound=lambda p, r: 0.0, tolerance=-1.0
            ),
            r"at least 0, but they are 1000, -1 and 1e-09",
        ),
    ],
)
def test_mistakes_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
