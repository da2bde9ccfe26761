"""Shares of integers beyond the range of the data in the mass of its ends, by :mod:`pushforward.data.transform`."""

import torch
from torch import Tensor

__all__ = ["end_shares", "log_share"]


def log_share(beyond: Tensor, share: Tensor) -> Tensor:
    """Return log (1 - r) r^j for integers that lie j = ``beyond`` above the end of a range with share r; 0 for j < 0."""
    j = beyond.clamp(min=0.0)
    return torch.where(beyond >= 0, torch.xlogy(j, share) + torch.log1p(-share), 0.0)


def end_shares(x: Tensor, low: Tensor, high: Tensor, limits: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Return the shares r of the ends ``low`` and ``high`` of ranges for rows x (N, *D): 0 where they reach their limits."""
    below, above = (1 / ((x == end).sum(0).sum_to_size(end.shape).double() + 2) for end in (low, high))
    if limits is None:
        return below, above
    return below.where(low > limits[0], 0.0), above.where(high < limits[1], 0.0)
