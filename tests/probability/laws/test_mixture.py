"""Mixtures of Gaussians against SciPy, autograd and quadrature."""

import math

import numpy as np
import pytest
import torch
from laws import FORMS, moments, parts, random_gaussian, random_mixture, schur
from scipy import integrate, stats

from pushforward.probability import Gaussian, GaussianMixture

WEIGHTS = [0.2, 0.5, 0.3]
MEANS = [[0.0, 1.0], [2.0, -1.0], [-2.0, 0.5]]
COVS = {
    "scalar": [0.5, 1.0, 0.2],
    "diagonal": [[0.5, 1.0], [0.3, 0.2], [1.0, 2.0]],
    "full": [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.2], [-0.2, 0.9]], [[2.0, 0.0], [0.0, 0.1]]],
}


def log_density(x, components):
    """Log of sum_k w_k N(x; m_k, S_k) by SciPy."""
    return np.log(sum(w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in components))


def assert_components(mixture, expected, rtol=1e-9):
    """Compare a mixture with triples of weight, mean and covariance, component by component."""
    assert len(mixture.weights) == len(expected)
    for (weight, mean, cov), (w, m, c) in zip(parts(mixture), expected, strict=True):
        assert weight == pytest.approx(w, rel=rtol)
        np.testing.assert_allclose(mean, m, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(cov, c, rtol=rtol, atol=rtol)


@pytest.fixture(params=COVS)
def mixture(request):
    return GaussianMixture(WEIGHTS, MEANS, COVS[request.param])


@pytest.fixture
def x():
    return torch.randn(7, 2, dtype=torch.float64) * 2


def test_log_prob_is_that_of_scipy(mixture, x):
    np.testing.assert_allclose(mixture.log_prob(x).numpy(), log_density(x.numpy(), parts(mixture)), rtol=1e-12)


def test_score_is_the_gradient_of_log_prob(mixture, x):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x), gradient, rtol=1e-10, atol=1e-12)


def test_responsibilities_are_bayes(mixture, x):
    joint = np.stack([w * stats.multivariate_normal(m, c).pdf(x.numpy()) for w, m, c in parts(mixture)], -1)
    np.testing.assert_allclose(mixture.responsibilities(x).numpy(), joint / joint.sum(-1, keepdims=True), rtol=1e-11)


def test_noised_law_adds_variances(mixture, x):
    noised = mixture.noised(0.7, 0.4)
    expected = [(w, 0.7 * m, 0.49 * c + 0.16 * np.eye(2)) for w, m, c in parts(mixture)]
    np.testing.assert_allclose(noised.log_prob(x).numpy(), log_density(x.numpy(), expected), rtol=1e-12)
    assert noised.covs.shape == mixture.covs.shape


@pytest.mark.parametrize("per_row", [False, True])
def test_denoised_obeys_tweedie(mixture, x, per_row):
    """E[x | x_t] = (x_t + sigma^2 score_t(x_t)) / alpha, with the score of the noised law by autograd."""
    alpha = torch.linspace(0.2, 0.9, 7, dtype=torch.float64)
    sigma = torch.linspace(1.0, 0.3, 7, dtype=torch.float64)
    if not per_row:
        alpha, sigma = alpha[:1].squeeze(), sigma[:1].squeeze()
    expected = []
    for i in range(7):
        a, s = (alpha[i].item(), sigma[i].item()) if per_row else (alpha.item(), sigma.item())
        row = x[i].clone().requires_grad_()
        (score,) = torch.autograd.grad(mixture.noised(a, s).log_prob(row), row)
        expected.append((x[i] + s**2 * score) / a)
    torch.testing.assert_close(mixture.denoised(x, alpha, sigma), torch.stack(expected), rtol=1e-9, atol=1e-10)


def test_denoised_is_the_posterior_mean_by_quadrature():
    law = GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.3, 0.1])
    alpha, sigma, x_t = 0.8, 0.5, 0.2

    def joint(x):
        return np.exp(log_density(x, parts(law))) * stats.norm(alpha * x, sigma).pdf(x_t)

    mean = integrate.quad(lambda x: x * joint(x), -6, 6)[0] / integrate.quad(joint, -6, 6)[0]
    got = law.denoised(torch.tensor([[x_t]], dtype=torch.float64), alpha, sigma)
    assert got.item() == pytest.approx(mean, rel=1e-8)


def test_denoised_is_the_mean_of_the_posterior(mixture, x):
    """The noise level is the observation x_t = alpha x + sigma eps."""
    got = mixture.denoised(x, 0.6, 0.8)
    expected = torch.stack([mixture.observe(0.6 * np.eye(2), row, 0.8).mean for row in x])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_denoised_at_the_ends(mixture, x):
    torch.testing.assert_close(mixture.denoised(x, 0.0, 1.0), mixture.mean.expand(7, 2))
    torch.testing.assert_close(mixture.denoised(x, 0.5, 0.0), x / 0.5)


def test_batches_of_any_shape_and_integer_points(mixture):
    x = torch.randn(3, 1, 5, 2, dtype=torch.float64)
    alpha, sigma = torch.rand(3, 1, 5).double() + 0.1, torch.rand(3, 1, 5).double() + 0.1
    flat, denoised = x.reshape(-1, 2), mixture.denoised(x.reshape(-1, 2), alpha.reshape(-1), sigma.reshape(-1))
    torch.testing.assert_close(mixture.log_prob(x), mixture.log_prob(flat).reshape(3, 1, 5))
    torch.testing.assert_close(mixture.score(x), mixture.score(flat).reshape(x.shape))
    torch.testing.assert_close(mixture.responsibilities(x), mixture.responsibilities(flat).reshape(3, 1, 5, 3))
    torch.testing.assert_close(mixture.denoised(x, alpha, sigma), denoised.reshape(x.shape))
    whole = torch.tensor([[0, 3], [-2, 1]])
    for verb in (mixture.log_prob, mixture.score, lambda at: mixture.denoised(at, 0.5, 0.5)):
        assert torch.equal(verb(whole), verb(whole.double()))


def test_samples_follow_the_law(mixture):
    draws = mixture.sample(20000, seed=0)
    direction = np.array([0.6, 0.8])
    laws = [(w, stats.norm(m @ direction, np.sqrt(direction @ c @ direction))) for w, m, c in parts(mixture)]
    assert stats.kstest(draws.numpy() @ direction, lambda value: sum(w * law.cdf(value) for w, law in laws)).pvalue > 0.01


def test_sample_rows_are_addressed(mixture):
    torch.testing.assert_close(mixture.sample(4, seed=3, first=6), mixture.sample(10, seed=3)[6:], rtol=1e-13, atol=1e-13)


def test_moments_are_those_of_draws_and_of_quadrature(mixture):
    draws = mixture.sample(40000, seed=1)
    np.testing.assert_allclose(mixture.mean.numpy(), draws.mean(0).numpy(), atol=0.04)
    np.testing.assert_allclose(mixture.covariance.numpy(), np.cov(draws.numpy().T), atol=0.08)
    line = mixture.marginal([0])

    def moment(power, center):
        density = lambda v: math.exp(line.log_prob(torch.tensor([v], dtype=torch.float64)).item())  # noqa: E731
        return integrate.quad(lambda v: (v - center) ** power * density(v), -15, 15, limit=200)[0]

    assert line.mean.item() == pytest.approx(moment(1, 0.0), rel=1e-8)
    assert line.covariance.item() == pytest.approx(moment(2, line.mean.item()), rel=1e-8)
    assert line.covariance.item() != pytest.approx(moment(2, 0.0), rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_verbs_that_keep_the_weights_act_on_each_component(form):
    law, other = random_mixture(0, 3, 3, form), random_gaussian(1, 3, "diagonal")
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(2, 3)), rng.normal(size=2)
    n, R = moments(random_gaussian(2, 2))
    assert_components(law.affine(A, b), [(w, A @ m + b, A @ c @ A.T) for w, m, c in parts(law)])
    evidence = law.evidence(A, random_gaussian(2, 2), b)
    assert_components(evidence, [(w, A @ m + b + n, A @ c @ A.T + R) for w, m, c in parts(law)])
    assert_components(law.marginal([2, 0]), [(w, m[[2, 0]], c[np.ix_([2, 0], [2, 0])]) for w, m, c in parts(law)])
    mean, cov = moments(other)
    assert_components(law.plus(other), [(w, m + mean, c + cov) for w, m, c in parts(law)])
    assert law.marginal([0]).covs.ndim == law.covs.ndim


@pytest.mark.parametrize("form", FORMS)
def test_conditioning_weighs_components_by_their_marginal_densities(form):
    law = random_mixture(1, 4, 3, form)
    values = np.array([0.3, -0.4])
    seen = [2, 0]
    joint = [w * stats.multivariate_normal(m[seen], c[np.ix_(seen, seen)]).pdf(values) for w, m, c in parts(law)]
    expected = [(j / sum(joint), *schur(m, c, seen, values)) for j, (_, m, c) in zip(joint, parts(law), strict=True)]
    conditional = law.condition(seen, values)
    assert_components(conditional, expected)
    x = torch.randn(5, 3, dtype=torch.float64)
    x[:, seen] = torch.from_numpy(values)
    split = law.marginal(seen).log_prob(x[:, seen]) + conditional.log_prob(x[:, [1]])
    torch.testing.assert_close(split, law.log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("correlated", [False, True])
def test_observe_is_conditioning_the_joint_law_of_x_and_y(form, correlated):
    law, rng = random_mixture(2, 3, 3, form), np.random.default_rng(1)
    A, b, y = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=2)
    noise = random_gaussian(4, 2) if correlated else [0.4, 0.6]
    n, R = moments(noise) if correlated else (np.zeros(2), np.diag([0.16, 0.36]))
    means = [np.concatenate([m, A @ m + b + n]) for _, m, _ in parts(law)]
    covs = [np.block([[c, c @ A.T], [A @ c, A @ c @ A.T + R]]) for _, _, c in parts(law)]
    joint = GaussianMixture(law.weights, np.stack(means), np.stack(covs))
    posterior = law.observe(A, y, noise, b)
    assert_components(posterior, parts(joint.condition([3, 4], y)))
    B, c = rng.normal(size=(1, 3)), rng.normal(size=1)
    assert_components(law.observe(A, y, noise, b, of=(B, c)), parts(posterior.affine(B, c)))
    # Bayes pointwise: p(x | y) p(y) = p(y | x) p(x).
    x = torch.randn(6, 3, dtype=torch.float64)
    likelihood = stats.multivariate_normal(np.zeros(2), R).logpdf(y - b - n - x.numpy() @ A.T)
    left = posterior.log_prob(x) + law.evidence(A, noise, b).log_prob(torch.from_numpy(y))
    np.testing.assert_allclose(left.numpy(), law.log_prob(x).numpy() + likelihood, rtol=1e-9)


def test_posterior_on_the_line_is_bayes_by_quadrature():
    law = GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.3, 0.1])
    posterior = law.observe([[2.0]], [0.7], 1.2, [0.1])

    def joint(x):
        return np.exp(log_density(x, parts(law))) * stats.norm(2 * x + 0.1, 1.2).pdf(0.7)

    total = integrate.quad(joint, -6, 6)[0]
    for x in (-1.5, -0.5, 0.2, 1.4):
        got = posterior.log_prob(torch.tensor([x], dtype=torch.float64)).exp().item()
        assert got == pytest.approx(joint(x) / total, rel=1e-8)
    evidence = law.evidence([[2.0]], 1.2, [0.1]).log_prob(torch.tensor([0.7], dtype=torch.float64))
    assert evidence.exp().item() == pytest.approx(total, rel=1e-8)


def test_posterior_in_the_plane_is_bayes_on_a_grid(mixture):
    grid = np.linspace(-9, 9, 241)
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)
    A, y = np.array([[1.0, -0.5]]), np.array([0.4])
    joint = np.exp(log_density(x, parts(mixture))) * stats.norm(0, 0.6).pdf(y - x @ A[0])
    posterior = mixture.observe(A, y, 0.6)
    expected = joint / (joint.sum() * (grid[1] - grid[0]) ** 2)
    np.testing.assert_allclose(posterior.log_prob(torch.from_numpy(x)).exp().numpy(), expected, rtol=1e-6, atol=1e-12)
    weights = joint[..., None] * x / joint.sum()
    np.testing.assert_allclose(posterior.mean.numpy(), weights.sum((0, 1)), rtol=1e-6)


@pytest.mark.parametrize("mine", FORMS)
@pytest.mark.parametrize("theirs", FORMS)
def test_products_hold_pointwise_and_the_factor_is_the_integral(mine, theirs):
    law, other = random_mixture(3, 3, 2, mine), random_gaussian(4, 2, theirs)
    result, log_factor = law.product(other)
    x = torch.randn(6, 2, dtype=torch.float64)
    torch.testing.assert_close(result.log_prob(x) + log_factor, law.log_prob(x) + other.log_prob(x), rtol=1e-11, atol=1e-11)
    b, B = moments(other)
    expected = sum(w * stats.multivariate_normal(m, c + B).pdf(b) for w, m, c in parts(law))
    assert log_factor.exp().item() == pytest.approx(expected, rel=1e-11)
    assert result.covs.ndim == max(law.covs.ndim, other.cov.ndim + 1)


def test_one_component_is_a_gaussian():
    one, law = random_mixture(5, 1, 3), random_gaussian(5, 3)
    one = GaussianMixture([1.0], law.mean[None], law.cov[None])
    A, y, x = np.ones((1, 3)), [0.5], torch.randn(4, 3, dtype=torch.float64)
    for verb in (lambda p: p, lambda p: p.observe(A, y, 0.3), lambda p: p.product(law)[0], lambda p: p.noised(0.5, 0.2)):
        torch.testing.assert_close(verb(one).log_prob(x), verb(law).log_prob(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(one.sample(5, seed=0), law.sample(5, seed=0))


def test_far_observations_have_a_posterior():
    """The evidences, e^-500000 and less, underflow; their ratio does not."""
    law = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0])
    posterior = law.observe([[1.0]], [1000.0], 0.01)
    assert posterior.mean.item() == pytest.approx(1000.0, rel=1e-3)
    close = GaussianMixture([0.5, 0.5], [[-1e-4], [1e-4]], [1.0, 1.0]).observe([[1.0]], [1000.0], 1.0)
    # log ratio of the evidences N(1000; +-1e-4, 2) is 4 * 1000 * 1e-4 / (2 * 2)
    assert (close.weights[1] / close.weights[0]).item() == pytest.approx(math.exp(0.1), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_components_whose_weight_underflows_are_left_out(dtype):
    law = GaussianMixture([0.2, 0.3, 0.5], torch.tensor([[0.0], [1000.0], [1.0]], dtype=dtype), [1.0, 2.0, 3.0])
    posterior = law.observe([[1.0]], [0.5], 0.5)
    assert posterior.means.shape == (2, 1)
    expected = GaussianMixture([0.2 / 0.7, 0.5 / 0.7], torch.tensor([[0.0], [1.0]], dtype=dtype), [1.0, 3.0])
    torch.testing.assert_close(posterior.weights, expected.observe([[1.0]], [0.5], 0.5).weights)
    torch.testing.assert_close(posterior.covs, expected.observe([[1.0]], [0.5], 0.5).covs)
    assert law.product(Gaussian([0.5], 0.25))[0].means.shape == (2, 1)


@pytest.mark.parametrize("form", FORMS)
def test_float32_stays_float32(form):
    law = random_mixture(6, 3, 2, form)
    small, other = GaussianMixture(law.weights, law.means.float(), law.covs), random_gaussian(7, 2)
    calls = [
        lambda p: p.affine([[1.0, 2.0]]),
        lambda p: p.plus(other),
        lambda p: p.product(other)[0],
        lambda p: p.marginal([1]),
        lambda p: p.condition([0], [0.2]),
        lambda p: p.observe([[1.0, 1.0]], [0.2], 0.5),
        lambda p: p.evidence([[1.0, 1.0]], 0.5),
    ]
    for call in calls:
        result, expected = call(small), call(law)
        assert {result.weights.dtype, result.means.dtype, result.covs.dtype} == {torch.float32}
        torch.testing.assert_close(result.weights.double(), expected.weights, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(result.mean.double(), expected.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(result.covariance.double(), expected.covariance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.4], MEANS[:2], [1.0, 1.0]), r"sum to 1, but they sum to 0\.9; divide them by their sum"),
        (([1.2, -0.2], MEANS[:2], [1.0, 1.0]), r"weight 1 is -0\.2"),
        (([0.5, math.nan], MEANS[:2], [1.0, 1.0]), r"weight 1 is nan"),
        (([0.5, 0.5], MEANS, [1.0, 1.0, 1.0]), r"weights must have the shape \(3,\)"),
        (([0.5, 0.5], MEANS[:2], [[1.0] * 3] * 2), r"covs must have the shape \(2,\), \(2, 2\) or \(2, 2, 2\)"),
        (([0.5, 0.5], MEANS[:2], [1.0, -1.0]), r"covariance 1 is not positive definite: its smallest eigenvalue is -1"),
        (([0.5, 0.5], [[0.0, 1.0], [0.0, math.nan]], [1.0, 1.0]), r"means must be finite, but entry \(1, 1\) is nan"),
        (([0.5, 0.5], MEANS[:2], [[1.0, 1.0], [math.inf, 1.0]]), r"covs must be finite, but entry \(1, 0\) is inf"),
        (
            ([0.5, 0.5], MEANS[:2], [[[1.0, 0.5], [0.0, 1.0]]] * 2),
            r"covariance 0 is not symmetric: entries differ by up to 0\.5",
        ),
        (
            ([0.5, 0.5], MEANS[:2], [[[1.0, 0.5], [0.5, 1.0]], [[1.0, 2.0], [2.0, 1.0]]]),
            r"covariance 1 is not positive definite: its smallest eigenvalue is -1, its largest 3",
        ),
        (([1.0], [1.0, 2.0], [1.0]), r"means must have the shape \(K, D\)"),
    ],
)
def test_bad_mixtures_say_which_number_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_bad_arguments_say_what_is_wrong():
    law = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"scalars or have the shape \(4,\)"):
        law.denoised(torch.zeros(4, 2), torch.ones(3), 1.0)
    with pytest.raises(ValueError, match="x has 3 columns, but the law lives in 2 dimensions"):
        law.denoised(torch.zeros(4, 3), 0.5, 0.5)
    with pytest.raises(TypeError, match="other must be a Gaussian, but is a GaussianMixture"):
        law.product(law)
    with pytest.raises(TypeError, match="other must be a Gaussian, but is a float"):
        law.plus(1.0)
    with pytest.raises(ValueError, match="other lives in 1 dimensions, but this law in 2"):
        law.plus(Gaussian([0.0], 1.0))
    with pytest.raises(TypeError, match="an array or a tensor, but got GaussianMixture"):
        law.observe([[1.0, 0.0]], [0.0], law)
    with pytest.raises(
        ValueError, match="the posterior of x is degenerate under component 0: its covariance has rank 1, not 2"
    ):
        law.observe([[1.0, 0.0]], [0.0], 0.0)
    with pytest.raises(ValueError, match="too far from every component: its log-density is -inf"):
        law.observe([[1.0, 0.0]], [1e200], 1.0)
