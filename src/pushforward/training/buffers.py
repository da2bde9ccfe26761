"""Buffers that a forward pass changes, such as running statistics: a skipped step must put them back.

Nothing tells reliably which buffers change (batch norm does not raise torch's version counter), so all are kept; they are
small beside the weights.
"""

import torch
from torch import Tensor

from pushforward.training.task import Task

__all__ = ["KeptBuffers"]


class KeptBuffers:
    """The buffers of a task, with the values last accepted."""

    def __init__(self, task: Task) -> None:
        self._buffers = list(task.buffers())
        self._kept = [buffer.clone() for buffer in self._buffers]

    def keep(self) -> None:
        """Accept the present values."""
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)

    def put_back(self) -> None:
        """Return to the values last accepted."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)

    def keep_unless(self, skip: Tensor) -> None:
        """Accept the present values, or put the old ones back where the scalar ``skip`` is true."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(torch.where(skip, kept, buffer))
            buffer.copy_(kept)
