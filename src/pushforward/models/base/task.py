"""The base of all training tasks: dequantizes integers and drops conditions.

An integer k is replaced by k + u, u uniform on [0, 1), drawn anew at every step; the condition of a share of the rows is
replaced by "no condition", so that a model also learns the law without one. If the condition is a table, the same share of
the other rows loses each column with probability 1/2, so that the model learns the law without any part of it. A model of
images can have the visible part of the row itself as its condition, under a mask that is drawn anew at every step. These random
numbers, like those of the family's loss, depend on (seed, row, step).
"""

import abc

import torch
from torch import Tensor

from pushforward.data.conditions import keep_parts, mask_numbers, random_mask, with_visible
from pushforward.probability import noise
from pushforward.training import Batch, Task

__all__ = ["RowTask", "uniform"]


class RowTask(Task):
    """Base of tasks with a loss per row; a family defines :meth:`loss` and, if the loss is random, :meth:`numbers`.

    Parameters
    ----------
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition" in training.
    dequantization : Tensor (*D), optional
        Width of one integer in scaled units, 0 where the data are not integers.
    masked : (int, int), optional
        Height and width of images whose condition is their visible part under random masks.
    """

    def __init__(
        self,
        *,
        condition_dropout: float = 0.0,
        dequantization: Tensor | None = None,
        masked: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.condition_dropout = condition_dropout
        width = dequantization if dequantization is not None and bool((dequantization > 0).any()) else None
        self.width: Tensor | None
        self.register_buffer("width", None if width is None else width.float(), persistent=False)
        self.parts: Tensor | None
        self.register_buffer("parts", None, persistent=False)
        self.masked = masked

    def drop_parts(self, parts: Tensor) -> None:
        """Drop also single columns of conditions; ``parts`` is the column of each feature."""
        self.parts = parts

    @abc.abstractmethod
    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of each row (B,) from rows x (B, *D), conditions (B, K) and the numbers of :meth:`numbers`."""

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return the random numbers of the loss, each (S, B, ...); see :meth:`pushforward.training.Task.draw`."""
        return ()

    def data(self, x: Tensor) -> Tensor:
        """Return the rows of data (B, *D) in those of a batch, which may hold more."""
        return x

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return uniform numbers for dropout (S, B, ...), masks, and integers (S, B, *D), and the numbers of the loss."""
        numbers = () if self.parts is None else (3 + int(self.parts[-1]),)  # for the row, for its parts, for each part
        drawn = [uniform(numbers, rows, steps, seed, "dropout")] if self.condition_dropout > 0 else []
        if self.masked is not None:
            drawn.append(uniform((mask_numbers(*self.masked),), rows, steps, seed, "mask"))
        if self.width is not None:
            drawn.append(uniform(tuple(self.width.shape), rows, steps, seed, "dequantization"))
        return (*drawn, *self.numbers(rows, total, steps, seed))

    def forward(self, batch: Batch) -> Tensor:
        """Return the training loss of each row, (B,)."""
        condition = self._condition(batch)
        if condition is not None and self.condition_dropout > 0:
            condition = self._dropped(condition, batch.draws[0])
        return self.loss(*self._rows(batch, condition))

    def _dropped(self, condition: Tensor, u: Tensor) -> Tensor:
        if self.parts is None:
            return condition * (u >= self.condition_dropout)[:, None]
        kept = u[:, :2] >= self.condition_dropout
        parts: Tensor = kept[:, 1:] | (u[:, 2:] >= 0.5)
        return keep_parts(condition, parts, self.parts) * kept[:, :1]

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the loss of each row without dropout, (B,)."""
        return self.loss(*self._rows(batch, self._condition(batch))), None

    def _condition(self, batch: Batch) -> Tensor | None:
        """Return the conditions of a batch, or what its masks leave visible."""
        if self.masked is None:
            return batch.condition
        return with_visible(self.data(batch.x), random_mask(batch.draws[int(self.condition_dropout > 0)], *self.masked))

    def _rows(self, batch: Batch, condition: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Return the arguments of :meth:`loss`."""
        numbers = batch.draws[int(self.condition_dropout > 0) + (self.masked is not None) :]
        if self.width is None:
            return batch.x, condition, numbers
        return torch.addcmul(batch.x, self.width, numbers[0]), condition, numbers[1:]


def uniform(shape: tuple[int, ...], rows: Tensor, steps: Tensor, seed: int, purpose: str) -> Tensor:
    """Return uniform numbers (S, B, *shape), which depend on (seed, purpose, row, step) alone."""
    return noise.uniform(shape, seed=seed, purpose=purpose, rows=rows, step=steps[:, None], device=rows.device)
