"""Buffers that a forward pass changes, such as running statistics, which a skipped step must restore.

All buffers are copied, because torch does not tell which ones change (batch norm does not raise the version counter); they are
small compared with the weights.
"""

import torch
from torch import Tensor

from pushforward.training.task import Task

__all__ = ["SavedBuffers"]


class SavedBuffers:
    """The buffers of a task, with a copy of their last accepted values."""

    def __init__(self, task: Task) -> None:
        self._buffers = list(task.buffers())
        self._saved = [buffer.clone() for buffer in self._buffers]

    def save(self) -> None:
        """Accept the present values."""
        if self._buffers:
            torch._foreach_copy_(self._saved, self._buffers)

    def restore(self) -> None:
        """Return to the last accepted values."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._saved)

    def save_unless(self, skip: Tensor) -> None:
        """Accept the present values, or restore the saved ones where the scalar ``skip`` is true."""
        for saved, buffer in zip(self._saved, self._buffers, strict=True):
            saved.copy_(torch.where(skip, saved, buffer))
            buffer.copy_(saved)
