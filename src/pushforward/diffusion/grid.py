r"""Time grids: where a sampler calls the denoiser.

A grid of n steps is a float64 tensor of n + 1 times,

    1 = t_0 > t_1 > ... > t_{n-1} >= t_min > 0 = t_n,

whose last entry 0 means "return denoised". Each grid below is a formula for t_0 ... t_{n-1}; it is a frozen object, so
the same grid serves any sampler, schedule and number of steps.

References
----------
Tero Karras et al. Elucidating the design space of diffusion-based generative models. 2022. https://arxiv.org/abs/2206.00364
Cheng Lu et al. DPM-Solver. 2022. https://arxiv.org/abs/2206.00927  (uniform in log-SNR)
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.schedule import Schedule

__all__ = ["Grid", "KarrasGrid", "LogSNRGrid", "PowerGrid", "UniformGrid", "check_steps"]


def check_steps(steps: int) -> int:
    """Return ``steps`` if it is an integer of at least 1, else raise."""
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps must be an integer, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return steps


class Grid(abc.ABC):
    """A rule that places n + 1 times between 1 and 0."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """Return the grid of ``steps`` steps, float64 (steps + 1,)."""
        times = self._inner(schedule, check_steps(steps)).clamp(schedule.t_min, 1.0)
        times[0] = 1.0
        if bool((times.diff() >= 0).any()):
            raise ValueError(
                f"{self} with {steps} steps repeats a time on {schedule}, which starts at t_min={schedule.t_min:g}; "
                "use fewer steps or another grid"
            )
        return torch.cat((times, times.new_zeros(1)))

    @abc.abstractmethod
    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        """Return the times t_0 ... t_{steps-1}; the first is set to 1."""


@dataclass(frozen=True)
class UniformGrid(Grid):
    """t_k = 1 - k / n.

    >>> from pushforward.diffusion import StraightLine
    >>> UniformGrid()(StraightLine(), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        return 1 - torch.arange(steps, dtype=torch.float64) / steps


@dataclass(frozen=True)
class PowerGrid(Grid):
    """t_k = (1 - k / n)^power: above 1 the steps are shorter near the data.

    Parameters
    ----------
    power : float
        Positive; 1 is the uniform grid.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise ValueError(f"the power of a PowerGrid must be positive, got {self.power}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        return (1 - torch.arange(steps, dtype=torch.float64) / steps) ** self.power


@dataclass(frozen=True)
class KarrasGrid(Grid):
    """noise_level_k^(1 / rho) linear in k from the largest to the smallest noise level.

    Parameters
    ----------
    sigma_min, sigma_max : float
        First and last noise level sigma / alpha in units of the scaled data; kept within those of the schedule. The first
        call is at t = 1 all the same.
    rho : float
        Positive; larger puts more steps near the data.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"KarrasGrid needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")
        if not 0 < self.rho < math.inf:
            raise ValueError(f"rho must be positive, got {self.rho}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        ends = schedule.noise_level(torch.tensor([1.0, schedule.t_min], dtype=torch.float64)).tolist()
        high, low = min(self.sigma_max, ends[0]), max(self.sigma_min, ends[1])
        ramp = _ramp(steps)
        levels = (high ** (1 / self.rho) + ramp * (low ** (1 / self.rho) - high ** (1 / self.rho))) ** self.rho
        return schedule.t_of_log_snr(-2 * levels.log())


@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """log_snr linear in k.

    Parameters
    ----------
    low, high : float
        First and last log_snr; kept within those of the schedule. The first call is at t = 1 all the same.
    """

    low: float = -10.0
    high: float = 10.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"LogSNRGrid needs low < high, got {self.low} and {self.high}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        ends = schedule.log_snr(torch.tensor([1.0, schedule.t_min], dtype=torch.float64)).tolist()
        low, high = max(self.low, ends[0]), min(self.high, ends[1])
        return schedule.t_of_log_snr(low + _ramp(steps) * (high - low))


def _ramp(steps: int) -> Tensor:
    """0 to 1 in ``steps`` points; the single point of one step is 0."""
    return torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
