"""The Gaussian law against SciPy, autograd, quadrature and Monte Carlo; its linear calculus is in test_linear_gaussian."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import FORMS, full, moments, random_gaussian
from scipy import integrate, linalg, stats

from pushforward.probability import Gaussian, GaussianMixture

COVS = {"scalar": 2.0, "diagonal": [0.5, 2.0], "full": [[1.0, 0.4], [0.4, 0.7]]}
MEAN = np.array([1.0, -1.0])


@pytest.fixture
def x():
    return torch.randn(7, 2, dtype=torch.float64) * 2


@pytest.mark.parametrize("form", COVS)
def test_density_score_and_denoiser_are_those_of_numpy(form, x):
    law, cov, at = Gaussian(MEAN, COVS[form]), full(COVS[form], 2), x.numpy()
    np.testing.assert_allclose(law.covariance.numpy(), cov, rtol=1e-14)
    np.testing.assert_allclose(law.log_prob(x).numpy(), stats.multivariate_normal(MEAN, cov).logpdf(at), rtol=1e-12)
    np.testing.assert_allclose(law.score(x).numpy(), -np.linalg.solve(cov, (at - MEAN).T).T, rtol=1e-10)
    total = 0.36 * cov + 0.64 * np.eye(2)
    expected = MEAN + (at - 0.6 * MEAN) @ (0.6 * cov @ np.linalg.inv(total)).T
    np.testing.assert_allclose(law.denoised(x, 0.6, 0.8).numpy(), expected, rtol=1e-10)
    noised = law.noised(0.6, 0.8)
    np.testing.assert_allclose(noised.log_prob(x).numpy(), stats.multivariate_normal(0.6 * MEAN, total).logpdf(at), rtol=1e-12)
    assert noised.cov.shape == law.cov.shape


@pytest.mark.parametrize("form", COVS)
def test_batches_of_any_shape(form):
    law = Gaussian(MEAN, COVS[form])
    x = torch.randn(3, 1, 5, 2, dtype=torch.float64)
    alpha, sigma = torch.rand(3, 1, 5).double() + 0.1, torch.rand(3, 1, 5).double() + 0.1
    flat, row = x.reshape(-1, 2), law.denoised(x.reshape(-1, 2), alpha.reshape(-1), sigma.reshape(-1))
    torch.testing.assert_close(law.log_prob(x), law.log_prob(flat).reshape(3, 1, 5))
    torch.testing.assert_close(law.score(x), law.score(flat).reshape(x.shape))
    torch.testing.assert_close(law.denoised(x, alpha, sigma), row.reshape(x.shape))
    assert law.log_prob(x[0, 0, 0]).shape == ()
    assert law.log_prob(torch.zeros(0, 2, dtype=torch.float64)).shape == (0,)


@pytest.mark.parametrize("form", COVS)
def test_integer_points_are_those_numbers(form):
    law = Gaussian(MEAN, COVS[form])
    x = torch.tensor([[0, 3], [-2, 1]])
    assert torch.equal(law.log_prob(x), law.log_prob(x.double()))
    assert torch.equal(law.score(x), law.score(x.double()))
    assert torch.equal(law.denoised(x, 0.5, 0.5), law.denoised(x.double(), 0.5, 0.5))


def test_a_density_may_exceed_one():
    law = Gaussian([0.0], 1e-4)
    assert law.log_prob(law.mean).item() == pytest.approx(math.log(100 / math.sqrt(2 * math.pi)), rel=1e-12)
    mass = integrate.quad(lambda v: law.log_prob(torch.tensor([v], dtype=torch.float64)).exp().item(), -0.1, 0.1, points=[0])[0]
    assert mass == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_samples_follow_the_law(form):
    law = random_gaussian(1, 3, form)
    mean, cov = moments(law)
    draws, direction = law.sample(20000, seed=1).numpy(), np.array([0.5, -1.0, 2.0])
    scale = math.sqrt(direction @ cov @ direction)
    assert stats.kstest(draws @ direction, stats.norm(mean @ direction, scale).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.06)
    torch.testing.assert_close(law.sample(4, seed=3, first=6), law.sample(10, seed=3)[6:], rtol=1e-13, atol=1e-13)


def test_samples_are_the_cholesky_image_of_one_noise():
    """The same noise under every law and device: the factor L with positive diagonal is unique."""
    law = random_gaussian(1, 3)
    z = Gaussian(torch.zeros(3, dtype=torch.float64), 1.0).sample(5, seed=4).numpy()
    np.testing.assert_allclose(law.sample(5, seed=4).numpy(), law.mean.numpy() + z @ np.linalg.cholesky(law.cov.numpy()).T)


@given(seed=st.integers(0, 2**31), dim=st.integers(1, 4), forms=st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)))
def test_information_obeys_its_identities(seed, dim, forms):
    p, q = random_gaussian(seed, dim, forms[0]), random_gaussian(seed + 1, dim, forms[1])
    (a, A), (b, B) = moments(p), moments(q)
    inverse = np.linalg.inv(B)
    trace, distance = np.trace(inverse @ A), (a - b) @ inverse @ (a - b)
    kl = 0.5 * (trace + distance - dim + np.linalg.slogdet(B)[1] - np.linalg.slogdet(A)[1])
    assert p.kl(q).item() == pytest.approx(kl, rel=1e-9, abs=1e-12)
    assert p.kl(q) >= 0
    assert p.entropy().item() == pytest.approx(stats.multivariate_normal(a, A).entropy(), rel=1e-10, abs=1e-12)
    assert (p.cross_entropy(q) - p.entropy()).item() == pytest.approx(kl, rel=1e-9, abs=1e-10)
    assert p.cross_entropy(p).item() == pytest.approx(p.entropy().item(), rel=1e-10, abs=1e-12)
    assert abs(p.kl(p).item()) < 1e-14


def test_kl_is_the_mean_of_log_p_over_q_and_not_symmetric():
    p, q = random_gaussian(1, 2), random_gaussian(2, 2, "diagonal")
    x = p.sample(40000, seed=0)
    ratio = p.log_prob(x) - q.log_prob(x)
    error = ratio.std().item() / math.sqrt(len(x))
    assert p.kl(q).item() == pytest.approx(ratio.mean().item(), abs=4 * error)
    surprise = -q.log_prob(x)
    assert p.cross_entropy(q).item() == pytest.approx(surprise.mean().item(), abs=4 * surprise.std().item() / math.sqrt(len(x)))


def test_kl_is_not_symmetric():
    p, q = Gaussian([0.0], 1.0), Gaussian([0.0], 4.0)
    assert p.kl(q).item() == pytest.approx(math.log(2) + 1 / 8 - 1 / 2, rel=1e-13)
    assert q.kl(p).item() == pytest.approx(-math.log(2) + 2 - 1 / 2, rel=1e-13)


def test_kl_keeps_its_digits_for_close_laws():
    p, q = Gaussian([0.0], 1.0), Gaussian([0.0], 1.0 + 1e-6)
    assert p.kl(q).item() == pytest.approx(0.25e-12, rel=1e-3)


def test_entropy_of_a_narrow_law_is_negative():
    assert Gaussian([0.0], 1e-4).entropy().item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 1e-4), rel=1e-12)


@given(seed=st.integers(0, 2**31), dim=st.integers(1, 4), forms=st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)))
def test_wasserstein_is_that_of_the_bures_formula(seed, dim, forms):
    p, q = random_gaussian(seed, dim, forms[0]), random_gaussian(seed + 1, dim, forms[1])
    (a, A), (b, B) = moments(p), moments(q)
    root = linalg.sqrtm(A)
    squared = (a - b) @ (a - b) + np.trace(A + B - 2 * np.real(linalg.sqrtm(root @ B @ root)))
    assert p.wasserstein(q).item() == pytest.approx(math.sqrt(squared), rel=1e-7)
    assert p.wasserstein(q).item() == pytest.approx(q.wasserstein(p).item(), rel=1e-10)
    assert p.wasserstein(p).item() < 1e-13


def test_wasserstein_on_the_line_and_between_close_laws():
    p, q = Gaussian([1.0], 4.0), Gaussian([4.0], 0.25)
    assert p.wasserstein(q).item() == pytest.approx(math.hypot(3.0, 1.5), rel=1e-13)
    near = Gaussian([1.0], (2 + 1e-9) ** 2)
    assert p.wasserstein(near).item() == pytest.approx(1e-9, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_float32_stays_float32(form):
    law = random_gaussian(1, 2, form)
    small, other = Gaussian(law.mean.float(), law.cov.float()), random_gaussian(2, 2)
    x = torch.randn(5, 2, dtype=torch.float32)
    for name in ("entropy", "kl", "cross_entropy", "wasserstein"):
        arguments = () if name == "entropy" else (other,)
        value, expected = getattr(small, name)(*arguments), getattr(law, name)(*arguments)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    results = [small.log_prob(x), small.score(x), small.denoised(x, 0.5, 0.5), small.sample(2, seed=0), small.covariance]
    assert {value.dtype for value in (*results, small.principal_axes().lengths)} == {torch.float32}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 0.0], [1.0, 1.0, 1.0]), r"cov must have the shape \(\), \(2,\) or \(2, 2\), but has \(3,\)"),
        (([[0.0, 0.0]], 1.0), r"mean must have the shape \(D,\), but has \(1, 2\)"),
        (([], 1.0), r"mean must have the shape \(D,\), but has \(0,\)"),
        (([0.0, math.nan], 1.0), "the mean must be finite, but entry 1 is nan"),
        (([0.0, 0.0], math.inf), "the covariance must be finite, but it is inf"),
        (([0.0, 0.0], -2.0), "the covariance is not positive definite: its smallest eigenvalue is -2"),
        (([0.0, 0.0], [1.0, 0.0]), "the covariance is not positive definite: its smallest eigenvalue is 0, its largest 1"),
        (([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "not positive definite: its smallest eigenvalue is -1, its largest 3"),
        (([0.0, 0.0], [[1.0, 0.5], [0.2, 1.0]]), r"the covariance is not symmetric: entries differ by up to 0\.3"),
    ],
)
def test_bad_laws_say_which_number_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(*arguments)


def test_bad_points_and_partners_say_what_is_wrong():
    law = Gaussian([0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"x has 3 columns, but the law lives in 2 dimensions"):
        law.log_prob(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"x has 0 columns, but the law lives in 2 dimensions"):
        law.log_prob(torch.tensor(0.0))
    with pytest.raises(ValueError, match=r"scalars or have the shape \(4,\), not \(3,\)"):
        law.denoised(torch.zeros(4, 2), torch.ones(3), 1.0)
    mixture = GaussianMixture([1.0], [[0.0, 0.0]], [1.0])
    for name in ("plus", "product", "kl", "cross_entropy", "wasserstein"):
        with pytest.raises(ValueError, match=r"other lives in 1 dimensions, but this law in 2"):
            getattr(law, name)(Gaussian([0.0], 1.0))
        with pytest.raises(TypeError, match=r"other must be a Gaussian, but is a GaussianMixture"):
            getattr(law, name)(mixture)


def test_a_law_of_badly_scaled_units_is_accepted():
    """The eigenvalues of this matrix, computed from it directly, have a negative one by rounding."""
    scales = np.array([1e-9, 1.0, 1e9])
    cov = np.outer(scales, scales) * [[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 1.0]]
    law, unit = Gaussian(np.zeros(3), cov), Gaussian(np.zeros(3), cov / np.outer(scales, scales))
    at = torch.tensor([[0.5, -1.0, 1.5]], dtype=torch.float64)
    expected = unit.log_prob(at).item() - np.log(scales).sum()
    assert law.log_prob(at * torch.from_numpy(scales)).item() == pytest.approx(expected, rel=1e-6)
