r"""Trajectories of a probability flow with all their states, which a flow map learns from.

A sampler of a teacher is run from noise to data, and the state after each of its calls is kept in the clock and scale of
:mod:`pushforward.diffusion.flow_map`: angles theta_0 > ... > theta_S = 0 and states u_0, ..., u_S.

The integral of the divergence along a trajectory, which densities need, is that of the cubic through the values at four
neighboring states; trapezoids would leave a bias. Narrow laws have a divergence like 1 / theta, so the variable of the cubic is
asinh(theta / theta_low), nearly a logarithm. Below the last angle before 0 the law of the data is taken as Gaussian near
each row, as for densities along the flow (:mod:`pushforward.diffusion.last_step`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.flow_map import angle_of
from pushforward.diffusion.last_step import log_ratio
from pushforward.diffusion.samplers.table import Sampler
from pushforward.diffusion.schedule import widen
from pushforward.diffusion.trace import exact_trace, probed_trace, rademacher

__all__ = ["GuidedRows", "Trajectories", "trajectories"]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Angles (S + 1,), float64; states (N, S + 1, *D); and int_0^theta div dtheta at each state, (N, S + 1), or None."""

    angles: Tensor
    states: Tensor
    integrals: Tensor | None


class GuidedRows(AbstractDenoiser):
    """A denoiser with a guidance scale w per row: away + w (cond - away), where away is without a condition."""

    def __init__(self, denoiser: AbstractDenoiser, scale: Tensor) -> None:
        super().__init__()
        self.denoiser, self.scale = denoiser, scale
        self.schedule, self.data_std = denoiser.schedule, denoiser.data_std
        self.gaussian_source, self.calls = denoiser.gaussian_source, 2 * denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]."""
        assert condition is not None
        doubled = t if t.ndim == 0 else torch.cat((t, t))
        both = self.denoiser(torch.cat((x_t, x_t)), doubled, torch.cat((condition, torch.zeros_like(condition))))
        conditional, away = both.chunk(2)
        return torch.lerp(away, conditional, widen(self.scale.to(x_t), x_t))


@torch.no_grad()
def trajectories(
    denoiser: AbstractDenoiser,
    noise: Tensor,
    sampler: Sampler,
    steps: int,
    *,
    data_std: float,
    condition: Tensor | None = None,
    varies: Tensor | None = None,
    probes: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Trajectories:
    """Return the trajectories of ``steps`` steps of a deterministic sampler from noise (B, *D).

    Parameters
    ----------
    denoiser : AbstractDenoiser
    noise : Tensor (B, *D)
        Standard normal, or drawn from the source that the denoiser was trained with.
    sampler : Sampler
    steps : int
    data_std : float
        s, the standard deviation of the scaled data.
    condition : Tensor (B, K), optional
    varies : bool Tensor (*D), optional
        The elements that the divergence counts; default all.
    probes : int, optional
        Integrate the divergence: 0 computes it exactly, a larger number estimates it from random probes, which stay the same
        along a trajectory. By default there are no integrals.
    seed, first : int
        Name the probes.

    >>> from pushforward.diffusion import AngleSolver, ExactDenoiser, StraightLine
    >>> from pushforward.probability import Gaussian
    >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), StraightLine())
    >>> made = trajectories(denoiser, torch.ones(1, 1), AngleSolver(), 8, data_std=2.0, probes=0)
    >>> made.states.shape, made.states[0, -1].round(decimals=3).item(), made.integrals.abs().max().item() < 1e-3
    (torch.Size([1, 9, 1]), 1.0, True)
    """
    schedule, states, times = denoiser.schedule, [], [1.0]

    def scaled(x: Tensor, t: float) -> Tensor:
        time = torch.tensor(t, dtype=torch.float64)
        root = float(((schedule.alpha(time) * data_std) ** 2 + schedule.sigma(time) ** 2).sqrt())
        return x / (root if t else data_std)

    def keep(_: int, t: float, x: Tensor, denoised: Tensor) -> None:
        times.append(t)
        states.append(scaled(x, t))

    start = noise * float(schedule.sigma(torch.ones((), dtype=torch.float64)))
    sampler.run(denoiser, noise, steps=steps, condition=condition, on_step=keep)
    angles = angle_of(schedule, torch.tensor(times, dtype=torch.float64), data_std)
    angles[-1] = 0.0
    u = torch.stack([scaled(start, 1.0), *states], 1)
    if probes is None:
        return Trajectories(angles, u, None)
    counted = torch.ones(noise.shape[1:], dtype=torch.bool, device=noise.device) if varies is None else varies.to(noise.device)
    signs = rademacher(noise, probes, seed=seed, first=first) * counted if probes else None
    field = _Field(denoiser, condition, data_std, counted)
    return Trajectories(angles, u, _integrals(field, u, times, angles, signs))


class _Field:
    """The velocity du / dtheta of a denoiser, and the elements that its divergence counts."""

    def __init__(self, denoiser: AbstractDenoiser, condition: Tensor | None, data_std: float, varies: Tensor) -> None:
        self.denoiser, self.condition, self.data_std, self.varies = denoiser, condition, data_std, varies

    def at(self, t: float, angle: float) -> Callable[[Tensor], Tensor]:
        cos, sin = math.cos(angle), math.sin(angle)

        def velocity(u: Tensor) -> Tensor:
            return (cos * u - self.denoised(t)(u) / self.data_std) / sin

        return velocity

    def denoised(self, t: float) -> Callable[[Tensor], Tensor]:
        time = torch.tensor(t, dtype=torch.float64)
        schedule = self.denoiser.schedule
        root = float(((schedule.alpha(time) * self.data_std) ** 2 + schedule.sigma(time) ** 2).sqrt())
        return lambda u: self.denoiser(root * u, time, self.condition)


def _integrals(field: _Field, u: Tensor, times: list[float], angles: Tensor, signs: Tensor | None) -> Tensor:
    """Return int_0^theta div dtheta at each state, (N, S + 1), in float64."""
    rates = []
    for k, t in enumerate(times[:-1]):
        velocity = field.at(t, float(angles[k]))
        trace = (
            exact_trace(velocity, u[:, k], field.varies)[1]
            if signs is None
            else probed_trace(velocity, u[:, k], signs)[1].mean(0)
        )
        rates.append(trace.double())
    rising = angles[:-1].flip(0).numpy()
    clock, slope = np.arcsinh(rising / rising[0]), np.hypot(rising, rising[0])
    weights = torch.from_numpy(cubic_weights(clock) * slope).to(u.device)
    pieces = torch.stack(rates, 1).flip(1) @ weights.T  # over the intervals, from the data up
    below = _below(field, u[:, len(rates) - 1], times[-2], float(angles[-2]), rates[-1], signs)
    sums = torch.cat((below[:, None], pieces), 1).cumsum(1)
    return torch.cat((sums.flip(1), torch.zeros_like(below)[:, None]), 1)


def _below(field: _Field, u: Tensor, t: float, angle: float, rate: Tensor, signs: Tensor | None) -> Tensor:
    """Return the integral from 0 to the lowest angle before it."""
    if not field.denoiser.gaussian_source:
        return rate * angle
    time = torch.tensor(t, dtype=torch.float64)
    alpha = float(field.denoiser.schedule.alpha(time))
    root = float(((alpha * field.data_std) ** 2 + field.denoiser.schedule.sigma(time) ** 2).sqrt())
    # In x the step changes the log-density by the ratio of last_step; u has the scale sqrt(S) there and s at the data.
    ratio = log_ratio(lambda x_t: field.denoised(t)(x_t / root), root * u, alpha, field.varies, signs).mean(0)
    return ratio.to(u.device) + int(field.varies.sum()) * math.log(field.data_std / root)


def cubic_weights(nodes: np.ndarray) -> np.ndarray:
    """Return weights (S - 1, S) of values at S rising nodes for the integral over each interval between neighbors.

    Each interval takes the polynomial through the four nodes about it, or all nodes if there are fewer.

    >>> nodes = np.array([0.0, 0.5, 1.0, 2.0, 2.5])
    >>> (cubic_weights(nodes) @ nodes**3).sum().round(6).item(), 2.5**4 / 4
    (9.765625, 9.765625)
    """
    count = len(nodes)
    weights = np.zeros((count - 1, count))
    size = min(4, count)
    for k in range(count - 1):
        begin = min(max(k - 1, 0), count - size)
        taken = nodes[begin : begin + size] - nodes[k]
        width = nodes[k + 1] - nodes[k]
        scaled = taken / width
        powers = np.vander(scaled, increasing=True).T
        weights[k, begin : begin + size] = width * np.linalg.solve(powers, 1 / np.arange(1, size + 1))
    return weights
