"""Implicit Euler against the closed form of linear systems, SciPy's minimizers, and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from pushforward.dynamics.implicit import implicit_euler_step, negative_gradient, proximal_step
from pushforward.dynamics.ode import gradient_flow, integrate

DOUBLE = torch.float64


def test_stiff_linear_problem_is_stable_where_explicit_euler_explodes():
    x = torch.tensor([[1.0], [-2.0]], dtype=DOUBLE)
    times = 0.1 * torch.arange(21, dtype=DOUBLE)

    def stiff(x, t):
        return -1000.0 * x

    implicit = integrate(stiff, x, times, "implicit-euler").states
    powers = 101.0 ** -torch.arange(21, dtype=DOUBLE)
    torch.testing.assert_close(implicit, powers[:, None, None] * x, rtol=1e-9, atol=0)
    explicit = integrate(stiff, x, times, "euler").states
    torch.testing.assert_close(explicit[-1], 99.0**20 * x, rtol=1e-9, atol=0)


@given(h=st.floats(1e-3, 1e3), real=st.floats(-1e3, 0), imaginary=st.floats(-1e3, 1e3))
def test_no_step_grows_a_motion_that_does_not_grow(h, real, imaginary):
    matrix = torch.tensor([[real, -imaginary], [imaginary, real]], dtype=DOUBLE)
    x = torch.tensor([[1.0, 0.5]], dtype=DOUBLE)
    y = implicit_euler_step(lambda y, s: y @ matrix.T, x, 0.0, h)
    factor = 1 / abs(1 - h * complex(real, imaginary))
    assert y.norm().item() == pytest.approx(factor * x.norm().item(), rel=1e-7, abs=1e-12)
    assert y.norm() <= x.norm() * (1 + 1e-12)


def test_a_linear_step_is_one_matrix_inverse_and_one_look():
    generator = np.random.default_rng(0)
    A, b, x = generator.normal(size=(5, 5)), generator.normal(size=5), generator.normal(size=(3, 5))
    matrix, shift = torch.from_numpy(A), torch.from_numpy(b)
    calls = 0

    def field(y, s):
        nonlocal calls
        calls += 1
        return y @ matrix.T + shift * s

    y = implicit_euler_step(field, torch.from_numpy(x), 1.0, 1.3)
    expected = np.linalg.solve(np.eye(5) - 0.3 * A, (x + 0.3 * 1.3 * b).T).T
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    # At x, at the solution, where the correction is small, and once for the recorded correction.
    assert calls == 3


def test_the_equation_holds_to_rounding_on_a_nonlinear_field():
    x = torch.linspace(-3, 3, 24, dtype=DOUBLE).reshape(4, 2, 3)

    def field(y, s):
        return torch.sin(3 * y.roll(1, -1)) * s - y**3

    for t, s in ((0.0, 0.5), (0.5, 0.49)):
        y = implicit_euler_step(field, x, t, s)
        end = torch.tensor(s, dtype=DOUBLE)
        torch.testing.assert_close(y, x + (s - t) * field(y, end), rtol=1e-12, atol=1e-12)
    assert implicit_euler_step(field, x.float(), 0.0, 0.5).dtype == torch.float32


def test_a_row_does_not_depend_on_the_others():
    x = torch.tensor([[0.1, 0.2], [5.0, -7.0], [100.0, 30.0]], dtype=DOUBLE)

    def field(y, s):
        return -(y**3) - y.flip(-1)

    together = implicit_euler_step(field, x, 0.0, 10.0)
    alone = torch.cat([implicit_euler_step(field, row[None], 0.0, 10.0) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-15)


def test_newton_comes_back_where_full_steps_swing_ever_farther():
    """On F = 100 sqrt(1 + y^2) undamped Newton from x = 10 goes to -80, 110, and never returns."""
    x = torch.tensor([[10.0], [-300.0], [0.0]], dtype=DOUBLE)
    y = proximal_step(lambda y: 100 * (1 + y.square()).sqrt().sum(1), x, 1.0)
    for start, end in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True):
        best = minimize_scalar(lambda v, s=start: 100 * np.sqrt(1 + v**2) + (v - s) ** 2 / 2, bracket=(-500, 500), tol=1e-12)
        assert end == pytest.approx(best.x, abs=1e-5)


def test_gradients_are_those_of_the_implicit_function():
    x = torch.tensor([[0.4, -1.2], [2.0, 0.3]], dtype=DOUBLE, requires_grad=True)
    rate = torch.tensor([1.5, 0.7], dtype=DOUBLE, requires_grad=True)

    def step(x, rate):
        return implicit_euler_step(lambda y, s: -rate * y**3 + y.flip(-1).sin() * s, x, 0.2, 0.9)

    assert torch.autograd.gradcheck(step, (x, rate), atol=1e-7)
    # (I - h J) dy = dx, with the Jacobian written out by hand.
    y = step(x, rate).detach()[0]
    jacobian = torch.diag(-3 * rate.detach() * y**2) + torch.diag(0.9 * y.flip(0).cos()).flip(1)
    derivative = torch.autograd.functional.jacobian(lambda x: step(x, rate)[0], x)[:, 0]
    torch.testing.assert_close(derivative, torch.linalg.inv(torch.eye(2, dtype=DOUBLE) - 0.7 * jacobian), rtol=1e-9, atol=1e-12)


def test_the_value_is_the_same_with_and_without_gradients():
    x = torch.tensor([[0.4, -1.2]], dtype=DOUBLE)
    weight = torch.ones(2, dtype=DOUBLE, requires_grad=True)

    def field(y, s):
        return -weight * y**3

    with_gradient = implicit_euler_step(field, x, 0.0, 1.0)
    with torch.no_grad():
        without = implicit_euler_step(field, x, 0.0, 1.0)
    assert with_gradient.requires_grad
    assert not without.requires_grad
    assert torch.equal(with_gradient, without)
    assert not implicit_euler_step(lambda y, s: -(y**3), x, 0.0, 1.0).requires_grad


def test_fields_without_a_slope_and_fields_that_use_autograd_work():
    x = torch.ones(2, 3, dtype=DOUBLE)
    torch.testing.assert_close(implicit_euler_step(lambda y, s: torch.full_like(y, 2.0), x, 0.0, 0.5), x + 1)
    weight = torch.ones((), dtype=DOUBLE, requires_grad=True)
    torch.testing.assert_close(implicit_euler_step(lambda y, s: weight.expand(2, 3), x, 0.0, 0.5), x + 0.5)

    def by_autograd(y, s):
        y = y if y.requires_grad else y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(-0.5 * y.square().sum(), y, create_graph=True)
        return gradient

    torch.testing.assert_close(implicit_euler_step(by_autograd, x, 0.0, 1.0), x / 2)


def _convex(y):
    return torch.logsumexp(torch.stack((y.sum(1), -2 * y[:, 0], y[:, 1].square())), 0) + y.cosh().sum(1)


@pytest.mark.parametrize("step", [0.01, 1.0, 100.0])
def test_a_step_on_a_convex_potential_is_the_proximal_step(step):
    x = torch.tensor([[1.5, -0.4], [-2.0, 2.0]], dtype=DOUBLE)
    proximal = proximal_step(_convex, x, step)
    flow = gradient_flow(_convex, x, [3.0, 3.0 + step], "implicit-euler").states[-1]
    torch.testing.assert_close(flow, proximal, rtol=1e-10, atol=1e-12)
    free = x.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [free], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def objective():
        optimizer.zero_grad()
        value = (_convex(free) + (free - x).square().sum(1) / (2 * step)).sum()
        value.backward()
        return value

    optimizer.step(objective)
    torch.testing.assert_close(proximal, free.detach(), rtol=1e-5, atol=1e-6)


def test_a_quadratic_potential_has_the_closed_form():
    generator = np.random.default_rng(3)
    root = generator.normal(size=(4, 4))
    H, x = root @ root.T, generator.normal(size=(2, 4))
    hessian = torch.from_numpy(H)
    y = proximal_step(lambda y: 0.5 * torch.einsum("bi,ij,bj->b", y, hessian, y), torch.from_numpy(x), 0.8)
    np.testing.assert_allclose(y.numpy(), np.linalg.solve(np.eye(4) + 0.8 * H, x.T).T, rtol=1e-10)


def _double_well(y):
    return (y.square() - 1).square().sum(1) / 4


def test_on_a_double_well_only_a_short_step_is_the_minimum():
    """F'' = 3 y^2 - 1 is at least -1: for steps below 1 the objective is convex, above it y = 0 is a maximum between two wells."""
    x = torch.tensor([[0.0], [0.05]], dtype=DOUBLE)

    def objective(y, step):
        return _double_well(y) + (y - x).square().sum(1) / (2 * step)

    def truth(step):
        grid = torch.linspace(-2, 2, 40001, dtype=DOUBLE)[:, None, None]
        values = torch.stack([objective(point.expand(2, 1), step) for point in grid[::20]])
        return values.amin(0)

    short = proximal_step(_double_well, x, 0.5)
    assert (objective(short, 0.5) <= truth(0.5) + 1e-12).all()
    long = proximal_step(_double_well, x, 10.0)
    slope = -negative_gradient(_double_well)(long, torch.tensor(0.0)) + (long - x) / 10.0
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    assert long[0].item() == 0.0
    assert objective(long, 10.0)[0] > truth(10.0)[0] + 0.2


def test_failures_say_time_row_residual_and_step():
    x = torch.tensor([[0.5], [3.0]], dtype=DOUBLE)
    # y = 3 + y^2 has no real root, and |y - 3 - y^2| is least, 2.75, at y = 1/2. The first row's y = 1/2 - y has one.
    with pytest.raises(
        ValueError, match=r"step to t = 2, step 1: after 100 iterations 1 of 2 rows .* row 1 with residual 2.75"
    ):
        implicit_euler_step(lambda y, s: torch.where(x > 1, y**2, -y), x, 1.0, 2.0)
    with pytest.raises(ValueError, match=r"2 of 2 rows have not converged, the first of them row 0 with residual inf"):
        implicit_euler_step(lambda y, s: y * torch.nan, x, 0.0, 0.25)
    with pytest.raises(ValueError, match=r"step to t = 1, step 0.5: .*row 0"):
        integrate(lambda y, t: torch.where(t > 0.7, torch.inf, -1.0) * y, x, [0.0, 0.5, 1.0], "implicit-euler")
    # At a singular I - h J, here everywhere, Newton has no direction.
    with pytest.raises(ValueError, match="Newton's method failed"):
        implicit_euler_step(lambda y, s: y + 1, x, 0.0, 1.0)
    for step in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"must be above 0 and finite, but is {step}"):
            proximal_step(_double_well, x, step)
    with pytest.raises(ValueError, match=r"one number per row, \(2,\), but returned \(\)"):
        proximal_step(lambda y: y.sum(), x, 1.0)
