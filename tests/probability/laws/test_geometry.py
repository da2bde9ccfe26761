"""Ellipsoids and shells against SciPy's chi law, the density itself and draws."""

import math

import numpy as np
import pytest
import torch
from laws import FORMS, moments, random_gaussian
from scipy import integrate, stats

from pushforward.probability import Gaussian
from pushforward.probability.laws.geometry import Shell


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 1000, 100_000])
def test_the_radius_follows_chi(dim):
    shell, chi = Shell(dim), stats.chi(dim)
    assert shell.mean == pytest.approx(chi.mean(), rel=1e-12)
    assert shell.std == pytest.approx(chi.std(), rel=1e-5)
    for p in (0.0, 0.01, 0.5, 0.999):
        assert shell.quantile(p) == pytest.approx(chi.ppf(p), rel=1e-12)
    r = np.linspace(0.5, 2.0, 7) * math.sqrt(dim)
    np.testing.assert_allclose(shell.log_prob(torch.from_numpy(r)).numpy(), chi.logpdf(r), rtol=1e-9, atol=1e-8)


def test_the_density_of_the_radius_integrates_and_is_zero_below_zero():
    for dim in (1, 2, 5):
        law = Shell(dim)
        total = integrate.quad(lambda r, law=law: math.exp(law.log_prob(torch.tensor(r, dtype=torch.float64)).item()), 0, 12)[0]
        assert total == pytest.approx(1, abs=1e-10)
    assert Shell(3).log_prob(torch.tensor([-1.0, 0.0])).tolist() == [-math.inf, -math.inf]
    assert Shell(1).log_prob(torch.tensor(-1.0)).item() == -math.inf
    assert Shell(1).log_prob(torch.tensor(0.0)).item() == pytest.approx(math.log(2 / math.sqrt(2 * math.pi)), abs=1e-7)
    assert Shell(3).log_prob(torch.tensor([1, 2])).dtype == torch.float64
    assert Shell(3).log_prob(torch.ones(2, 4, dtype=torch.float32)).dtype == torch.float32


def test_mass_lives_near_the_square_root_of_the_dimension_and_not_at_the_mean():
    law = random_gaussian(0, 400)
    mean, cov = moments(law)
    x = law.sample(4000, seed=1).numpy() - mean
    radius = np.sqrt(np.einsum("ni,ni->n", x, np.linalg.solve(cov, x.T).T))
    assert stats.kstest(radius, stats.chi(400).cdf).pvalue > 0.01
    assert radius.min() > 17
    assert law.shell().std == pytest.approx(math.sqrt(0.5), rel=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_axes_span_the_covariance(form):
    law = random_gaussian(3, 4, form)
    axes = law.principal_axes(2.0)
    directions, lengths = axes.directions.numpy(), axes.lengths.numpy()
    np.testing.assert_allclose(directions @ directions.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(directions.T @ np.diag(lengths**2 / 4) @ directions, moments(law)[1], atol=1e-12)
    assert (np.diff(lengths) <= 0).all()
    assert (directions[range(4), np.abs(directions).argmax(1)] > 0).all()
    assert torch.equal(axes.center, law.mean)
    assert axes.radius == 2.0


def test_ends_of_the_axes_lie_on_one_level_set():
    """Half-lengths are square roots of eigenvalues: with the eigenvalues themselves the densities would differ."""
    law = Gaussian([1.0, -1.0], [[4.0, 1.0], [1.0, 0.5]])
    axes = law.principal_axes(1.5)
    ends = axes.center + axes.lengths[:, None] * axes.directions
    expected = law.log_prob(law.mean) - 1.5**2 / 2
    torch.testing.assert_close(law.log_prob(ends), expected.expand(2), rtol=1e-12, atol=1e-12)


def test_the_ellipsoid_of_a_quantile_holds_its_mass():
    law = random_gaussian(5, 3)
    axes = law.principal_axes(law.shell().quantile(0.9))
    along = (law.sample(20000, seed=2) - axes.center) @ axes.directions.mT / axes.lengths
    assert (along.square().sum(1) < 1).double().mean().item() == pytest.approx(0.9, abs=0.007)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"p is a probability in \[0, 1\), but is 1"):
        Shell(2).quantile(1.0)
    with pytest.raises(ValueError, match="dim must be at least 1, but is 0"):
        Shell(0)
    with pytest.raises(ValueError, match="radius must be positive and finite, but is -1"):
        Gaussian([0.0], 1.0).principal_axes(-1.0)
