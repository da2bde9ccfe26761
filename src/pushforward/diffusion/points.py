r"""Sets of points of different sizes in one batch: absent points as independent Gaussians that the others do not see.

A network for sets leaves out points that are NaN, but samplers, flows and solvers need numbers. :class:`PresentPoints` gives
them numbers: for the points that are present, those of a denoiser that sees these alone; for each coordinate of an absent point
the exact E[x | x_t] of N(0, s^2), with s the scale of the data. The law of such a row is a product,

    log p(row) = log p(points that are present) + sum over absent coordinates of log N(x; 0, s^2),

and its second part is known.
"""

import math

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.schedule import widen

__all__ = ["PresentPoints"]


class PresentPoints(AbstractDenoiser):
    """A denoiser of sets (B, P, D) in which only some points are present.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        Which takes NaN for absent points.
    present : bool Tensor (B, P)
    """

    def __init__(self, denoiser: AbstractDenoiser, present: Tensor) -> None:
        super().__init__()
        self.denoiser, self.present = denoiser, present[..., None]
        self.schedule, self.calls, self.data_std = denoiser.schedule, denoiser.calls, denoiser.data_std
        self.gaussian_source = denoiser.gaussian_source

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]."""
        present = self.present.to(x_t.device)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.data_std**2 / ((alpha * self.data_std) ** 2 + sigma**2)
        absent = widen(gain.to(x_t.dtype), x_t) * x_t
        return torch.where(present, self.denoiser(torch.where(present, x_t, torch.nan), t, condition), absent)

    def take(self, rows: Tensor) -> "PresentPoints":
        """Return the denoiser of some rows of the batch."""
        present = self.present[rows.to(self.present.device)][..., 0]
        return PresentPoints(self.denoiser.take(rows), present)

    def absent_log_density(self, x: Tensor) -> Tensor:
        """Return the log-density of the absent coordinates of rows x (B, P, D) that are 0 there, (B,), float64."""
        absent = (~self.present[..., 0]).sum(1).double().cpu()
        return -absent * x.shape[2] * (math.log(2 * math.pi) / 2 + math.log(self.data_std))
