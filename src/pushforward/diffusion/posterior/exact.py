"""The exact posterior of a law in closed form, to test the other methods against."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import ExactDenoiser
from pushforward.diffusion.posterior.method import InverseProblem, PosteriorMethod
from pushforward.probability import Gaussian, GaussianMixture
from pushforward.probability.noise import derive

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact(PosteriorMethod):
    """Rows of the exact posterior, for the exact denoiser of a Gaussian or a mixture."""

    def passes(self, steps: int) -> int:
        """Return 0: no network is called."""
        return 0

    def _run(self, problem: InverseProblem) -> Tensor:
        denoiser, observation, noise, first = problem.denoiser, problem.observation, problem.noise, problem.first
        law = denoiser.law if isinstance(denoiser, ExactDenoiser) else None
        if not isinstance(law, Gaussian | GaussianMixture):
            raise ValueError(
                "method Exact() needs the exact denoiser of a Gaussian or a mixture; a trained model takes MMPS(), the default"
            )
        if len(observation.y) > 1:
            raise ValueError(f"method Exact() takes one measurement, got {len(observation.y)}; run it once for each")
        A, y, std = observation.matrix(noise.shape[1:]), observation.y[0], observation.std
        seen = A.abs().amax(1) > 0  # a mask has rows of zeros
        A, y, std = A[seen], y[seen], std[seen]
        seed = derive(problem.seed, "exact posterior")
        if bool((std > 0).any()):
            draws: Tensor = law.observe(A, y, std).sample(len(noise), seed=seed, first=first)
            return draws.reshape(noise.shape).to(noise)
        # Without noise x moves only within the null space of A: x = A^+ y + N u.
        null = torch.linalg.svd(A, full_matrices=True).Vh[int(torch.linalg.matrix_rank(A)) :].mT
        x = (torch.linalg.pinv(A) @ y).expand(len(noise), -1)
        if null.shape[1]:
            x = x + law.observe(A, y, 0.0, of=null.mT).sample(len(noise), seed=seed, first=first).to(x) @ null.mT
        result: Tensor = x.reshape(noise.shape).to(noise)
        return result
