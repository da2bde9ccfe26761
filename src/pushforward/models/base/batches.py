"""Batches of rows."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["batches", "part_of"]


def batches(n: int, batch_size: int) -> Iterator[slice]:
    """Yield slices that cover n rows, ``batch_size`` at a time.

    >>> list(batches(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for begin in range(0, n, batch_size):
        yield slice(begin, min(begin + batch_size, n))


def part_of(values: Tensor | None, part: slice, device: torch.device) -> Tensor | None:
    """Return a slice of the values on a device, or None without values."""
    return None if values is None else values[part].to(device)
