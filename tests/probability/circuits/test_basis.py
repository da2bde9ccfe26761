"""Elements of columns: masses by sums and SciPy's quadrature, draws by the inverse of their own CDF."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.probability.circuits.basis import Basis
from pushforward.probability.domain import Domain

NAN = math.nan
RNG = np.random.default_rng(0)
HEAVY = stats.genpareto(0.5).rvs(4000, random_state=1)
REALS = {
    "unbounded": (RNG.normal(size=500), Domain("real")),
    "bounded, reached": (RNG.beta(0.5, 0.5, 500), Domain("real", 0, 1)),
    "bounded, far": (RNG.uniform(5, 6, 500), Domain("real", 0, 100)),
    "atoms and gaps": (np.r_[np.zeros(80), RNG.gamma(2, size=200), [NAN] * 20], Domain("real", 0, math.inf, (0.0,))),
    "heavy tails": (np.r_[HEAVY, -HEAVY], Domain("real")),
    "two rows": (np.array([1.0, 2.0]), Domain("real")),
}
INTEGERS = {
    "few": (RNG.integers(3, 9, 200).astype(float), Domain("integer", 3, 8)),
    "unseen between": (np.array([0.0, 7.0, 20.0] * 5), Domain("integer", 0, 20)),
    "many": (RNG.integers(-900, 900, 2000).astype(float), Domain("integer", -1000, 1000)),
    "unbounded above, gaps": (np.r_[RNG.geometric(0.01, 3000), [NAN] * 9], Domain("integer", 0)),
    "one value": (np.full(10, 4.0), Domain("integer", 4, 4)),
}


def fitted(case):
    values, domain = case
    return Basis.fit(torch.from_numpy(values), domain)


def table(basis, x):
    """The elements at values (n,), as a dense matrix (n, B)."""
    cells = basis.cells(torch.as_tensor(x, dtype=torch.float64))
    return torch.zeros(len(cells.index), basis.size, dtype=torch.float64).scatter_add_(1, cells.index, cells.value).numpy()


@pytest.mark.parametrize("case", REALS.values(), ids=REALS)
def test_densities_of_reals_are_those_of_their_draws(case):
    """x(u) pushes the uniform law on [0, 1) to a density p with p(x(u)) |x'(u)| = 1, which has mass one."""
    basis = fitted(case)
    u, step = torch.linspace(0.003, 0.997, 60, dtype=torch.float64), 1e-6
    for number in range(int(basis.gap) + len(basis.points), basis.size):
        before, x, after = (basis.draw(torch.full((60,), number), u + move) for move in (-step, 0, step))
        slope = (after - before) / (2 * step)
        np.testing.assert_allclose(table(basis, x)[:, number] * slope.abs().numpy(), 1, rtol=1e-5)
        assert (slope * slope[0] > 0).all()


@pytest.mark.parametrize("case", REALS.values(), ids=REALS)
def test_hats_of_reals_cover_their_intervals_and_have_mass_one(case):
    basis = fitted(case)
    x, w = np.polynomial.legendre.leggauss(2)
    start, half = basis.knots[:-1, None].numpy(), basis.knots.diff()[:, None].numpy() / 2
    inside = table(basis, (start + half * (1 + x)).ravel())
    hats = slice(int(basis.gap) + len(basis.points), int(basis.gap) + len(basis.points) + len(basis.knots))
    np.testing.assert_allclose((half * w).ravel() @ inside[:, hats], 1, rtol=1e-9)
    assert ((inside > 0).sum(1) == 2).all()
    assert not table(basis, [basis.domain.low - 1, basis.domain.high + 1]).any()
    atoms = table(basis, [NAN] * basis.gap + basis.points.tolist())
    np.testing.assert_array_equal(atoms, np.eye(basis.size)[: hats.start])


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS)
def test_elements_of_integers_have_mass_one_on_the_integers_only(case):
    basis = fitted(case)
    low, high = max(basis.domain.low, -2000), min(basis.domain.high, 20_000)
    total = table(basis, np.r_[NAN, np.arange(low, high + 1)]).sum(0)
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert not table(basis, [low - 1, low + 0.5, basis.domain.high + 1]).any()
    inside = np.arange(case[1].low, np.nanmax(case[0]) + 1)
    assert (table(basis, inside).sum(1) > 0).all()


def test_levels_and_gaps_are_indicators():
    basis = Basis.fit(torch.tensor([0.0, 2.0, NAN]), Domain("category", 0, 2))
    np.testing.assert_array_equal(table(basis, [NAN, 0, 1, 2, 3]), np.r_[np.eye(4), np.zeros((1, 4))])
    complete = Basis.fit(torch.tensor([0.0, 2.0]), Domain("category", 0, 2))
    np.testing.assert_array_equal(table(complete, [0, 1, 2, NAN]), np.r_[np.eye(3), np.zeros((1, 3))])


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS)
def test_draws_of_integers_have_the_masses_of_their_element(case):
    basis = fitted(case)
    n = 4000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    for number in range(int(basis.gap), basis.size):
        x = basis.draw(torch.full((n,), number), u).numpy()
        values, counts = np.unique(x, return_counts=True)
        np.testing.assert_allclose(counts / n, table(basis, values)[:, number], atol=3 / n)


def test_tails_follow_the_law_beyond_the_last_knot():
    basis = fitted(REALS["heavy tails"])
    scale, shape = basis.tails[1].tolist()
    assert shape == pytest.approx(0.5, abs=0.25)
    beyond = HEAVY[float(basis.knots[-1]) < HEAVY] - float(basis.knots[-1])
    assert stats.kstest(beyond, stats.genpareto(shape, scale=scale).cdf).pvalue > 0.05
    d = np.array([0.1, 3.0, 40.0])
    wanted = stats.genpareto(shape, scale=scale).pdf(d)
    np.testing.assert_allclose(table(basis, float(basis.knots[-1]) + d)[:, -1], wanted, rtol=1e-9)


def test_bases_refuse_parts_that_do_not_fit():
    none = torch.empty(0, dtype=torch.float64)
    for points, knots, tails, message in (
        (none, torch.tensor([1.0, 1.0]).double(), torch.zeros(2, 2).double(), "must increase"),
        (none, none, torch.zeros(2, 2).double(), "needs an element"),
        (none, none, torch.ones(2, 2).double(), "only a basis with knots"),
        (torch.tensor([NAN]).double(), none, torch.zeros(2, 2).double(), "finite and float64"),
    ):
        with pytest.raises(ValueError, match=message):
            Basis(Domain("real"), False, points, knots, tails)
    with pytest.raises(ValueError, match="list it as an atom"):
        Basis.fit(torch.tensor([3.0, 3.0]), Domain("real", 3, 3))
