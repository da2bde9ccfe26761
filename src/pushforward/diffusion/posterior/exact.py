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
        exact = std == 0
        if not bool(exact.any()):
            draws: Tensor = law.observe(A, y, std).sample(len(noise), seed=seed, first=first)
            return draws.reshape(noise.shape).to(noise)
        # Entries without noise leave x only the null space of their rows A_0: x = A_0^+ y_0 + N u, u = N^T x given all entries.
        left, sizes, right = torch.linalg.svd(A[exact], full_matrices=True)
        rank = int(torch.linalg.matrix_rank(A[exact]))
        fixed, null = right[:rank].mT, right[rank:].mT
        known = left[:, :rank].mT @ y[exact] / sizes[:rank]
        x = (fixed @ known).expand(len(noise), -1)
        if null.shape[1]:
            rows, values = torch.cat((fixed.mT, A[~exact])), torch.cat((known, y[~exact]))
            spread = torch.cat((std.new_zeros(rank), std[~exact]))
            x = x + law.observe(rows, values, spread, of=null.mT).sample(len(noise), seed=seed, first=first).to(x) @ null.mT
        result: Tensor = x.reshape(noise.shape).to(noise)
        return result
