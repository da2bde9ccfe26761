"""Expectations by the density and by the CDF against closed forms, and the errors that they state."""

import math

import pytest
import torch

from pushforward.probability import EnergyLaw, Gaussian, GaussianMixture, TabulatedDensity, Uniform, expectations

NARROW = Gaussian([0.5], 0.09)
PAIR = GaussianMixture([0.3, 0.7], [[-1.0, 2.0], [1.0, 0.0]], [[[1.0, 0.4], [0.4, 0.5]], [[0.2, 0.0], [0.0, 2.0]]])
TABLE = TabulatedDensity([0.0, 1.0, 3.0], [0.0, 2.0, 0.0])  # a triangle


def double_factorial(k):
    return math.prod(range(k, 0, -2))


@pytest.mark.parametrize("k", [2, 4, 10])
def test_moments_of_a_gaussian(k):
    found = NARROW.expectation(lambda x: (x[:, 0] - 0.5) ** k)
    exact = 0.3**k * double_factorial(k - 1)
    assert found.value.item() == pytest.approx(exact, rel=1e-12)
    assert found.error.item() < 1e-12


def test_exponentials_and_waves():
    found = NARROW.expectation(lambda x: torch.stack(((2 * x[:, 0]).exp(), (3 * x[:, 0]).cos()), 1))
    exact = [math.exp(1 + 0.18), math.cos(1.5) * math.exp(-0.405)]
    torch.testing.assert_close(found.value, torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_mixture_in_the_plane_and_its_variance():
    found = PAIR.expectation(lambda x: x[:, :, None] * x[:, None, :])
    mean = PAIR.mean
    torch.testing.assert_close(found.value - torch.outer(mean, mean), PAIR.covariance)
    torch.testing.assert_close(PAIR.variance, PAIR.covariance.diagonal())
    characteristic = PAIR.expectation(lambda x: x.sum(1).cos()).value.item()
    exact = 0.3 * math.cos(1) * math.exp(-2.3 / 2) + 0.7 * math.cos(1) * math.exp(-2.2 / 2)
    assert characteristic == pytest.approx(exact, rel=1e-12)


def test_the_error_of_a_jump_covers_it():
    exact = 0.5 * math.erfc(-(1.0 - 0.5) / (0.3 * math.sqrt(2)))
    found = NARROW.expectation(lambda x: (x[:, 0] < 1.0).double())
    assert abs(found.value.item() - exact) <= 2 * found.error.item()
    assert 0 < found.error.item() < 1e-3


def test_what_a_grid_cannot_hold_is_part_of_the_error():
    # E exp(30 z) = exp(450), almost all of it beyond the grid.
    found = Gaussian([0.0], 1.0).expectation(lambda x: (30 * x[:, 0]).exp())
    assert found.error.item() > found.value.item() / 100


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_box(dim):
    law = Uniform([-1.0] * dim, [2.0] * dim)
    found = law.expectation(lambda x: x.exp().prod(1))
    assert found.value.item() == pytest.approx(((math.exp(2) - math.exp(-1)) / 3) ** dim, rel=1e-12)
    torch.testing.assert_close(law.expectation(lambda x: (x - law.mean) ** 2).value, law.variance.double())


def test_a_triangle():
    # The mean of a triangular law is that of its corners; the variance is the textbook's.
    assert TABLE.mean.item() == pytest.approx(4 / 3, rel=1e-12)
    assert TABLE.variance.item() == pytest.approx((0 + 1 + 9 - 0 - 0 - 3) / 18, rel=1e-12)
    assert TABLE.expectation(lambda x: torch.ones(len(x))).value.item() == pytest.approx(1, rel=1e-12)


def test_many_dimensions_are_drawn():
    law = Gaussian([1.0] * 5, 2.0)
    found = law.expectation(lambda x: x.square().sum(1), draws=20_000, seed=1)
    assert found.evaluations == 20_000
    assert abs(found.value.item() - 15) < 4 * found.error.item()
    # Var |x|^2 = sum over coordinates of 2 s^4 + 4 m^2 s^2.
    assert found.error.item() == pytest.approx(math.sqrt(5 * (8 + 8) / 20_000), rel=0.05)
    with pytest.raises(ValueError, match="draws >= 2"):
        law.expectation(lambda x: x[:, 0], draws=1)


def test_by_the_cdf_without_a_density():
    exponential = expectations.by_cdf(lambda x: x**3, lambda x: -torch.expm1(-2 * x.clamp(min=0)))
    assert exponential.value.item() == pytest.approx(6 / 8, rel=1e-9)
    logistic = expectations.by_cdf(lambda x: x**2, torch.sigmoid)
    assert logistic.value.item() == pytest.approx(math.pi**2 / 3, rel=1e-9)
    # A law with an atom: 0 with probability 1/4, else uniform on [0, 1].
    atom = expectations.by_cdf(lambda x: x**2, lambda x: torch.where(x < 0, 0.0, 0.25 + 0.75 * x.clamp(max=1)))
    assert abs(atom.value.item() - 0.25) <= 2 * atom.error.item() + 1e-9
    assert atom.error.item() < 0.01


def test_both_forms_agree():
    by_density = TABLE.expectation(lambda x: x[:, 0].sin()).value.item()
    by_cdf = expectations.by_cdf(torch.sin, TABLE.cdf)
    assert by_cdf.value.item() == pytest.approx(by_density, abs=max(1e-9, 2 * by_cdf.error.item()))


def test_a_wrong_function_is_refused():
    with pytest.raises(ValueError, match="one row for each of"):
        NARROW.expectation(lambda x: x.sum())
    with pytest.raises(ValueError, match=r"f must be finite .* x = \["):
        Uniform([0.0], [1.0]).expectation(lambda x: (x[:, 0] - 0.5).log())


def test_the_partition_function_of_a_box_is_unchanged():
    law = EnergyLaw(lambda x: 0.5 * (x**2).sum(-1), dim=2)
    found = law.log_partition([[-10, 10], [-10, 10]])
    assert found.value == pytest.approx(math.log(2 * math.pi), abs=1e-9)
