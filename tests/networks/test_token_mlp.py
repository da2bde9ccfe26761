"""The perceptron over tokens: whose logits stand where, and what masked and impossible values are to it."""

import torch

from pushforward.networks import MLPSpec, TokenMLP

LEVELS = [2, 4, 1, 3]


def build(condition_dim=0, *, lively=True):
    torch.manual_seed(0)
    network = TokenMLP(LEVELS, condition_dim, spec=MLPSpec(width=8, depth=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape) * lively)
    return network.double()


def test_untrained_it_says_its_bias():
    network = build(lively=False)
    with torch.no_grad():
        network.bias[3, 1] = 5.0
    inf = float("inf")
    wanted = [[0, 0, -inf, -inf], [0, 0, 0, 0], [0, -inf, -inf, -inf], [0, 5, 0, -inf]]
    assert network(torch.tensor([[1, -1, 0, 2]]))[0].tolist() == wanted


def test_logits_of_a_value_stand_at_its_position():
    network, tokens = build(), torch.tensor([[1, 3, 0, 2], [-1, 0, 0, -1]])
    before = network(tokens)
    with torch.no_grad():
        network.head[2 + 4 + 1 + 1] += 1.0  # position 3, value 1
    changed = (network(tokens) - before).nan_to_num(0) != 0
    wanted = torch.zeros(2, 4, 4, dtype=torch.bool)
    wanted[:, 3, 1] = True
    assert torch.equal(changed, wanted)


def test_each_value_of_each_position_has_its_own_vector():
    """All rows of tokens, masked ones included, have different hidden states."""
    network = build()
    rows = torch.cartesian_prod(*(torch.arange(-1, count) for count in LEVELS))
    states = network.embedding(torch.where(rows < 0, network.levels, rows) + network.first_row)
    assert len(torch.unique(states.round(decimals=9), dim=0)) == len(rows) == 3 * 5 * 2 * 4
    assert int((network.levels + network.first_row).max()) == len(network.embedding.weight) - 1


def test_a_condition_of_zeros_is_none():
    network, tokens = build(3), torch.tensor([[1, -1, 0, 2]])
    assert torch.equal(network(tokens, torch.zeros(1, 3).double()), network(tokens))
    assert not torch.equal(network(tokens, torch.ones(1, 3).double()), network(tokens))
