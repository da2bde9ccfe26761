"""Shares of integers beyond the range of the data in the mass of its ends, by :mod:`pushforward.data.transform`."""

import torch
from torch import Tensor

from pushforward.data.stream import AnyRows, parts_of

__all__ = ["end_shares", "infinite"]


def end_shares(x: AnyRows, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the shares r of the ends ``low`` and ``high`` of ranges for rows x (N, *D): 0 where they reach their limits."""
    if not bool((low > limits[0]).any() or (high < limits[1]).any()):
        return torch.zeros(low.shape, dtype=torch.float64), torch.zeros(high.shape, dtype=torch.float64)
    at_low, at_high = torch.zeros(low.shape, dtype=torch.int64), torch.zeros(high.shape, dtype=torch.int64)
    for part in parts_of(x):
        at_low += (part == low).sum(0).sum_to_size(low.shape)
        at_high += (part == high).sum(0).sum_to_size(high.shape)
    below, above = 1 / (at_low.double() + 2), 1 / (at_high.double() + 2)
    return below.where(low > limits[0], 0.0), above.where(high < limits[1], 0.0)


def infinite(low: Tensor) -> tuple[Tensor, Tensor]:
    """Return the limits of ranges, shaped like ``low``, that have none."""
    return torch.full_like(low, -torch.inf), torch.full_like(low, torch.inf)
