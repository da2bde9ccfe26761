"""Probabilistic principal components, against scikit-learn, the full Gaussian, and the slope of the likelihood."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pushforward.probability import Gaussian, noise
from pushforward.probability.estimation.linear_latent import (
    LinearLatent,
    best_latent_dim,
    fit_linear_latent,
    fit_linear_latent_by_em,
    random_start,
)


def _data(n=300, dim=6, q=2, std=0.5):
    W = 2 * noise.normal((q,), seed=0, purpose="W", rows=dim, dtype=torch.float64)
    z = noise.normal((q,), seed=0, purpose="z", rows=n, dtype=torch.float64)
    return 5 + z @ W.mT + std * noise.normal((dim,), seed=0, purpose="e", rows=n, dtype=torch.float64)


def _features(n):
    return torch.cat([torch.ones(n, 1), noise.normal((2,), seed=4, purpose="f", rows=n)], 1).double()


@pytest.mark.parametrize("q", [1, 2, 5, 6])
def test_density_is_that_of_scikit_learn(q):
    x = _data()
    law = fit_linear_latent(x, q).unbiased(len(x))
    peer = PCA(q).fit(x.numpy())
    np.testing.assert_allclose(law.log_prob(x), peer.score_samples(x.numpy()), atol=1e-8)
    np.testing.assert_allclose(law.covariance, peer.get_covariance(), atol=1e-8)


def test_more_columns_than_rows():
    x = _data(n=10, dim=30)
    law = fit_linear_latent(x, 3).unbiased(len(x))
    # scikit-learn averages the noise over min(n, D) - q directions here, not over all D - q.
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    noise_variance = values[:-3].mean()
    wanted = noise_variance * np.eye(30) + vectors[:, -3:] @ np.diag(values[-3:] - noise_variance) @ vectors[:, -3:].T
    np.testing.assert_allclose(law.covariance, wanted, atol=1e-8)


@pytest.mark.parametrize("conditioned", [False, True])
def test_em_reaches_the_closed_form(conditioned):
    x = _data()
    f = _features(len(x)) if conditioned else None
    if f is not None:
        x = x + f[:, 1:] @ noise.normal((6,), seed=5, purpose="effect", rows=2, dtype=torch.float64)
    closed = fit_linear_latent(x, 2, f)
    found = fit_linear_latent_by_em(x, random_start(x, 2, f, seed=0), f, tolerance=0.0, max_iterations=5000).parameters
    torch.testing.assert_close(found.covariance, closed.covariance, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.coefficients, closed.coefficients, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.loadings, closed.loadings, rtol=0, atol=1e-5)
    assert float(found.log_prob(x, f).mean() - closed.log_prob(x, f).mean()) == pytest.approx(0, abs=1e-9)


def test_density_and_latents_are_those_of_the_gaussian():
    x = _data(20)
    law = fit_linear_latent(_data(), 2)
    x[0, :3], x[1, 5], x[2] = math.nan, math.nan, math.nan
    gaussian = Gaussian(law.coefficients[0], law.covariance)
    density, z = law.log_prob(x), law.encode(x)
    for row, value, latent in zip(x, density, z, strict=True):
        seen = (~row.isnan()).nonzero()[:, 0]
        assert float(value) == pytest.approx(float(gaussian.marginal(seen).log_prob(row[seen])) if len(seen) else 0, abs=1e-10)
        W = law.loadings[seen]
        S = W @ W.mT + law.noise_variance * torch.eye(len(seen), dtype=torch.float64)
        wanted = W.mT @ torch.linalg.solve(S, row[seen] - law.coefficients[0, seen])
        torch.testing.assert_close(latent, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(law.decode(z), law.coefficients[0] + z @ law.loadings.mT)


def test_em_with_gaps_ends_where_the_likelihood_of_what_is_seen_is_flat():
    x = _data(120)
    x = x.masked_fill(noise.uniform((6,), seed=1, purpose="gaps", rows=len(x)) < 0.3, math.nan)
    result = fit_linear_latent_by_em(x, random_start(x, 2, seed=0), tolerance=0.0, max_iterations=5000)
    law = result.parameters
    assert (np.diff(result.bounds) > -1e-9).all()
    parts = [part.clone().requires_grad_() for part in (law.coefficients, law.loadings, law.noise_variance)]
    value = LinearLatent(*parts).log_prob(x).mean()
    assert value.item() == pytest.approx(result.bounds[-1], abs=1e-9)
    for slope in torch.autograd.grad(value, parts):
        assert slope.abs().max() < 1e-5


def test_chunks_give_what_one_batch_gives(monkeypatch):
    x = _data(50)
    x[::3, 1] = math.nan
    start = random_start(x, 2, seed=0)
    whole = fit_linear_latent_by_em(x, start, tolerance=0, max_iterations=5)
    monkeypatch.setattr("pushforward.probability.estimation.linear_latent._NUMBERS", 64)
    parts = fit_linear_latent_by_em(x, start, tolerance=0, max_iterations=5)
    np.testing.assert_allclose(parts.bounds, whole.bounds, rtol=1e-10)


def test_best_latent_dim_finds_the_truth():
    assert best_latent_dim(_data(1000)) == 2
    assert best_latent_dim(_data(1000, dim=8, q=4)) == 4
    assert best_latent_dim(_data(20, dim=1, q=1)) == 1
    assert best_latent_dim(_data(5, dim=30)) <= 4


def test_criterion_is_that_of_the_fitted_laws():
    x = _data(40, dim=5, q=3, std=1.5)
    n, size = x.shape
    scores = []
    for q in range(1, size):
        likelihood = float(fit_linear_latent(x, q).log_prob(x).sum())
        scores.append(-2 * likelihood + (q * size - q * (q - 1) / 2) * math.log(n))
    assert best_latent_dim(x) == int(np.argmin(scores)) + 1


def test_collinear_rows_keep_a_density():
    x = _data()
    x = torch.cat([x, x[:, :1]], 1)
    law = fit_linear_latent(x, 6)
    assert law.log_prob(x).isfinite().all()
    Gaussian(law.coefficients[0], law.covariance)
