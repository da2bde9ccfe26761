"""Mixtures of products against sums over all levels, integrals by quadrature, SciPy, and shares of many draws."""

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pushforward.probability.laws.products import ANY, ANY_BUT_LAST, ProductMixture

as_double = functools.partial(torch.tensor, dtype=torch.float64)
TABLES = [as_double([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), as_double([[0.95, 0.05], [0.4, 0.6]])]
COVS = as_double([[[1.0, 0.6], [0.6, 2.0]], [[0.5, -0.2], [-0.2, 0.3]]])
LAW = ProductMixture([0.3, 0.7], [[0.0, 1.0], [2.0, -1.0]], COVS, TABLES)
NAN = float("nan")


def brute(z, levels):
    """The density of a whole row."""
    total = 0.0
    for k in range(2):
        each = stats.multivariate_normal(LAW.means[k], LAW.covs[k]).pdf(z)
        total += LAW.weights[k].item() * each * np.prod([TABLES[j][k, level].item() for j, level in enumerate(levels)])
    return total


def density(z, levels):
    return LAW.log_prob(torch.tensor([z], dtype=torch.float64), torch.tensor([levels])).exp().item()


def test_whole_rows_have_the_density_of_the_formula_and_it_sums_to_one():
    for levels in itertools.product(range(3), range(2)):
        np.testing.assert_allclose(density([0.4, -0.3], levels), brute([0.4, -0.3], levels), rtol=1e-12)
    side = torch.linspace(-9, 11, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    mass = LAW.log_prob(grid, torch.tensor([[2, 1]]).expand(len(grid), -1)).exp().sum().item() * 0.05**2
    np.testing.assert_allclose(density([NAN, NAN], [2, 1]), mass, rtol=1e-9)
    total = sum(density([NAN, NAN], levels) for levels in itertools.product(range(3), range(2)))
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_unknown_parts_are_summed_and_integrated_out():
    np.testing.assert_allclose(density([0.4, -0.3], [ANY, 1]), sum(brute([0.4, -0.3], [a, 1]) for a in range(3)), rtol=1e-12)
    but_last = sum(brute([0.4, -0.3], [a, 0]) for a in range(2))
    np.testing.assert_allclose(density([0.4, -0.3], [ANY_BUT_LAST, 0]), but_last, rtol=1e-12)
    marginal = integrate.quad(lambda b: brute([0.4, b], [1, 1]), -9, 9)[0]
    np.testing.assert_allclose(density([0.4, NAN], [1, 1]), marginal, rtol=1e-8)


def test_the_mean_of_laws_has_the_mean_of_their_densities():
    other = ProductMixture([1.0], [[1.0, 1.0]], COVS[:1], [table[:1] for table in TABLES])
    mean = ProductMixture.mean([LAW, LAW, other])
    z, levels = as_double([[0.4, -0.3], [NAN, 1.0]]), torch.tensor([[2, 1], [0, ANY]])
    expected = (2 * LAW.log_prob(z, levels).exp() + other.log_prob(z, levels).exp()) / 3
    np.testing.assert_allclose(mean.log_prob(z, levels).exp(), expected, rtol=1e-12)


def test_draws_given_a_part_have_the_shares_of_joint_over_marginal():
    n = 40_000
    z = torch.tensor([[0.5, NAN]], dtype=torch.float64).expand(n, -1)
    levels = torch.tensor([[ANY_BUT_LAST, 1]]).expand(n, -1)
    drawn_z, drawn = LAW.fill(z, levels, LAW.log_joint(z, levels), seed=0)
    known = density([0.5, NAN], [ANY_BUT_LAST, 1])
    shares = [density([0.5, NAN], [a, 1]) / known for a in range(2)]
    found = [(drawn[:, 0] == a).double().mean().item() for a in range(2)]
    np.testing.assert_allclose(found, shares, atol=4 * 0.5 / n**0.5)
    assert not (drawn[:, 0] == 2).any()
    first = drawn[:, 0] == 0

    def cdf(b):
        return integrate.quad(lambda t: brute([0.5, t], [0, 1]), -9, b)[0] / density([0.5, NAN], [0, 1])

    for b in (-1.0, 0.5):
        at_most = (drawn_z[first, 1] <= b).double().mean().item()
        assert at_most == pytest.approx(cdf(b), abs=4 * 0.5 / first.sum().item() ** 0.5)
    assert (drawn_z[:, 0] == 0.5).all()


def test_rows_are_the_same_alone_and_among_others():
    z, levels = LAW.sample(50, seed=3)
    later_z, later = LAW.sample(10, seed=3, first=40)
    torch.testing.assert_close(later_z, z[40:])
    assert torch.equal(later, levels[40:])


def test_an_impossible_level_is_never_drawn():
    law = ProductMixture([1.0], torch.empty(1, 0), torch.empty(1, 0), [as_double([[0.0, 1.0, 0.0]])])
    _, levels = law.sample(2000, seed=0)
    assert (levels == 1).all()
    assert law.log_prob(torch.empty(1, 0).double(), torch.tensor([[2]])).item() == -np.inf


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([torch.tensor([[0.5, 0.4], [0.5, 0.5]])], "sum over the levels is 1"),
        ([torch.tensor([[0.5, 0.5]])], r"needs \(2, L\)"),
        ([], "at least one number or level"),
    ],
)
def test_what_is_no_law_is_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        ProductMixture([0.5, 0.5], torch.empty(2, 0), torch.empty(2, 0), tables)
