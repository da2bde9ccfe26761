"""Methods with their own loops, which change the state after each step of DDPM."""

import functools
import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pushforward.diffusion.guidance import signal_time
from pushforward.diffusion.posterior.chain import Chain
from pushforward.diffusion.posterior.krylov import solve_isotropic
from pushforward.diffusion.posterior.method import InverseProblem, PosteriorMethod
from pushforward.diffusion.posterior.operators import Observation, pullback
from pushforward.diffusion.samplers.grid import Grid, UniformGrid
from pushforward.diffusion.schedule import widen
from pushforward.probability.counts import check_count

__all__ = ["DPS", "Replacement"]


@dataclass(frozen=True)
class DPS(PosteriorMethod):
    """Diffusion posterior sampling: after each step of DDPM, a gradient step that reduces |y - A D|.

    Parameters
    ----------
    strength : float
        Length of the gradient step, positive. It depends on the number of steps (the paper's 1 is for 1,000) and the data.
    grid : Grid
    """

    strength: float = 1.0
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise ValueError(f"strength must be positive, got {self.strength}")

    def passes(self, steps: int) -> int:
        """2 per step."""
        return 2 * steps

    def _run(self, problem: InverseProblem) -> Tensor:
        denoiser, observation = problem.denoiser, problem.observation
        chain = Chain(problem)
        x = chain.start(problem.noise)
        for t, s in itertools.pairwise(self.grid(denoiser.schedule, problem.steps)):
            at = signal_time(denoiser.schedule, t)
            denoised, pull = pullback(functools.partial(denoiser, t=at, condition=problem.condition), x)
            residual = observation.residual(denoised)
            gradient = pull(observation.around(denoised).pull(residual, x))
            length = residual.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
            x = chain.back(x, denoised, t, s) + widen(self.strength / length, x) * gradient
        return x


@dataclass(frozen=True)
class Replacement(PosteriorMethod):
    """Replacement, with RePaint's repeated steps: the measured part of each state is replaced, with fresh noise.

    It affects the rest of the row only through the network, so the law is right only in the limit of many repeats.

    Parameters
    ----------
    repeats : int
        How often each step is taken, at least 1; after each but the last repeat the state is noised again.
    grid : Grid
    """

    repeats: int = 5
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        check_count("repeats", self.repeats)

    def passes(self, steps: int) -> int:
        """One per step and repeat; the last step has no repeats."""
        return (steps - 1) * self.repeats + 1

    def _run(self, problem: InverseProblem) -> Tensor:
        chain = Chain(problem)
        x = chain.start(problem.noise)
        for t, s in itertools.pairwise(self.grid(chain.schedule, problem.steps)):
            for repeat in range(self.repeats if s > 0 else 1):
                denoised = problem.denoiser(x, t, problem.condition)
                x_s = self._replace(problem.observation, chain, chain.back(x, denoised, t, s), s)
                x = x_s if repeat == self.repeats - 1 or s == 0 else chain.forth(x_s, s, t)
        return x

    def _replace(self, seen: Observation, chain: Chain, x_s: Tensor, s: Tensor) -> Tensor:
        """Move x_s by the pseudoinverse of A, so that A x_s is alpha y with noise of variance sigma^2."""
        alpha, sigma = chain.schedule.alpha(s).to(x_s.dtype), chain.schedule.sigma(s).to(x_s.dtype)
        if s == 0 and bool((seen.std > 0).any()):
            return x_s  # y itself would add its noise to the row
        spread = (sigma**2 - alpha**2 * seen.variance(x_s)).clamp(min=0).sqrt()
        known = alpha * seen.y.to(x_s) + spread * seen.measure(chain.draw())
        noiseless = Observation(seen.operator.around(x_s), seen.y, torch.zeros_like(seen.std), seen.whitening)
        return x_s + solve_isotropic(noiseless, known - seen.measure(x_s), x_s.new_ones(()), x_s)[1]
