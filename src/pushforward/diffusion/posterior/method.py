"""The base of posterior methods."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.posterior.operators import Observation
from pushforward.diffusion.samplers.grid import check_steps
from pushforward.probability.noise import fresh_seed

__all__ = ["InverseProblem", "PosteriorMethod"]


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
class PosteriorMethod(CheckedFields, abc.ABC):
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
