"""The way of samples from noise to data, seen from outside: a sampler around a sampler that keeps what it passes through."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion import AbstractDenoiser, Sampler

__all__ = ["paths"]


@dataclass(frozen=True, eq=False)
class _Watched(Sampler):
    """A sampler that keeps the state before the first and after each step."""

    inner: Sampler
    times: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def run(
        self,
        denoiser: AbstractDenoiser,
        noise: Tensor,
        *,
        steps: int | None = None,
        times: Tensor | Sequence[float] | None = None,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: Any = None,
    ) -> Tensor:
        self._keep(denoiser, 1.0, noise * denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)))

        def keep(row: int, time: float, x: Tensor, denoised: Tensor) -> None:
            self._keep(denoiser, float(time), x)

        return self.inner.run(
            denoiser, noise, steps=steps, times=times, condition=condition, seed=seed, first=first, on_step=keep
        )

    def integrate(self, *args: Any, **options: Any) -> Tensor:
        return self.inner.integrate(*args, **options)

    def _keep(self, denoiser: AbstractDenoiser, time: float, x: Tensor) -> None:
        t = torch.tensor(time, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
        self.times.append(time)
        self.states.append((x.double() / (alpha**2 + sigma**2).sqrt()).float().cpu())


def paths(model: Any, n: int, *, seed: int, frames: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return times (frames,) from 1 to 0 and what n samples are at them, (frames, n, *row), scaled as the model sees them.

    States are divided by sqrt(alpha^2 + sigma^2), so that those of all schedules have about one size. Images have their
    channels last.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> times, states = paths(model, 3, seed=0)
    >>> times[[0, -1]].tolist(), states.shape
    ([1.0, 0.0], (9, 3, 2))
    """
    watched = _Watched(model.sampler_)
    model.sample(n, seed=seed, sampler=watched, batch_size=n)
    kept = np.unique(np.linspace(0, len(watched.times) - 1, min(frames, len(watched.times))).round().astype(int))
    states = torch.stack([watched.states[index] for index in kept]).numpy()
    if states.ndim == 5:
        states = np.moveaxis(states, 2, -1)
    return np.array([watched.times[index] for index in kept]), states
