"""Rows with gaps: what is known of them, and copies of them with their gaps filled by draws."""

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
    """Rows whose gaps are to be filled.

    Attributes
    ----------
    given : array, tensor or DataFrame
        The rows as the user gave them.
    space : RowSpace
    x : Tensor (N, *internal)
        In data units, with anything in their gaps.
    known : bool Tensor (N, *internal)
    rows : int64 Tensor (G,)
        Numbers of the rows with an unknown element that is not constant.
    """

    given: Any
    space: RowSpace
    x: Tensor
    known: Tensor
    rows: Tensor

    @classmethod
    def of(cls, X: Any, mask: Any, space: RowSpace, name: str) -> "Gaps":
        """Return the rows X, whose known elements may be told by a mask; ``name`` is the model's, for messages."""
        x, known = _with_gaps(X, mask, space.schema, name)
        rows = (~known & ~space.transform.constant).flatten(1).any(1).nonzero()[:, 0]
        return cls(X, space, x, known, rows)

    def filled(self, draw: Callable[[int], Tensor], *, n: int, seed: int) -> Any:
        """Return the rows with their gaps filled, or a list of n such copies where n > 1.

        ``draw(seed)`` gives the rows with gaps, all their elements drawn, as scaled rows (G, *D). Known elements are kept.
        """
        copies = [self._filled(draw, seed if copy == 0 else noise.derive(seed, "copy", copy)) for copy in range(n)]
        return copies[0] if n == 1 else copies

    def _filled(self, draw: Callable[[int], Tensor], seed: int) -> Any:
        transform = self.space.transform
        x = torch.where(self.known | ~transform.constant, self.x, transform.value.to(self.x.dtype))
        if len(self.rows):
            drawn = transform.inverse(draw(seed)).to(x.dtype)
            x[self.rows] = torch.where(self.known[self.rows], self.x[self.rows], drawn)
        rows: Any = self.space.schema.to_user(x)
        if is_frame(self.given) and is_frame(rows):
            rows.index = self.given.index
        return rows


def _with_gaps(X: Any, mask: Any, schema: Schema, name: str) -> tuple[Tensor, Tensor]:
    """Return rows in data units with anything in their gaps, and which elements are known, both in the internal layout."""
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
        given = np.asarray(mask)
        if given.dtype != bool:
            raise TypeError(f"mask must hold booleans, True where a value is known, got {given.dtype}; write mask > 0")
        if given.shape != tuple(known.shape):
            raise ValueError(f"mask has the shape {given.shape}, but X {tuple(known.shape)}")
        known = known & (torch.as_tensor(given) if isinstance(known, Tensor) else given)
    x = schema.to_internal(filled, name=name)
    rows = torch.as_tensor(known)
    channels = schema.rules.channels(tuple(rows.shape), "torch" if isinstance(X, Tensor) else "numpy")
    return x, schema.rules.mask(rows, channels)
