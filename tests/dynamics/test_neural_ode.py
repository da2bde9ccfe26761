"""Neural ODEs: both gradients, the memory they keep, times by row, and what a fit on noisy series extrapolates."""

import pytest
import torch
from torch import nn

from pushforward.dynamics.neural_ode import Autonomous, NeuralODE, fit_trajectories
from pushforward.dynamics.ode import integrate
from pushforward.dynamics.systems import DampedPendulum, Spiral, noisy_trajectories

DOUBLE = torch.float64


class Timed(nn.Module):
    """A small field that depends on time; it insists on one time per row."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 16), nn.Linear(16, 2)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, x, t):
        assert t.shape == x.shape[:1]
        return self.last(torch.tanh(self.first(torch.cat((x, t[:, None]), 1))))


def _seeded(make, dtype=DOUBLE):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(dtype)


def _perceptron(width=32):
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))


@pytest.fixture
def x():
    return torch.tensor([[0.1, 0.6], [0.3, -1.4], [2.0, 0.0]], dtype=DOUBLE)


def _gradients(model, x, times):
    x = x.clone().requires_grad_()
    states = model(x, times).states
    loss = (states * torch.arange(1.0, len(times) + 1)[:, None, None]).square().mean()
    used = [parameter for name, parameter in model.named_parameters() if "unused" not in name]
    return torch.autograd.grad(loss, [x, *used])


@pytest.mark.parametrize(
    ("method", "steps", "tolerance"),
    [("dopri5", 3, 1e-7), ("rk4", 200, 1e-8), pytest.param("midpoint", 400, 1e-4, marks=pytest.mark.full)],
)
def test_both_gradients_agree(method, steps, tolerance, x):
    network = _seeded(Timed)
    times = torch.linspace(0.0, 1.5, steps, dtype=DOUBLE)
    models = [NeuralODE(network, method, gradient=gradient, rtol=1e-10, atol=1e-12) for gradient in ("unroll", "adjoint")]
    for unrolled, adjoint in zip(*(_gradients(model, x, times) for model in models), strict=True):
        assert unrolled.abs().max() > 1e-3
        torch.testing.assert_close(adjoint, unrolled, rtol=tolerance, atol=tolerance)


def test_the_adjoint_is_another_number_at_coarse_steps(x):
    """Else the test above would compare one implementation with itself."""
    times = torch.linspace(0.0, 1.5, 4, dtype=DOUBLE)
    pair = [
        _gradients(NeuralODE(_seeded(Timed), "euler", gradient=gradient), x, times)[1] for gradient in ("unroll", "adjoint")
    ]
    assert (pair[0] - pair[1]).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["rk4", "dopri5", "implicit-euler"])
def test_gradients_with_respect_to_the_network_are_those_of_finite_differences(method, x):
    model = NeuralODE(_seeded(Timed), method, rtol=1e-10, atol=1e-12)
    times = torch.tensor([0.0, 0.4, 0.7], dtype=DOUBLE)
    weight = model.network.last.weight
    gradient = _gradients(model, x, times)[
        1 + [n for n, _ in model.named_parameters() if "unused" not in n].index("network.last.weight")
    ]
    factor = torch.arange(1.0, 4.0)[:, None, None]
    for index in ((0, 3), (1, 7)):
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                weight[index] += shift
                values.append((model(x, times).states * factor).square().mean().item())
                weight[index] -= shift
        assert gradient[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def _saved_bytes(model, x, times):
    """Bytes of the tensors that autograd keeps for the backward pass of one forward pass, each storage once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = model(x.clone().requires_grad_(), times).states
    assert states.requires_grad
    return sum(kept.values()) - states.untyped_storage().nbytes()


def test_memory_of_the_adjoint_does_not_grow_with_the_number_of_steps(x):
    """dopri5 chooses its steps inside one interval, by the tolerance; the states that are returned are subtracted."""
    network = _seeded(Timed)
    kept, calls = {}, {}
    for gradient in ("unroll", "adjoint"):
        for tolerance in (1e-4, 1e-11):
            model = NeuralODE(network, gradient=gradient, rtol=tolerance, atol=tolerance)
            times = torch.tensor([0.0, 5.0], dtype=DOUBLE)
            kept[gradient, tolerance] = _saved_bytes(model, x, times)
            calls[tolerance] = model(x, times).evaluations
    assert calls[1e-11] > 8 * calls[1e-4]
    assert kept["adjoint", 1e-11] == kept["adjoint", 1e-4]
    assert kept["unroll", 1e-11] > 5 * kept["unroll", 1e-4]
    assert kept["unroll", 1e-4] > 5 * kept["adjoint", 1e-4]


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_times_by_row_solve_each_row_on_its_own_grid(method, x):
    model = NeuralODE(_seeded(Timed), method, rtol=1e-10, atol=1e-12)
    times = torch.tensor([[0.0, 1.0, -2.0], [0.3, 1.1, 0.0], [0.35, 2.0, 0.5]], dtype=DOUBLE)
    for grid in (times, times.flip(0)):
        solution = model(x, grid)
        for row in range(3):
            alone = model(x[row : row + 1], grid[:, row])
            torch.testing.assert_close(solution.states[:, row], alone.states[:, 0], rtol=1e-8, atol=1e-9)
        assert torch.equal(solution.times, grid)
    if method == "rk4":
        assert solution.evaluations == 8


def test_shared_times_are_those_of_the_field(x):
    network = _seeded(Timed)
    times = torch.tensor([2.0, 1.5, 0.0], dtype=DOUBLE)
    with torch.no_grad():
        solution = NeuralODE(network, "rk4")(x, times)
        expected = integrate(lambda x, t: network(x, t.expand(len(x))), x, times, "rk4")
    torch.testing.assert_close(solution.states, expected.states, rtol=1e-13, atol=1e-14)
    assert solution.evaluations == expected.evaluations == 8


def test_a_frozen_network_gets_no_gradient_from_the_adjoint(x):
    model = NeuralODE(_seeded(Timed), gradient="adjoint").requires_grad_(False)
    start = x.clone().requires_grad_()
    model(start, torch.tensor([0.0, 1.0])).states.sum().backward()
    assert start.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def _extrapolation(field, start, *, seed):
    """Fit on [0, 10], solve the learned field on [0, 20]; return (losses, error by time, scale of the truth after 10)."""
    times = torch.linspace(0.0, 10.0, 51)
    series = noisy_trajectories(field, start, times, noise=0.05, seed=seed)
    model = _seeded(lambda: NeuralODE(Autonomous(_perceptron()), "midpoint"), torch.float32)
    losses = fit_trajectories(model, times, series, steps=250, seed=seed, learning_rate=0.02)
    far = torch.linspace(0.0, 20.0, 101)
    truth = integrate(field, start, far).states
    with torch.no_grad():
        error = (model(start, far).states - truth).square().mean((1, 2)).sqrt()
    return losses, error, truth[51:].square().mean().sqrt()


@pytest.mark.full  # the test below learns a field too
@pytest.mark.parametrize(
    ("field", "start"),
    [
        (DampedPendulum(frequency=1.0, damping=0.1), torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.5, -1.5]])),
        (Spiral(decay=0.1, frequency=1.0), torch.tensor([[2.0, 0.0], [-1.0, 1.0]])),
    ],
    ids=["pendulum", "spiral"],
)
def test_a_fit_on_noisy_series_extrapolates(field, start):
    losses, error, scale = _extrapolation(field, start, seed=1)
    assert losses.shape == (250,)
    # The noise of a window's start and of its later observations, 0.0025 each, remains; the start's decays a little.
    assert 0.0035 < losses[-30:].mean() < 0.007 < losses[0] / 20
    assert error[:51].mean() < 0.08
    assert error[51:].max() < 0.4 * scale


def test_a_fit_is_a_function_of_its_seed_and_learns_irregular_times():
    times = torch.tensor([0.0, 0.1, 0.35, 0.4, 0.9, 1.0, 1.6, 2.0], dtype=DOUBLE)
    series = 1.5 * torch.exp(-0.7 * times)[None, :, None].repeat(3, 1, 1)
    runs = []
    for seed in (0, 0, 1):
        model = _seeded(lambda: NeuralODE(Autonomous(nn.Linear(1, 1, bias=False)), "rk4"))
        before = series.clone()
        runs.append((fit_trajectories(model, times, series, steps=80, seed=seed, window=4, batch=8, learning_rate=0.1), model))
        assert torch.equal(series, before)
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][0], runs[2][0])
    assert runs[0][1].network.body.weight.item() == pytest.approx(-0.7, abs=0.02)


def test_wrong_arguments_are_told_what_to_write(x):
    network = _seeded(Timed)
    with pytest.raises(ValueError, match="method is 'rk45', but must be one of 'euler'"):
        NeuralODE(network, "rk45")
    with pytest.raises(ValueError, match="gradient is 'reverse', but must be one of 'unroll', 'adjoint'"):
        NeuralODE(network, gradient="reverse")
    with pytest.raises(ValueError, match="implicit-euler has no adjoint; write gradient='unroll'"):
        NeuralODE(network, "implicit-euler", gradient="adjoint")
    model = NeuralODE(network, "rk4")
    with pytest.raises(ValueError, match=r"shape \(T,\) or \(T, 3\) with T >= 2, but has \(2, 4\)"):
        model(x, torch.rand(2, 4))
    with pytest.raises(ValueError, match="all strictly rising or all strictly falling"):
        model(x, torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    times, series = torch.linspace(0, 1, 5, dtype=DOUBLE), torch.zeros(2, 5, 2, dtype=DOUBLE)
    with pytest.raises(ValueError, match=r"trajectories \(N, T, \*D\) with N >= 1, but they have \(5,\) and \(2, 4, 2\)"):
        fit_trajectories(model, times, series[:, :4], steps=1, seed=0)
    with pytest.raises(ValueError, match="window is 10, but must be from 2 to the number of times, 5"):
        fit_trajectories(model, times, series, steps=1, seed=0)
    with pytest.raises(ValueError, match="times must be strictly rising"):
        fit_trajectories(model, times.flip(0), series, steps=1, seed=0, window=3)
    with pytest.raises(ValueError, match="steps and batch must be at least 1, but are 0 and 64"):
        fit_trajectories(model, times, series, steps=0, seed=0, window=3)
    with pytest.raises(ValueError, match="2 of the values in trajectories are not finite"):
        fit_trajectories(model, times, series.index_fill(1, torch.tensor(2), torch.nan)[:1], steps=1, seed=0, window=3)
    linear = NeuralODE(_seeded(lambda: Autonomous(nn.Linear(2, 2))), "rk4")
    with pytest.raises(ValueError, match=r"the loss is not finite at step 0; lower the learning rate"):
        fit_trajectories(linear, times, series + 1e300, steps=1, seed=0, window=3)
