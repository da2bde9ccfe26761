r"""Permutation tests of distances between shares of cells, by random relabelings of samples and rows.

Each column, or pair of columns, sorts rows into cells. The distance of samples and reference rows is the total variation of
their shares of the cells, or, where the cells have an order, the largest difference of their distribution functions. Counts of
cells are sums over rows, so relabelings of whole blocks of rows (:class:`~pushforward.metrics.relabel.BlockSwaps`) cost as much
for many rows as for few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pushforward.metrics.measure import Side
from pushforward.metrics.mixed.rows import Floats, Integers, level_numbers
from pushforward.metrics.relabel import BlockSwaps, chance
from pushforward.probability.domain import Domain

__all__ = ["Cells", "chance_of_each", "chance_of_mean", "column_cells"]

_POINTS = 256  # of the distribution function of a number
_DRAWS = 2_047  # relabelings: pairs of columns have many cells


@dataclass(frozen=True, eq=False)
class Cells:
    """The cell of each row, samples first, and whether cells have an order; -1 for a row that does not count."""

    cell: Integers
    ordered: bool = False

    def shares(self, swaps: BlockSwaps) -> Floats:
        """Return the number of rows of each block in each cell, (K, cells)."""
        width, counted = int(self.cell.max()) + 1, self.cell >= 0
        place = swaps.block[counted] * width + self.cell[counted]
        return np.bincount(place, minlength=len(swaps.member) * width).reshape(-1, width).astype(np.float64)


def column_cells(P: Floats, Q: Floats, domain: Domain, *, most: int = _POINTS) -> Cells:
    """Return the cells of a column: the levels of a category, or at most ``most`` intervals of a number, equally full."""
    values = np.concatenate([P, Q])
    gaps = np.isnan(values)
    if domain.type == "category":
        return Cells(np.where(gaps, -1, level_numbers(values, domain)))
    known = np.sort(values[~gaps])
    ends = np.unique(known[(np.arange(1, most + 1) * len(known)) // most - 1]) if len(known) else known
    return Cells(np.where(gaps, -1, np.searchsorted(ends, values)), ordered=True)


def chance_of_each(cells: Sequence[Cells], m: int, seed: int, *, jointly: bool = False) -> list[tuple[float, Side]]:
    """Return p-value and side of one minus each distance, of m samples; ``jointly`` as of :func:`~.relabel.chance`."""
    return chance((1 - distances for distances in _distances(cells, m, seed)), jointly=jointly)


def chance_of_mean(cells: Sequence[Cells], m: int, seed: int) -> tuple[float, Side]:
    """Return p-value and side of one minus the mean distance."""
    return chance(1 - distances.mean(axis=0, keepdims=True) for distances in _distances(cells, m, seed))[0]


def _distances(cells: Sequence[Cells], m: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the distances for the relabelings, (len(cells), C)."""
    swaps = BlockSwaps.draw(m, len(cells[0].cell) - m, seed, _DRAWS)
    counts = [each.shares(swaps) for each in cells]
    for member in swaps.chunks():
        yield np.stack([_distance(member, count, each.ordered) for each, count in zip(cells, counts, strict=True)])


def _distance(member: NDArray[np.float64], counts: Floats, ordered: bool) -> Floats:
    of_samples = member.T @ counts
    of_rows = counts.sum(axis=0) - of_samples
    difference = of_samples / np.maximum(of_samples.sum(axis=1, keepdims=True), 1.0)
    difference -= of_rows / np.maximum(of_rows.sum(axis=1, keepdims=True), 1.0)
    if ordered:
        largest: Floats = np.abs(difference.cumsum(axis=1)).max(axis=1)
        return largest
    total: Floats = np.abs(difference).sum(axis=1) / 2
    return total
