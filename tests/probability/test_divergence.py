"""Divergences of finite laws against SciPy and closed forms; Monte-Carlo KL; maximum entropy against its conditions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, spatial, stats

from pushforward.probability import divergence as d
from pushforward.probability.laws.gaussian import Gaussian

KINDS = st.integers(0, 2**31)


def _laws(seed, count, size):
    laws = np.random.default_rng(seed).dirichlet(np.full(size, 0.5), count)
    return torch.tensor(laws / laws.sum(1, keepdims=True))


@given(KINDS)
def test_divergences_are_those_of_scipy(seed):
    p, q = _laws(seed, 2, 6)
    assert d.entropy(p).item() == pytest.approx(stats.entropy(p), rel=1e-12)
    assert d.kl(p, q).item() == pytest.approx(stats.entropy(p, q), rel=1e-12)
    assert d.cross_entropy(p, q).item() == pytest.approx(-np.sum(p.numpy() * np.log(q.numpy())), rel=1e-12)
    assert d.jensen_shannon(p, q).item() == pytest.approx(spatial.distance.jensenshannon(p, q) ** 2, rel=1e-10)
    np.testing.assert_allclose(d.surprise(p), -np.log(p.numpy()), rtol=1e-12)


@given(KINDS)
def test_kl_is_the_extra_surprise_and_is_not_negative(seed):
    """KL = H(p, q) - H(p) = +sum p log(p / q): with a minus it would be at most 0."""
    p, q = _laws(seed, 2, 4)
    assert d.kl(p, q).item() == pytest.approx((d.cross_entropy(p, q) - d.entropy(p)).item(), abs=1e-12)
    assert d.kl(p, q).item() > 0
    assert d.kl(p, p).item() == 0


@given(KINDS)
def test_total_variation_is_the_largest_difference_over_all_events(seed):
    p, q = _laws(seed, 2, 5)
    events = np.array([[(event >> bit) & 1 for bit in range(5)] for event in range(32)])
    assert d.total_variation(p, q).item() == pytest.approx(np.abs(events @ (p - q).numpy()).max(), abs=1e-14)


@given(KINDS)
def test_known_inequalities(seed):
    p, q, r = _laws(seed, 3, 5)
    assert d.entropy(p) <= math.log(5) + 1e-12
    assert d.total_variation(p, q) <= (d.kl(p, q) / 2).sqrt() + 1e-12  # Pinsker
    assert 0 <= d.jensen_shannon(p, q) <= math.log(2) + 1e-12
    root = [d.jensen_shannon(*pair).sqrt() for pair in ((p, r), (p, q), (q, r))]
    assert root[0] <= root[1] + root[2] + 1e-12


def test_kl_is_not_symmetric_and_infinite_where_q_excludes_what_p_can_do():
    assert d.kl([0.9, 0.1], [0.5, 0.5]).item() != pytest.approx(d.kl([0.5, 0.5], [0.9, 0.1]).item(), rel=0.01)
    assert d.kl([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]).item() == math.inf
    assert d.cross_entropy([0.5, 0.5], [1.0, 0.0]).item() == math.inf
    assert d.kl([1.0, 0.0, 0.0], [0.5, 0.5, 0.0]).item() == pytest.approx(math.log(2))  # 0 log 0 = 0
    assert d.jensen_shannon([1.0, 0.0], [0.0, 1.0]).item() == pytest.approx(math.log(2))
    assert d.entropy([1.0, 0.0]).item() == 0


def test_tables_count_as_one_law_and_float32_stays():
    table = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert d.entropy(table).dtype == torch.float32
    assert d.entropy(table).item() == pytest.approx(stats.entropy([0.1, 0.2, 0.3, 0.4]), rel=1e-6)
    assert d.surprise(0.25).item() == pytest.approx(math.log(4))
    p = torch.tensor([0.2, 0.3, 0.5], requires_grad=True, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(d.kl(p, [0.5, 0.25, 0.25]), p)
    torch.testing.assert_close(gradient, (p / torch.tensor([0.5, 0.25, 0.25])).log() + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: d.entropy([0.5, 0.6]), r"p must sum to 1, but it sums to 1\.1; divide it by its sum"),
        (lambda: d.entropy([1.5, -0.5]), r"p must be at least 0 everywhere, but entry 1 is -0\.5"),
        (lambda: d.entropy([[1.2, 0.0], [-0.2, 0.0]]), r"entry \(1, 0\) is -0\.2"),
        (lambda: d.entropy([math.nan, 1.0]), r"entry 0 is nan"),
        (lambda: d.kl([0.5, 0.5], [0.5, 0.4]), r"q must sum to 1, but it sums to 0\.9"),
        (lambda: d.kl([0.5, 0.5], [0.2, 0.3, 0.5]), r"one shape, but have \(2,\) and \(3,\)"),
        (lambda: d.surprise([0.5, 1.5]), r"at most 1, but p has an entry 1\.5"),
        (lambda: d.surprise(-0.5), r"entry \(\) is -0\.5"),
    ],
)
def test_bad_probabilities_say_which_number_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_monte_carlo_kl_covers_the_closed_form():
    """KL of two Gaussians in 2-D, written out; the standard error is honest over many seeds."""
    p, q = Gaussian([0.3, -0.2], [0.5, 2.0]), Gaussian([0.0, 0.4], [1.0, 1.5])
    v, w, delta = np.array([0.5, 2.0]), np.array([1.0, 1.5]), np.array([0.3, -0.6])
    exact = 0.5 * np.sum(v / w - 1 + delta**2 / w + np.log(w / v))
    estimates = [d.kl_estimate(p, q, 500, seed=seed) for seed in range(300)]
    z = np.array([(e.value - exact) / e.standard_error for e in estimates])
    assert abs(z.mean()) < 4 / math.sqrt(300)
    assert 0.85 < z.std() < 1.15
    assert d.kl_estimate(p, q, 500, seed=7) == estimates[7]
    assert d.kl_estimate(p, p, 10, seed=0).value == 0


class _Odd:
    def __init__(self, answer):
        self.answer = answer

    def log_prob(self, x):
        return self.answer(x)

    def sample(self, n, *, seed, first=0):
        return torch.zeros(n, 1)


def test_monte_carlo_kl_refuses_what_it_cannot_average():
    law = Gaussian([0.0], 1.0)
    with pytest.raises(ValueError, match=r"n >= 2 draws, not 1"):
        d.kl_estimate(law, law, 1, seed=0)
    with pytest.raises(ValueError, match=r"q\.log_prob must return the shape \(5,\) for 5 draws, but returned \(5, 1\)"):
        d.kl_estimate(law, _Odd(lambda x: torch.zeros(len(x), 1)), 5, seed=0)
    with pytest.raises(ValueError, match=r"draw 0 of 5 is NaN"):
        d.kl_estimate(law, _Odd(lambda x: torch.full((len(x),), math.nan)), 5, seed=0)
    assert d.kl_estimate(law, _Odd(lambda x: torch.full((len(x),), -math.inf)), 5, seed=0).value == math.inf
    with pytest.raises(ValueError, match=r"not \(1,\)"):
        d.Estimate.of(torch.zeros(1))


def test_estimate_is_the_mean_and_its_standard_error():
    draws = torch.randn(50, dtype=torch.float64)
    estimate = d.Estimate.of(draws)
    assert estimate.value == pytest.approx(draws.mean().item())
    assert estimate.standard_error == pytest.approx(stats.sem(draws), rel=1e-12)


def test_the_die_of_largest_entropy_by_its_one_equation():
    """One multiplier, found by bracketing the mean: independent of the dual."""
    faces = np.arange(1.0, 7.0)

    def mean(multiplier):
        return (faces * np.exp(multiplier * faces)).sum() / np.exp(multiplier * faces).sum()

    multiplier = optimize.brentq(lambda value: mean(value) - 4.5, -5, 5, xtol=1e-15)
    die = d.maximum_entropy(faces, 4.5)
    assert die.multipliers.item() == pytest.approx(multiplier, rel=1e-10)
    assert die.log_partition == pytest.approx(np.log(np.exp(multiplier * faces).sum()), rel=1e-12)
    np.testing.assert_allclose(die.probabilities, np.exp(multiplier * faces - die.log_partition), rtol=1e-10)


@given(KINDS)
def test_no_law_with_the_same_moments_has_more_entropy(seed):
    """Optimality, without the solution's form: moments are met, and the gradient of H is orthogonal to what keeps them."""
    generator = np.random.default_rng(seed)
    features, truth = generator.normal(size=(7, 2)) * [1.0, 100.0], generator.dirichlet(np.ones(7))
    found = d.maximum_entropy(features, truth @ features)
    p = found.probabilities.numpy()
    np.testing.assert_allclose(p @ features, truth @ features, rtol=1e-9, atol=1e-9)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    constraints = np.column_stack([features, np.ones(7)])
    free = np.linalg.svd(constraints.T)[2][3:]
    np.testing.assert_allclose(free @ np.log(p), 0, atol=1e-7)
    assert d.entropy(p) >= d.entropy(truth / truth.sum()) - 1e-12
    assert d.entropy(p).item() == pytest.approx(found.log_partition - found.multipliers.numpy() @ (truth @ features), rel=1e-8)


def test_a_gaussian_is_what_two_moments_make_on_a_fine_grid():
    x = np.linspace(-8, 8, 401)
    found = d.maximum_entropy(np.column_stack([x, x**2]), [0.5, 1.25])
    np.testing.assert_allclose(found.probabilities / (x[1] - x[0]), stats.norm(0.5, 1.0).pdf(x), atol=1e-10)
    assert found.multipliers.tolist() == pytest.approx([0.5, -0.5], rel=1e-8)


def test_moments_on_the_edge_leave_the_largest_law_on_the_face():
    np.testing.assert_allclose(d.maximum_entropy([1.0, 2.0, 3.0, 3.0], 3.0).probabilities, [0, 0, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(d.maximum_entropy([1.0, 2.0, 3.0], 3.0).probabilities, [0, 0, 1], atol=1e-12)
    square = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    np.testing.assert_allclose(d.maximum_entropy(square, [0.3, 0.0]).probabilities, [0.7, 0.3, 0, 0], atol=1e-9)
    np.testing.assert_allclose(d.maximum_entropy(square, [0.3, 0.2]).probabilities, [0.56, 0.24, 0.14, 0.06], atol=1e-9)
    np.testing.assert_allclose(d.maximum_entropy([5.0, 5.0], 5.0).probabilities, [0.5, 0.5])


def test_redundant_and_extreme_moments():
    faces = np.arange(1.0, 7.0)
    twice = d.maximum_entropy(np.column_stack([faces, 2 * faces]), [4.5, 9.0])
    np.testing.assert_allclose(twice.probabilities, d.maximum_entropy(faces, 4.5).probabilities, rtol=1e-9)
    together = (twice.multipliers @ torch.tensor([1.0, 2.0]).double()).item()
    assert together == pytest.approx(d.maximum_entropy(faces, 4.5).multipliers.item(), rel=1e-9)
    constant = d.maximum_entropy(np.column_stack([faces, np.full(6, 0.1)]), [4.5, 0.1 + 2e-17])
    np.testing.assert_allclose(constant.probabilities, d.maximum_entropy(faces, 4.5).probabilities, rtol=1e-9)
    shifted = d.maximum_entropy(np.column_stack([faces, 1e-4 * faces**2 + 1e3]), [3.5, 1e3 + 15e-4])
    flat = d.maximum_entropy(np.column_stack([faces, faces**2]), [3.5, 15.0])
    np.testing.assert_allclose(shifted.probabilities, flat.probabilities, rtol=1e-6)
    for mean in (1.0001, 5.9999, 6 - 1e-6):
        assert (d.maximum_entropy(faces, mean).probabilities @ torch.tensor(faces)).item() == pytest.approx(mean, abs=1e-9)


def test_what_is_possible_ends_at_the_convex_hull():
    """Moments a little inside a facet, or on it, have a law; a little outside there is none."""
    for seed in range(4):
        features = np.random.default_rng(seed).normal(size=(12, 2))
        hull = spatial.ConvexHull(features)
        for simplex, equation in zip(hull.simplices, hull.equations, strict=True):
            middle = features[simplex].mean(0)
            for outward in (0.0, -1e-9, -1e-5, -1e-2):
                p = d.maximum_entropy(features, middle + outward * equation[:2]).probabilities.numpy()
                np.testing.assert_allclose(p @ features, middle + outward * equation[:2], atol=1e-8)
                if outward == 0:
                    assert p[simplex].tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
            for outward in (1e-6, 1e-2):
                with pytest.raises(ValueError, match="no law"):
                    d.maximum_entropy(features, middle + outward * equation[:2])


@pytest.mark.parametrize(
    ("features", "moments", "message"),
    [
        ([1.0, 2.0, 6.0], 7.0, r"moment 0 equal to 7: feature 0 takes values from 1 to 6; choose"),
        ([[0.0, 1.0], [1.0, 2.0]], [0.5, 0.5], r"moment 1 equal to 0\.5: feature 1 takes values from 1 to 2"),
        (
            [[0.0, 0.0], [1.0, 1.0], [2.0, 4.0]],
            [1.0, 0.5],
            r"no law on these 3 outcomes has all these moments at once.*nearest possible moments are \[(1, 1|0\.5, 0\.5)\]",
        ),
        ([[1.0], [2.0]], [1.5, 1.5], r"features must have the shape \(N,\) or \(N, J\).*\(2, 1\) and \(2,\)"),
        (torch.zeros(0, 1), 1.5, r"but they have \(0, 1\) and \(\)"),
        ([1.0, math.inf], 1.5, r"features must be finite, but entry \(1, 0\) is inf"),
        ([1.0, 2.0], math.nan, r"moments must be finite, but it is nan"),
    ],
)
def test_impossible_moments_say_what_is_possible(features, moments, message):
    with pytest.raises(ValueError, match=message):
        d.maximum_entropy(features, moments)
