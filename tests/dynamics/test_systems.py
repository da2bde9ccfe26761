"""The known systems against SciPy and their own conservation laws."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from pushforward.dynamics.ode import integrate
from pushforward.dynamics.systems import DampedPendulum, Spiral, noisy_trajectories

X = torch.tensor([[2.0, 0.0], [-1.0, 1.5]], dtype=torch.float64)


def test_pendulum_is_that_of_scipy():
    pendulum = DampedPendulum(frequency=1.7, damping=0.3)
    states = integrate(pendulum, X, [0.0, 4.0], rtol=1e-10, atol=1e-12).states[-1]
    for start, end in zip(X, states, strict=True):
        truth = solve_ivp(
            lambda t, x: [x[1], -(1.7**2) * np.sin(x[0]) - 0.3 * x[1]],
            (0, 4),
            start.numpy(),
            method="DOP853",
            rtol=1e-11,
            atol=1e-13,
        )
        np.testing.assert_allclose(end.numpy(), truth.y[:, -1], rtol=1e-7, atol=1e-9)


def test_energy_falls_by_friction_alone():
    pendulum = DampedPendulum(frequency=1.7, damping=0.3)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(pendulum.energy(x).sum(), x)
    change = (slope * pendulum(x, torch.tensor(0.0))).sum(1)
    torch.testing.assert_close(change, -0.3 * X[:, 1] ** 2, rtol=1e-12, atol=1e-14)
    assert pendulum.energy(torch.zeros(1, 2)).item() == 0.0


def test_spiral_and_its_solution_are_the_matrix_exponential():
    spiral = Spiral(decay=0.3, frequency=-1.2)
    A = np.array([[-0.3, 1.2], [-1.2, -0.3]])
    np.testing.assert_allclose(spiral(X, torch.tensor(0.0)).numpy(), X.numpy() @ A.T, rtol=1e-14)
    times = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    for t, states in zip(times.tolist(), spiral.solution(X, times), strict=True):
        np.testing.assert_allclose(states.numpy(), X.numpy() @ expm(A * t).T, rtol=1e-12)


def test_noise_has_its_scale_and_is_a_function_of_seed_and_row():
    times = torch.linspace(0, 1, 40, dtype=torch.float64)
    x = X[:1].expand(60, 2)
    clean = noisy_trajectories(Spiral(), x, times, noise=0.0, seed=3)
    torch.testing.assert_close(clean[0], Spiral().solution(x[:1], times)[:, 0], rtol=1e-5, atol=1e-6)
    noisy = noisy_trajectories(Spiral(), x, times, noise=0.2, seed=3)
    assert stats.kstest(((noisy - clean) / 0.2).flatten().numpy(), "norm").pvalue > 0.01
    later = noisy_trajectories(Spiral(), x[:5], times, noise=0.2, seed=3, first=10)
    torch.testing.assert_close(later, noisy[10:15], rtol=1e-12, atol=1e-12)
    other = noisy_trajectories(Spiral(), x[:5], times, noise=0.2, seed=4, first=10)
    assert (other - later).abs().max() > 0.1


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match=r"frequency must be above 0 and damping at least 0, but they are 0.0 and 0.1"):
        DampedPendulum(frequency=0.0)
    with pytest.raises(ValueError, match=r"they are 1.0 and -0.1"):
        DampedPendulum(damping=-0.1)
    with pytest.raises(ValueError, match="noise must be a finite standard deviation of at least 0, but is -1"):
        noisy_trajectories(Spiral(), X, [0.0, 1.0], noise=-1.0, seed=0)
