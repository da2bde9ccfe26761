r"""Small systems with known motion, a damped pendulum and a linear spiral, and noisy time series of any field.

References
----------
Steven H. Strogatz. Nonlinear dynamics and chaos. 1994, sections 5.1 and 6.7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.dynamics.ode import Field, integrate
from pushforward.probability import noise as noise_numbers

__all__ = ["DampedPendulum", "Spiral", "noisy_trajectories"]


@dataclass(frozen=True)
class DampedPendulum:
    """The field of a pendulum with friction: angle'' = -frequency^2 sin(angle) - damping angle'.

    The state is (angle, angular velocity), (B, 2); at angle 0 the pendulum hangs down.

    Parameters
    ----------
    frequency : float
        Angular frequency of small oscillations without friction, above 0.
    damping : float
        At least 0.

    >>> DampedPendulum(frequency=2.0, damping=0.5)(torch.tensor([[0.0, 1.0]]), torch.tensor(0.0)).tolist()
    [[1.0, -0.5]]
    """

    frequency: float = 1.0
    damping: float = 0.1

    def __post_init__(self) -> None:
        if not (self.frequency > 0 and self.damping >= 0):
            raise ValueError(
                f"frequency must be above 0 and damping at least 0, but they are {self.frequency} and {self.damping}"
            )

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return dx/dt, (B, 2), at any time."""
        angle, velocity = x.unbind(-1)
        return torch.stack((velocity, -(self.frequency**2) * angle.sin() - self.damping * velocity), -1)

    def energy(self, x: Tensor) -> Tensor:
        """Velocity^2 / 2 + frequency^2 (1 - cos angle), (*, 2) to (*,); it falls at the rate damping * velocity^2."""
        angle, velocity = x.unbind(-1)
        return velocity.square() / 2 + self.frequency**2 * (1 - angle.cos())


@dataclass(frozen=True)
class Spiral:
    """The linear field dx/dt = A x with A = [[-decay, -frequency], [frequency, -decay]]: rotation, and decay toward 0.

    Parameters
    ----------
    decay : float
        Rate at which the radius decreases; if negative, the radius grows.
    frequency : float
        Radians per unit of time, counterclockwise.

    >>> spiral = Spiral(decay=math.log(2.0), frequency=2 * math.pi)
    >>> spiral.solution(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]))[0, 0, 0].item()
    0.5
    """

    decay: float = 0.1
    frequency: float = 1.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return dx/dt, (B, 2), at any time."""
        first, second = x.unbind(-1)
        return torch.stack((-self.decay * first - self.frequency * second, self.frequency * first - self.decay * second), -1)

    def solution(self, x: Tensor, times: Tensor) -> Tensor:
        """Return the states (T, B, 2) at ``times`` (T,) of the solution through ``x`` (B, 2) at time 0."""
        angle = self.frequency * times[:, None]
        radius = (-self.decay * times[:, None]).exp()
        first, second = x.unbind(-1)
        rotated = (angle.cos() * first - angle.sin() * second, angle.sin() * first + angle.cos() * second)
        return torch.stack(rotated, -1) * radius[..., None]


def noisy_trajectories(
    field: Field, x: Tensor, times: Tensor | Sequence[float], *, noise: float, seed: int, first: int = 0
) -> Tensor:
    """Return noisy time series (N, T, *D): solutions of a field plus normal noise of standard deviation ``noise``.

    Parameters
    ----------
    field : callable
        As in :func:`pushforward.dynamics.ode.integrate`, which solves it by ``dopri5``.
    x : Tensor (N, *D)
        States at ``times[0]``, of the trajectories ``first`` to ``first + N - 1``.
    times : Tensor (T,) or sequence of float
    noise : float
        At least 0.

    Raises
    ------
    ValueError
        If ``noise`` is negative or infinite.

    >>> noisy_trajectories(Spiral(), torch.ones(3, 2), torch.linspace(0, 1, 5), noise=0.1, seed=0).shape
    torch.Size([3, 5, 2])
    """
    if not (noise >= 0 and math.isfinite(noise)):
        raise ValueError(f"noise must be a finite standard deviation of at least 0, but is {noise}")
    states = integrate(field, x, times).states.transpose(0, 1)
    rows = torch.arange(first, first + len(x))
    eps = noise_numbers.normal(
        states.shape[1:], seed=seed, purpose="noisy trajectories", rows=rows, dtype=x.dtype, device=x.device
    )
    return states + noise * eps
