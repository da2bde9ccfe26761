"""Gaussian and GaussianMixture against SciPy, autograd and quadrature."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pushforward.probability import Gaussian, GaussianMixture

WEIGHTS = [0.2, 0.5, 0.3]
MEANS = [[0.0, 1.0], [2.0, -1.0], [-2.0, 0.5]]
COVS = {
    "scalar": [0.5, 1.0, 0.2],
    "diagonal": [[0.5, 1.0], [0.3, 0.2], [1.0, 2.0]],
    "full": [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.2], [-0.2, 0.9]], [[2.0, 0.0], [0.0, 0.1]]],
}


def _full(covs):
    covs = torch.tensor(covs, dtype=torch.float64)
    if covs.ndim == 1:
        return torch.diag_embed(covs[:, None].expand(-1, 2))
    return torch.diag_embed(covs) if covs.ndim == 2 else covs


def _scipy_log_prob(x, weights, means, covs):
    parts = [w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in zip(weights, means, covs, strict=True)]
    return np.log(np.sum(parts, 0))


@pytest.fixture(params=COVS)
def mixture(request):
    return GaussianMixture(WEIGHTS, MEANS, COVS[request.param])


@pytest.fixture
def x():
    return torch.randn(7, 2, dtype=torch.float64) * 2


def test_log_prob_is_that_of_scipy(mixture, x):
    expected = _scipy_log_prob(x.numpy(), WEIGHTS, MEANS, _full(mixture.covs.tolist()).numpy())
    np.testing.assert_allclose(mixture.log_prob(x).numpy(), expected, rtol=1e-12)


def test_score_is_the_gradient_of_log_prob(mixture, x):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x), gradient, rtol=1e-10, atol=1e-12)


def test_noised_law_adds_variances(mixture, x):
    noised = mixture.noised(0.7, 0.4)
    covs = 0.49 * _full(mixture.covs.tolist()) + 0.16 * torch.eye(2, dtype=torch.float64)
    expected = _scipy_log_prob(x.numpy(), WEIGHTS, 0.7 * np.array(MEANS), covs.numpy())
    np.testing.assert_allclose(noised.log_prob(x).numpy(), expected, rtol=1e-12)


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
        return np.exp(_scipy_log_prob(x, [0.4, 0.6], [[-1.0], [1.5]], [[[0.3]], [[0.1]]])) * stats.norm(alpha * x, sigma).pdf(
            x_t
        )

    mean = integrate.quad(lambda x: x * joint(x), -6, 6)[0] / integrate.quad(joint, -6, 6)[0]
    got = law.denoised(torch.tensor([[x_t]], dtype=torch.float64), alpha, sigma)
    assert got.item() == pytest.approx(mean, rel=1e-8)


def test_denoised_at_the_ends(mixture, x):
    mean = torch.tensor(WEIGHTS, dtype=torch.float64) @ torch.tensor(MEANS, dtype=torch.float64)
    torch.testing.assert_close(mixture.denoised(x, 0.0, 1.0), mean.expand(7, 2))
    torch.testing.assert_close(mixture.denoised(x, 0.5, 0.0), x / 0.5)


def test_samples_follow_the_law(mixture):
    draws = mixture.sample(20000, seed=0)
    projected = (draws @ torch.tensor([0.6, 0.8], dtype=torch.float64)).numpy()
    covs = _full(mixture.covs.tolist()).numpy()
    direction = np.array([0.6, 0.8])

    def cdf(value):
        return sum(
            w * stats.norm(np.dot(m, direction), np.sqrt(direction @ c @ direction)).cdf(value)
            for w, m, c in zip(WEIGHTS, MEANS, covs, strict=True)
        )

    assert stats.kstest(projected, cdf).pvalue > 0.01


def test_sample_rows_are_addressed(mixture):
    assert torch.equal(mixture.sample(4, seed=3, first=6), mixture.sample(10, seed=3)[6:])


@pytest.mark.parametrize("cov", [2.0, [0.5, 2.0], [[1.0, 0.4], [0.4, 0.7]]])
def test_gaussian_is_that_of_scipy(cov, x):
    law = Gaussian([1.0, -1.0], cov)
    matrix = np.eye(2) * cov if np.ndim(cov) == 0 else (np.diag(cov) if np.ndim(cov) == 1 else np.array(cov))
    np.testing.assert_allclose(
        law.log_prob(x).numpy(), stats.multivariate_normal([1, -1], matrix).logpdf(x.numpy()), rtol=1e-12
    )
    np.testing.assert_allclose(law.score(x).numpy(), -np.linalg.solve(matrix, (x.numpy() - [1, -1]).T).T, rtol=1e-10)
    gain = 0.6 * matrix @ np.linalg.inv(0.36 * matrix + 0.64 * np.eye(2))
    expected = np.array([1, -1]) + (x.numpy() - 0.6 * np.array([1, -1])) @ gain.T
    np.testing.assert_allclose(law.denoised(x, 0.6, 0.8).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(np.cov(law.sample(40000, seed=1).numpy().T), matrix, atol=0.06)
    noised = law.noised(0.6, 0.8)
    np.testing.assert_allclose(
        noised.log_prob(x).numpy(),
        stats.multivariate_normal([0.6, -0.6], 0.36 * matrix + 0.64 * np.eye(2)).logpdf(x.numpy()),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.4], MEANS[:2], [1.0, 1.0]), r"sum to 1, but they sum to 0\.9"),
        (([1.2, -0.2], MEANS[:2], [1.0, 1.0]), r"weight 1 is -0\.2"),
        (([0.5, 0.5], MEANS, [1.0, 1.0, 1.0]), r"weights must have the shape \(3,\)"),
        (([0.5, 0.5], MEANS[:2], [[1.0] * 3] * 2), r"covs must have the shape \(2,\), \(2, 2\) or \(2, 2, 2\)"),
        (([0.5, 0.5], MEANS[:2], [1.0, -1.0]), r"covariance 1 is not positive definite: its smallest eigenvalue is -1"),
        (
            ([0.5, 0.5], MEANS[:2], [[[1.0, 0.5], [0.0, 1.0]]] * 2),
            r"covariance 0 is not symmetric: entries differ by up to 0\.5",
        ),
        (([1.0], [1.0, 2.0], [1.0]), r"means must have the shape \(K, D\)"),
    ],
)
def test_bad_mixtures_say_which_number_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_bad_gaussians_and_points_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"cov must have the shape \(\), \(2,\) or \(2, 2\)"):
        Gaussian([0.0, 0.0], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"x has 3 columns, but the law lives in 2 dimensions"):
        Gaussian([0.0, 0.0], 1.0).log_prob(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"scalars or have the shape \(4,\)"):
        Gaussian([0.0, 0.0], 1.0).denoised(torch.zeros(4, 2), torch.ones(3), 1.0)
