"""Images, sums, marginals, conditionals, posteriors and products of Gaussians, against textbook formulas in NumPy.

The truths invert matrices and use Schur complements; the library triangularizes and inverts nothing.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import FORMS, full, moments, random_gaussian, schur
from scipy import integrate, stats

from pushforward.probability import Gaussian

seeds = st.integers(0, 2**31)
forms = st.sampled_from(FORMS)


def assert_law(law, mean, cov, rtol=1e-9):
    np.testing.assert_allclose(law.mean.numpy(), mean, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(law.covariance.numpy(), cov, rtol=rtol, atol=rtol)


def observation(seed, dim, rows, kind):
    """Random A, b, y and noise: one deviation, deviations by row, or a Gaussian with a mean; and its mean and covariance."""
    rng = np.random.default_rng(seed)
    A, b, y = rng.normal(size=(rows, dim)), rng.normal(size=rows), rng.normal(size=rows)
    if kind == "gaussian":
        noise = random_gaussian(seed + 1, rows)
        return A, b, y, noise, *moments(noise)
    noise = 0.7 if kind == "scalar" else rng.uniform(0.2, 1.0, rows)
    return A, b, y, noise, np.zeros(rows), full(noise**2, rows) * np.eye(rows)


@given(seed=seeds, form=forms, dim=st.integers(1, 4), data=st.data())
def test_affine_images_compose(seed, form, dim, data):
    law, rng = random_gaussian(seed, dim, form), np.random.default_rng(seed)
    middle = data.draw(st.integers(1, dim))
    A, b = rng.normal(size=(middle, dim)), rng.normal(size=middle)
    C, d = rng.normal(size=(1, middle)), rng.normal(size=1)
    mean, cov = moments(law)
    assert_law(law.affine(A, b), A @ mean + b, A @ cov @ A.T)
    once, twice = law.affine(C @ A, C @ b + d), law.affine(A, b).affine(C, d)
    assert_law(twice, *moments(once), rtol=1e-8)
    assert_law(law.affine(A), A @ mean, A @ cov @ A.T)


@pytest.mark.parametrize("mine", FORMS)
@pytest.mark.parametrize("theirs", FORMS)
def test_the_sum_of_independent_variables_adds_variances_and_keeps_the_simpler_form(mine, theirs):
    p, q = random_gaussian(1, 3, mine), random_gaussian(2, 3, theirs)
    total = p.plus(q)
    (a, A), (b, B) = moments(p), moments(q)
    assert_law(total, a + b, A + B, rtol=1e-13)
    assert total.cov.ndim == max(p.cov.ndim, q.cov.ndim)


def test_a_sum_is_the_law_of_added_draws_and_not_a_product_of_densities():
    p, q = Gaussian([1.0], 1.0), Gaussian([3.0], 4.0)
    total = (p.sample(20000, seed=0) + q.sample(20000, seed=1))[:, 0].numpy()
    assert stats.kstest(total, stats.norm(p.plus(q).mean.item(), math.sqrt(p.plus(q).cov.item())).cdf).pvalue > 0.01
    assert p.plus(q).cov.item() == 5.0
    assert p.product(q)[0].cov.item() == pytest.approx(0.8, rel=1e-14)


@given(seed=seeds, form=forms, data=st.data())
def test_marginals_and_conditionals_are_those_of_the_schur_complement(seed, form, data):
    law = random_gaussian(seed, 4, form)
    mean, cov = moments(law)
    order = data.draw(st.permutations(range(4)))
    count = data.draw(st.integers(1, 3))
    seen, rest = order[:count], sorted(order[count:])
    values = np.random.default_rng(seed).normal(size=count)
    assert_law(law.marginal(order), mean[order], cov[np.ix_(order, order)], rtol=1e-13)
    conditional = law.condition(seen, values)
    assert_law(conditional, *schur(mean, cov, seen, values))
    assert conditional.cov.shape == random_gaussian(seed, 4 - count, form).cov.shape
    # Chain rule: log p(x) = log p(x_seen) + log p(x_rest | x_seen).
    x = torch.randn(4, dtype=torch.float64)
    x[seen] = torch.from_numpy(values)
    split = law.marginal(seen).log_prob(x[seen]) + conditional.log_prob(x[rest])
    assert law.log_prob(x).item() == pytest.approx(split.item(), rel=1e-9)


@given(seed=seeds, form=forms)
def test_marginal_and_condition_commute(seed, form):
    law = random_gaussian(seed, 4, form)
    first = law.condition([3], [0.5]).marginal([2, 0])
    second = law.marginal([3, 2, 0]).condition(0, [0.5])
    assert_law(first, *moments(second))
    assert_law(law.condition([3], [0.5]).condition([1], [-1.0]), *moments(law.condition([1, 3], [-1.0, 0.5])))


@pytest.mark.parametrize("form", FORMS)
def test_knowing_nothing_changes_nothing(form):
    law = random_gaussian(0, 3, form)
    assert_law(law.condition([], []), *moments(law), rtol=1e-13)
    assert_law(law.observe(np.zeros((0, 3)), [], 1.0), *moments(law), rtol=1e-13)


@given(seed=seeds, form=forms, rows=st.integers(1, 4), kind=st.sampled_from(["scalar", "vector", "gaussian"]))
def test_observe_is_conditioning_the_joint_law(seed, form, rows, kind):
    law = random_gaussian(seed, 3, form)
    mean, cov = moments(law)
    A, b, y, noise, noise_mean, R = observation(seed, 3, rows, kind)
    joint_mean = np.concatenate([mean, A @ mean + b + noise_mean])
    joint = np.block([[cov, cov @ A.T], [A @ cov, A @ cov @ A.T + R]])
    seen = list(range(3, 3 + rows))
    assert_law(law.observe(A, y, noise, b), *schur(joint_mean, joint, seen, y))
    through_us = Gaussian(joint_mean, joint).condition(seen, y)
    assert_law(law.observe(A, y, noise, b), *moments(through_us))
    evidence = law.evidence(A, noise, b)
    assert_law(evidence, joint_mean[3:], joint[3:, 3:])
    information = np.linalg.inv(cov) + A.T @ np.linalg.inv(R) @ A
    np.testing.assert_allclose(np.linalg.inv(information), law.observe(A, y, noise, b).cov.numpy(), rtol=1e-8, atol=1e-10)


@given(seed=seeds, form=forms, kind=st.sampled_from(["scalar", "vector", "gaussian"]))
def test_the_posterior_of_an_image_is_the_image_of_the_posterior(seed, form, kind):
    law, rng = random_gaussian(seed, 3, form), np.random.default_rng(seed)
    A, b, y, noise, *_ = observation(seed, 3, 2, kind)
    B, c = rng.normal(size=(2, 3)), rng.normal(size=2)
    posterior = law.observe(A, y, noise, b)
    assert_law(law.observe(A, y, noise, b, of=(B, c)), *moments(posterior.affine(B, c)))
    assert_law(law.observe(A, y, noise, b, of=B), *moments(posterior.affine(B)))
    assert_law(law.observe(A, y, noise, b, of=B.tolist()), *moments(posterior.affine(B)))


@pytest.mark.parametrize("form", FORMS)
def test_without_noise_what_stays_uncertain_can_be_asked_for(form):
    law = random_gaussian(2, 3, form)
    mean, cov = moments(law)
    A, B, y = np.array([[1.0, 2.0, -1.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), np.array([0.5])
    both = np.concatenate([B, A])
    expected = schur(both @ mean, both @ cov @ both.T, [2], y)
    assert_law(law.observe(A, y, 0.0, of=B), *expected)
    assert_law(law.observe([[0.0, 1.0, 0.0]], [2.0], 0.0, of=np.eye(3)[[0, 2]]), *schur(mean, cov, [1], np.array([2.0])))
    mixed = law.observe(np.eye(3)[:2], [1.0, 2.0], [0.0, 0.5], of=np.eye(3)[1:])
    step = law.condition([0], [1.0])
    assert_law(mixed, *moments(step.observe([[1.0, 0.0]], [2.0], 0.5)))


@given(seed=seeds, form=forms)
def test_two_observations_in_a_row_are_one_of_both(seed, form):
    law = random_gaussian(seed, 3, form)
    A, b, y, noise, *_ = observation(seed, 3, 3, "vector")
    step = law.observe(A[:1], y[:1], noise[:1], b[:1]).observe(A[1:], y[1:], noise[1:], b[1:])
    assert_law(law.observe(A, y, noise, b), *moments(step))


def test_a_precise_observation_keeps_the_digits_of_a_small_variance():
    """Exact in rationals. Subtracting covariances loses the variance, 5e-13 here, to rounding of size 1e-16."""
    s = [[Fraction(2), Fraction(1)], [Fraction(1), Fraction(3)]]
    a, noise = (Fraction(1), Fraction(1)), Fraction(1, 2**20)
    gain = [sum(s[i][j] * a[j] for j in range(2)) for i in range(2)]
    total = sum(a[i] * gain[i] for i in range(2)) + noise**2
    along = sum(a[i] * (s[i][j] - gain[i] * gain[j] / total) * a[j] for i in range(2) for j in range(2))
    law = Gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 3.0]])
    posterior = law.observe([[1.0, 1.0]], [0.0], 2.0**-20, of=[[1.0, 1.0]])
    assert posterior.cov.item() == pytest.approx(float(along), rel=1e-9)
    nearly_twice = law.observe([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0], [0.0, 1e-9], of=[[1.0, -1.0]])
    assert_law(nearly_twice, *moments(law.observe([[1.0, 1.0]], [1.0], 0.0, of=[[1.0, -1.0]])))


@pytest.mark.parametrize("mine", FORMS)
@pytest.mark.parametrize("theirs", FORMS)
def test_products_of_densities_hold_pointwise_and_commute(mine, theirs):
    p, q = random_gaussian(1, 3, mine), random_gaussian(2, 3, theirs)
    law, log_factor = p.product(q)
    x = torch.randn(6, 3, dtype=torch.float64) * 2
    torch.testing.assert_close(law.log_prob(x) + log_factor, p.log_prob(x) + q.log_prob(x), rtol=1e-11, atol=1e-11)
    (a, A), (b, B) = moments(p), moments(q)
    assert log_factor.item() == pytest.approx(stats.multivariate_normal(b, A + B).logpdf(a), rel=1e-12)
    other, same = q.product(p)
    assert_law(other, *moments(law), rtol=1e-12)
    assert same.item() == pytest.approx(log_factor.item(), rel=1e-12)
    assert law.cov.ndim == max(p.cov.ndim, q.cov.ndim)
    precision = np.linalg.inv(A) + np.linalg.inv(B)
    np.testing.assert_allclose(moments(law)[1] @ precision, np.eye(3), atol=1e-12)


def test_the_factor_of_a_product_is_its_integral_and_not_one():
    p, q = Gaussian([0.5], 0.3), Gaussian([-1.0], 0.8)

    def integrand(value):
        x = torch.tensor([value], dtype=torch.float64)
        return (p.log_prob(x) + q.log_prob(x)).exp().item()

    assert p.product(q)[1].exp().item() == pytest.approx(integrate.quad(integrand, -10, 10)[0], rel=1e-9)
    assert p.product(q)[1].exp().item() < 0.2


@pytest.mark.parametrize("form", FORMS)
def test_float32_laws_give_float32_results(form):
    law = random_gaussian(1, 3, form)
    small = Gaussian(law.mean.float(), law.cov.float())
    A, b, y, noise, *_ = observation(3, 3, 2, "vector")
    calls = [
        lambda one: one.affine(A, b),
        lambda one: one.plus(law),
        lambda one: one.product(law)[0],
        lambda one: one.marginal([2, 0]),
        lambda one: one.condition([1], [0.5]),
        lambda one: one.observe(A, y, noise, b),
        lambda one: one.observe(A, y, random_gaussian(0, 2), b, of=[[1.0, 0.0, 0.0]]),
        lambda one: one.evidence(A, noise, b),
    ]
    for call in calls:
        result = call(small)
        assert (result.mean.dtype, result.cov.dtype) == (torch.float32, torch.float32)
        assert_law(Gaussian(result.mean.double(), result.cov.double()), *moments(call(law)), rtol=2e-5)
    assert small.product(law)[1].dtype == torch.float32


def test_a_product_of_two_precisions_has_that_of_the_first():
    law, wide = Gaussian(torch.zeros(2, dtype=torch.float64), 1.0), Gaussian(torch.ones(2, dtype=torch.float32), torch.eye(2))
    for result in (law.product(wide)[0], law.plus(wide), law.observe(np.eye(2), [1, 2], wide)):
        assert result.cov.dtype == torch.float64


LAW = Gaussian([0.0, 1.0, 2.0], [[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.5]])
ROW = [[1.0, 0.0, 0.0]]
OBLIQUE = np.array([[0.1, 0.7, -0.3]])  # whose multiples depend on it up to rounding, not exactly


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LAW.affine(np.ones((2, 3))),
            r"the law of A x \+ b is degenerate: its covariance has rank 1, not 2; keep that",
        ),
        (lambda: LAW.affine(np.vstack([np.eye(3), np.ones(3)])), "has rank 3, not 4"),
        (lambda: LAW.affine(np.zeros((1, 3))), "has rank 0, not 1"),
        (lambda: LAW.affine(np.eye(2)), r"A must have the shape \(M, 3\), but has \(2, 2\)"),
        (lambda: LAW.affine(ROW, [1.0, 2.0]), r"b must have the shape \(1,\), but has \(2,\)"),
        (
            lambda: LAW.evidence(ROW + ROW, 0.0),
            r"the law of y = A x \+ b \+ noise is degenerate: its covariance has rank 1, not 2",
        ),
        (lambda: LAW.observe(ROW, [1.0], 0.0), "the posterior of x is degenerate: its covariance has rank 2, not 3; the rest"),
        (
            lambda: LAW.observe([[1.0, 1.0, 0.0]], [1.0], 1e-9, of=np.eye(3)[:2]),
            r"the posterior of B x \+ c is degenerate: .* rank 1, not 2",
        ),
        (lambda: LAW.observe(ROW, [1.0], 0.0, of=ROW), "has rank 0, not 1"),
        (lambda: LAW.observe(OBLIQUE, [1.0], 0.0, of=3 * OBLIQUE), "has rank 0, not 1"),
        (
            lambda: LAW.observe(np.vstack([OBLIQUE, 3 * OBLIQUE]), [1.0, 3.0], 0.0, of=ROW),
            "observation is degenerate: .* rank 1, not 2",
        ),
        (lambda: LAW.observe(ROW, [1.0], 0.1, of=np.zeros((1, 3))), "has rank 0, not 1"),
        (lambda: LAW.observe(ROW, [1.0], 0.1, of=np.ones((4, 3))), "has rank 1, not 4"),
        (lambda: LAW.observe(ROW + ROW, [1.0, 1.0], 0.0, of=[[0, 1, 0]]), "the observation is degenerate: .* rank 1, not 2"),
        (lambda: LAW.observe(ROW, [1.0, 2.0], 0.1), r"y must have the shape \(1,\), but has \(2,\)"),
        (lambda: LAW.observe(ROW, 1.0, 0.1), r"y must have the shape \(1,\), but has \(\)"),
        (lambda: LAW.observe(ROW, [1.0], -0.1), r"noise is a standard deviation and at least 0, but entry 0 is -0\.1"),
        (lambda: LAW.observe(ROW, [1.0], [0.1, 0.2]), r"noise must be one standard deviation or 1 of them"),
        (lambda: LAW.observe(ROW, [1.0], Gaussian([0.0, 0.0], 1.0)), "noise lives in 2 dimensions, but A has 1 rows"),
        (lambda: LAW.observe(ROW, [1.0], 0.1, of=[[1.0]]), r"B in of=\(B, c\) must have the shape \(M, 3\), but has \(1, 1\)"),
        (lambda: LAW.observe(ROW, [1.0], 0.1, of=(ROW, [1.0, 2.0])), r"c in of=\(B, c\) must have the shape \(1,\)"),
        (lambda: LAW.condition([0], [1.0, 2.0]), r"values must have the shape \(1,\), but has \(2,\)"),
        (lambda: LAW.condition([0, 1, 2], [1.0, 2.0, 3.0]), "dims name every coordinate and nothing remains; log_prob gives"),
        (lambda: LAW.condition([0], [math.nan]), "values must be finite, but entry 0 is nan"),
        (lambda: LAW.marginal([]), "dims must name at least one coordinate"),
        (lambda: LAW.marginal([0, 3]), "dims must lie in 0 to 2, but contains 3"),
        (lambda: LAW.marginal([1, 1]), r"dims must be distinct, but is \[1, 1\]"),
    ],
)
def test_errors_say_which_number_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_units_do_not_make_a_law_degenerate():
    scales = np.array([1e-9, 1.0, 1e9])
    scaled = LAW.affine(np.diag(scales))
    np.testing.assert_allclose(scaled.cov.numpy() / np.outer(scales, scales), LAW.cov.numpy(), rtol=1e-12)
    posterior = scaled.observe(np.diag(1 / scales), [1.0, 2.0, 3.0], 0.5)
    expected = LAW.observe(np.eye(3), [1.0, 2.0, 3.0], 0.5)
    np.testing.assert_allclose(posterior.mean.numpy() / scales, expected.mean.numpy(), rtol=1e-10)
    np.testing.assert_allclose(posterior.cov.numpy() / np.outer(scales, scales), expected.cov.numpy(), rtol=1e-10)
