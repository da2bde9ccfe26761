r"""Time grids: the times of a sampler's denoiser calls.

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
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.diffusion.schedule import Schedule
from pushforward.probability.counts import check_steps

__all__ = [
    "ChainGrid",
    "FixedGrid",
    "Grid",
    "KarrasGrid",
    "LevelGrid",
    "LogSNRGrid",
    "PowerGrid",
    "SinhGrid",
    "UniformGrid",
    "VPGrid",
    "check_steps",
]


class Grid(CheckedFields, abc.ABC):
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
        First and last noise level sigma / alpha in units of the scaled data, limited to the range of the schedule. The first
        call is always at t = 1.
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
        high, low = _within(schedule, self.sigma_max, self.sigma_min)
        ramp = _ramp(steps)
        levels = (high ** (1 / self.rho) + ramp * (low ** (1 / self.rho) - high ** (1 / self.rho))) ** self.rho
        return schedule.t_of_log_snr(-2 * levels.log())


@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """log_snr linear in k.

    Parameters
    ----------
    low, high : float
        First and last log_snr, limited to the range of the schedule. The first call is always at t = 1.
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


@dataclass(frozen=True)
class VPGrid(Grid):
    """v_k^(1 / power) linear in k in the clock v = sqrt(log(1 + noise_level^2)), on any schedule.

    v is the time of the variance-preserving SDE whose beta grows linearly from 0: proportional to the noise level near the
    data, and to the root of its logarithm near the noise. With the power 2 half of all calls are below the noise level 0.86.

    Parameters
    ----------
    power : float
        Positive; larger puts more steps near the data.
    sigma_max : float
        Noise level of v_0 in units of the scaled data, limited to the range of the schedule. The first call is always at t = 1.
        No call is below t_min: if the last one would be, the grid ends at t_min instead.

    >>> from pushforward.diffusion import Cosine
    >>> [round(level, 3) for level in Cosine().noise_level(VPGrid()(Cosine(), 4))[1:].tolist()]
    [3.874, 0.854, 0.187, 0.0]
    """

    power: float = 2.0
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise ValueError(f"the power of a VPGrid must be positive, got {self.power}")
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"sigma_max of a VPGrid must be positive and finite, got {self.sigma_max}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        first, end = (math.log1p(level**2) ** (0.5 / self.power) for level in _within(schedule, self.sigma_max, 0.0))
        v = (first + _ramp(steps) * (max(first / steps, end) - first)) ** self.power
        return schedule.t_of_log_snr(-torch.expm1(v**2).log())


@dataclass(frozen=True)
class SinhGrid(Grid):
    """log(noise_level_k / center) = width sinh(u_k) with u linear in k: calls are densest at the noise level ``center``.

    A step in the logarithm of the noise level is about sqrt(width^2 + log^2(noise_level / center)) times a constant: shortest
    at ``center``, and longer with the distance from it on both sides, towards pure noise and towards the data.

    Parameters
    ----------
    center : float
        Noise level where the calls are densest, in units of the scaled data; positive. Data of unit variance splits into its
        modes around 1.
    width : float
        Distance from ``center``, as a logarithm, at which steps are sqrt(2) times the shortest; positive. For a large width the
        grid approaches ``LogSNRGrid``.
    sigma_min, sigma_max : float
        First and last noise level, in units of the scaled data, limited to the range of the schedule. The first call is always
        at t = 1.

    >>> from pushforward.diffusion import Cosine
    >>> [round(level, 3) for level in Cosine().noise_level(SinhGrid()(Cosine(), 6))[1:].tolist()]
    [5.136, 1.481, 0.547, 0.138, 0.01, 0.0]
    """

    center: float = 1.0
    width: float = 1.25
    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        for name in ("center", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"the {name} of a SinhGrid must be positive and finite, got {getattr(self, name)}")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"SinhGrid needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        high, low = _within(schedule, self.sigma_max, self.sigma_min)
        first, last = (math.asinh(math.log(level / self.center) / self.width) for level in (high, low))
        return schedule.t_of_log_snr(
            -2 * (math.log(self.center) + self.width * torch.sinh(first + _ramp(steps) * (last - first)))
        )


@dataclass(frozen=True)
class ChainGrid(Grid):
    """Sub-sequences of a discrete chain: t_k = ceil(T (1 - k / n)) / T, so that every time is a step of the chain.

    With the number of steps of the chain this is the chain itself.

    Parameters
    ----------
    length : int
        Number of steps T of the chain, 1000 for the default ``DiscreteBeta``.

    >>> from pushforward.diffusion import DiscreteBeta
    >>> ChainGrid()(DiscreteBeta(), 3).tolist()
    [1.0, 0.667, 0.334, 0.0]
    """

    length: int = 1000

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"the length of a ChainGrid must be at least 1, got {self.length}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        if steps > self.length:
            raise ValueError(f"a chain of {self.length} steps has no sub-sequence of {steps}; use at most {self.length} steps")
        left = steps - torch.arange(steps)
        return torch.div(self.length * left + steps - 1, steps, rounding_mode="floor").double() / self.length


@dataclass(frozen=True)
class FixedGrid(Grid):
    """Fixed times, for one number of steps.

    Parameters
    ----------
    times : tuple of float
        1 = t_0 > ... > t_n = 0.

    >>> from pushforward.diffusion import StraightLine
    >>> FixedGrid((1.0, 0.3, 0.0))(StraightLine(), 2).tolist()
    [1.0, 0.3, 0.0]
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(float(t) for t in self.times))
        falling = all(after < before for before, after in itertools.pairwise(self.times))
        if len(self.times) < 2 or self.times[0] != 1 or self.times[-1] != 0 or not falling:
            raise ValueError(f"the times of a FixedGrid must fall strictly from 1 to 0, but they are {list(self.times)}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        if steps != len(self.times) - 1:
            raise ValueError(f"this grid has {len(self.times) - 1} steps and no others, got steps={steps}")
        return torch.tensor(self.times[:-1], dtype=torch.float64)


@dataclass(frozen=True)
class LevelGrid(Grid):
    """Fixed noise levels after that of t = 1, for one number of steps on any schedule.

    Parameters
    ----------
    levels : tuple of float
        Positive and decreasing. If the first is not below the noise level at t = 1, or the last is below that at t_min, all are
        rescaled, in proportion of their logarithms, to lie between half the former and the latter.

    >>> from pushforward.diffusion import StraightLine
    >>> LevelGrid((3.0, 1.0))(StraightLine(), 3).tolist()
    [1.0, 0.75, 0.5, 0.0]
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        falling = all(after < before for before, after in itertools.pairwise(self.levels))
        if not falling or not all(0 < level < math.inf for level in self.levels):
            raise ValueError(f"the levels of a LevelGrid must be positive and fall strictly, but they are {list(self.levels)}")

    def _inner(self, schedule: Schedule, steps: int) -> Tensor:
        if steps != len(self.levels) + 1:
            raise ValueError(f"this grid has {len(self.levels) + 1} steps and no others, got steps={steps}")
        levels = torch.tensor(self.levels, dtype=torch.float64)
        if steps > 1:
            noisiest, cleanest = schedule.noise_level(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
            first, last = levels[0], levels[-1]
            high, low = first if first < noisiest else noisiest / 2, last.clamp(min=cleanest)
            if high < first or low > last:
                share = (levels / last).log() / (first / last).log() if steps > 2 else torch.zeros(1)
                levels = low * (high / low) ** share
        return torch.cat((levels.new_ones(1), schedule.t_of_log_snr(-2 * levels.log())))


def _ramp(steps: int) -> Tensor:
    """0 to 1 in ``steps`` points; the single point of one step is 0."""
    return torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)


def _within(schedule: Schedule, high: float, low: float) -> tuple[float, float]:
    """Return two noise levels, limited to the range of the schedule."""
    ends = schedule.noise_level(torch.tensor([1.0, schedule.t_min], dtype=torch.float64)).tolist()
    return min(high, ends[0]), max(low, ends[1])
