"""What images and signals share: rows with channels, first in tensors and last in arrays, which are plotted one by one."""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.kinds.kind import Channels, FolderKind

__all__ = ["Channelled"]


class Channelled(FolderKind):
    """Rows ``(N, C, *axes)`` inside the library; outside ``(N, *axes)`` without channels, or with them first or last.

    Attributes
    ----------
    axes : int
        Number of axes beside the channels.
    """

    axes: ClassVar[int]

    has_columns: ClassVar[bool] = False
    keeps_constants: ClassVar[bool] = True
    density_dtype: ClassVar[torch.dtype] = torch.float32
    drawn_singly: ClassVar[bool] = True
    solver_steps: ClassVar[int] = 16

    def internal_shape(self, row: tuple[int, ...], channels: Channels) -> tuple[int, ...]:
        """Return (C, *axes)."""
        if channels is None:
            return (1, *row)
        return row if channels == "first" else (row[-1], *row[:-1])

    def inward(self, rows: Tensor, channels: Channels) -> Tensor:
        """Put the channels first."""
        if rows.ndim == 1 + self.axes:
            return rows.unsqueeze(1)
        return rows if channels == "first" else rows.movedim(-1, 1).contiguous()

    def outward(self, rows: Tensor, row: tuple[int, ...], channels: Channels) -> Tensor:
        """Restore the user's position of the channels."""
        return (rows.movedim(1, -1) if channels == "last" else rows).reshape(len(rows), *row)

    def measured(self, values: Tensor, channels: Channels) -> Tensor:
        """Put the channels first."""
        return values.movedim(-1, 0) if channels == "last" and values.ndim == 1 + self.axes else values

    def whole_mask(self, known: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Expand a mask without channels to all of them."""
        return known.reshape(1, *shape[1:]).expand(shape) if known.numel() * shape[0] == math.prod(shape) else known

    def view(self, rows: np.ndarray, channels: Channels) -> np.ndarray:
        """Return rows (N, *axes) or (N, *axes, C), with a single channel squeezed."""
        if channels == "first":
            rows = np.moveaxis(rows, 1, -1)
        return rows[..., 0] if rows.ndim == 2 + self.axes and rows.shape[-1] == 1 else rows

    def pairs(self, rows: Tensor, others: Tensor, columns: int) -> Tensor | None:
        """Return lines of rows, each followed by the line of its others."""
        whole = len(rows) // columns * columns
        lines = [part[:whole].reshape(-1, columns, *part.shape[1:]) for part in (rows, others)]
        return torch.stack(lines, dim=1).flatten(0, 2)
