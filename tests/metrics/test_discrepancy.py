"""The discrepancy is the sum over pairs, its blocks do not show, its interval holds, and its permutation test is exact."""

import numpy as np
import pytest
import torch

import pushforward.metrics.discrepancy as module
from pushforward.metrics.discrepancy import discrepancy
from pushforward.metrics.relabel import BlockSwaps, chance


def _kernel(a, b):
    return torch.exp(-(torch.cdist(a, b) ** 2) / 2)


def _by_hand(P, Q):
    k = lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 2)  # noqa: E731
    m, n = len(P), len(Q)
    within = (k(P, P).sum() - m) / (m * (m - 1)) + (k(Q, Q).sum() - n) / (n * (n - 1))
    return within - 2 * k(P, Q).mean()


def test_value_and_jackknife_are_those_by_hand_for_unequal_numbers(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", 40)
    generator = np.random.default_rng(0)
    P, Q = generator.normal(size=(12, 2)), generator.normal(size=(7, 2)) + 1
    result = discrepancy(P, Q, _kernel, test=False)
    assert np.isclose(result.value, _by_hand(P, Q), rtol=1e-12)
    left = np.array([_by_hand(np.delete(P, i, 0), Q) for i in range(12)])
    right = np.array([_by_hand(P, np.delete(Q, i, 0)) for i in range(7)])
    error = np.sqrt(11 * left.var() + 6 * right.var())
    assert np.isclose(result.high - result.value, 1.959964 * error, rtol=1e-9)
    assert np.isclose(result.value - result.low, 1.959964 * error, rtol=1e-9)
    assert result.n == 7
    assert result.p_value is None


def test_each_permutation_is_the_figure_of_the_permuted_rows():
    generator = np.random.default_rng(1)
    P, Q = generator.normal(size=(6, 2)), generator.normal(size=(5, 2))
    pooled = np.concatenate([P, Q])
    swaps = BlockSwaps.draw(6, 5, 3)
    values = np.concatenate(list(module._values(swaps, 6, *module._sums(torch.from_numpy(pooled), _kernel, swaps))), axis=1)[0]
    chosen = swaps.member[swaps.block]
    assert (chosen.sum(0) == 6).all()
    assert chosen[:, 0].tolist() == [True] * 6 + [False] * 5
    assert np.allclose(values[:60], [_by_hand(pooled[c], pooled[~c]) for c in chosen.T[:60]])
    assert discrepancy(P, Q, _kernel, seed=3).p_value == chance([values[None]])[0][0]


def test_the_interval_holds_the_truth_for_shifted_and_for_equal_laws():
    # Gaussian kernel of width 1 on N(d, 1) and N(0, 1): E k = sqrt(1/3) exp(-gap^2 / 6).
    for shift, least, most in ((1.0, 0.88, 1.0), (0.0, 0.9, 1.0)):
        truth = 2 / 3**0.5 * (1 - np.exp(-(shift**2) / 6))
        held = 0
        for seed in range(100):
            generator = np.random.default_rng(seed)
            result = discrepancy(generator.normal(size=(60, 1)) + shift, generator.normal(size=(90, 1)), _kernel, test=False)
            held += result.low <= truth <= result.high
        assert least <= held / 100 <= most


def test_p_values_of_equal_laws_are_uniform():
    p_values = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        rows = generator.normal(size=(2, 20, 2))
        p_values.append(discrepancy(rows[0], rows[1], _kernel, seed=seed).p_value)
    rejected = np.mean(np.array(p_values) <= 0.05)
    assert 0.01 <= rejected <= 0.1  # 0.05, with 1.5 points of standard error
    assert 0.4 < np.mean(p_values) < 0.6


@pytest.mark.parametrize("tested", [False, True])
def test_rows_that_are_all_equal_are_not_different(tested):
    result = discrepancy(np.ones((4, 1)), np.ones((5, 1)), _kernel, test=tested)
    assert abs(result.value) < 1e-12
    assert result.p_value == (1.0 if tested else None)
