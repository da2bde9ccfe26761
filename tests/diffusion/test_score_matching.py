"""Score matching on laws with a known score: values, constants between the losses, minimizers."""

import math

import pytest
import torch

from pushforward.diffusion import (
    denoising_score_matching,
    explicit_score_matching,
    implicit_score_matching,
    sliced_score_matching,
)
from pushforward.probability import Gaussian, GaussianMixture, noise

MIXTURE = GaussianMixture([0.4, 0.6], [[-1.0, 0.3], [1.0, -0.5]], [[0.3, 0.6], [0.5, 0.2]])
COV = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
LAW = Gaussian([0.5, -1.0], COV)


def wrong_score(x):
    """The score of no law near by, and not linear; its Jacobian is not symmetric."""
    return torch.stack((torch.tanh(x[:, 1]) - x[:, 0], 0.3 * x[:, 0] * x[:, 1] - 0.5 * x[:, 1]), 1)


def half_square(value):
    return value.square().sum(1) / 2


def standard_error(values):
    return values.std().item() / math.sqrt(len(values))


def test_explicit_is_the_distance_to_the_true_score():
    x = MIXTURE.sample(50, seed=0)
    true = torch.func.vmap(torch.func.grad(lambda row: MIXTURE.log_prob(row[None])[0]))(x)
    assert explicit_score_matching(MIXTURE.score, x, true).max() < 1e-20
    expected = 0.5 * ((wrong_score(x) - true) ** 2).sum(1)
    torch.testing.assert_close(explicit_score_matching(wrong_score, x, true), expected)


def test_implicit_differs_from_explicit_by_the_known_constant():
    """E implicit = E explicit - E |grad log p|^2 / 2."""
    x = MIXTURE.sample(40000, seed=0)
    true = MIXTURE.score(x)
    difference = implicit_score_matching(wrong_score, x) - explicit_score_matching(wrong_score, x, true) + half_square(true)
    assert abs(difference.mean().item()) < 4.5 * standard_error(difference)
    assert standard_error(difference) < 0.02
    # At the true score the loss is minus half the Fisher information.
    at_truth = implicit_score_matching(MIXTURE.score, x) + half_square(true)
    assert abs(at_truth.mean().item()) < 4.5 * standard_error(at_truth)


def test_sliced_has_the_mean_of_implicit_over_directions():
    x = MIXTURE.sample(5, seed=1)
    exact = implicit_score_matching(wrong_score, x)
    runs = torch.stack([sliced_score_matching(wrong_score, x, seed=seed) for seed in range(600)])
    assert ((runs.mean(0) - exact).abs() < 4.5 * runs.std(0) / math.sqrt(600) + 1e-12).all()
    many = sliced_score_matching(wrong_score, x, probes=64, seed=0)
    assert ((many - exact).abs() < 4.5 * runs.std(0) / 8 + 1e-12).all()
    torch.testing.assert_close(sliced_score_matching(wrong_score, x[2:], seed=4, first=2), runs[4][2:])


@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_denoising_is_explicit_for_the_noised_law_up_to_the_known_constant(sigma):
    """E denoising = E explicit + (D / sigma^2 - E |grad log p_sigma|^2) / 2 with x + sigma eps ~ p_sigma."""
    x = MIXTURE.sample(60000, seed=2)
    eps = noise.normal((2,), seed=3, purpose="test", rows=len(x), dtype=torch.float64)
    noised = x + sigma * eps
    true = MIXTURE.noised(1.0, sigma).score(noised)
    constant = half_square(eps / sigma) - half_square(true)
    loss = denoising_score_matching(wrong_score, x, eps, sigma)
    difference = loss - explicit_score_matching(wrong_score, noised, true) - constant
    assert abs(difference.mean().item()) < 4.5 * standard_error(difference)
    assert standard_error(difference) < 0.03
    torch.testing.assert_close(loss[:7], half_square(wrong_score(noised[:7]) + eps[:7] / sigma))
    each = denoising_score_matching(wrong_score, x[:3], eps[:3], torch.full((3,), sigma, dtype=torch.float64))
    torch.testing.assert_close(each, loss[:3])


def minimizer(loss, dim=2):
    """The affine score x -> A x + b of least mean loss: the losses are quadratic in (A, b), so one Newton step finds it."""
    count = dim * dim + dim

    def value(flat):
        A, b = flat[: dim * dim].reshape(dim, dim), flat[dim * dim :]
        return loss(lambda x: x @ A.T + b).mean()

    start = torch.zeros(count, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(value, start)
    hessian = torch.autograd.functional.hessian(value, start)
    flat = -torch.linalg.solve(hessian, gradient)
    return flat[: dim * dim].reshape(dim, dim), flat[dim * dim :]


@pytest.mark.parametrize("name", ["explicit", "implicit", "sliced", "denoising"])
def test_the_best_affine_score_is_that_of_the_gaussian(name):
    x, sigma = LAW.sample(40000, seed=0), 0.7
    eps = noise.normal((2,), seed=1, purpose="test", rows=len(x), dtype=torch.float64)
    losses = {
        "explicit": lambda score: explicit_score_matching(score, x, LAW.score(x)),
        "implicit": lambda score: implicit_score_matching(score, x),
        "sliced": lambda score: sliced_score_matching(score, x, seed=5),
        "denoising": lambda score: denoising_score_matching(score, x, eps, sigma),
    }
    A, b = minimizer(losses[name])
    cov = COV + (sigma**2 * torch.eye(2, dtype=torch.float64) if name == "denoising" else 0)
    precision = torch.linalg.inv(cov)
    tolerance = 1e-9 if name == "explicit" else 0.05
    torch.testing.assert_close(A, -precision, atol=tolerance, rtol=0)
    torch.testing.assert_close(b, precision @ LAW.mean, atol=tolerance, rtol=0)
    if name == "implicit":  # solved by the moments of the sample, exactly
        torch.testing.assert_close(A, -torch.linalg.inv(torch.cov(x.T, correction=0)), atol=1e-9, rtol=0)


def test_images_are_rows_too():
    x = MIXTURE.sample(6, seed=0).reshape(6, 1, 2, 1)

    def score(image):
        return wrong_score(image.flatten(1)).reshape(image.shape)

    flat = x.flatten(1)
    torch.testing.assert_close(implicit_score_matching(score, x), implicit_score_matching(wrong_score, flat))
    torch.testing.assert_close(
        denoising_score_matching(score, x, torch.ones_like(x), 0.5),
        denoising_score_matching(wrong_score, flat, torch.ones_like(flat), 0.5),
    )


def test_errors_say_what_to_write():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"true_score must have the shape of x, \(3, 2\), got \(3,\)"):
        explicit_score_matching(wrong_score, x, torch.zeros(3))
    with pytest.raises(ValueError, match=r"eps must have the shape of x"):
        denoising_score_matching(wrong_score, x, torch.zeros(1, 2), 1.0)
    for sigma in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"sigma must be positive"):
            denoising_score_matching(wrong_score, x, x, sigma)
    with pytest.raises(ValueError, match=r"probes must be at least 1, got 0"):
        sliced_score_matching(wrong_score, x, probes=0, seed=0)
