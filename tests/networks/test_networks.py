"""Properties of every network: what the output depends on, and what it must not depend on."""

import io
import math

import pytest
import torch
from torch import Tensor, nn

from pushforward.networks import Embedding, MLPSpec, UNetSpec, default_spec

SMALL = [
    (MLPSpec(width=16, depth=1), (12,)),
    (MLPSpec(width=16, depth=2), (3,)),
    (MLPSpec(width=16, depth=1), (2, 3, 4)),
    (UNetSpec(width=8, depth=1, middle=1, levels=2, patch=2), (1, 12, 12)),
    (UNetSpec(width=8, depth=2, middle=0, levels=1, patch=1), (3, 5, 7)),
    (UNetSpec(width=8, depth=1, levels=3, patch=2), (2, 30, 17)),
]


def randomized(spec: MLPSpec | UNetSpec, shape: tuple[int, ...], condition_dim: int = 4, seed: int = 0) -> nn.Module:
    """Build a network in float64 whose zero-initialized layers are random too, so that nothing is hidden behind zeros."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = spec.build(shape, condition_dim).double()
        for parameter in network.parameters():
            if not parameter.any():
                parameter.data.normal_(std=0.1)
    return network


def inputs(shape: tuple[int, ...], n: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    t = torch.rand(n, generator=generator, dtype=torch.float64)
    return x, t, torch.randn(n, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "shape",
    [
        (1,),
        (2,),
        (14,),
        (300,),
        (1, 8, 8),
        (1, 28, 28),
        (1, 30, 17),
        (3, 32, 32),
        (3, 64, 64),
        (5, 9, 40),
        (2, 1, 50),
        (1, 1, 1),
    ],
)
def test_default_network_maps_data_to_zeros_of_the_same_shape_and_dtype(shape):
    network = default_spec(shape).build(shape, 11)
    x, t, condition = torch.randn(2, *shape), torch.rand(2), torch.randn(2, 11)
    output = network(x, t, condition)
    assert output.dtype == torch.float32
    assert output.is_contiguous()
    assert torch.equal(output, torch.zeros_like(x))


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_a_row_depends_on_itself_alone(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], condition[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(network(x, t, condition), alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_every_element_reaches_the_output_and_every_output_is_reached(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape, n=1)
    x.requires_grad_()
    weights = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    output = network(x, t, condition)[0]
    (gradient,) = torch.autograd.grad((output * weights).sum(), x)
    assert (gradient != 0).all()
    other = network(x + 1e-3, t, condition)[0]
    assert (other != output).all()


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_all_parameters_get_gradients(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape)
    network(x, t, condition).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_time_and_condition_matter_once_trained(spec, shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = spec.build(shape, 4).double()
    x, t, condition = inputs(shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(3):
        target = x * t.view(-1, *[1] * len(shape)) + condition.sum(1).view(-1, *[1] * len(shape))
        loss = (network(x, t, condition) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    output = network(x, t, condition)
    assert (network(x, 1 - t, condition) - output).abs().amax() > 1e-3
    assert (network(x, t, condition.roll(1, 0)) - output).abs().amax() > 1e-3
    assert (network(x, t, None) - output).abs().amax() > 1e-3


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_no_condition_is_the_zero_condition(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape)
    assert torch.equal(network(x, t, None), network(x, t, torch.zeros_like(condition)))


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_unconditional_network_says_how_to_take_a_condition(spec, shape):
    network, (x, t, condition) = randomized(spec, shape, condition_dim=0), inputs(shape)
    assert network(x, t, None).shape == x.shape
    with pytest.raises(ValueError, match="condition_dim=4"):
        network(x, t, condition)


@pytest.mark.parametrize(("spec", "shape"), SMALL)
def test_saved_weights_give_the_same_function(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape)
    other = randomized(spec, shape, seed=5)
    assert not torch.equal(other(x, t, condition), network(x, t, condition))
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x, t, condition), network(x, t, condition))


@pytest.mark.parametrize(
    ("spec", "shape"), [(MLPSpec(width=4, depth=1), (2,)), (UNetSpec(width=2, depth=1, middle=1, levels=2, patch=2), (1, 5, 4))]
)
def test_gradients_agree_with_finite_differences(spec, shape):
    network, (x, t, condition) = randomized(spec, shape), inputs(shape, n=2)
    # Waves of 1000 rad bend too fast in t for a difference quotient of the usual step.
    arguments = (x.requires_grad_(), t, condition.requires_grad_())
    assert torch.autograd.gradcheck(network, arguments)


def test_memory_format_does_not_change_the_result():
    spec, shape = UNetSpec(width=8, depth=1, levels=2, patch=2), (3, 12, 10)
    network, (x, t, condition) = randomized(spec, shape), inputs(shape)
    torch.testing.assert_close(
        network(x.contiguous(memory_format=torch.channels_last), t, condition), network(x, t, condition), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(("patch", "levels"), [(1, 1), (2, 2)])
def test_unet_commutes_with_translation_far_from_the_border(patch, levels):
    """A bump moved by one coarsest cell moves the answer by as much: convolutions and blocks of pixels stand on one lattice."""
    cell = patch * 2 ** (levels - 1)
    size = 24 * cell
    network, (_, t, condition) = (
        randomized(UNetSpec(width=4, depth=1, middle=0, levels=levels, patch=patch), (1, size, size)),
        inputs((1,), n=1),
    )
    bump = torch.zeros(1, 1, size, size, dtype=torch.float64)
    middle = size // 2
    bump[..., middle : middle + 2, middle : middle + 3] = 1.0
    window = slice(middle - 2 * cell, middle + 3 * cell)
    moved = bump.roll((cell, cell), (-2, -1))
    shifted_window = slice(window.start + cell, window.stop + cell)
    here, there = network(bump, t, condition[:, :4]), network(moved, t, condition[:, :4])
    torch.testing.assert_close(there[..., shifted_window, shifted_window], here[..., window, window], rtol=1e-9, atol=1e-9)
    assert (here[..., window, window] - here[..., window, window].mean()).abs().amax() > 1e-3


def test_fine_levels_reach_the_output_without_the_coarse_ones():
    spec, shape = UNetSpec(width=4, depth=1, levels=3, patch=1), (1, 8, 8)
    network, (x, t, condition) = randomized(spec, shape), inputs(shape, n=1)
    for parameter in network.grow.parameters():
        parameter.data.zero_()
    output = network(x, t, condition)
    assert (network(x + 0.1 * torch.eye(8, dtype=torch.float64), t, condition) - output).abs().amax() > 1e-3


def test_padding_inside_is_the_same_as_zeros_added_below_and_on_the_right():
    network, (x, t, condition) = randomized(UNetSpec(width=4, depth=1, levels=2, patch=2), (2, 6, 9)), inputs((2, 6, 9))
    padded = nn.functional.pad(x, (0, 3, 0, 2))
    torch.testing.assert_close(network(x, t, condition), network(padded, t, condition)[..., :6, :9], rtol=1e-12, atol=1e-12)


def test_opposite_borders_are_far_apart():
    """Two blocks of two 3 x 3 convolutions between two more see 6 pixels far, and not around the edge of the image."""
    network, (x, t, condition) = (
        randomized(UNetSpec(width=4, depth=1, middle=0, levels=1, patch=1), (1, 16, 16)),
        inputs((1, 16, 16)),
    )
    change = x.clone()
    change[..., :1] += 1.0
    difference = (network(change, t, condition) - network(x, t, condition)).abs()
    assert (difference[..., 7:] == 0).all()
    assert (difference[..., :7] > 0).all()


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_unet_cuts_and_joins_pixels_in_the_same_order(patch):
    network = UNetSpec(width=2, depth=1, middle=1, levels=2, patch=patch).build((2, 7, 9), 0)
    x = torch.randn(2, 2, 7, 9)
    joined = nn.functional.pixel_shuffle(network._cut(x), patch)
    assert torch.equal(joined[..., :7, :9], x)
    assert joined[..., 7:, :].abs().sum() + joined[..., :, 9:].abs().sum() == 0
    assert all(side % (2 * patch) == 0 and side - 2 * patch < old for side, old in zip(joined.shape[-2:], (7, 9), strict=True))


def test_embedding_tells_near_times_apart_and_knows_far_ones():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedding = Embedding(64, condition_dim=0)
    phase = embedding.frequencies.double() * torch.tensor([0.0, 1e-3], dtype=torch.float64)[:, None]
    assert float((phase[1].cos() - phase[0].cos()).abs().max()) > 0.4
    assert embedding.frequencies[0] * 1.0 < math.pi


def test_few_columns_enter_with_their_waves_and_many_without():
    """With x replaced by a whole turn more, only the plain columns of the first layer see a difference."""
    narrow, wide = randomized(MLPSpec(width=16, depth=1), (2,)), randomized(MLPSpec(width=16, depth=1), (9,))
    x, t, condition = inputs((2,))
    assert wide.first.in_features == 9
    narrow.first.weight.data[:, :2] = 0.0
    output = narrow(x, t, condition)
    torch.testing.assert_close(narrow(x + 2 * math.pi, t, condition), output, rtol=1e-9, atol=1e-9)
    for turns in (0.5, 0.25):
        assert (narrow(x + 2 * math.pi * turns, t, condition) - output).abs().amax() > 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_come_from_the_global_generator_and_nothing_else(seed):
    states = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append(UNetSpec(width=8).build((1, 8, 8), 3).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 10)
        other = UNetSpec(width=8).build((1, 8, 8), 3).state_dict()
    assert not torch.equal(states[0]["first.weight"], other["first.weight"])
