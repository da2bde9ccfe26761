"""EM for mixtures, against scikit-learn from the same start, and against what EM must never do."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from thin import thinned

from pushforward.probability import GaussianMixture, noise
from pushforward.probability.estimation.mixture_em import (
    fit_mixture,
    fit_mixture_in_batches,
    free_numbers,
    moments,
    start_mixture,
)

FORMS = ("full", "diag", "tied", "spherical")


def _data(n=600, dim=3, shift=0.0):
    centers = torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 1.0], [0.0, 4.0, -1.0]], dtype=torch.float64)[:, :dim]
    z = noise.normal((dim,), seed=0, purpose="test", rows=n, dtype=torch.float64)
    z[:, 0] += 0.6 * z[:, -1]
    return centers[torch.arange(n) % 3] + z + shift


def _start(form, x):
    means = x[[0, 1, 2]]
    cov = torch.cov(x.mT)
    covs = {
        "full": cov.repeat(3, 1, 1),
        "tied": cov.repeat(3, 1, 1),
        "diag": cov.diag().repeat(3, 1),
        "spherical": cov.diag().mean().repeat(3),
    }
    return GaussianMixture([0.2, 0.3, 0.5], means, covs[form])


def _precisions(start, form):
    if form in ("full", "tied"):
        inverse = torch.linalg.inv(start.covs).numpy()
        return inverse if form == "full" else inverse[0]
    return (1 / start.covs).numpy()


@pytest.mark.parametrize("form", FORMS)
def test_same_optimum_as_scikit_learn_from_the_same_start(form):
    x = _data(shift=5.0)
    start = _start(form, x)
    peer = Peer(
        3,
        covariance_type=form,
        tol=1e-16,
        max_iter=2000,
        reg_covar=0.0,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=_precisions(start, form),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(x.numpy())
    result = fit_mixture(x, start, covariance=form, tolerance=1e-16, max_iterations=2000)
    law = result.parameters
    np.testing.assert_allclose(law.weights, peer.weights_, atol=1e-6)
    np.testing.assert_allclose(law.means, peer.means_, atol=1e-6)
    covs = law.covs[0] if form == "tied" else law.covs
    np.testing.assert_allclose(covs, peer.covariances_, atol=1e-6)
    np.testing.assert_allclose(law.log_prob(x), peer.score_samples(x.numpy()), atol=1e-6)
    assert abs(result.bounds[-1] - peer.score(x.numpy())) < 1e-9


@thinned(together=1, form=FORMS, gaps=[False, True])
def test_the_bound_never_falls_and_is_the_likelihood(form, gaps):
    x = _data()
    if gaps:
        x = x.masked_fill(noise.uniform((3,), seed=1, purpose="gaps", rows=len(x)) < 0.3, math.nan)
    floor = 0.3 * x.square().nanmean(0)  # high enough to bind
    result = fit_mixture(x, start_mixture(x, 5, covariance=form, seed=0), covariance=form, floor=floor, tolerance=1e-9)
    assert (np.diff(result.bounds) > -1e-9).all()
    assert len(result.bounds) > 3
    now = moments(result.parameters, x)
    assert now.log_likelihood == pytest.approx(result.bounds[-1], abs=1e-9)
    smallest = torch.linalg.eigvalsh(result.parameters.components.full_covs / floor.sqrt() / floor.sqrt()[:, None])[:, 0]
    if form == "spherical":
        assert result.parameters.covs.min() > floor.mean() * (1 - 1e-9)
    else:
        assert smallest.min() > 1 - 1e-9


def test_one_variance_for_all_coordinates_stays_above_the_mean_floor():
    x = torch.cat([torch.zeros(50, 2), torch.ones(50, 2)]).double() + 1e-3 * _data(100, dim=2)
    start = start_mixture(x, 2, covariance="spherical", seed=0)
    law = fit_mixture(x, start, covariance="spherical", floor=torch.tensor([0.02, 0.04]).double()).parameters
    torch.testing.assert_close(law.covs, torch.full((2,), 0.03).double())


def test_one_gaussian_with_gaps_is_the_maximum_of_the_likelihood_of_what_is_seen():
    x = _data(200, dim=2)
    x = x.masked_fill(noise.uniform((2,), seed=1, purpose="gaps", rows=len(x)) < 0.3, math.nan)
    start = GaussianMixture([1.0], x.nanmean(0)[None], torch.eye(2, dtype=torch.float64)[None])
    law = fit_mixture(x, start, tolerance=0.0, max_iterations=5000).parameters
    mean = law.means[0].clone().requires_grad_()
    cov = law.covs[0].clone().requires_grad_()
    total = x.new_zeros(())
    for row in x:
        seen = ~row.isnan()
        if seen.any():
            total = total + torch.distributions.MultivariateNormal(mean[seen], cov[seen][:, seen]).log_prob(row[seen])
    slopes = torch.autograd.grad(total / len(x), (mean, cov))
    for slope in slopes:
        assert slope.abs().max() < 1e-6


def test_moments_of_complete_rows_are_sums_over_responsibilities():
    x = _data(100)
    for form in FORMS:
        law = _start(form, x)
        r, found = law.responsibilities(x), moments(law, x)
        torch.testing.assert_close(found.weight, r.mean(0))
        torch.testing.assert_close(found.first, r.mT @ x / len(x))
        second = torch.einsum("nk,ni,nj->kij", r, x, x) / len(x)
        torch.testing.assert_close(found.second, second if found.second.ndim == 3 else second.diagonal(dim1=1, dim2=2))
        assert found.log_likelihood == pytest.approx(float(law.log_prob(x).mean()), abs=1e-12)


def test_batches_come_close_to_the_optimum():
    x = _data(6000)
    start = start_mixture(x, 3, seed=0)
    best = fit_mixture(x, start, tolerance=1e-9).bounds[-1]
    order = noise.permutation(len(x), seed=0, purpose="test")
    found = fit_mixture_in_batches(lambda: x[order].split(300), start, passes=8, tolerance=0.0)
    assert float(found.parameters.log_prob(x).mean()) > best - 3e-3
    with pytest.raises(ValueError, match="gave no rows"):
        fit_mixture_in_batches(list, start)


def test_start_finds_clusters_in_any_unit_and_names_its_randomness():
    x = _data() * torch.tensor([1.0, 1000.0, 1e-3], dtype=torch.float64)
    law = start_mixture(x, 3, seed=0)
    near = (x[:3, None] - law.means).abs() / x.std(0)
    assert near.sum(-1).min(0).values.max() < 3
    assert torch.equal(start_mixture(x, 3, seed=0).means, law.means)
    assert (
        len(start_mixture(torch.zeros(5, 1, dtype=torch.float64) + torch.tensor([[0.0]] * 4 + [[1.0]]), 4, seed=0).weights) == 2
    )


@pytest.mark.parametrize("form", FORMS)
def test_free_numbers_are_those_of_scikit_learn(form):
    x = _data(100).numpy()
    assert free_numbers(3, 3, form) == Peer(3, covariance_type=form, random_state=0).fit(x)._n_parameters()
