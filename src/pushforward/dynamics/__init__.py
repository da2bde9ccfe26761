"""Ordinary and stochastic differential equations, and Langevin chains.

A field or a drift is a function ``f(x, t)`` of states (B, *D) and a time (), like a denoiser.

>>> import torch
>>> from pushforward.dynamics import integrate
>>> solution = integrate(lambda x, t: -x, torch.ones(1, 1), [0.0, 1.0], "rk4")
>>> round(solution.states[-1].item(), 4), solution.evaluations
(0.375, 4)
"""

from pushforward.dynamics import langevin, ode, sde
from pushforward.dynamics.implicit import proximal_step
from pushforward.dynamics.known_sdes import GeometricBrownian, OrnsteinUhlenbeck
from pushforward.dynamics.neural_ode import Autonomous, NeuralODE, fit_trajectories
from pushforward.dynamics.ode import gradient_flow, integrate
from pushforward.dynamics.sde import SDE, WienerPath, wiener
from pushforward.dynamics.systems import DampedPendulum, Spiral, noisy_trajectories

__all__ = [
    "SDE",
    "Autonomous",
    "DampedPendulum",
    "GeometricBrownian",
    "NeuralODE",
    "OrnsteinUhlenbeck",
    "Spiral",
    "WienerPath",
    "fit_trajectories",
    "gradient_flow",
    "integrate",
    "langevin",
    "noisy_trajectories",
    "ode",
    "proximal_step",
    "sde",
    "wiener",
]
