"""Rows with gaps: their observed elements, and copies with the gaps filled by draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import is_frame
from pushforward.data.schema import Schema
from pushforward.data.space import RowSpace
from pushforward.probability import noise

__all__ = ["Gaps"]


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
    rows : int64 Tensor (G,)
        Numbers of the rows with a gap in an element that varies.
    """

    user_rows: Any
    space: RowSpace
    x: Tensor
    known: Tensor
    rows: Tensor

    @classmethod
    def of(cls, X: Any, mask: Any, space: RowSpace, name: str) -> "Gaps":
        """Return the rows X; ``mask`` marks the known elements, ``name`` is the class of the model, for messages."""
        x, known = _with_gaps(X, mask, space.schema, name)
        rows = (~known & ~space.transform.constant).flatten(1).any(1).nonzero()[:, 0]
        return cls(X, space, x, known, rows)

    def filled(self, draw: Callable[[int], Tensor], *, n: int, seed: int) -> Any:
        """Return the rows with their gaps filled, or a list of n such copies if n > 1.

        ``draw(seed)`` returns scaled rows (G, *D) for the rows with gaps; only the gaps are taken from it.
        """
        copies = [self._filled(draw, seed if copy == 0 else noise.derive(seed, "copy", copy)) for copy in range(n)]
        return copies[0] if n == 1 else copies

    def _filled(self, draw: Callable[[int], Tensor], seed: int) -> Any:
        transform = self.space.transform
        x = torch.where(self.known | ~transform.constant, self.x, transform.value.to(self.x.dtype))
        if len(self.rows):
            values = self.space.to_data(draw(seed)).to(x.dtype)
            x[self.rows] = torch.where(self.known[self.rows], self.x[self.rows], values)
        rows: Any = self.space.schema.to_user(x)
        if is_frame(self.user_rows) and is_frame(rows):
            rows.index = self.user_rows.index
        return rows


def _with_gaps(X: Any, mask: Any, schema: Schema, name: str) -> tuple[Tensor, Tensor]:
    """Return rows in data units, with arbitrary values in gaps, and which elements are known, both in the internal layout."""
    known: Any
    filled: Any
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
        user_mask = np.asarray(mask)
        if user_mask.dtype != bool:
            raise TypeError(f"mask must hold booleans, True where a value is known, got {user_mask.dtype}; pass mask > 0")
        if user_mask.shape != tuple(known.shape):
            raise ValueError(f"mask has shape {user_mask.shape}, but X has shape {tuple(known.shape)}")
        known = known & (torch.as_tensor(user_mask) if isinstance(known, Tensor) else user_mask)
    x = schema.to_internal(filled, name=name)
    rows = torch.as_tensor(known)
    channels = schema.rules.channels(tuple(rows.shape), "torch" if isinstance(X, Tensor) else "numpy")
    return x, schema.rules.mask(rows, channels)
