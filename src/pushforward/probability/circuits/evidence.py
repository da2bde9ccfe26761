"""What is known of the cells of mixed rows, and its density given the hidden states."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.circuits.basis import Basis, Cells
from pushforward.probability.domain import KNOWN, PRESENT, UNKNOWN

__all__ = ["Evidence"]

_NUMBERS = 1 << 22  # of all messages of one block of rows


@dataclass(frozen=True, eq=False)
class Evidence:
    """Rows of which cells may be unknown.

    Parameters
    ----------
    bases : tuple of Basis
        One per column.
    cells : list of Cells
        Values of the elements of each column, (n, k).
    state : int Tensor (n, C) or None
        For each cell KNOWN, its value counts, where NaN is a gap; UNKNOWN, anything, a gap included; or PRESENT, anything but a
        gap. None if all are known.
    """

    bases: tuple[Basis, ...]
    cells: list[Cells]
    state: Tensor | None

    @classmethod
    def of(cls, bases: tuple[Basis, ...], x: Tensor, state: Tensor | None = None) -> "Evidence":
        """Return the evidence of rows x (n, C)."""
        return cls(bases, [basis.cells(x[:, column]) for column, basis in enumerate(bases)], state)

    def __len__(self) -> int:
        return len(self.cells[0].index)

    def rows(self, chosen: Tensor | slice) -> "Evidence":
        """Return the evidence of the chosen rows."""
        cells = [Cells(cell.index[chosen], cell.value[chosen]) for cell in self.cells]
        return Evidence(self.bases, cells, None if self.state is None else self.state[chosen])

    def blocks(self, states: int) -> Iterator[slice]:
        """Yield slices of rows that bound the memory of messages about so many states."""
        size = max(1, _NUMBERS // (len(self.bases) * states))
        for begin in range(0, len(self), size):
            yield slice(begin, min(begin + size, len(self)))

    def emissions(self, leaves: tuple[Tensor, ...]) -> list[Tensor]:
        """Return the densities p(cell | z) (n, S) of each column, for leaves (B_c, S); 1 where the cell is unknown."""
        out = []
        for column, (leaf, cell) in enumerate(zip(leaves, self.cells, strict=True)):
            density = cell.value[:, :1] * leaf[cell.index[:, 0]]
            for slot in range(1, cell.index.shape[1]):
                density.addcmul_(cell.value[:, slot : slot + 1], leaf[cell.index[:, slot]])
            if self.state is not None:
                present = leaf[int(self.bases[column].gap) :].sum(0)
                density = torch.where((self.state[:, column] == UNKNOWN)[:, None], 1.0, density)
                density = torch.where((self.state[:, column] == PRESENT)[:, None], present, density)
            out.append(density)
        return out

    def known(self, column: int) -> Cells:
        """Return the values of the elements of a column, 0 where the cell is not known."""
        cell = self.cells[column]
        if self.state is None:
            return cell
        return Cells(cell.index, cell.value * (self.state[:, column] == KNOWN)[:, None])
