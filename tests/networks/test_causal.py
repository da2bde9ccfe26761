"""Causal transformers: no position sees what comes after it, and decoding position by position gives the same logits."""

import pytest
import torch
from thin import thinned

from pushforward.networks import CausalTransformer, Decoding, TransformerSpec


def network(levels, condition_dim=0, convolution=0):
    """A network in float64 whose last layer is not zero."""
    torch.manual_seed(0)
    made = CausalTransformer(levels, condition_dim, width=8, depth=2, heads=2, convolution=convolution).double()
    torch.nn.init.normal_(made.head)
    torch.nn.init.normal_(made.bias)
    return made


ALIKE, MIXED = [5] * 6, [5, 2, 4, 1, 3, 5]


@thinned(levels=[ALIKE, MIXED], convolution=[0, 3, 9])
def test_logits_depend_on_the_tokens_before_alone(levels, convolution):
    net = network(levels, convolution=convolution)
    rows = torch.stack([torch.randint(0, count, (20,)) for count in levels], 1)
    for position in range(len(levels)):
        changed = rows.clone()
        changed[:, position:] = (changed[:, position:] + 1) % torch.tensor(levels[position:])
        torch.testing.assert_close(net(changed)[:, : position + 1], net(rows)[:, : position + 1], rtol=0, atol=1e-12)
        if position + 1 < len(levels) and levels[position] > 1:
            assert not torch.allclose(net(changed)[:, position + 1], net(rows)[:, position + 1])


@thinned(levels=[ALIKE, MIXED], convolution=[0, 3, 9], condition_dim=[0, 3])
def test_decoding_gives_the_logits_of_the_whole_row(levels, convolution, condition_dim):
    net = network(levels, condition_dim, convolution)
    rows = torch.stack([torch.randint(0, count, (7,)) for count in levels], 1)
    condition = torch.randn(7, condition_dim, dtype=torch.float64) if condition_dim else None
    decoding = Decoding(net, 7, condition)
    found = [decoding.next(None)] + [decoding.next(rows[:, position]) for position in range(len(levels) - 1)]
    torch.testing.assert_close(torch.stack(found, 1), net(rows, condition), rtol=1e-10, atol=1e-10)
    assert (torch.stack(found, 1).isneginf()[0].sum(1) == 5 - torch.tensor(levels)).all()


def test_shorter_rows_have_the_logits_of_their_positions():
    net = network(ALIKE, convolution=3)
    rows = torch.randint(0, 5, (4, 6))
    torch.testing.assert_close(net(rows[:, :3]), net(rows)[:, :3])


def test_cells_of_several_positions_have_no_order():
    with pytest.raises(ValueError, match=r"patch must be 1"):
        TransformerSpec(patch=2).build_causal([2, 2])


def test_a_convolution_is_odd_and_along_sequences():
    with pytest.raises(ValueError, match=r"convolution must be odd, or 0"):
        TransformerSpec(convolution=4)
    with pytest.raises(ValueError, match=r"along sequences"):
        TransformerSpec(convolution=3).build([2] * 4, shape=(1, 2, 2))


def test_with_a_convolution_masked_tokens_are_predicted_from_their_neighbors():
    """With attention silenced, the logits of a position change with tokens within reach of the convolution alone."""
    torch.manual_seed(0)
    net = TransformerSpec(width=8, depth=1, heads=2, convolution=3).build([4] * 7)
    torch.nn.init.normal_(net.head)
    torch.nn.init.zeros_(net.blocks[0].take.weight)
    rows = torch.randint(0, 4, (5, 7))
    changed = rows.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 4
    moved = (net(rows) != net(changed)).flatten(0, 0).any(2).any(0)
    assert moved.tolist() == [False, False, True, True, True, False, False]
