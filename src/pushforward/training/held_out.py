"""Loss of the averaged weights on held-out rows, with fixed random numbers.

The draws are the same in every evaluation, so that two evaluations differ only by the weights. A few held-out rows are used
several times each, with different draws, until there are at least ``LEAST_PAIRS`` pairs of row and draw; from many rows a
fixed random choice of ``MOST_ROWS`` is used.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.noise import derive, permutation
from pushforward.training.process.world import World
from pushforward.training.task import Batch, Task

__all__ = ["HeldOut", "HeldOutLoss"]

LEAST_PAIRS = 512
MOST_ROWS = 1024
LEVELS = 5
_NUMBERS = 1 << 17  # elements of the rows of one call


@dataclass(frozen=True)
class HeldOutLoss:
    """Mean loss over all pairs of row and draw, and over those in each fifth of the level (None for an empty fifth)."""

    mean: float
    by_level: tuple[float | None, ...] | None


class HeldOut:
    """The held-out rows with their draws.

    Parameters
    ----------
    task : Task
    x : Tensor
        Held-out rows (N, *D), on the device.
    condition : Tensor or None
        Their conditions (N, K).
    world : World
        Every process takes its share of the pairs.
    seed : int
        Seed of the run.
    batch_size : int
        Rows per training step of this process. Without gradients more rows fit into memory, so small batches are merged,
        except where the loss of a row depends on the others of its batch.
    """

    def __init__(self, task: Task, x: Tensor, condition: Tensor | None, *, world: World, seed: int, batch_size: int) -> None:
        seed = derive(seed, "held-out")
        index = permutation(len(x), seed=seed, purpose="rows", device=x.device)[:MOST_ROWS]
        index = index.repeat(-(-LEAST_PAIRS // len(index)))
        self.pairs, self._task, self._world = len(index), task, world
        rows = torch.arange(self.pairs, device=x.device)[world.share(self.pairs)]
        index = index[rows]
        draws = task.draw(rows, self.pairs, torch.zeros(1, dtype=torch.int64, device=x.device), seed)
        chunk = batch_size if task.coupled else max(batch_size, min(LEAST_PAIRS, _NUMBERS // x[0].numel()))
        self._chunks = [
            Batch(x[index[part]], None if condition is None else condition[index[part]], tuple(draw[0, part] for draw in draws))
            for part in (slice(first, first + chunk) for first in range(0, len(rows), chunk))
        ]

    @torch.no_grad()
    def loss(self) -> HeldOutLoss:
        """Return the loss of the task's present weights in evaluation mode, the same in every process."""
        # For each level, and last for all: sum of the losses, number of rows.
        device = self._world.device
        sums = torch.zeros(LEVELS + 1, 2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        has_level = False
        training = self._task.training
        self._task.eval()
        for batch in self._chunks:
            loss, level = self._task.held_out(batch)
            values = torch.stack((loss.to(sums.dtype), torch.ones_like(loss, dtype=sums.dtype)), dim=1)
            sums[LEVELS] += values.sum(0)
            if level is not None:
                has_level = True
                sums.index_add_(0, (level * LEVELS).long().clamp(0, LEVELS - 1), values)
        self._task.train(training)
        totals = self._world.sum(sums).tolist()
        mean = totals[LEVELS][0] / totals[LEVELS][1]
        if not has_level:
            return HeldOutLoss(mean, None)
        return HeldOutLoss(mean, tuple(total / count if count else None for total, count in totals[:LEVELS]))
