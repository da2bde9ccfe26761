"""Generators and critics: shapes, conditions, their start, and slopes that can be learned from."""

import pytest
import torch

from pushforward.networks import GANSpec
from pushforward.networks.adversarial import Perceptron, Shifts

SHAPES = [(1,), (7,), (1, 8, 8), (3, 17, 33), (5, 1, 3), (2, 32, 5)]


def _stirred(network, seed=0):
    """The network with random weights everywhere, so that nothing is zero from the start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.double()


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_come_out_and_numbers_come_back(shape):
    spec = GANSpec(width=4, depth=2)
    generator, critic = _stirred(spec.generator(3, shape, 2)), _stirred(spec.critic(shape, 2))
    z, condition = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    x = generator(z, condition)
    assert x.shape == (5, *shape)
    assert critic(x, condition).shape == (5, 1)
    # A row depends on itself alone, and on its condition; zeros are the null condition.
    torch.testing.assert_close(generator(z[1:2], condition[1:2]), x[1:2])
    torch.testing.assert_close(critic(x[1:2], condition[1:2]), critic(x, condition)[1:2])
    for player, rows in ((generator, z), (critic, x)):
        torch.testing.assert_close(player(rows, 0 * condition), player(rows), rtol=0, atol=0)
        assert (player(rows, condition) - player(rows)).abs().flatten(1).amax(1).min() > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_every_element_of_a_row_counts(shape):
    """The critic sees each pixel, also of odd sizes, and the code moves each of them."""
    spec = GANSpec(width=4, depth=1)
    x = torch.randn(4, *shape).double().requires_grad_()
    (slope,) = torch.autograd.grad(_stirred(spec.critic(shape))(x).sum(), x)
    assert (slope.abs().amax(0) > 0).all()
    z = torch.randn(64, 3).double()
    assert (_stirred(spec.generator(3, shape))(z).std(0) > 1e-3).all()


def test_the_players_of_images_are_deep_and_start_short():
    spec = GANSpec(width=4, depth=2)
    critic, deeper = spec.critic((1, 32, 8)), GANSpec(width=4, depth=5).critic((1, 32, 8))
    deeper.load_state_dict(critic.state_dict(), strict=False)
    x = torch.randn(3, 1, 32, 8)
    torch.testing.assert_close(deeper(x), critic(x), rtol=0, atol=0)
    assert critic(x).std() > 1e-3
    assert not torch.equal(_stirred(deeper)(x.double()), _stirred(critic)(x.double()))


def test_the_start_keeps_the_size_of_activations():
    torch.manual_seed(0)
    for depth in (1, 4):
        x = torch.randn(500, 300)
        out = Perceptron((300,), (300,), 0, width=300, depth=depth)(x)
        # The first layer meets no activation before it, so its gain 2 / (1 + leak^2) stays.
        assert out.square().mean().item() == pytest.approx(2 / 1.04, rel=0.3)


def test_the_slope_can_be_learned_from():
    """The gradient of a squared slope against differences of it, at one weight of each kind."""
    critic = _stirred(GANSpec(width=3, depth=2).critic((1, 33, 4), 2))
    x, condition = torch.randn(2, 1, 33, 4).double(), torch.randn(2, 2).double()

    def steepness():
        rows = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(rows, condition).sum(), rows, create_graph=True)
        return slope.square().sum()

    weights = [weight for name, weight in critic.named_parameters() if name.endswith("weight") and "shifts" not in name]
    found = torch.autograd.grad(steepness(), weights)
    for weight, gradient in zip(weights, found, strict=True):
        place, step = (0,) * weight.ndim, 1e-6
        with torch.no_grad():
            weight[place] += step
        above = steepness().item()
        with torch.no_grad():
            weight[place] -= 2 * step
        below = steepness().item()
        with torch.no_grad():
            weight[place] += step
        assert gradient[place].item() == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-7)


def test_sizes_that_are_not_allowed_are_named():
    for wrong, error, text in (
        ({"width": 0}, ValueError, r"width must be an int from 1 to 65536, got 0"),
        ({"depth": 0}, ValueError, r"depth must be an int from 1 to 1000, got 0"),
        ({"depth": 2.0}, TypeError, r"depth must be an int, got 2.0 of type float"),
        ({"width": True}, TypeError, r"width must be an int, got True of type bool"),
    ):
        with pytest.raises(error, match=text):
            GANSpec(**wrong)
    with pytest.raises(ValueError, match=r"rows are vectors \(D,\) or images \(C, H, W\).*got \(3, 4\)"):
        GANSpec().critic((3, 4))
    with pytest.raises(ValueError, match=r"rows are vectors \(D,\) or images \(C, H, W\).*got \(3, 4\)"):
        GANSpec().generator(2, (3, 4))
    with pytest.raises(ValueError, match=r"built with condition_dim=0 and takes no condition"):
        Shifts(0, [4])(torch.zeros(2, 3))
