"""The batch of any step, as a function of the step number.

Rows come in rounds. A round is an epoch, every row once in a random order; for a data set smaller than the batch it is the
least number of epochs that fills a batch, shuffled together. Batch k takes positions k B .. (k + 1) B - 1 of the endless
sequence of rounds, so batches extend across the ends of rounds and no row is left out.

Batches are made in blocks of steps, so that the cost of the many small operations of the random number generator is paid once
per block. Blocks start at multiples of their length, and their length does not change the result.
"""

import math

import torch
from torch import Tensor

from pushforward.data.stream import AnyRows
from pushforward.probability.memory import check_memory
from pushforward.probability.noise import Permutation, derive
from pushforward.training.task import Batch, Task

__all__ = ["Feed", "check_batch_size"]

MAX_BLOCK_STEPS = 64
MAX_BLOCK_ELEMENTS = 1 << 20
_COPIES, _NUMBERS = 4, 8  # of a row: itself, its noise, a prediction, a gradient; and its places in the data and the batch


def check_batch_size(x: AnyRows, batch_size: int) -> None:
    """Raise a ValueError if a batch of such rows does not fit into the memory of this machine."""
    bytes_per_row = _COPIES * math.prod(x.shape[1:]) * x.dtype.itemsize + 8 * _NUMBERS
    check_memory(batch_size * bytes_per_row, f"batch_size={batch_size:,}", "take a few hundred rows per step")


class Feed:
    """All batches of a run.

    Parameters
    ----------
    task : Task
        Draws the random numbers.
    x : Tensor or Stream
        All training rows, shape (N, *D), on the device, or on disk.
    condition : Tensor or None
        Their conditions, shape (N, K).
    batch_size : int
        Rows of the global batch.
    share : slice
        Positions in the global batch that belong to this process.
    seed : int
        Seed of the run.
    attempt : int
        Part of the address of order and draws; a new attempt gets other batches.

    Attributes
    ----------
    block : int
        Steps per block.
    until : int or None
        Steps of the run: no batch is made for a step from there on, unless it is asked for.
    """

    def __init__(
        self, task: Task, x: AnyRows, condition: Tensor | None, *, batch_size: int, share: slice, seed: int, attempt: int = 0
    ) -> None:
        self._task, self._x, self._condition = task, x, condition
        self._total, self._share = batch_size, share
        self._rows = torch.arange(share.start, share.stop, device=x.device)
        self._copies = -(-batch_size // len(x))
        self._order_seed = derive(seed, "order", attempt)
        self._draws_seed = derive(seed, "draws", attempt)
        self._rounds: dict[int, Permutation] = {}
        self._first = 0
        self._batches: list[Batch] = []
        per_step = max(1, len(self._rows) * math.prod(x.shape[1:]))
        self.block = min(max(MAX_BLOCK_ELEMENTS // per_step, 1), MAX_BLOCK_STEPS)
        self.until: int | None = None

    def batch(self, step: int) -> Batch:
        """Return this process's part of the batch of step 0, 1, 2, ..."""
        if not 0 <= step - self._first < len(self._batches):
            self._first = step - step % self.block
            count = self.block if self.until is None else min(self.block, self.until - self._first)
            self._batches = self._make(self._first, max(count, step - self._first + 1))
        return self._batches[step - self._first]

    def indices(self, first: int, steps: int) -> Tensor:
        """Row numbers of the global batches of ``steps`` steps from ``first`` on, shape (steps, batch_size)."""
        size = len(self._x) * self._copies
        start, stop = first * self._total, (first + steps) * self._total
        numbers = range(start // size, (stop - 1) // size + 1)
        self._rounds = {number: self._rounds[number] if number in self._rounds else self._round(number) for number in numbers}
        places = (torch.arange(max(start - n * size, 0), min(stop - n * size, size), device=self._x.device) for n in numbers)
        rows = torch.cat([self._rounds[number](place) for number, place in zip(numbers, places, strict=True)])
        return (rows if self._copies == 1 else rows % len(self._x)).view(steps, self._total)

    def _round(self, number: int) -> Permutation:
        size = len(self._x) * self._copies
        return Permutation(size, seed=derive(self._order_seed, number), purpose="order", device=self._x.device)

    def _make(self, first: int, count: int) -> list[Batch]:
        index = self.indices(first, count)[:, self._share]
        steps = torch.arange(first, first + count, device=index.device)
        draws = self._task.draw(self._rows, self._total, steps, self._draws_seed)
        for number, draw in enumerate(draws):
            if draw.shape[:2] != index.shape:
                raise ValueError(
                    f"Tensor {number} of {type(self._task).__name__}.draw has shape {tuple(draw.shape)}; it must start with "
                    f"(steps, rows) = {tuple(index.shape)}."
                )
        x = _gather(self._x, index)
        conditions = [None] * count if self._condition is None else _gather(self._condition, index)
        steps_of_draws = zip(*(draw.unbind(0) for draw in draws), strict=True) if draws else [()] * count
        return [Batch(*parts) for parts in zip(x, conditions, steps_of_draws, strict=True)]


def _gather(values: AnyRows, index: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of ``values`` for each step of ``index`` (S, B), as S views (B, ...)."""
    places = index.reshape(-1)
    rows = values.index_select(0, places) if isinstance(values, Tensor) else values[places]
    return rows.view(*index.shape, *values.shape[1:]).unbind(0)
