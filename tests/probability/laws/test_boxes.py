"""Mixtures of uniform laws against quadrature."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pushforward.probability.laws.boxes import UniformMixture

LAW = UniformMixture([0.3, 0.7], [[-1.0], [1.5]], [[0.0], [3.5]])


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.5), (0.6, 0.8), (0.05, 1.0), (0.9, 0.02), (6e-4, 1.0), (1e-4, 1.0)])
@pytest.mark.parametrize("x_t", [-0.7, 0.4, 2.0, 5.0])
def test_the_denoiser_is_the_mean_of_the_posterior(alpha, sigma, x_t):
    def moment(power):
        def part(low, high, share):
            def density(x):
                return x**power * np.exp(stats.norm.logpdf(x_t, alpha * x, sigma) - highest)

            peak = np.clip(x_t / alpha, low, high)
            return (
                share / (high - low) * integrate.quad(density, low, high, points=[peak], limit=500, epsabs=0, epsrel=1e-11)[0]
            )

        return part(-1.0, 0.0, 0.3) + part(1.5, 3.5, 0.7)

    nearest = min((abs(x_t / alpha - np.clip(x_t / alpha, *box)), np.clip(x_t / alpha, *box)) for box in ((-1, 0), (1.5, 3.5)))[
        1
    ]
    highest = stats.norm.logpdf(x_t, alpha * nearest, sigma)
    found = LAW.denoised(torch.tensor([[x_t]]), alpha, sigma).item()
    assert found == pytest.approx(moment(1) / moment(0), rel=1e-7, abs=1e-9)


def test_the_ends_of_the_noise():
    x = torch.tensor([[2.0], [-0.5]], dtype=torch.float64)
    torch.testing.assert_close(LAW.denoised(0.5 * x, 0.5, 0.0), x)
    torch.testing.assert_close(LAW.denoised(x, 0.0, 1.0), LAW.mean.expand(2, 1))
    torch.testing.assert_close(LAW.denoised(x, 1e-7, 1.0), LAW.mean.expand(2, 1), rtol=1e-5, atol=0)
    for alpha in (1e-5, 0.9e-3, 1.1e-3, 2.1e-3):  # on both sides of the switch between the formulas; the slope is the variance
        slope = (LAW.denoised(x, alpha, 2.0) - LAW.mean) / (alpha * x / 4)
        torch.testing.assert_close(slope, LAW.variance.expand(2, 1), rtol=8e-3, atol=0)


def test_moments_and_density_are_those_of_the_draws():
    law = UniformMixture([0.25, 0.75], [[0.0, 0.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]])
    x = law.sample(40_000, seed=0)
    torch.testing.assert_close(x.mean(0), law.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.var(0), law.variance, atol=0.03, rtol=0)
    assert law.log_prob(torch.tensor([[0.5, 1.0], [2.5, 1.5], [1.5, 1.5]])).exp().tolist() == pytest.approx([0.125, 0.25, 0.0])
    torch.testing.assert_close(law.sample(5, seed=3)[2:], law.sample(3, seed=3, first=2))
    scale, shift = torch.tensor([-2.0, 0.5]).double(), torch.tensor([1.0, -1.0]).double()
    moved = law.affine(scale.diag(), shift)
    torch.testing.assert_close(moved.log_prob(scale * x[:9] + shift), law.log_prob(x[:9]))


def test_what_are_no_boxes_is_refused():
    for arguments, said in (
        (([1.0], [[0.0]], [[0.0]]), "below high"),
        (([0.5], [[0.0]], [[1.0]]), "sum to one"),
        (([1.0], [[0.0]], [[1.0, 2.0]]), "shapes"),
    ):
        with pytest.raises(ValueError, match=said):
            UniformMixture(*arguments)
    with pytest.raises(ValueError, match="diagonal"):
        UniformMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]]).affine([[1.0, 1.0], [0.0, 1.0]], [0.0, 0.0])
