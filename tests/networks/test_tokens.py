"""The U-Net over images of tokens: whose logits stand where, and what hidden, near and impossible values are to it."""

import re

import numpy as np
import pytest
import torch

from pushforward.networks import TokenUNet, UNetSpec

SHAPE = (2, 3, 5)


def build(levels=(4,) * 30, condition_dim=0, *, lively=True):
    torch.manual_seed(0)
    network = TokenUNet(levels, SHAPE, condition_dim, spec=UNetSpec(width=4, levels=1, patch=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape) * lively)
    return network.double()


def test_untrained_it_says_its_bias():
    network = build([2, 4, 3] * 10, lively=False)
    with torch.no_grad():
        network.bias[7, 2] = 5.0
    logits = network(torch.zeros(1, 30, dtype=torch.int64))[0]
    assert logits[7].tolist() == [0, 0, 5, 0]
    assert logits[8].tolist() == [0, 0, 0, -np.inf]
    assert logits[0].tolist() == [0, 0, -np.inf, -np.inf]


def test_logits_of_a_channel_stand_at_its_pixels_and_values():
    """A number added to one output channel of the U-Net shows at one channel of the images, for one value."""
    network, tokens = build(), torch.zeros(1, 30, dtype=torch.int64)
    before = network(tokens)
    with torch.no_grad():
        network.unet.last.bias[1 * 4 + 2] += 1.0
    difference = (network(tokens) - before)[0].reshape(*SHAPE, 4)
    wanted = torch.zeros(*SHAPE, 4, dtype=torch.float64)
    wanted[1, ..., 2] = 1
    np.testing.assert_allclose(difference.detach(), wanted, atol=1e-12)


def test_what_enters_are_steps_of_the_value_and_whether_it_is_seen():
    network, entered = build(), []
    network.unet.register_forward_pre_hook(lambda _, given: entered.extend(given))
    tokens = torch.zeros(1, 30, dtype=torch.int64)
    tokens[0, :4] = torch.tensor([0, 1, 3, -1])
    tokens[0, 15] = 2
    network(tokens)
    images = entered[0].reshape(2, 4, 3, 5)
    assert images[0, :, 0, :4].T.tolist() == [[-1, -1, -1, 1], [1, -1, -1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert images[1, :, 0, 0].tolist() == [1, 1, -1, 1]
    assert entered[1].item() == pytest.approx(1 / 30)


def many(lively=True):
    torch.manual_seed(0)
    network = TokenUNet([100] * 30, SHAPE, 0, spec=UNetSpec(width=4, levels=1, patch=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape) * lively)
    return network.double()


def test_many_values_enter_as_ends_and_waves():
    network, entered = many(), []
    network.unet.register_forward_pre_hook(lambda _, given: entered.extend(given))
    tokens = torch.full((1, 30), 40)
    tokens[0, :4] = torch.tensor([0, 17, 99, -1])
    network(tokens)
    images = entered[0].reshape(2, 16, 3, 5)
    for place, value in enumerate([0, 17, 99]):
        wanted = [value == 0, value == 99, *np.cos(np.pi * np.arange(14) * (value + 0.5) / 100)]
        np.testing.assert_allclose(images[0, :, 0, place], wanted, atol=1e-6)
    assert (images[0, :, 0, 3] == 0).all()
    assert (images[1, :2] == 0).all()


def test_logits_of_many_values_are_a_linear_map_of_few_numbers():
    network, untrained, tokens = many(), many(lively=False), torch.zeros(1, 30, dtype=torch.int64)
    assert torch.equal(untrained(tokens)[0], untrained.bias)
    before = network(tokens)
    with torch.no_grad():
        network.unet.last.bias[1 * 16 + 5] += 1.0
    difference = (network(tokens) - before)[0].reshape(*SHAPE, 100).detach()
    wanted = torch.zeros(*SHAPE, 100, dtype=torch.float64)
    wanted[1] = network.basis[:, 5].detach()
    np.testing.assert_allclose(difference, wanted, atol=1e-12)
    wave = np.cos(np.pi * 3 * (np.arange(100) + 0.5) / 100)
    np.testing.assert_allclose(untrained.basis[:, 5].detach(), wave, atol=1e-6)


def test_of_many_values_those_that_a_channel_does_not_have_are_impossible():
    logits = TokenUNet([100, 90, 70] * 10, SHAPE, 0, spec=UNetSpec(width=4, levels=1, patch=1))(torch.zeros(1, 30).long())
    assert logits.isneginf().sum(2)[0].tolist() == [0, 10, 30] * 10


def test_rows_do_not_see_each_other_and_pixels_do():
    network = build()
    tokens = torch.randint(-1, 4, (2, 30), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 16] = (tokens[0, 16] + 1) % 4
    difference = (network(changed) - network(tokens)).abs().amax(2)
    assert difference[1].max() == 0
    assert difference[0, 0] > 1e-9  # another channel of a pixel two steps away


def test_a_condition_reaches_it_and_zeros_are_none():
    network, tokens = build(condition_dim=3), torch.zeros(1, 30, dtype=torch.int64)
    null = network(tokens, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(network(tokens), null)
    assert not torch.allclose(network(tokens, torch.ones(1, 3, dtype=torch.float64)), null, atol=1e-4)


def test_rows_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match=re.escape("a U-Net is for images (C, H, W), got (6,)")):
        TokenUNet([2] * 6, (6,), 0, spec=UNetSpec())
