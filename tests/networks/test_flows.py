"""Flows lead back, their log-determinants are autograd's, and zuko leaves no trace in torch."""

import numpy as np
import pytest
import torch
from torch.func import jacrev, vmap

from pushforward.networks import FlowSpec, default_flow
from pushforward.networks.flows import Coupling, ImageFlow, Mix, Normalize, _squeeze, _unsqueeze
from pushforward.probability import noise

SMALL = FlowSpec(width=6, depth=1, steps=2, bins=5, levels=2)
SHAPES = [(1,), (2,), (5,), (1, 4, 4), (2, 6, 5), (1, 1, 1)]


def shaken(shape, condition_dim=0, *, spec=SMALL, size=0.4, dtype=torch.float64):
    """A flow whose every parameter has left its start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        flow = spec.build(shape, condition_dim).to(dtype)
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            change = rows(parameter.numel(), (), i, dtype=dtype).view_as(parameter)
            parameter += size * change / (parameter[0].numel() if parameter.ndim > 1 else 1) ** 0.5
    return flow


def rows(n, shape, seed=0, dtype=torch.float64):
    return noise.normal(shape, seed=seed, purpose="test", rows=n, dtype=dtype)


def jacobians(flow, x, condition=None):
    def of_row(row, c=None):
        return flow(row[None], None if c is None else c[None])[0][0]

    square = (
        vmap(jacrev(of_row))(x)
        if condition is None
        else torch.stack([jacrev(of_row)(*pair) for pair in zip(x, condition, strict=True)])
    )
    return square.reshape(len(x), x[0].numel(), x[0].numel()).detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_way_back_is_exact_also_far_from_the_data(shape):
    flow, condition = shaken(shape, 3), rows(12, (3,), 1)
    for scale in (1.0, 10.0, 1e4):
        x = scale * rows(12, shape)
        for given in (None, condition):
            with torch.no_grad():
                y = flow(x, given)[0]
                torch.testing.assert_close(flow.inverse(y, given), x, rtol=0, atol=1e-9 * scale)
                torch.testing.assert_close(flow(flow.inverse(x, given), given)[0], x, rtol=0, atol=1e-9 * scale)
    assert (flow(x, condition)[0] - flow(x)[0]).abs().max() > 1e-3
    torch.testing.assert_close(flow(x, torch.zeros_like(condition))[0], flow(x)[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_log_determinant_is_that_of_autograds_jacobian(shape):
    flow = shaken(shape)
    x = torch.cat((rows(4, shape), 20 * rows(2, shape, 5)))
    sign, wanted = torch.linalg.slogdet(jacobians(flow, x))
    assert (sign.abs() == 1).all()
    torch.testing.assert_close(flow(x)[1].detach(), wanted, rtol=0, atol=1e-9)


def test_the_log_determinant_with_conditions():
    flow, x, condition = shaken((3,), 2), rows(5, (3,)), rows(5, (2,), 7)
    wanted = torch.linalg.slogdet(jacobians(flow, x, condition))[1]
    torch.testing.assert_close(flow(x, condition)[1].detach(), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(2,), (7,), (1, 6, 6)])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_the_way_back_in_float32_is_as_good_as_the_condition_number(shape, scale):
    """|x' - x| / |x| <= 10 eps times the largest over the smallest singular value of the Jacobian, in every row."""
    precise = shaken(shape, size=0.25)
    flow = shaken(shape, size=0.25, dtype=torch.float32)
    flow.load_state_dict(precise.state_dict())
    x = (scale * rows(40, shape)).float()
    with torch.no_grad():
        back = flow.inverse(flow(x)[0])
    singular = torch.linalg.svdvals(jacobians(precise, x.double()))
    error = (back - x).double().flatten(1).norm(dim=1) / x.double().flatten(1).norm(dim=1).clamp_min(1)
    assert (error / (singular[:, 0] / singular[:, -1])).max() <= 10 * torch.finfo(torch.float32).eps


def test_the_start_normalizes_what_comes_out():
    x = 5 + torch.tensor([1.0, 3.0, 0.1]) * rows(500, (3,), dtype=torch.float32)
    flow = FlowSpec(width=4, steps=3).build((3,), 0)
    z = flow.start(x)
    torch.testing.assert_close(z, flow(x)[0])
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0, correction=0), 1, atol=1e-5)
    images = 2 + rows(300, (1, 4, 4), dtype=torch.float32) * torch.linspace(0.1, 2, 4)
    z = FlowSpec(width=4, steps=1).build((1, 4, 4), 0).start(images)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(0, correction=0), 1, atol=1e-5)


def test_an_element_that_hardly_varies_starts_finite():
    part = Normalize((2,))
    y = part.start(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert y.tolist() == [[0.0, -1.0], [0.0, 1.0]]
    assert part.log_scale[0].exp().item() == pytest.approx(100)


def test_mix_is_the_matrix_that_it_says():
    mix = Mix(4).double()
    with torch.no_grad():
        for i, parameter in enumerate(mix.parameters()):
            parameter += 0.3 * rows(parameter.numel(), (), i).view_as(parameter)
    lower = mix.lower.detach().tril(-1) + torch.eye(4)
    upper = mix.upper.detach().triu(1) + mix.log_diagonal.detach().exp().diag()
    matrix = lower @ upper @ torch.eye(4, dtype=torch.float64)[mix.order]
    x = rows(3, (4, 2, 5))
    y, log_det = mix(x)
    torch.testing.assert_close(y.detach(), torch.einsum("ij,bjhw->bihw", matrix, x))
    wanted = 10 * torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(log_det.detach(), wanted.expand(3))


def test_the_first_half_goes_through_a_coupling_untouched_and_steers_the_other():
    part = Coupling((5,), 0, SMALL).double()
    with torch.no_grad():
        part.network.last.weight += rows(part.network.last.weight.numel(), ()).view_as(part.network.last.weight)
    x = rows(6, (5,))
    y = part(x)[0]
    assert torch.equal(y[:, :3], x[:, :3])
    square = jacobians(part, x)
    assert (square[:, :3, 3:] == 0).all()
    assert (square[:, 3, 4] == 0).all()
    assert (square[:, 3:, :3] != 0).any()
    assert (square.diagonal(dim1=1, dim2=2) > 0).all()


def test_squeezing_is_torchs_and_is_undone():
    x = rows(2, (3, 6, 4))
    assert torch.equal(_squeeze(x, (2, 2)), torch.nn.functional.pixel_unshuffle(x, 2))
    column = torch.arange(6.0).reshape(1, 1, 6, 1)
    assert _squeeze(column, (3, 1)).reshape(3, 2).tolist() == [[0, 3], [1, 4], [2, 5]]
    for cut in ((2, 2), (3, 2), (1, 4), (6, 1)):
        assert torch.equal(_unsqueeze(_squeeze(x, cut), cut), x)


def test_levels_part_the_channels():
    """What is done at the first level does not go through the second."""
    flow = shaken((1, 4, 4))
    assert isinstance(flow, ImageFlow)
    assert (flow.cut, flow.inner.cut, flow.inner.inner) == ((2, 2), (2, 2), None)
    x = rows(3, (1, 4, 4))
    before = _squeeze(flow(x)[0], (2, 2))
    with torch.no_grad():
        for parameter in flow.inner.parameters():
            parameter += 0.3
    after = _squeeze(flow(x)[0], (2, 2))
    assert torch.equal(after[:, 2:], before[:, 2:])
    assert (after[:, :2] != before[:, :2]).all()
    assert ImageFlow((1, 5, 7), 0, SMALL, levels=4).inner is None


def test_sizes():
    assert default_flow((1, 8, 8)).levels == 2
    assert default_flow((3, 28, 28)).levels == 2
    assert default_flow((3, 32, 32)).levels == 4
    assert default_flow((1, 7, 5)).levels == 1
    with pytest.raises(ValueError, match=r"bins must be an int from 2 to 1000, got 1"):
        FlowSpec(bins=1)
    with pytest.raises(TypeError, match=r"steps must be an int, got 2.0"):
        FlowSpec(steps=2.0)
    with pytest.raises(ValueError, match=r"rows are vectors \(D,\) or images \(C, H, W\)"):
        FlowSpec().build((3, 3), 0)


FRESH = """
import sys
import pushforward, pushforward.models
import torch
from torch.distributions import Normal, transforms
assert "zuko" not in sys.modules, "imported before it was needed"
from pushforward.networks import FlowSpec
z, log_det = FlowSpec(width=4).build((2,), 0)(torch.zeros(1, 2))
assert "zuko" in sys.modules
assert transforms._InverseTransform.__name__ == "_InverseTransform"
try:
    Normal(0.0, -1.0)
except ValueError:
    print("checked")
"""
