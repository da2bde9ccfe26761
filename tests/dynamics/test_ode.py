"""Integrators against SciPy's matrix exponential, known nonlinear solutions, tableaus written out, and their own orders."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate as quadrature
from scipy.linalg import expm

from pushforward.dynamics.ode import Solution, gradient_flow, integrate

FIXED = {"euler": (1, 1), "midpoint": (2, 2), "heun": (2, 2), "rk4": (4, 4), "implicit-euler": (1, None)}
EXPLICIT = ["euler", "midpoint", "heun", "rk4", "dopri5"]


def _logistic(x, t):
    """A nonlinear field that depends on time; its solution is logistic in the integral of 1 + t / 2."""
    return (1 + t / 2) * x * (1 - x)


def _logistic_solution(x, t):
    growth = math.exp(t + t**2 / 4)
    return x * growth / (1 - x + x * growth)


@pytest.fixture
def x():
    return torch.tensor([[0.1, 0.6], [0.3, 1.4]], dtype=torch.float64)


@pytest.mark.parametrize("method", FIXED)
def test_global_error_falls_with_the_order(method, x):
    order, calls = FIXED[method]
    errors = []
    for n in (40, 80, 160):
        solution = integrate(_logistic, x, np.linspace(0.0, 2.0, n + 1), method)
        errors.append((solution.states[-1] - _logistic_solution(x, 2.0)).abs().max().item())
        if calls:
            assert solution.evaluations == calls * n
    slopes = -np.diff(np.log2(errors))
    np.testing.assert_allclose(slopes, order, atol=0.12)


def test_every_state_on_the_way_is_that_of_its_time(x):
    times = [0.0, 0.1, 0.5, 0.55, 1.3]
    solution = integrate(_logistic, x, times, rtol=1e-10, atol=1e-12)
    expected = torch.stack([_logistic_solution(x, t) for t in times])
    torch.testing.assert_close(solution.states, expected, rtol=1e-8, atol=1e-9)
    assert solution.times.tolist() == times
    torch.testing.assert_close(solution.states[0], x, rtol=0, atol=0)


def test_error_and_cost_of_dopri5_follow_the_tolerance(x):
    tolerances = np.array([1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10])
    errors, calls = [], []
    for tolerance in tolerances:
        solution = integrate(_logistic, x, [0.0, 6.0], rtol=tolerance, atol=tolerance)
        errors.append((solution.states[-1] - _logistic_solution(x, 6.0)).abs().max().item())
        calls.append(solution.evaluations)
    assert (np.array(errors) < 10 * tolerances).all()
    # Local errors of order 5 are held at the tolerance, so the number of steps grows as tolerance^(-1/5).
    slope = -np.polyfit(np.log(tolerances), np.log(calls), 1)[0]
    assert 0.13 < slope < 0.23


def test_rk4_is_the_three_eighths_rule(x):
    h, t = 0.3, 0.2
    k1 = _logistic(x, t)
    k2 = _logistic(x + h * k1 / 3, t + h / 3)
    k3 = _logistic(x + h * (k2 - k1 / 3), t + 2 * h / 3)
    k4 = _logistic(x + h * (k1 - k2 + k3), t + h)
    expected = x + h / 8 * (k1 + 3 * k2 + 3 * k3 + k4)
    torch.testing.assert_close(integrate(_logistic, x, [t, t + h], "rk4").states[-1], expected, rtol=1e-14, atol=0)


def test_heun_is_the_trapezoid_and_midpoint_the_middle(x):
    h, t = 0.3, 0.2
    k1 = _logistic(x, t)
    heun = x + h / 2 * (k1 + _logistic(x + h * k1, t + h))
    midpoint = x + h * _logistic(x + h / 2 * k1, t + h / 2)
    torch.testing.assert_close(integrate(_logistic, x, [t, t + h], "heun").states[-1], heun, rtol=1e-14, atol=0)
    torch.testing.assert_close(integrate(_logistic, x, [t, t + h], "midpoint").states[-1], midpoint, rtol=1e-14, atol=0)


def test_a_linear_system_is_the_matrix_exponential():
    generator = np.random.default_rng(0)
    A, start = generator.normal(size=(4, 4)), generator.normal(size=(3, 4))
    matrix = torch.from_numpy(A)
    solution = integrate(lambda x, t: x @ matrix.T, torch.from_numpy(start), [0.0, 0.7, 1.5], rtol=1e-11, atol=1e-12)
    for t, states in zip((0.7, 1.5), solution.states[1:], strict=True):
        np.testing.assert_allclose(states.numpy(), start @ expm(A * t).T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_way_back_ends_at_the_start(method, x):
    n = {"euler": 4000, "midpoint": 400, "heun": 400, "rk4": 40, "dopri5": 2}[method]
    times = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    there = integrate(_logistic, x, times, method, rtol=1e-9, atol=1e-11).states[-1]
    back = integrate(_logistic, there, times.flip(0), method, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(back.states[-1], x, rtol=0, atol={"euler": 1e-3}.get(method, 1e-5))
    assert (there - x).abs().max() > 0.1


def test_a_hard_row_is_not_hidden_by_easy_ones():
    rates = torch.full((200, 1), 0.1, dtype=torch.float64)
    rates[7] = 20.0
    x = torch.ones_like(rates)

    def rotation_like(x, t):
        return rates * torch.cos(rates * t) * x

    states = integrate(rotation_like, x, [0.0, 3.0], rtol=1e-8, atol=1e-10).states[-1]
    error = (states - torch.exp(torch.sin(3.0 * rates))).abs()
    assert error[7] < 3e-7
    alone = integrate(lambda x, t: 20 * torch.cos(20 * t) * x, x[7:8], [0.0, 3.0], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(states[7:8], alone.states[-1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", [*EXPLICIT, "implicit-euler"])
def test_gradients_are_those_of_finite_differences(method, x):
    rate = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    times = [0.0, 0.3, 0.5]

    def states(x, rate):
        return integrate(lambda x, t: rate * torch.sin(x + t), x, times, method, rtol=1e-10, atol=1e-12).states

    assert torch.autograd.gradcheck(states, (x.requires_grad_(), rate), atol=2e-6)


def test_step_lengths_are_constants_of_the_backward_pass():
    """At a coarse tolerance a gradient through the choice of the first step would show."""
    rate = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    x = torch.ones(1, 1, dtype=torch.float64)
    seen = []

    def field(x, t):
        seen.append(t)
        return -rate * x

    integrate(field, x, [0.0, 2.0], rtol=1e-2, atol=1e-2)
    assert not any(t.requires_grad for t in seen)


def test_adjoint_gradients_agree_with_unrolled_ones(x):
    weight = torch.tensor([[0.3, -1.0], [0.8, 0.1]], dtype=torch.float64, requires_grad=True)
    start = x.clone().requires_grad_()
    gradients = []
    for parameters in (None, [weight]):
        solution = integrate(
            lambda x, t: torch.tanh(x @ weight) * (1 + t),
            start,
            [0.0, 0.5, 1.0],
            rtol=1e-10,
            atol=1e-12,
            adjoint_parameters=parameters,
        )
        loss = (solution.states * torch.arange(1.0, 4.0)[:, None, None]).square().sum()
        gradients.append(torch.autograd.grad(loss, (start, weight)))
    for unrolled, adjoint in zip(*gradients, strict=True):
        torch.testing.assert_close(adjoint, unrolled, rtol=1e-7, atol=1e-8)


def test_float32_states_keep_their_dtype_at_the_default_tolerance(x):
    solution = integrate(_logistic, x.float(), [0.0, 2.0])
    assert solution.states.dtype == torch.float32
    torch.testing.assert_close(solution.states[-1], _logistic_solution(x, 2.0).float(), rtol=2e-6, atol=1e-6)


def test_rows_may_have_any_shape():
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    for method in ("rk4", "dopri5", "implicit-euler"):
        solution = integrate(lambda x, t: -x, x, torch.linspace(0, 1, 201), method)
        assert solution.states.shape == (201, 2, 3, 4, 5)
        torch.testing.assert_close(solution.states[-1], x / math.e, rtol=3e-3, atol=0)


def test_evaluations_are_the_calls_of_the_field(x):
    calls = 0

    def field(x, t):
        nonlocal calls
        calls += 1
        assert t.shape == ()
        assert t.dtype == x.dtype
        return _logistic(x, t)

    for method in [*EXPLICIT, "implicit-euler"]:
        calls = 0
        assert integrate(field, x, [0.0, 0.5, 1.0], method).evaluations == calls > 0


def test_gradient_flow_by_euler_is_gradient_descent():
    generator = np.random.default_rng(1)
    root = generator.normal(size=(3, 3))
    hessian = torch.from_numpy(root @ root.T + np.eye(3))
    x = torch.from_numpy(generator.normal(size=(2, 3)))
    rate, steps = 0.05, 30
    point = x.clone().requires_grad_()
    optimizer = torch.optim.SGD([point], lr=rate)
    path = [x]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * torch.einsum("bi,ij,bj->", point, hessian, point) + point.cos().sum()).backward()
        optimizer.step()
        path.append(point.detach().clone())

    def potential(x):
        return 0.5 * torch.einsum("bi,ij,bj->b", x, hessian, x) + x.cos().sum(1)

    solution = gradient_flow(potential, x, rate * torch.arange(steps + 1, dtype=torch.float64), "euler")
    torch.testing.assert_close(solution.states, torch.stack(path), rtol=1e-10, atol=1e-12)


def test_gradient_flow_loses_potential_at_the_rate_of_the_squared_gradient():
    def potential(x):
        return (x.square() - 1).square().sum(1) + x[:, 0] * x[:, 1]

    x = torch.tensor([[0.9, -0.2], [-0.3, 1.1]], dtype=torch.float64)
    times = torch.linspace(0.0, 1.0, 401, dtype=torch.float64)
    states = gradient_flow(potential, x, times, rtol=1e-10, atol=1e-12).states
    values = torch.stack([potential(state) for state in states])
    assert (values.diff(dim=0) < 0).all()
    flat = states.flatten(0, 1).requires_grad_()
    (slope,) = torch.autograd.grad(potential(flat).sum(), flat)
    lost = quadrature.simpson(slope.square().sum(1).reshape(401, 2).numpy(), x=times.numpy(), axis=0)
    np.testing.assert_allclose((values[0] - values[-1]).numpy(), lost, rtol=1e-6)


def test_a_blow_up_is_refused_with_its_time():
    x = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"dopri5 stopped at t = (1|0\.99999\d*): no step is short enough"):
        integrate(lambda x, t: x**2, x, [0.0, 2.0])
    with pytest.raises(ValueError, match=r"the state of row 1 is not finite at t = 2 \(step 2 of 4, euler\)"):
        integrate(lambda x, t: x**3 * 10.0 ** (3 * x), 2 * x - x.new_tensor([[2.0], [0.0]]), [0.0, 1.0, 2.0, 3.0, 4.0], "euler")


def test_a_field_that_is_not_finite_is_refused_with_its_time():
    x = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="dopri5 stopped at t = 0:"):
        integrate(lambda x, t: x * torch.nan, x, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"dopri5 stopped at t = 0\.(5|4999\d*|50000\d*):"):
        integrate(lambda x, t: (0.5 - t).sqrt() * x, x, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"dopri5 stopped at t = 0\.(5|4999\d*|50000\d*):"):
        integrate(lambda x, t: (t - 0.5).sqrt() * x, x, [1.0, 0.0])


def test_the_adjoint_is_watched_too():
    x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)

    def field(x, t):
        return -x * (torch.nan if torch.is_grad_enabled() else 1.0)

    solution = integrate(field, x, [0.0, 1.0], adjoint_parameters=[])
    with pytest.raises(ValueError, match="dopri5 stopped at t = 1:"):
        solution.states.sum().backward()


def test_wrong_arguments_are_told_what_to_write():
    x = torch.ones(2, 1, dtype=torch.float64)

    def field(x, t):
        return -x

    with pytest.raises(ValueError, match=r"method is 'rk45', but must be one of 'euler', .*'dopri5', 'implicit-euler'"):
        integrate(field, x, [0.0, 1.0], "rk45")
    with pytest.raises(ValueError, match=r"times\[1\] = 1 is followed by 0.5 after a rising start"):
        integrate(field, x, [0.0, 1.0, 0.5])
    with pytest.raises(ValueError, match=r"times\[2\] = 0.5 is followed by 0.5 after a falling start"):
        integrate(field, x, [1.0, 0.7, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"times\[0\] = 1 is followed by 1"):
        integrate(field, x, [1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \(T,\) with T >= 2, but has \(1,\)"):
        integrate(field, x, [0.0])
    with pytest.raises(ValueError, match=r"times\[1\] is not"):
        integrate(field, x, [0.0, math.inf])
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor, but is torch.int64; write x.double\(\)"):
        integrate(field, torch.ones(2, 1, dtype=torch.int64), [0.0, 1.0])
    with pytest.raises(ValueError, match="row 1 of the initial x is not finite"):
        integrate(field, torch.tensor([[0.0], [torch.nan]]), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"at least one element, but has \(0, 2\)"):
        integrate(field, torch.ones(0, 2), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"rtol is 1e-09, but torch.float32 resolves no less than rtol = 4.8e-07"):
        integrate(field, x.float(), [0.0, 1.0], rtol=1e-9)
    with pytest.raises(ValueError, match="atol is 0.0, but must be above 0"):
        integrate(field, x, [0.0, 1.0], atol=0.0)
    with pytest.raises(ValueError, match=r"torch.float64 of shape \(2, 1\), but returned torch.float64 of shape \(2, 2\)"):
        integrate(lambda x, t: x.expand(2, 2), x, [0.0, 1.0], "euler")
    with pytest.raises(ValueError, match="but returned torch.float32"):
        integrate(lambda x, t: x.float(), x, [0.0, 1.0], "euler")
    with pytest.raises(ValueError, match="implicit-euler has no adjoint"):
        integrate(field, x, [0.0, 1.0], "implicit-euler", adjoint_parameters=[])
    with pytest.raises(ValueError, match=r"one number per row, \(2,\), but returned \(2, 1\)"):
        gradient_flow(lambda x: x, x, [0.0, 1.0], "euler")


def test_a_solution_is_frozen():
    solution = integrate(lambda x, t: -x, torch.ones(1, 1), [0.0, 1.0], "euler")
    assert isinstance(solution, Solution)
    with pytest.raises(AttributeError):
        solution.evaluations = 0
