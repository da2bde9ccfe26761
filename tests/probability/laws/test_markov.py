"""Markov chains against NumPy's eigenvectors, brute force and chains whose answers are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pushforward.probability import noise
from pushforward.probability.laws.markov import MarkovChain

SEEDS = st.integers(0, 2**31)
CYCLE = torch.eye(3).roll(1, 0)  # 0 -> 1 -> 2 -> 0
TWO_CLOSED = [[1.0, 0.3, 0.0, 0.0], [0.0, 0.3, 0.0, 0.0], [0.0, 0.4, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]
PATCHY = [[0.0, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 1.0]]  # 0 <-> 1 -> 2, which keeps everyone


def _matrix(seed, size=4):
    matrix = np.random.default_rng(seed).dirichlet(np.full(size, 0.4), size).T + 1e-12
    return matrix / matrix.sum(0)


@given(SEEDS)
def test_a_step_sums_over_where_one_may_come_from(seed):
    """p_i(t + 1) = sum_j T_ij p_j(t), with columns that sum to one: a chain with row sums one would not keep the sum of p."""
    matrix = _matrix(seed)
    chain, p = MarkovChain(matrix), np.random.default_rng(seed + 1).dirichlet(np.ones(4))
    by_hand = [sum(matrix[i, j] * p[j] for j in range(4)) for i in range(4)]
    np.testing.assert_allclose(chain.step(p), by_hand, rtol=1e-12)
    np.testing.assert_allclose(chain.step(p, n=5), np.linalg.matrix_power(matrix, 5) @ p, rtol=1e-10)
    assert chain.step(p, n=0).tolist() == p.tolist()
    assert chain.step(p).sum().item() == pytest.approx(1, abs=1e-12)


@given(SEEDS)
def test_stationary_law_is_the_eigenvector_of_eigenvalue_one(seed):
    matrix = _matrix(seed)
    chain = MarkovChain(matrix)
    values, vectors = np.linalg.eig(matrix)
    vector = np.real(vectors[:, np.argmin(abs(values - 1))])
    np.testing.assert_allclose(chain.stationary(), vector / vector.sum(), atol=1e-6)  # eig itself is this bad near 1
    np.testing.assert_allclose(matrix @ chain.stationary().numpy(), chain.stationary(), rtol=1e-12, atol=1e-16)
    assert abs(chain.eigenvalues()[0].item() - 1) < 1e-9
    np.testing.assert_allclose(sorted(chain.eigenvalues().abs().tolist()), sorted(abs(values)), atol=1e-9)
    assert chain.second_eigenvalue == pytest.approx(sorted(abs(values))[-2], abs=1e-9)


def test_two_states_by_formula():
    chain = MarkovChain([[0.9, 0.3], [0.1, 0.7]])
    assert chain.stationary().tolist() == pytest.approx([0.75, 0.25], rel=1e-14)
    assert chain.second_eigenvalue == pytest.approx(0.6)
    found = chain.power_iteration([0.0, 1.0], tolerance=1e-13)
    distances = (found.history - chain.stationary()).abs().sum(1) / 2
    np.testing.assert_allclose(distances[:30], 0.75 * 0.6 ** np.arange(30), rtol=1e-9)
    np.testing.assert_allclose(found.residuals[:30], 0.75 * 0.6 ** np.arange(30) * 0.4, rtol=1e-9)
    assert found.steps == len(found.residuals) == len(found.history) - 1
    assert found.residuals[-1] <= 1e-13 < found.residuals[-2]
    assert torch.equal(found.law, found.history[-1])
    # 0.75 * 0.6^t <= eps
    for eps in (0.5, 0.25, 0.01, 1e-6):
        assert chain.mixing_time(eps) == math.ceil(math.log(eps / 0.75) / math.log(0.6))
    assert chain.mixing_time(0.8) == 0


def test_tiny_probabilities_keep_all_their_digits():
    """Two nearly closed halves: the matrix less the identity is singular to rounding, yet the answer is exact."""
    leak = 1e-14
    matrix = [[0.5, 0.5 - 2 * leak, 0.0, 0.0], [0.5, 0.5, leak, 0.0], [0.0, 2 * leak, 0.5, 0.5], [0.0, 0.0, 0.5 - leak, 0.5]]
    law = MarkovChain(matrix).stationary()
    assert (law[2] / law[1]).item() == pytest.approx(2, rel=1e-12)  # the flow 1 -> 2 equals the flow 2 -> 1
    birth = MarkovChain([[0.5, 0.5, 0.0], [0.5, 0.5 - 1e-20, 1.0], [0.0, 1e-20, 0.0]])
    assert birth.stationary()[2].item() == pytest.approx(0.5e-20, rel=1e-12)


@given(SEEDS)
def test_mixing_time_by_brute_force(seed):
    chain = MarkovChain(_matrix(seed))
    law = chain.stationary().numpy()
    power, t = np.eye(4), 0
    while np.abs(power - law[:, None]).sum(0).max() / 2 > 0.1:
        power, t = chain.matrix.numpy() @ power, t + 1
    assert chain.mixing_time(0.1) == t


def test_mixing_time_of_a_chain_that_needs_very_long():
    leak = 1e-7
    assert MarkovChain([[1 - leak, leak], [leak, 1 - leak]]).mixing_time(0.25) == math.ceil(
        math.log(0.5) / math.log1p(-2 * leak)
    )
    assert MarkovChain([[1.0]]).mixing_time(0.5) == 0
    assert MarkovChain([[0.5, 0.5], [0.5, 0.5]]).mixing_time(0.1) == 1


@pytest.mark.parametrize(
    ("matrix", "irreducible", "period", "closed"),
    [
        (CYCLE, True, 3, ((0, 1, 2),)),
        ([[0.5, 1.0], [0.5, 0.0]], True, 1, ((0, 1),)),
        # A walk on a square goes even, odd, even; with a diagonal it does not.
        ((np.eye(4)[[1, 2, 3, 0]] + np.eye(4)[[3, 0, 1, 2]]) / 2, True, 2, ((0, 1, 2, 3),)),
        # Ways back of 4 and 6 steps only.
        (np.eye(8)[:, [1, 2, 3, 0, 5, 6, 7, 3]] * 1.0, False, 4, ((0, 1, 2, 3),)),
        (PATCHY, False, 1, ((2,),)),
        ([[1.0]], True, 1, ((0,),)),
    ],
)
def test_classes_and_periods(matrix, irreducible, period, closed):
    chain = MarkovChain(matrix)
    assert (chain.is_irreducible, chain.period, chain.closed_classes) == (irreducible, period, closed)


def test_a_period_is_the_common_divisor_and_not_the_shortest_way_back():
    matrix = np.zeros((8, 8))
    for here, there in [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (7, 2)]:
        matrix[there, here] = 1
    matrix[0, 3] = matrix[4, 3] = 0.5  # back after 4 steps, or after 3 -> 4 -> 5 -> 6 -> 7 -> 2 -> 3 = 6
    assert MarkovChain(matrix).period == 2


def test_transient_states_hold_nothing_in_the_end():
    chain = MarkovChain(PATCHY)
    assert chain.stationary().tolist() == [0, 0, 1]
    np.testing.assert_allclose(chain.power_iteration().law, [0, 0, 1], atol=1e-10)
    assert chain.mixing_time(0.25) == 4  # from 0, half of what is left leaves at every second step


def test_power_iteration_converges_just_where_it_should():
    found = MarkovChain(_matrix(3)).power_iteration()
    np.testing.assert_allclose(found.law, MarkovChain(_matrix(3)).stationary(), atol=1e-9)
    with pytest.raises(ValueError, match=r"still moves the law by 1 after 50 steps: the closed class \(0, 1, 2\) has period 3"):
        MarkovChain(CYCLE).power_iteration([1.0, 0.0, 0.0], max_steps=50)
    assert MarkovChain(CYCLE).power_iteration().steps == 1  # the uniform law is stationary all the same
    slow = [[1 - 1e-6, 2e-6], [1e-6, 1 - 2e-6]]
    with pytest.raises(ValueError, match=r"after 10 steps: the slowest part of the law decays by a factor 0\.999997 a step"):
        MarkovChain(slow).power_iteration(max_steps=10)
    # Two closed classes: the limit exists, but depends on the start.
    limits = [MarkovChain(TWO_CLOSED).power_iteration(np.eye(4)[start]).law for start in (0, 3)]
    np.testing.assert_allclose(limits[0], [1, 0, 0, 0])
    np.testing.assert_allclose(limits[1], [0, 0, 0.5, 0.5])


@pytest.mark.parametrize("ask", [lambda c: c.stationary(), lambda c: c.period, lambda c: c.mixing_time()])
def test_several_closed_classes_are_named(ask):
    with pytest.raises(ValueError, match=r"not unique: 2 classes of states are closed, \(0\), \(2, 3\), and each has its own"):
        ask(MarkovChain(TWO_CLOSED))


def test_walkers_follow_the_chain():
    chain = MarkovChain([[0.2, 0.5, 0.0], [0.8, 0.25, 0.4], [0.0, 0.25, 0.6]])
    paths = chain.sample(6000, 6, start=0, seed=1)
    assert (paths[:, 0] == 0).all()
    for t in (1, 3, 6):
        expected = chain.step([1.0, 0.0, 0.0], n=t).numpy() * 6000
        observed = np.bincount(paths[:, t], minlength=3)
        possible = expected > 0
        assert (observed[~possible] == 0).all()
        assert stats.chisquare(observed[possible], expected[possible]).pvalue > 0.01
    moves = np.zeros((3, 3))
    np.add.at(moves, (paths[:, 1:].flatten(), paths[:, :-1].flatten()), 1)
    for now in range(3):
        possible = chain.matrix[:, now].numpy() > 0
        assert (moves[~possible, now] == 0).all()
        assert stats.chisquare(moves[possible, now], chain.matrix[possible, now].numpy() * moves[:, now].sum()).pvalue > 0.01


def test_walkers_are_addressed_and_may_start_from_a_law():
    chain = MarkovChain(_matrix(5))
    paths = chain.sample(50, 8, start=[0.0, 0.5, 0.5, 0.0], seed=2)
    assert paths.dtype == torch.int64
    assert set(paths[:, 0].tolist()) == {1, 2}
    assert torch.equal(chain.sample(4, 3, start=[0.0, 0.5, 0.5, 0.0], seed=2, first=20), paths[20:24, :4])
    assert chain.sample(3, 0, start=np.int64(2), seed=0).tolist() == [[2]] * 3


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-32])
def test_a_walker_never_takes_an_impossible_step(monkeypatch, u):
    """Neither where the first states are out of reach, nor where rounding leaves the sum below the largest uniform number."""
    monkeypatch.setattr(noise, "uniform", lambda shape, rows, **_: torch.full((len(rows), *shape), u, dtype=torch.float64))
    column = np.array([0.0, 0.5, 0.5 - 9e-9, 0.0])
    chain = MarkovChain(np.tile(column[:, None], 4))
    assert chain.sample(2, 2, start=column, seed=0).unique().tolist() == [1 if u == 0 else 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: MarkovChain([[0.9, 0.2], [0.1, 0.7]]),
            r"every column must sum to 1, but column 1 sums to 0\.9; matrix\[i, j\] = P\(next = i \| now = j\)",
        ),
        (
            lambda c: MarkovChain([[0.9, 0.1], [0.5, 0.5]]),
            r"column 0 sums to 1\.4; the rows do sum to 1: transpose it",
        ),
        (lambda c: MarkovChain([[1.2, 0.0], [-0.2, 1.0]]), r"at least 0, but entry \(1, 0\) is -0\.2"),
        (lambda c: MarkovChain([[0.5, 0.5]]), r"shape \(K, K\), but has \(1, 2\)"),
        (lambda c: c.step([0.5, 0.6]), r"p must sum to 1, but it sums to 1\.1"),
        (lambda c: c.step([0.5, 0.3, 0.2]), r"a law of this chain has the shape \(2,\), but p has \(3,\)"),
        (lambda c: c.step([0.5, 0.5], n=-1), r"n must be at least 0, not -1"),
        (lambda c: c.sample(1, -1, start=0, seed=0), r"steps must be at least 0, not -1"),
        (lambda c: c.sample(1, 1, start=2, seed=0), r"the states are 0 to 1, but the start is 2"),
        (lambda c: c.mixing_time(0.0), r"eps is a total variation in \(0, 1\), not 0"),
        (lambda c: c.mixing_time(1e-30), r"not come within 1e-30"),
        (lambda c: MarkovChain(CYCLE).mixing_time(), r"never mixes: the closed class \(0, 1, 2\) has period 3"),
    ],
)
def test_mistakes_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(MarkovChain([[0.9, 0.3], [0.1, 0.7]]))
