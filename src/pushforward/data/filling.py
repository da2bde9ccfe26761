"""Rows with gaps: their observed elements, and copies with the gaps filled by draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import is_frame
from pushforward.data.lists import as_plain_frame
from pushforward.data.points import PointSets
from pushforward.data.schema import Schema
from pushforward.data.space import RowSpace
from pushforward.probability import noise

__all__ = ["Gaps"]

_ATTEMPTS = 8  # to draw a value where a model knows that cells can be empty


@dataclass(frozen=True, eq=False)
class Gaps:
    """Rows with gaps to fill.

    Attributes
    ----------
    user_rows : array, tensor or DataFrame
        The rows in the user's container.
    space : RowSpace
    x : Tensor (N, *internal)
        In data units, with arbitrary values in gaps.
    known : bool Tensor (N, *internal)
    cells : Tensor (N, C), optional
        The numbers of the columns of a table whose model has coordinates for them, NaN in gaps.
    rows : int64 Tensor (G,)
        Numbers of the rows with a gap in an element that varies.
    """

    user_rows: Any
    space: RowSpace
    x: Tensor
    known: Tensor
    rows: Tensor
    cells: Tensor | None = None

    @classmethod
    def of(cls, X: Any, mask: Any, space: RowSpace, name: str) -> "Gaps":
        """Return the rows X; ``mask`` marks the known elements, ``name`` is the class of the model, for messages."""
        cells, X = None, as_plain_frame(X)
        if space.schema.table is not None:
            cells = _known_cells(X, mask, space.schema)
            x, known = _in_coordinates(cells, space.schema)
        else:
            x, known = _with_gaps(X, mask, space.schema, name)
        rows = (~known & ~space.transform.fixed[0]).flatten(1).any(1).nonzero()[:, 0]
        return cls(X, space, x, known, rows, cells)

    def filled(self, draw: Callable[[int], Tensor], *, n: int, seed: int) -> Any:
        """Return the rows with their gaps filled, or a list of n such copies if n > 1.

        ``draw(seed)`` returns scaled rows (G, *D) for the rows with gaps; only the gaps are taken from it.
        """
        copies = [self._filled(draw, seed if copy == 0 else noise.derive(seed, "copy", copy)) for copy in range(n)]
        return copies[0] if n == 1 else copies

    def _filled(self, draw: Callable[[int], Tensor], seed: int) -> Any:
        fixed, value = self.space.transform.fixed
        x = torch.where(self.known | ~fixed, self.x, value.to(self.x.dtype))
        if len(self.rows):
            values = self.space.to_data(draw(seed)).to(x.dtype)
            x[self.rows] = torch.where(self.known[self.rows], self.x[self.rows], values)
        rows: Any
        if self.cells is None:
            rows = self.space.schema.to_user(x)
        else:
            # Known cells are returned as they came, not by way of their coordinates.
            rows = self.space.schema.of_columns(torch.where(self.cells.isnan(), self._numbers(x, draw, seed), self.cells))
        if is_frame(self.user_rows) and is_frame(rows):
            rows.index = self.user_rows.index
        return rows

    def _numbers(self, x: Tensor, draw: Callable[[int], Tensor], seed: int) -> Tensor:
        """Return the numbers of the columns of rows x; a model can also draw a gap, which is then drawn anew."""
        elements = self.space.schema.elements
        if elements is None:
            return x
        numbers = elements.inverse(x)
        for attempt in range(1, _ATTEMPTS):
            left = numbers[self.rows].isnan().any(1)
            if not bool(left.any()):
                return numbers
            drawn = elements.inverse(self.space.to_data(draw(noise.derive(seed, "again", attempt))))
            numbers[self.rows[left]] = torch.where(self.cells_known[left], numbers[self.rows[left]], drawn[left])
        return numbers.where(~numbers.isnan(), elements.inverse(x, gaps=False))

    @property
    def cells_known(self) -> Tensor:
        """Which cells of the rows with gaps are known, bool (G, C)."""
        assert self.cells is not None
        return ~self.cells[self.rows].isnan()


def _with_gaps(X: Any, mask: Any, schema: Schema, name: str) -> tuple[Tensor, Tensor]:
    """Return rows in data units, with arbitrary values in gaps, and which elements are known, both in the internal layout."""
    known: Any
    filled: Any
    X = schema.rules.gathered(X)
    if isinstance(X, PointSets):
        return _sets_with_gaps(X, mask, schema, name)
    if isinstance(X, Tensor):
        known, filled = ~X.isnan().cpu(), X.nan_to_num(0.0, torch.inf, -torch.inf) if X.is_floating_point() else X
    elif is_frame(X):
        known, filled = X.notna().to_numpy(copy=True), X.fillna(0)
    else:
        array = np.asarray(X)
        array = array.astype(float) if array.dtype == object else array
        known = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(array.shape, dtype=bool)
        filled = np.where(known, array, np.zeros((), dtype=array.dtype))
    if mask is not None:
        known = known & (torch.as_tensor(_mask(mask, known.shape)) if isinstance(known, Tensor) else _mask(mask, known.shape))
    x = schema.to_internal(filled, name=name)
    rows = torch.as_tensor(known)
    channels = schema.rules.channels(tuple(rows.shape), "torch" if isinstance(X, Tensor) else "numpy")
    known = schema.rules.mask(rows, channels)
    if x.shape[1] > known.shape[1] and schema.rules.structure == "points":  # points that smaller sets lack are no gaps
        known = torch.nn.functional.pad(known, (0, 0, 0, x.shape[1] - known.shape[1]), value=True)
    return x, known


def _sets_with_gaps(sets: PointSets, mask: Any, schema: Schema, name: str) -> tuple[Tensor, Tensor]:
    if mask is not None:
        raise ValueError("sets of points of different sizes take no mask; write NaN where a coordinate is missing")
    sets = PointSets.of(sets, "X")
    known = PointSets([~np.isnan(points) if points.dtype.kind == "f" else np.ones(points.shape, bool) for points in sets])
    whole = PointSets([np.where(seen, points, 0) for points, seen in zip(sets, known, strict=True)], sets.names)
    x = schema.to_internal(whole, name=name)
    return x, torch.from_numpy(known.padded(x.shape[1])) != 0


def _mask(mask: Any, shape: Sequence[int]) -> np.ndarray:
    """Return a mask of known entries as an array of this shape."""
    array = np.asarray(mask)
    if array.dtype != bool:
        raise TypeError(f"mask must hold booleans, True where a value is known, got {array.dtype}; pass mask > 0")
    if array.shape != tuple(shape):
        raise ValueError(f"mask has shape {array.shape}, but X has shape {tuple(shape)}")
    return array


def _known_cells(X: Any, mask: Any, schema: Schema) -> Tensor:
    """Return the numbers of the columns of a table (N, C), NaN in gaps."""
    cells = schema.to_columns(X)
    return cells if mask is None else torch.where(torch.as_tensor(_mask(mask, cells.shape)), cells, torch.nan)


def _in_coordinates(cells: Tensor, schema: Schema) -> tuple[Tensor, Tensor]:
    """Return rows in data units, with arbitrary values in gaps, and which elements are known."""
    known, elements = ~cells.isnan(), schema.elements
    if elements is None:
        return cells.nan_to_num(0.0), known
    return elements.forward(cells), elements.mask(known)
