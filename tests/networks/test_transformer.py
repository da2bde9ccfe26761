"""The transformer over tokens: who sees what, whose logits stand where, and what a size may be."""

import re

import numpy as np
import pytest
import torch

from pushforward.networks import TokenTransformer, TransformerSpec, default_transformer
from pushforward.networks.transformer import _cells


def trained_like(network, seed=0):
    """Weights as after training: nothing is zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double()


def build(levels, condition_dim=0, *, shape=None, **size):
    torch.manual_seed(0)
    return TransformerSpec(**{"width": 8, "depth": 2, "heads": 2} | size).build(levels, condition_dim, shape=shape)


def test_untrained_it_says_its_bias_whatever_it_sees():
    network = build([2, 4, 3])
    logits = network(torch.tensor([[0, 3, -1], [-1, -1, -1]]))
    assert logits.shape == (2, 3, 4)
    np.testing.assert_allclose(
        logits.softmax(2)[0].detach(), [[0.5, 0.5, 0, 0], [0.25] * 4, [1 / 3, 1 / 3, 1 / 3, 0]], rtol=1e-6
    )
    with torch.no_grad():
        network.bias[1, 2] = 5.0
    assert network(torch.tensor([[0, 0, 0]]))[0, 1].tolist() == [0, 0, 5, 0]


@pytest.mark.parametrize("levels", [[3, 3, 3, 3], [3, 2, 4, 3]])
def test_each_position_sees_every_token_and_no_other_row(levels):
    network = trained_like(build(levels))
    tokens = torch.tensor([[0, 1, -1, 2], [1, -1, 0, 0]])
    logits = network(tokens)
    assert torch.allclose(network(tokens[1:]), logits[1:], atol=1e-12)
    for position in range(4):
        changed = tokens.clone()
        changed[0, position] = {0: 1, 1: 0, -1: 0, 2: -1}[int(tokens[0, position])]
        difference = (network(changed) - logits).nan_to_num().abs().amax(2)
        assert (difference[0] > 1e-6).all()
        assert (difference[1] < 1e-12).all()


def test_positions_are_told_apart():
    """Without positions of their own, exchanging two tokens would exchange their logits."""
    network = trained_like(build([3, 3, 3]))
    with torch.no_grad():
        network.bias.zero_()
    one, other = network(torch.tensor([[0, 1, -1]])), network(torch.tensor([[1, 0, -1]]))
    assert not torch.allclose(one[0, 2], other[0, 2], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "patch", "wanted"),
    [
        ((4,), 1, [[0], [1], [2], [3]]),
        ((5,), 2, [[0, 1], [2, 3], [4, 5]]),
        ((1, 2, 4), 2, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ((2, 2, 2), 2, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ((1, 3, 2), 2, [[0, 1, 2, 3], [4, 5, 6, 6]]),
        ((2, 1, 2), 1, [[0, 2], [1, 3]]),
    ],
)
def test_cells_are_blocks_of_neighbors_with_all_their_channels(shape, patch, wanted):
    length = int(np.prod(shape))
    assert _cells(shape, patch, length).tolist() == wanted


@pytest.mark.parametrize(("shape", "levels"), [((2, 3, 5), [4] * 30), ((7,), [2, 3, 4, 2, 3, 4, 5])])
def test_logits_of_cells_go_back_to_their_positions(shape, levels):
    """A number that is added to the logits of one slot of a cell shows at the positions of that slot alone."""
    network = trained_like(build(levels, shape=shape, patch=2))
    tokens = torch.zeros(1, len(levels), dtype=torch.int64)
    before, most = network(tokens), max(levels)
    for slot in range(network.cells.shape[1]):
        with torch.no_grad():
            network.head[:, slot * most : (slot + 1) * most] += 0.7
        changed = (network(tokens) - before).nan_to_num().abs().amax(2)[0] > 1e-9
        wanted = [position in network.cells[:, slot].tolist() for position in range(len(levels))]
        assert changed.tolist() == wanted
        with torch.no_grad():
            network.head[:, slot * most : (slot + 1) * most] -= 0.7


def test_a_token_in_a_cell_of_many_is_seen():
    network = trained_like(build([4] * 8, shape=(1, 2, 4), patch=2))
    tokens = torch.full((1, 8), -1)
    for position in range(8):
        changed = tokens.clone()
        changed[0, position] = 2
        assert (network(changed) - network(tokens)).abs().max() > 1e-4


def test_values_mean_the_same_everywhere_exactly_if_all_positions_have_as_many():
    alike, own = build([3, 3, 3]), build([3, 2, 3])
    assert alike.embedding.weight.shape[0] == 4
    assert own.embedding.weight.shape[0] == 3 * 4
    assert alike.head.shape[0] == 1
    assert own.head.shape[0] == 3


def test_no_condition_is_a_condition_of_zeros_and_others_matter():
    network, tokens = trained_like(build([3, 3], 4)), torch.tensor([[0, -1]])
    null = network(tokens, torch.zeros(1, 4, dtype=torch.float64))
    assert torch.allclose(network(tokens), null, atol=1e-12)
    assert not torch.allclose(network(tokens, torch.ones(1, 4, dtype=torch.float64)), null, atol=1e-4)
    with pytest.raises(ValueError, match=re.escape("built with condition_dim=0")):
        build([3, 3])(tokens, torch.ones(1, 4))


def test_every_parameter_learns():
    network = trained_like(build([3, 2, 4], 2, patch=2))
    network(torch.tensor([[0, -1, 3], [-1, 1, -1]]), torch.ones(2, 2, dtype=torch.float64)).nan_to_num(
        neginf=0
    ).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_the_same_seed_gives_the_same_weights():
    for one, other in zip(build([3, 3]).parameters(), build([3, 3]).parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("size", "error", "said"),
    [
        ({"width": 6.0}, TypeError, "width must be an int, got 6.0"),
        ({"depth": 0}, ValueError, "depth must be an int from 1 to 1000, got 0"),
        ({"heads": 3}, ValueError, "width must be a multiple of heads=3, got 128"),
        ({"patch": 65}, ValueError, "patch must be an int from 1 to 64"),
        ({"depth": True}, TypeError, "depth must be an int"),
    ],
)
def test_impossible_sizes_are_refused(size, error, said):
    with pytest.raises(error, match=re.escape(said)):
        TransformerSpec(**size)


@pytest.mark.parametrize("levels", [[], [3, 0], [2.0, 3.0], [[2, 3]]])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(ValueError, match=re.escape("levels must be the number of values of each position")):
        TokenTransformer(levels, 0, width=8, depth=1, heads=2)


def test_a_shape_that_is_not_that_of_the_positions_is_refused():
    with pytest.raises(ValueError, match=re.escape("6 positions lie as (6,)")):
        TransformerSpec().build([2] * 6, shape=(1, 2, 2))


@pytest.mark.parametrize("shape", [(1,), (8,), (9,), (255,), (5000,), (1, 8, 8), (3, 32, 32), (1, 64, 40)])
def test_default_sizes_keep_cells_few(shape):
    spec = default_transformer(shape)
    cells = _cells(shape, spec.patch, int(np.prod(shape)))
    assert len(cells) <= 256
    assert len(cells) * 4 > min(256, cells.numel())
