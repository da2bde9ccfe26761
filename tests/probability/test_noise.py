"""The counter-based generator: pure in its address, and distributed as promised."""

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.probability import noise


def _normal(rows, step=0, purpose="a", seed=1, shape=(5,), **kwargs):
    return noise.normal(shape, seed=seed, purpose=purpose, rows=rows, step=step, **kwargs)


def test_a_row_does_not_depend_on_the_batch_it_is_drawn_in():
    whole = _normal(100)
    assert torch.equal(_normal(torch.tensor([41, 3])), whole[[41, 3]])
    assert torch.equal(_normal(torch.tensor(41)), whole[41])


def test_a_step_does_not_depend_on_the_block_it_is_drawn_in():
    block = _normal(torch.arange(7), step=torch.arange(10, 20)[:, None])
    assert block.shape == (10, 7, 5)
    assert torch.equal(block[4], _normal(7, step=14))


def test_the_shape_of_a_row_only_arranges_its_elements():
    assert torch.equal(_normal(3, shape=(4, 3)).flatten(1), _normal(3, shape=(12,)))


@pytest.mark.parametrize("change", [{"seed": 2}, {"purpose": "b"}, {"step": 1}])
def test_every_part_of_the_address_matters(change):
    base, other = _normal(400), _normal(400, **change)
    assert abs(np.corrcoef(base.flatten(), other.flatten())[0, 1]) < 4 / np.sqrt(2000)


def test_normals_are_standard_normal():
    draws = _normal(2000, shape=(101,), dtype=torch.float64).flatten().numpy()
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert abs(draws.var() - 1) < 4 * np.sqrt(2 / draws.size)
    assert abs((draws**4).mean() - 3) < 4 * np.sqrt(96 / draws.size)


def test_uniforms_are_uniform_and_below_one():
    draws = noise.uniform((101,), seed=3, purpose="a", rows=2000).flatten().numpy()
    assert stats.kstest(draws, "uniform").pvalue > 0.01
    assert draws.min() >= 0
    assert draws.max() < 1


@pytest.mark.parametrize("axis", ["rows", "steps", "elements"])
def test_neighbors_are_independent(axis):
    if axis == "steps":
        draws = _normal(torch.tensor(0), step=torch.arange(20000), shape=(2,), dtype=torch.float64).numpy()
    else:
        draws = _normal(20000, shape=(2,), dtype=torch.float64).numpy()
    pairs = (draws[:, 0], draws[:, 1]) if axis == "elements" else (draws[:-1, 0], draws[1:, 0])
    cells = np.floor(stats.norm.cdf(np.stack(pairs)) * 8).astype(int)
    counts = np.bincount(cells[0] * 8 + cells[1], minlength=64)
    assert stats.chisquare(counts).pvalue > 0.001


def test_float32_and_float64_agree_to_rounding():
    torch.testing.assert_close(_normal(500), _normal(500, dtype=torch.float64).float(), atol=2e-6, rtol=1e-5)


def test_global_generators_are_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    _normal(10), noise.uniform((2,), seed=0, purpose="x", rows=3), noise.permutation(9, seed=0, purpose="x")
    assert torch.equal(torch.get_rng_state(), before)


def test_permutations_are_uniform():
    draws = torch.stack([noise.permutation(4, seed=0, purpose="p", step=step) for step in range(4800)])
    assert (draws.sort(1).values == torch.arange(4)).all()
    codes = (draws * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = codes.unique(return_counts=True)[1].numpy()
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 0.001


def test_derived_seeds_differ_by_type_and_value():
    seeds = {noise.derive(0), noise.derive(0, 1), noise.derive(0, "1"), noise.derive(0, 1, 1), noise.derive(1)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**70])
def test_any_integer_is_a_seed(seed):
    assert _normal(2, seed=seed).isfinite().all()
