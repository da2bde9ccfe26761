r"""The training task of flow maps: jumps between states of the teacher's own trajectories.

For states u_a and u_b of one trajectory at the angles a and b the loss is

    |X(u_a, a, b) - u_b|^2 / |a - b|,

which is |a - b| times the squared error of the mean velocity between them, so that near and far pairs weigh alike. A quarter
of the pairs start at the noise; a quarter end at the data, as every sample does; a quarter are any two states, from noise
towards data; and a quarter go back towards the noise, half of them from the data, for codes and densities.

The integral of the divergence is learned beside it, with the loss (L - L_ab)^2 / (D (|a - b| + c)). The rows of a batch are
trajectories (B, S + 1, D + 1): the states, flat, and the integral from 0 to their angle.
"""

import math

import torch
from torch import Tensor

from pushforward.diffusion.flow_map import FlowMapNetwork
from pushforward.models.base.task import uniform
from pushforward.training import Batch, Task

__all__ = ["FlowMapTask"]

_WHOLE = 0.25  # share of the pairs with one end at noise or data that have the other end at the other
_SHORT = 0.1  # c, in radians
_DENSITY = 0.1  # weight of the loss of the integral


class FlowMapTask(Task):
    """Training of a flow map on trajectories.

    Parameters
    ----------
    flow_map : FlowMapNetwork
    angles : Tensor (S + 1,)
        Falling, the last one 0.
    shape : tuple of int
        Shape of a state.
    """

    def __init__(self, flow_map: FlowMapNetwork, angles: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.flow_map, self.shape = flow_map, shape
        self.angles: Tensor
        self.register_buffer("angles", angles.double(), persistent=False)

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return uniform numbers (S, B, 3) that choose the pairs."""
        return (uniform((3,), rows, steps, seed, "pair"),)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of each row, (B,)."""
        begin, end = self._pairs(batch.draws[0])
        return self._loss(batch, begin, end)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each row, (B,), and the angle of its start as a share of that of the noise."""
        begin, end = self._pairs(batch.draws[0])
        return self._loss(batch, begin, end), (self.angles[begin] / self.angles[0]).float()

    def _pairs(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the first and the second state of each row."""
        last = len(self.angles) - 1
        one = (u[:, 1] * (last + 1)).long().clamp(max=last)
        other = (u[:, 2] * last).long().clamp(max=last - 1)
        other = other + (other >= one)
        low, high = torch.minimum(one, other), torch.maximum(one, other)
        later = 1 + (u[:, 1] * last).long().clamp(max=last - 1)  # any but the noise
        later = torch.where(u[:, 2] < _WHOLE, last, later)
        way = (u[:, 0] * 8).long()
        begin = torch.where(way < 2, 0, torch.where(way < 4, last - later, torch.where(way < 6, low, high)))
        end = torch.where(way < 2, later, torch.where(way < 4, last, torch.where(way < 6, high, low)))
        from_data = way == 7
        return torch.where(from_data, last, begin), torch.where(from_data, last - later, end)

    def _loss(self, batch: Batch, begin: Tensor, end: Tensor) -> Tensor:
        rows = torch.arange(len(begin), device=begin.device)
        first, second = batch.x[rows, begin], batch.x[rows, end]
        flow_map, size = self.flow_map, math.prod(self.shape)
        u, target = (part[:, :size].reshape(-1, *self.shape) for part in (first, second))
        a, b = self.angles[begin], self.angles[end]
        condition, scale = flow_map.split(batch.condition)
        moved, change = flow_map.jump(u, a, b, condition, scale)
        span = (a - b).abs().to(u)
        loss = (moved - target).square().flatten(1).mean(1) / span
        if change is None:
            return loss
        wanted = second[:, size] - first[:, size]
        return loss + _DENSITY * (change - wanted).square() / (size * (span + _SHORT))
