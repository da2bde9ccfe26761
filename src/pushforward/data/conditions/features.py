"""Features of numbers and categories, and the flags that mark what is observed.

A row of features is ``(present, F features, C flags)``: a number is one standardized feature, a category one 0/1 feature per
level, and each of the C columns has a flag.
"""

import torch
from torch import Tensor

from pushforward.data.columns import Table

__all__ = ["collected", "expanded", "keep_parts", "parts_of", "sizes_of", "statistics", "thinned"]

MOST_ROWS = 65_536


def sizes_of(table: Table) -> list[int]:
    """Return the number of features of each column."""
    return [domain.levels if domain.type == "category" else 1 for domain in table.domains]


def parts_of(table: Table) -> Tensor:
    """Return the number of the column that each feature belongs to, int64 (F,)."""
    sizes = sizes_of(table)
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def expanded(table: Table, numbers: Tensor) -> Tensor:
    """Return numbers (n, C) with one 0/1 feature per level instead of the number of the level, (n, F), NaN in gaps."""
    blocks = []
    for domain, values in zip(table.domains, numbers.unbind(1), strict=True):
        block = values[:, None]
        if domain.type == "category":
            block = torch.where(block.isnan(), torch.nan, (block == torch.arange(domain.levels)).double())
        blocks.append(block)
    return torch.cat(blocks, 1)


def collected(table: Table, features: Tensor) -> Tensor:
    """Return features (n, F), NaN in gaps, with the number of the level for the features of a category, (n, C)."""
    columns = []
    for domain, block in zip(table.domains, torch.split(features, sizes_of(table), 1), strict=True):
        known = ~block.isnan().any(1)
        column = block.argmax(1).to(block.dtype) if domain.type == "category" else block[:, 0]
        columns.append(column.where(known, torch.nan))
    return torch.stack(columns, 1)


def keep_parts(encoded: Tensor, kept: Tensor, parts: Tensor) -> Tensor:
    """Return encoded conditions (n, K) with gaps in the columns that are not kept, bool (n, C).

    ``parts`` is the number of the column of each feature (F,). A row without any column is the null row.
    """
    rows = encoded * torch.cat([torch.ones_like(kept[:, :1]), kept[:, parts], kept], 1)
    return rows * rows[:, 1 + len(parts) :].any(1, keepdim=True)


def statistics(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and standard deviation of the observed entries of each column, 1 for constants, and which are constant."""
    count = (~numbers.isnan()).sum(0)
    mean = numbers.nan_to_num().sum(0) / count
    scale = (((numbers - mean).nan_to_num().square().sum(0)) / count).sqrt()
    low, high = numbers.nan_to_num(nan=torch.inf).amin(0), numbers.nan_to_num(nan=-torch.inf).amax(0)
    return mean, torch.where(low == high, 1.0, scale), low == high


def thinned(numbers: Tensor) -> Tensor:
    """Return at most 65,536 of the rows, evenly spaced."""
    if len(numbers) > MOST_ROWS:
        return numbers[torch.linspace(0, len(numbers) - 1, MOST_ROWS, dtype=torch.float64).long()]
    return numbers.clone()
