"""Traces of Jacobians against autograd's full Jacobian."""

import pytest
import torch
from torch import nn

from pushforward.diffusion.trace import exact_trace, probed_trace, rademacher


def field(seed=0):
    weights = torch.randn(12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda x: torch.tanh(x.flatten(1) @ weights).reshape(x.shape) * x.square().sum((1, 2), keepdim=True)


def rows(count=3):
    return torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def jacobians(f, x):
    return [torch.autograd.functional.jacobian(f, row[None]).reshape(12, 12) for row in x]


def test_the_exact_trace_is_that_of_the_jacobian():
    f, x = field(), rows()
    value, trace = exact_trace(f, x)
    torch.testing.assert_close(value, f(x))
    torch.testing.assert_close(trace, torch.stack([jacobian.trace() for jacobian in jacobians(f, x)]))


def test_elements_that_do_not_vary_are_left_out():
    f, x = field(), rows()
    varies = torch.arange(12).reshape(3, 4) % 3 != 1
    expected = [jacobian.diagonal()[varies.flatten()].sum() for jacobian in jacobians(f, x)]
    torch.testing.assert_close(exact_trace(f, x, varies)[1], torch.stack(expected))


def test_many_rows_go_in_parts(monkeypatch):
    f, x = field(), rows(5)
    whole = exact_trace(f, x)[1]
    monkeypatch.setattr("pushforward.diffusion.trace._PULLED_ROWS", 11)
    torch.testing.assert_close(exact_trace(f, x)[1], whole)


def test_probes_are_quadratic_forms_and_average_to_the_trace():
    f, x = field(), rows()
    probes = rademacher(x, 4000, seed=3)
    value, traces = probed_trace(f, x, probes)
    torch.testing.assert_close(value, f(x))
    for row, jacobian in enumerate(jacobians(f, x)):
        v = probes[:, row].flatten(1)
        torch.testing.assert_close(traces[:, row], torch.einsum("pi,ij,pj->p", v, jacobian, v))
        assert abs(traces[:, row].mean() - jacobian.trace()) < 4.5 * traces[:, row].std() / 4000**0.5


def test_probes_are_signs_addressed_by_row():
    x = torch.zeros(6, 5)
    probes = rademacher(x, 3, seed=7)
    assert set(probes.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(rademacher(x[2:], 3, seed=7, first=2), probes[:, 2:])
    assert torch.equal(rademacher(x, 2, seed=7), probes[:2])
    assert not torch.equal(rademacher(x, 3, seed=8), probes)
    many = rademacher(torch.zeros(200, 100), 2, seed=0)
    assert abs(many.mean()) < 0.025
    assert abs((many[0] * many[1]).mean()) < 0.035


@pytest.mark.parametrize("trace", [exact_trace, lambda f, x: probed_trace(f, x, rademacher(x, 2, seed=0))])
def test_gradients_reach_the_parameters(trace):
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    trace(network, x)[1].sum().backward()
    found = network[0].weight.grad[0, 0].item()
    h = 1e-6
    with torch.no_grad():
        network[0].weight[0, 0] += h
        high = trace(network, x)[1].sum()
        network[0].weight[0, 0] -= 2 * h
        low = trace(network, x)[1].sum()
    assert found == pytest.approx((high - low).item() / (2 * h), rel=1e-6, abs=1e-8)
