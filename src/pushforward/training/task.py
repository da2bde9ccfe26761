"""A task as the training loop sees it: a loss per row, its random numbers, and a held-out loss.

The loop knows nothing else about a model. A task is an ``nn.Module`` whose submodules are everything that is trained. The
random numbers of its loss come from :class:`Batch`, never from a generator inside, so that a run can be resumed from its step
number and split over any number of processes.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Batch", "Task"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one step that belong to this process, with the random numbers of their loss.

    Attributes
    ----------
    x : Tensor
        Rows, shape (B, *D), on the device, already scaled by the model's transform.
    condition : Tensor or None
        Encoded conditions, shape (B, K), or None for an unconditional model.
    draws : tuple of Tensor
        The result of :meth:`Task.draw` for this step, each tensor of shape (B, ...).
    """

    x: Tensor
    condition: Tensor | None
    draws: tuple[Tensor, ...]


class Task(nn.Module, abc.ABC):
    """Base of tasks: a module whose call returns the training loss of each row."""

    judged: ClassVar[bool] = True
    """Whether the held-out loss selects the best weights. If not, it is never computed and the last average is used."""

    coupled: bool = False
    """Whether the loss of a row depends on the other rows of its batch."""

    @abc.abstractmethod
    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return all random numbers of the loss, a pure function of the arguments.

        Called once for a block of steps, so that the cost of the many small operations of the generator is paid once. Every
        number is addressed by its row and step, so the length of the block does not change the result.

        Parameters
        ----------
        rows : int64 tensor (B,)
            Positions in the global batch, on the device of the result.
        total : int
            Number of rows of the global batch, for draws that are spread over the batch (stratified times).
        steps : int64 tensor (S,)
            Step numbers, on the same device.
        seed : int
            Seed of the run's draws.

        Returns
        -------
        tuple of Tensor
            Any number of tensors, each of shape (S, B, ...), on the device of ``rows``.
        """

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return the training loss of each row, shape (B,)."""

    @abc.abstractmethod
    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the loss of each row (B,) and each row's level in [0, 1] (its time), or None if there is no level."""
