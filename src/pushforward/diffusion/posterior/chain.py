"""Steps of the noising process and of its reverse, with noise that is addressed by sample and step."""

import torch
from torch import Tensor

from pushforward.diffusion.posterior.method import InverseProblem
from pushforward.probability.noise import normal

__all__ = ["Chain"]


class Chain:
    """Draws, and DDPM's steps backward and forward; each call uses new noise."""

    def __init__(self, problem: InverseProblem) -> None:
        self.schedule, self.like, self.seed = problem.denoiser.schedule, problem.noise, problem.seed
        self.rows = torch.arange(problem.first, problem.first + len(self.like), device=self.like.device)
        self.count = 0

    def draw(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return standard normal noise, shaped like the rows unless a shape is given."""
        self.count += 1
        like = self.like
        return normal(
            tuple(like.shape[1:]) if shape is None else shape,
            seed=self.seed,
            purpose="posterior",
            rows=self.rows,
            step=self.count,
            dtype=like.dtype,
            device=like.device,
        )

    def start(self, noise: Tensor) -> Tensor:
        """Return the state at t = 1."""
        return noise * self.schedule.sigma(torch.ones((), dtype=torch.float64)).to(noise.dtype)

    def noised(self, x: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x)."""
        return self.schedule.alpha(t).item() * x + self.schedule.sigma(t).item() * self.draw()

    def back(self, x_t: Tensor, denoised: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """q(x_s | x_t, x = denoised) of the forward process; the last step returns denoised."""
        if s == 0:
            return denoised
        ratio, variance = self._forward(s, t)
        alpha_s, sigma_t, sigma_s = self.schedule.alpha(s), self.schedule.sigma(t), self.schedule.sigma(s)
        on_x = (ratio * (sigma_s / sigma_t) ** 2).item()
        on_denoised = (alpha_s * variance / sigma_t**2).item()
        return on_x * x_t + on_denoised * denoised + (variance.sqrt() * sigma_s / sigma_t).item() * self.draw()

    def forth(self, x_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_s)."""
        ratio, variance = self._forward(s, t)
        return ratio.item() * x_s + variance.sqrt().item() * self.draw()

    def _forward(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        ratio = self.schedule.alpha(t) / self.schedule.alpha(s)
        return ratio, (self.schedule.sigma(t) ** 2 - (ratio * self.schedule.sigma(s)) ** 2).clamp(min=0)
