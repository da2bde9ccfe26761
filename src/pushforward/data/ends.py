"""Shares of integers beyond the range of the data in the mass of its ends, by :mod:`pushforward.data.transform`."""

import torch
from torch import Tensor

__all__ = ["end_shares", "infinite"]


def end_shares(x: Tensor, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the shares r of the ends ``low`` and ``high`` of ranges for rows x (N, *D): 0 where they reach their limits."""
    below, above = (1 / ((x == end).sum(0).sum_to_size(end.shape).double() + 2) for end in (low, high))
    return below.where(low > limits[0], 0.0), above.where(high < limits[1], 0.0)


def infinite(low: Tensor) -> tuple[Tensor, Tensor]:
    """Return the limits of ranges, shaped like ``low``, that have none."""
    return torch.full_like(low, -torch.inf), torch.full_like(low, torch.inf)
