"""Set attention knows no order of points, and no points that are absent."""

import numpy as np
import pytest
import torch

from pushforward.networks import SetSpec


def network(condition_dim=3):
    torch.manual_seed(0)
    built = SetSpec(width=16, depth=2, heads=2, states=3).build((6, 3), condition_dim).double()
    for parameter in built.parameters():  # the last layer starts at 0, which hides everything before it
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def inputs():
    numbers = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 6, 3)))
    return numbers, torch.tensor([0.2, 0.9]).double(), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).double()


def test_permuted_points_give_permuted_outputs():
    built, (x, t, condition) = network(), inputs()
    x[0, 2] = torch.nan
    order = torch.tensor([3, 5, 2, 0, 1, 4])
    with torch.no_grad():
        whole, permuted = built(x, t, condition), built(x[:, order], t, condition)
    assert whole.abs().max() > 0.1
    assert (permuted - whole[:, order]).abs().max() < 1e-13


def test_absent_points_change_nothing_and_have_output_0():
    built, (x, t, condition) = network(), inputs()
    x[:, 4:] = torch.nan
    with torch.no_grad():
        padded, cropped = built(x, t, condition), built(x[:, :4], t, condition)
    assert (padded[:, :4] - cropped).abs().max() < 1e-13
    assert padded[:, 4:].abs().max() == 0


def test_gradients_of_absent_points_are_finite():
    built, (x, t, _) = network(0), inputs()
    x[0, 5] = torch.nan
    x.requires_grad_()
    built(x, t).square().sum().backward()
    assert bool(x.grad.isfinite().all())
    assert x.grad[0, 5].abs().max() == 0
    assert all(bool(parameter.grad.isfinite().all()) for parameter in built.parameters() if parameter.grad is not None)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width must be a multiple of heads=3"):
        SetSpec(width=16, heads=3)
    with pytest.raises(ValueError, match=r"SetSpec builds networks for sets of points \(P, D\), got \(2,\)"):
        SetSpec().build((2,), 0)
