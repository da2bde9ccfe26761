"""Boltzmann laws against closed-form densities, scores and partition functions."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from pushforward.probability import Gaussian, GaussianMixture
from pushforward.probability.draw import importance
from pushforward.probability.laws.energy import EnergyLaw

MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]]])
BOX = [[-8.0, 8.0], [-8.0, 8.0]]


@pytest.fixture
def x():
    return torch.randn(9, 2, dtype=torch.float64)


def test_score_is_that_of_the_law_and_not_its_negative(x):
    law = EnergyLaw(lambda x: -MIXTURE.log_prob(x), dim=2)
    torch.testing.assert_close(law.score(x), MIXTURE.score(x), rtol=1e-10, atol=1e-12)
    spring = EnergyLaw(lambda x: 0.5 * (x**2).sum(-1), dim=2)
    torch.testing.assert_close(spring.score(x), -x)
    torch.testing.assert_close(law.log_unnormalized(x), MIXTURE.log_prob(x))


def test_score_ignores_the_partition_function(x):
    law, shifted = (EnergyLaw(lambda x, c=c: c - MIXTURE.log_prob(x), dim=2) for c in (0.0, 7.5))
    torch.testing.assert_close(shifted.score(x), law.score(x), rtol=0, atol=0)
    assert shifted.log_partition(BOX).value == pytest.approx(law.log_partition(BOX).value - 7.5, abs=1e-9)
    torch.testing.assert_close(shifted.normalized(BOX).log_prob(x), law.normalized(BOX).log_prob(x), rtol=0, atol=1e-9)


def test_score_works_without_grad_on_any_batch_shape_and_can_be_differentiated(x):
    law = EnergyLaw(lambda x: (x**4).sum(-1) / 4, dim=2)
    with torch.no_grad():
        score = law.score(x.reshape(3, 3, 2))
    torch.testing.assert_close(score, -(x.reshape(3, 3, 2) ** 3))
    assert not score.requires_grad
    assert not x.requires_grad
    x.requires_grad_()
    (second,) = torch.autograd.grad(law.score(x).sum(), x)
    torch.testing.assert_close(second, -3 * x.detach() ** 2)


def test_partition_functions_with_a_closed_form():
    quartic = EnergyLaw(lambda x: x[..., 0] ** 4, dim=1).log_partition([[-6, 6]])
    assert quartic.value == pytest.approx(math.log(2 * special.gamma(1.25)), abs=1e-10)
    assert quartic.error <= 1e-9
    normal = EnergyLaw(lambda x: -MIXTURE.log_prob(x), dim=2).log_partition(BOX)
    assert normal.value == pytest.approx(0, abs=1e-10)
    # A box that is not centered, with unequal edges: the area times a linear tilt.
    tilt = EnergyLaw(lambda x: x[..., 0], dim=2).log_partition([[0, 2], [3, 8]])
    assert tilt.value == pytest.approx(math.log((1 - math.exp(-2)) * 5), abs=1e-12)


def test_partition_function_of_a_sharp_law_and_of_a_tiny_one():
    """A peak 1/1000 of the box wide needs many halvings; a constant of 2000 would underflow outside log space."""
    sharp = EnergyLaw(lambda x: 0.5 * ((x[..., 0] - 0.3) / 0.01) ** 2 + 2000, dim=1).log_partition([[-5, 5]])
    assert sharp.value == pytest.approx(math.log(0.01 * math.sqrt(2 * math.pi)) - 2000, abs=1e-9)
    kink = EnergyLaw(lambda x: (x[..., 0] - 0.1).abs(), dim=1).log_partition([[-5, 5]], tolerance=1e-7)
    truth = integrate.quad(lambda t: math.exp(-abs(t - 0.1)), -5, 5, points=[0.1])[0]
    assert abs(kink.value - math.log(truth)) < 1e-6


def test_normalized_law_is_a_density_on_its_box(x):
    law = EnergyLaw(lambda x: -MIXTURE.log_prob(x) + 3, dim=2).normalized(BOX)
    torch.testing.assert_close(law.log_prob(x), MIXTURE.log_prob(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(law.score(x), MIXTURE.score(x))
    assert law.dim == 2
    half = EnergyLaw(lambda x: 0.5 * (x**2).sum(-1), dim=1).normalized([[0, 9]])
    points = torch.tensor([[-0.5], [0.5], [9.5]], dtype=torch.float64)
    np.testing.assert_allclose(half.log_prob(points).numpy(), stats.halfnorm.logpdf(points[:, 0].numpy()) * [1, 1, math.inf])


def test_in_many_dimensions_importance_sampling_gives_the_partition_function():
    law = EnergyLaw(lambda x: (x**2).sum(-1), dim=5)
    with pytest.raises(ValueError, match=r"quadrature in 5 dimensions would need about 1000\^5 energies; estimate Z by"):
        law.log_partition([[-5, 5]] * 5)
    estimate = importance(law.log_unnormalized, Gaussian([0.0] * 5, 0.7), 20_000, seed=0).normalizer()
    assert abs(estimate.value - math.pi**2.5) < 3 * estimate.standard_error
    assert estimate.standard_error < 0.01 * estimate.value


def test_a_network_in_float32_is_an_energy():
    network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    law = EnergyLaw(lambda x: network(x)[..., 0], dim=1)
    result = law.log_partition([[-2, 2]], tolerance=1e-5, dtype=torch.float32)
    grid = torch.linspace(-2, 2, 4001)[:, None]
    truth = torch.trapezoid((-network(grid)[:, 0]).exp(), grid[:, 0]).log().item()
    assert result.value == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([[-1, 1]], r"each of 2 dimensions, \(2, 2\), but has the shape \(1, 2\)"),
        ([[-1, 1], [1, -1]], r"bounds\[1\] goes from 1 to -1; the low end comes first"),
        ([[-1, 1], [0, math.inf]], r"bounds must be finite"),
    ],
)
def test_bad_boxes_say_what_is_wrong(bounds, message):
    with pytest.raises(ValueError, match=message):
        EnergyLaw(lambda x: x.sum(-1), dim=2).log_partition(bounds)


def test_bad_energies_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"one number per point, \(3,\), but returned \(3, 1\)"):
        EnergyLaw(lambda x: x, dim=1).score(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="x has 2 columns, but the law lives in 1 dimensions"):
        EnergyLaw(lambda x: x.sum(-1), dim=1).score(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"the energy is NaN at x = \[-0\.9"):
        EnergyLaw(lambda x: x[..., 0].sqrt(), dim=1).log_partition([[-1, 1]])
    with pytest.raises(ValueError, match="log Z is -inf on these bounds"):
        EnergyLaw(lambda x: torch.full_like(x[..., 0], math.inf), dim=1).log_partition([[-1, 1]])
    with pytest.raises(ValueError, match="dim must be at least 1, but is 0"):
        EnergyLaw(lambda x: x.sum(-1), dim=0)
    noisy = EnergyLaw(lambda x: torch.where(x[..., 0] > 0.1234, 0.0, 9.0), dim=1)
    with pytest.raises(RuntimeError, match=r"log Z still moved by .* above tolerance = 1e-12; tighten the bounds"):
        noisy.log_partition([[-1, 1]], tolerance=1e-12)
