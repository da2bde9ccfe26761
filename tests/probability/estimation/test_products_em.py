"""EM for mixtures of products: SciPy's truncated Gaussians, direct maximization, and recovery of a known law."""

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from pushforward.probability.estimation.mixture_em import Form, fit_mixture, start_mixture
from pushforward.probability.estimation.products_em import (
    Fitted,
    Intervals,
    Shares,
    fit_products,
    start_products,
    truncated_normal,
)
from pushforward.probability.laws.products import ANY, ProductMixture

as_double = functools.partial(torch.tensor, dtype=torch.float64)
EDGES = as_double([-np.inf, -1.0, 0.0, 0.5, np.inf])
NAN = float("nan")


def known_law():
    """Two components: a number that some rows lack, a category, an integer of four intervals with gaps."""
    covs = as_double([[[0.5]], [[0.8]]])
    intervals = Intervals(EDGES, 1e-3).table(as_double([[-1.0, 0.7], [0.8, 1.2]]))
    present = as_double([[0.9], [0.6]])
    tables = [
        as_double([[0.8, 0.2], [0.3, 0.7]]),
        as_double([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]),
        torch.cat([intervals * present, 1 - present], 1),
    ]
    return ProductMixture([0.4, 0.6], torch.tensor([[-2.0], [2.0]]), covs, tables)


@pytest.fixture(scope="module")
def rows():
    z, levels = known_law().sample(4000, seed=0)
    z[levels[:, 0] == 1] = NAN  # an atom, which has no number
    return z, levels


def leaves(strength=1.0):
    shares = [torch.full((size,), 1 / size, dtype=torch.float64) for size in (2, 3, 2)]
    return [Shares(shares[0], strength), Shares(shares[1], strength), Intervals(EDGES, 1e-3, Shares(shares[2], strength))]


def after(passes, *given, **options):
    """The result of some passes."""
    return list(itertools.islice(fit_products(*given, **options), passes))[-1]


def objective(fitted, z, levels, columns):
    """The log-likelihood plus the logarithm of the Dirichlet priors."""
    total = fitted.law.log_prob(z, levels).sum().item()
    for leaf, table in zip(columns, fitted.law.tables, strict=True):
        shares = leaf if isinstance(leaf, Shares) else leaf.beside
        if isinstance(leaf, Intervals):
            inside = len(leaf.edges) - 1
            table = torch.cat([table[:, :inside].sum(1, keepdim=True), table[:, inside:]], 1)
        if shares is not None:
            total += shares.strength * (shares.shares * table.log()).sum().item()
    return total


FORM = Form("full", as_double([1e-3]))


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (2.0, 0.1), (-3.0, 0.3)])
def test_truncated_normal_is_that_of_scipy(mean, deviation):
    low, high = as_double([-50.0, -1, 0, 30]), as_double([-1.0, 0, 0.5, 50])
    parts = truncated_normal(low, high, as_double([[mean]]), as_double([[deviation]]))
    a, b = (low.numpy() - mean) / deviation, (high.numpy() - mean) / deviation
    upper = a + b > 0
    near_end, far_end = (stats.norm.logcdf(np.where(upper, *ends)) for ends in ((-a, b), (-b, a)))
    np.testing.assert_allclose(parts[0][0], near_end + np.log1p(-np.exp(far_end - near_end)), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(parts[1][0], stats.truncnorm.mean(a, b, mean, deviation), rtol=1e-6)
    near = np.abs(np.where(a > 0, a, b)) < 20  # SciPy's variance loses its digits farther out
    np.testing.assert_allclose(parts[2][0][near], stats.truncnorm.var(a, b, mean, deviation)[near], rtol=1e-6)


def test_narrow_intervals_have_their_share_of_the_density():
    low = as_double([0.3])
    logs, mean, variance = truncated_normal(low, low + 2.0**-42, as_double([[0.0]]), as_double([[1.0]]))
    assert logs.item() == pytest.approx(stats.norm.logpdf(0.3) + np.log(2.0**-42), abs=1e-6)
    assert mean.item() == pytest.approx(0.3, abs=1e-8)
    assert 0 <= variance.item() < 1e-24


def test_em_never_lowers_the_objective_and_finds_the_law(rows):
    z, levels = rows
    start = start_products(z, levels, leaves(), 2, FORM, seed=0)
    fits = list(itertools.islice(fit_products(z, levels, leaves(), start, FORM, parts=1), 30))
    values = [objective(fitted, z, levels, leaves()) for fitted in [start, *fits]]
    assert (np.diff(values) >= -1e-6).all()
    law, truth = fits[-1].law, known_law()
    order = law.means[:, 0].argsort()
    np.testing.assert_allclose(law.weights[order], truth.weights, atol=0.03)
    np.testing.assert_allclose(law.means[order], truth.means, atol=0.1)
    np.testing.assert_allclose(law.covs[order], truth.covs, atol=0.15)
    for table, true in zip(law.tables, truth.tables, strict=True):
        np.testing.assert_allclose(table[order], true, atol=0.04)
    quick = after(10, z, levels, leaves(), start, FORM)  # parts of the rows lead to the same maximum in fewer passes
    assert objective(quick, z, levels, leaves()) > values[-1] - 1e-3 * abs(values[-1] - values[0])
    assert objective(quick, z, levels, leaves()) > values[10]


def test_one_component_of_intervals_is_the_maximum_of_the_likelihood():
    counts = np.array([10, 30, 45, 15])
    levels = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))[:, None]
    z = torch.empty(len(levels), 0, dtype=torch.float64)
    column, form = [Intervals(EDGES, 1e-6)], Form("full", torch.empty(0).double())
    start = start_products(z, levels, column, 1, form, seed=0)
    fitted = after(500, z, levels, column, start, form, parts=1)

    def loss(theta):
        upper = stats.norm.cdf(EDGES.numpy(), theta[0], np.exp(theta[1]))
        return -(counts * np.log(np.diff(upper))).sum()

    best = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    np.testing.assert_allclose(fitted.normal[0][0], [best[0], np.exp(best[1])], rtol=1e-3)


def test_without_levels_it_is_em_for_gaussians(rows):
    x = torch.cat([rows[0], rows[1][:, 2:].double()], 1)[:500]
    form = Form("full", as_double([1e-3, 1e-3]))
    start = start_mixture(x, 2, floor=1e-3, seed=0)
    twin = fit_mixture(x, start, floor=1e-3, max_iterations=3, tolerance=0).parameters
    levels = torch.zeros(len(x), 1, dtype=torch.int64)
    one = [Shares(torch.ones(1).double(), 1.0)]
    law = ProductMixture(start.weights, start.means, start.covs, [torch.ones(2, 1)])
    found = after(3, x, levels, one, Fitted(law, (torch.empty(2, 0),)), form, parts=1).law
    np.testing.assert_allclose(found.means, twin.means, rtol=1e-6)
    np.testing.assert_allclose(found.covs, twin.covs, rtol=1e-6)


def test_unknown_levels_teach_nothing_about_their_column(rows):
    z, levels = (part[:600] for part in rows)
    hidden = levels.clone()
    hidden[::3, 1] = ANY
    start = Fitted(known_law(), (torch.empty(2, 0), torch.empty(2, 0), as_double([[-1.0, 0.7], [0.8, 1.2]])))
    table = after(1, z, hidden, leaves(), start, FORM, parts=1).law.tables[1]
    r = known_law().responsibilities(z, hidden)
    known = hidden[:, 1] >= 0
    counts = r[known].T @ torch.nn.functional.one_hot(hidden[known, 1], 3).double() + 1 / 3
    np.testing.assert_allclose(table, counts / counts.sum(1, keepdim=True), rtol=1e-10)


def test_a_strong_prior_gives_its_shares(rows):
    z, levels = (part[:600] for part in rows)
    shares = [as_double(part) for part in ([0.1, 0.9], [0.2, 0.3, 0.5], [0.6, 0.4])]
    strong = [Shares(shares[0], 1e9), Shares(shares[1], 1e9), Intervals(EDGES, 1e-3, Shares(shares[2], 1e9))]
    start = start_products(z, levels, strong, 2, FORM, seed=0)
    law = after(3, z, levels, strong, start, FORM).law
    np.testing.assert_allclose(law.tables[1], shares[1].expand(2, -1), atol=1e-5)
    np.testing.assert_allclose(law.tables[2][:, -1], 0.4, atol=1e-5)
