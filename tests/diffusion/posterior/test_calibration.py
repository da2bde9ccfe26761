"""Draws of the default method are calibrated at its default steps: on Gaussians, on mixtures, and with a rough denoiser."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chisquare
from thin import thinned

from pushforward.diffusion import (
    MMPS,
    Cosine,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    Matrix,
    Observation,
    StraightLine,
    SubVP,
    observe,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

STEPS = 20
COV = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), Exploding(), DiscreteBeta()]


def starts(n, dim):
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def whitened(x, truth):
    """Return draws of a Gaussian as rows of N(0, I)."""
    return torch.linalg.solve_triangular(torch.linalg.cholesky(truth.covariance), (x - truth.mean).mT, upper=False).mT


@thinned(together=1, noise=(0.01, 0.03, 0.1, 0.3, 1.0), schedule=SCHEDULES)
def test_standard_deviations_on_gaussians(schedule, noise):
    """Within 3 % in each coordinate and each principal direction of the posterior, from 6,000 rows."""
    law, A, y = Gaussian([0.0, 0.0], COV), [[1.0, 0.0]], [1.2]
    x = MMPS().run(ExactDenoiser(law, schedule), observe(Matrix(A), y, noise, (2,)), starts(6000, 2), steps=STEPS, seed=0)
    truth = law.observe(A, y, noise)
    values, vectors = torch.linalg.eigh(truth.covariance)
    np.testing.assert_allclose(x.std(0) / truth.covariance.diagonal().sqrt(), 1, atol=0.03)
    np.testing.assert_allclose((x @ vectors).std(0) / values.sqrt(), 1, atol=0.03)
    np.testing.assert_allclose(((x - truth.mean) @ vectors).mean(0) / values.sqrt(), 0, atol=0.05)


def test_many_correlated_coordinates():
    """Half of eight, where two products with V do not give its exact root."""
    root = np.random.default_rng(0).normal(size=(8, 8)) / math.sqrt(8)
    law = Gaussian(np.zeros(8), root @ root.T + 0.05 * np.eye(8))
    A, y = np.eye(8)[:4], [0.7, -0.4, 1.0, 0.2]
    x = MMPS().run(ExactDenoiser(law, StraightLine()), observe(Matrix(A), y, 0.1, (8,)), starts(6000, 8), steps=STEPS, seed=0)
    truth = law.observe(A, y, 0.1)
    np.testing.assert_allclose(x.std(0) / truth.covariance.diagonal().sqrt(), 1, atol=0.03)


MIXTURES = {
    "two": GaussianMixture([0.5, 0.5], [[-1.0, 1.0], [1.0, -1.0]], [0.05, 0.05]),
    "unequal": GaussianMixture([0.9, 0.1], [[-0.3, 0.3], [2.0, -2.0]], [0.3, 0.1]),
    "three": GaussianMixture([0.3, 0.3, 0.4], [[-1.5, 0.3], [0.0, 1.0], [1.5, -1.0]], [0.2, 0.1, 0.3]),
}


@pytest.mark.parametrize("law", MIXTURES.values(), ids=MIXTURES)
def test_ranks_on_mixtures(law):
    """Simulation-based calibration: the rank of x among 15 draws given its measurement is uniform."""
    count, draws, noise = 600, 15, 0.1
    A = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    x = law.sample(count, seed=0)
    y = x @ A.mT + noise * torch.randn(count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = Observation(Matrix(A), y.repeat_interleave(draws, 0), torch.full((1,), noise, dtype=torch.float64))
    made = MMPS().run(ExactDenoiser(law, StraightLine()), seen, starts(count * draws, 2), steps=STEPS, seed=0)
    ranks = (made.reshape(count, draws, 2) < x[:, None]).sum(1)
    for k in range(2):
        assert chisquare(np.bincount(ranks[:, k], minlength=draws + 1)).pvalue > 1e-3


class Rough(AbstractDenoiser):
    """The exact denoiser of a Gaussian with the error of a network: small in value, and of a size in the Jacobian."""

    def __init__(self, law, schedule, seed):
        super().__init__()
        self.schedule, self.exact = schedule, ExactDenoiser(law, schedule)
        generator = torch.Generator().manual_seed(seed)
        self.waves = 5 * torch.randn(2, 16, dtype=torch.float64, generator=generator)
        self.heights = 0.02 * torch.randn(16, 2, dtype=torch.float64, generator=generator)

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t).double(), self.schedule.sigma(t).double()
        size = (alpha**2 + sigma**2).sqrt()
        return self.exact(x_t, t) + sigma / size * (torch.sin(x_t / size @ self.waves) @ self.heights)


@thinned(together=1, seed=(0, 1, 2), schedule=(StraightLine(), LinearBeta()), noise=(0.0, 0.1))
def test_no_row_runs_away_with_a_rough_denoiser(seed, schedule, noise):
    """Of 2,000 rows none is beyond the radius that 2 in 1,000,000 exact rows exceed, widened by a third."""
    law, A, y = Gaussian([0.0, 0.0], COV), [[1.0, 0.0]], [1.2]
    x = MMPS().run(Rough(law, schedule, seed), observe(Matrix(A), y, noise, (2,)), starts(2000, 2), steps=STEPS, seed=seed)
    truth = law.observe(A, y, max(noise, 0.02))
    distance = whitened(x, truth).norm(dim=1)
    assert distance.max() < 4 / 3 * math.sqrt(chi2.isf(2e-6, 2))
