"""A sampler that keeps the states on the way from noise to samples."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.table import Call, Sampler, Times
from pushforward.diffusion.schedule import Schedule

__all__ = ["RecordingSampler"]


@dataclass(frozen=True, eq=False)
class RecordingSampler(Sampler):
    """A sampler around a sampler that keeps each state of one run, the first one included.

    Attributes
    ----------
    inner : Sampler
    times : list of float
        From 1 to 0.
    states : list of Tensor (B, *D)
        x_t at these times, on the CPU.

    >>> import torch
    >>> from pushforward.diffusion import DDIM, ExactDenoiser, StraightLine
    >>> from pushforward.probability import Gaussian
    >>> recording = RecordingSampler(DDIM())
    >>> x = recording.run(ExactDenoiser(Gaussian([0.0], 1.0), StraightLine()), torch.ones(2, 1), steps=4)
    >>> recording.times, torch.equal(recording.states[-1], x)
    ([1.0, 0.75, 0.5, 0.25, 0.0], True)
    """

    inner: Sampler
    times: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def run_times(self, schedule: Schedule, steps: int | None, times: Times | None) -> Times:
        """Return the times of the inner sampler."""
        return self.inner.run_times(schedule, steps, times)

    def follow(self, denoiser: AbstractDenoiser, x_t: Tensor, times: Times, call: Call) -> Tensor:
        """Integrate with the inner sampler, and keep the states."""

        def keep(row: int, time: float, x: Tensor, denoised: Tensor) -> None:
            self._keep(float(time), x)

        self._keep(float(times[0]), x_t)
        return self.inner.follow(denoiser, x_t, times, replace(call, on_step=keep))

    def _keep(self, time: float, x: Tensor) -> None:
        self.times.append(time)
        self.states.append(x.float().cpu())
