"""Continuous flows against linear fields, whose flow is a matrix exponential."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import expm
from torch import nn

import pushforward as pf
from pushforward.models.flows.ode import LikelihoodTask, ODEFlow
from pushforward.training import Batch

RNG = np.random.default_rng(0)
A = np.array([[0.3, 1.2, 0.0], [-0.9, -0.4, 0.5], [0.2, 0.0, 0.6]])
B = np.array([0.7, -0.2, 0.4])


class Linear(nn.Module):
    """A x + t b, told t as networks of the flow are: a hundredth of it."""

    def __init__(self, a=A, b=B):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.as_tensor(part)) for part in (a, b))

    def forward(self, x, t, condition=None):
        return x @ self.a.T + 100 * t[:, None] * self.b + (0 if condition is None else condition[:, :1])


def exact(a=A, b=B, end=1.0):
    """Matrix and shift of x_0 -> x_end: that of (x, t, 1), whose field is linear."""
    whole = np.zeros((len(a) + 2, len(a) + 2))
    whole[: len(a), : len(a)], whole[: len(a), len(a)], whole[len(a), len(a) + 1] = a, b, 1
    flow = expm(end * whole)
    return flow[: len(a), : len(a)], flow[: len(a), -1]


def fitted(X, field=None, condition=None, **changes):
    settings = pf.TrainingSettings(steps=1, batch_size=16, learning_rate=1e-3)
    arguments = {
        "network": pf.MLPSpec(width=8, depth=1),
        "solver_steps": 4,
        "training": settings,
        "random_state": 0,
        "matching_steps": 0,
    }
    model = pf.CNF(**arguments | {"device": "cpu"} | changes).fit(X, condition=condition)
    if field is not None:
        model.flow_.network = field
    return model


def test_the_density_of_a_linear_field_is_gaussian():
    X = [3.0, -20.0, 0.5] + RNG.normal(size=(100, 3)) @ np.diag([1.0, 30.0, 0.01])
    model = fitted(X, Linear(), solver_steps=8)
    matrix, shift = exact()
    scale, move = model.space_.transform.scale.numpy(), model.space_.transform.shift.numpy()
    back = np.diag(scale) @ np.linalg.inv(matrix)
    law = stats.multivariate_normal(move - back @ shift, back @ back.T)
    found = model.log_prob(X[:40], steps=64)
    np.testing.assert_allclose(found.values, law.logpdf(X[:40]), rtol=0, atol=1e-7)
    assert (found.kind, found.dims, found.nfe) == ("exact", 3, 4 * 96)
    assert (found.standard_error == 0).all()
    coarse = model.log_prob(X[:40], steps=4)
    off = np.abs(coarse.values - law.logpdf(X[:40]))
    assert off.max() > 1e-5
    assert off.mean() <= coarse.numerical_error.mean()
    assert off.max() <= coarse.numerical_error.max()
    np.testing.assert_allclose(model.transform(X[:9]), (X[:9] - move) / scale @ matrix.T + shift, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, rtol=0, atol=1e-4)
    model.flow_.float()
    white = (model.sample(10_000, seed=0, batch_size=10_000) - move) / scale @ matrix.T + shift
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=0.06)
    np.testing.assert_allclose(white.mean(0), 0, atol=0.04)


def test_hutchinsons_estimate_is_as_far_off_as_it_says():
    X = RNG.normal(size=(60, 3))
    model = fitted(X, Linear())
    wanted = model.log_prob(X).values
    found = model.log_prob(X, divergence="hutchinson", probes=16)
    assert found.kind == "estimate"
    off = (found.values - wanted) / found.standard_error
    assert 0.6 < off.std() < 1.6
    assert abs(off.mean()) < 0.5
    assert np.isnan(model.log_prob(X, divergence="hutchinson", probes=1).standard_error).all()


def test_the_loss_is_the_density_and_the_penalties_the_lengths_of_the_paths():
    flow = ODEFlow(Linear(), 32)
    task = LikelihoodTask(flow, (3,), kinetic=0.3, jacobian=0.7, offset=1.5, condition_dropout=0.0, width=torch.zeros(3))
    x = torch.as_tensor(RNG.normal(size=(5, 3)))
    signs = torch.tensor([[1.0, -1.0, 1.0]] * 5, dtype=torch.float64)
    matrix, shift = exact()
    probed = (signs[0].numpy() @ A * signs[0].numpy()).sum()
    nll = -stats.multivariate_normal(np.zeros(3)).logpdf(x.numpy() @ matrix.T + shift) - probed - 1.5
    batch = Batch(x, None, (signs,))
    np.testing.assert_allclose(task.eval().held_out(batch)[0].detach(), nll, atol=1e-6)
    times = (np.arange(400) + 0.5) / 400
    speed = 0.0
    for t in times:
        m, s = exact(end=t)
        speed = speed + (((x.numpy() @ m.T + s) @ A.T + t * B) ** 2).sum(1) / 400
    stretch = ((signs[0].numpy() @ A) ** 2).sum()
    np.testing.assert_allclose(task.train()(batch).detach(), nll + 0.3 * speed + 0.7 * stretch, atol=1e-4)


def test_the_loss_has_the_gradient_of_the_density():
    """Against a difference quotient, through the solver and the trace."""
    network = Linear()
    task = LikelihoodTask(
        ODEFlow(network, 4), (3,), kinetic=0.1, jacobian=0.1, offset=0.0, condition_dropout=0.0, width=torch.zeros(3)
    )
    x, signs = torch.as_tensor(RNG.normal(size=(4, 3))), torch.ones(4, 3, dtype=torch.float64)
    batch = Batch(x, None, (signs,))
    task(batch).sum().backward()
    step = 1e-5
    with torch.no_grad():
        for i, j in ((0, 1), (2, 2)):
            values = []
            for move in (step, -2 * step):
                network.a[i, j] += move
                values.append(task(batch).sum())
            network.a[i, j] += step
            assert network.a.grad[i, j].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-5)


def test_random_signs_are_signs_of_their_rows():
    task = LikelihoodTask(
        ODEFlow(Linear(), 1), (3,), kinetic=0.0, jacobian=0.0, offset=0.0, condition_dropout=0.0, width=torch.zeros(3)
    )
    steps = torch.arange(4)
    drawn = task.numbers(torch.arange(50), 50, steps, 0)[0]
    assert drawn.shape == (4, 50, 3)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 4 / 600**0.5
    assert torch.equal(task.numbers(torch.arange(10, 20), 50, steps, 0)[0], drawn[:, 10:20])
    assert not torch.equal(drawn[0], drawn[1])


def test_conditions_reach_the_field():
    X = RNG.normal(size=(40, 3))
    model = fitted(X, Linear(), condition=RNG.normal(size=(40, 1)))
    z = model.transform(X, condition=X[:, 0])
    assert np.abs(z - model.transform(X)).max() > 0.1
    np.testing.assert_allclose(model.inverse_transform(z, condition=X[:, 0]), X, atol=1e-4)


@pytest.mark.full  # loss and gradient are exact above, and matching learns below
def test_it_learns():
    truth = pf.probability.GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.3, 0.3])
    X = truth.sample(1000, seed=0).numpy()
    settings = pf.TrainingSettings(steps=50, batch_size=64, learning_rate=0.03, ema=0.1)
    model = fitted(X, training=settings, solver_steps=2)
    new = truth.sample(1000, seed=1)
    assert truth.log_prob(new).mean() - model.score(new.numpy()) < 0.3  # of 0.61 that the best Gaussian is off


def test_constant_pixels_are_bounded_out():
    X = RNG.integers(0, 9, (30, 4, 4)).astype(np.uint8)
    X[:, 0, 0] = 2
    model = fitted(X, network=pf.UNetSpec(width=4, levels=1, patch=1), solver_steps=1)
    found = model.log_prob(X[:5], draws=3)
    assert (found.kind, found.dims, found.constants) == ("lower bound", 15, 1)
    assert (model.sample(4, seed=0)[:, 0, 0] == 2).all()


def test_what_is_refused():
    model = fitted(RNG.normal(size=(20, 2)))
    for arguments, said in (
        ({"divergence": "skilling"}, r"divergence must be 'exact', 'hutchinson' or None"),
        ({"probes": 0}, r"probes must be at least 1, got 0"),
        ({"steps": 1}, r"steps must be at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=said):
            model.log_prob(RNG.normal(size=(2, 2)), **arguments)
