"""Laws inside the pieces of a column: masses by SciPy's quadrature and by sums, draws by the inverse of the distribution."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.probability.domain import Domain
from pushforward.probability.pieces import Pieces

RNG = np.random.default_rng(0)
REALS = {
    "bounded, reached": (RNG.beta(0.5, 0.5, 400), Domain("real", 0, 1)),
    "bounded, far": (RNG.uniform(5, 6, 400), Domain("real", 0, 100)),
    "heavy tails": (stats.genpareto(0.4).rvs(400, random_state=1) * RNG.choice([-1, 1], 400), Domain("real")),
    "one row": (np.array([2.5]), Domain("real")),
}
INTEGERS = {
    "narrow": (RNG.integers(3, 9, 200), Domain("integer", 3, 8)),
    "wide": (RNG.integers(-900, 900, 2000), Domain("integer", -1000, 1000)),
    "far beyond": (np.r_[RNG.geometric(0.1, 300), 500], Domain("integer", 1, 500)),
    "none seen": (np.array([]), Domain("integer", 4, 9)),
}


def fitted(case):
    values, domain = case
    return Pieces.fit(torch.as_tensor(values, dtype=torch.float64), domain)


@pytest.mark.parametrize("case", REALS.values(), ids=REALS)
def test_the_density_of_reals_inside_each_piece_has_mass_one(case):
    """By Gauss's rule, which is exact for a linear density, and by SciPy's generalized Pareto law in the tails."""
    pieces, domain = fitted(case), case[1]
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(2))
    start, half = pieces.knots[:-1, None], pieces.knots.diff()[:, None] / 2
    masses = pieces.log_density((start + half * (1 + nodes)).flatten()).exp().reshape(len(start), 2) @ weights * half[:, 0]
    torch.testing.assert_close(masses, torch.ones_like(masses), rtol=0, atol=1e-9)
    d = torch.linspace(1e-3, 3, 40, dtype=torch.float64)
    for sign, end, room, (scale, shape) in (
        (-1, pieces.knots[0], float(pieces.knots[0]) - domain.low, pieces.tails[0]),
        (1, pieces.knots[-1], domain.high - float(pieces.knots[-1]), pieces.tails[1]),
    ):
        law = stats.genpareto(float(shape), scale=float(scale) or 1.0)
        wanted = law.pdf(d) / law.cdf(room) * (d.numpy() <= room) if room else np.zeros(40)
        np.testing.assert_allclose(pieces.log_density(end + sign * d).exp(), wanted, rtol=1e-9, atol=1e-300)
    assert pieces.count == len(start) + (pieces.knots[0] > domain.low) + (pieces.knots[-1] < domain.high)


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS)
def test_the_probabilities_of_integers_inside_each_piece_sum_to_one(case):
    pieces, domain = fitted(case), case[1]
    x = torch.arange(domain.low, domain.high + 1, dtype=torch.float64)
    mass = torch.zeros(pieces.count, dtype=torch.float64).index_add_(0, pieces.piece(x), pieces.log_density(x).exp())
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-9)
    assert (pieces.log_density(x) > -math.inf).all()
    torch.testing.assert_close(pieces.draw(pieces.piece(x), pieces.share(x)), x, rtol=0, atol=0)


@pytest.mark.parametrize("case", REALS.values(), ids=REALS)
def test_draws_of_reals_are_the_inverse_of_the_distribution_whose_slope_is_the_density(case):
    pieces = fitted(case)
    u, step = torch.linspace(0.01, 0.99, 50, dtype=torch.float64), 1e-6
    for piece in range(pieces.count):
        number = torch.full((50,), piece)
        x = pieces.draw(number, u)
        upward = (pieces.draw(number, u + step) - pieces.draw(number, u - step)).sign()
        slope = (pieces.draw(number, u + step) - pieces.draw(number, u - step)).abs() / (2 * step)
        assert (pieces.piece(x) == piece).all()
        assert (upward == upward[0]).all()
        torch.testing.assert_close(pieces.log_density(x).exp() * slope, torch.ones_like(u), rtol=1e-5, atol=0)
        torch.testing.assert_close(pieces.share(x), u, rtol=0, atol=1e-9)


def test_heights_make_the_density_of_a_smooth_law_nearly_continuous():
    """For a large sample of a triangular law, the mean of densities is near its own, nearer than that of flat pieces."""
    x = torch.tensor(RNG.triangular(0, 0, 1, 20_000))
    pieces = Pieces.fit(x, Domain("real", 0, 1))
    share = torch.bincount(pieces.piece(x), minlength=pieces.count) / len(x)
    grid = torch.linspace(0.005, 0.9, 500, dtype=torch.float64)
    density = share[pieces.piece(grid)] * pieces.log_density(grid).exp()
    assert float(((density - 2 * (1 - grid)) / (2 * (1 - grid))).abs().mean()) < 0.06


def test_parts_that_do_not_fit_are_refused():
    pieces = fitted(REALS["bounded, far"])
    for change in (
        {"knots": pieces.knots.flip(0)},
        {"knots": pieces.knots[:1]},
        {"heights": pieces.heights[1:]},
        {"heights": pieces.heights * 0},
        {"heights": pieces.heights * math.inf},
        {"tails": -torch.ones(2, 2).double()},
        {"tails": pieces.tails.float()},
    ):
        parts = {"knots": pieces.knots, "heights": pieces.heights, "tails": pieces.tails} | change
        with pytest.raises(ValueError, match=r"knots|height|tails"):
            Pieces(pieces.domain, **parts)
