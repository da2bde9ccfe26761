"""The base of posterior methods, and the solver of their linear systems."""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.posterior.operators import Observation
from pushforward.diffusion.samplers.grid import check_steps
from pushforward.diffusion.schedule import widen
from pushforward.probability.noise import fresh_seed

__all__ = ["FREE_ITERATIONS", "InverseProblem", "PosteriorMethod", "solve"]

FREE_ITERATIONS = 50  # where an iteration only costs products with A and A^T


@dataclass(frozen=True, eq=False)
class InverseProblem:
    """The checked arguments of :meth:`PosteriorMethod.run`."""

    denoiser: AbstractDenoiser
    observation: Observation
    noise: Tensor
    steps: int
    condition: Tensor | None
    seed: int
    first: int


@dataclass(frozen=True)
class PosteriorMethod(abc.ABC):
    """A way to draw rows given a measurement; subclasses are frozen and have no state."""

    @abc.abstractmethod
    def passes(self, steps: int) -> int:
        """Return the network passes per row in ``steps`` steps, forward and backward."""

    @torch.no_grad()
    def run(
        self,
        denoiser: AbstractDenoiser,
        observation: Observation,
        noise: Tensor,
        *,
        steps: int,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
    ) -> Tensor:
        """Turn noise into samples of the posterior.

        Parameters
        ----------
        denoiser : AbstractDenoiser
            With independent Gaussian noise; it may be a guided one.
        observation : Observation
        noise : Tensor (B, *D)
            Standard normal.
        steps : int
            At least 1.
        condition : Tensor (B, K), optional
        seed, first : int
            Row i of this batch is sample ``first + i`` of ``seed``.

        Raises
        ------
        ValueError
            If the denoiser's noise is not Gaussian and independent of the data, or the method does not fit the problem.
        """
        if not denoiser.gaussian_source:
            raise ValueError(
                "posterior sampling needs a score, but this model's source is not independent Gaussian noise; train one with "
                "Gaussian noise, FlowMatching() or Diffusion()"
            )
        seed = fresh_seed() if seed is None else seed
        return self._run(InverseProblem(denoiser, observation, noise, check_steps(steps), condition, seed, first))

    @abc.abstractmethod
    def _run(self, problem: InverseProblem) -> Tensor:
        """Return the samples."""


def solve(
    seen: Observation, residual: Tensor, covariance: Callable[[Tensor], Tensor], like: Tensor, iterations: int
) -> tuple[Tensor, Tensor]:
    """Solve (R + A V A^T) v = residual by generalized conjugate residuals; returns v (B, M) and V A^T v (B, *D).

    Each row has its own step lengths. V may be any matrix: the Jacobian of a network is neither symmetric nor positive, and
    conjugate gradients would take an unbounded step wherever v^T A V A^T v is small. Here the residual never grows. After M
    iterations on a positive definite matrix the solution is exact.
    """
    variance = seen.variance(like)
    v, moved, rest = torch.zeros_like(residual), torch.zeros_like(like), residual
    least = torch.finfo(like.dtype).eps ** 2 * (residual**2).sum(1, keepdim=True)
    past: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(min(iterations, residual.shape[1])):
        direction = rest
        step = covariance(seen.pull(direction, like))
        image = variance * direction + seen.measure(step)
        for other_direction, other_step, other_image, power in past:
            share = _ratio((image * other_image).sum(1, keepdim=True), power)
            direction = direction - share * other_direction
            step = step - widen(share[:, 0], step) * other_step
            image = image - share * other_image
        power = (image**2).sum(1, keepdim=True)
        length = _ratio((rest * image).sum(1, keepdim=True), power)
        v, moved, rest = v + length * direction, moved + widen(length[:, 0], moved) * step, rest - length * image
        if not bool(((rest**2).sum(1, keepdim=True) > least).any()):
            break
        past.append((direction, step, image, power))
    return v, moved


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b vanishes."""
    vanished = b <= torch.finfo(b.dtype).tiny
    return torch.where(vanished, 0.0, a / torch.where(vanished, 1.0, b))
