"""Checked data, as training and evaluation get them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from pushforward.data.checks import Values, clean_values, is_frame
from pushforward.data.columns import Table
from pushforward.data.points import PointSets
from pushforward.data.schema import Schema
from pushforward.data.stream import AnyRows, Held, Stored, Stream, arrays_of

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked data for training.

    Parameters
    ----------
    values : array, tensor, DataFrame or Stored
        ``(N, ...)`` in the user's layout, finite or (if allowed) with NaN in gaps, at least two rows.
    condition : array or None
        One per row: labels ``(N,)``, vectors ``(N, K)``, images ``(N, h, w[, C])``, or with ``condition_table`` the cells of
        its columns, objects ``(N, K)`` with None in gaps.
    schema : Schema
    source : str
        Origin of the data: a built-in name, a path, or the type of container.
    held_out : int64 Tensor, optional
        Numbers of the held-out rows in rising order, if they are already fixed.
    condition_columns : tuple of str, optional
        Names of the columns of the condition, if it came as a DataFrame or from columns of the data.
    condition_table : Table, optional
        Types of these columns, unless they are labels or all numbers.
    masked : bool
        Whether the condition of an image is its visible part under random masks.
    """

    values: Values
    condition: np.ndarray | None
    schema: Schema
    source: str
    held_out: torch.Tensor | None = None
    condition_columns: tuple[str, ...] | None = None
    condition_table: Table | None = None
    masked: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def on_disk(self) -> bool:
        """Whether the rows stay on disk."""
        return isinstance(self.values, Stored)

    def to_internal(self, *, gaps: bool = False) -> torch.Tensor:
        """Return the values in the library's layout, ``(N, D)`` or ``(N, C, H, W)``, in data units; gaps only if allowed."""
        if self.schema.table is None:
            self._check(gaps)
        return self.schema.to_internal(self.values, gaps=gaps)

    def rows(self, *, gaps: bool = False) -> AnyRows:
        """Return the rows of :meth:`to_internal`, which are converted when they are needed if their kind allows it."""
        values, schema = self.values, self.schema
        if isinstance(values, np.ndarray | torch.Tensor) and schema.rules.stays_on_disk:
            self._check(gaps)
            held: Held | Stored = Held(values)
        elif isinstance(values, Stored):
            held = values
        else:
            return self.to_internal(gaps=gaps)
        return Stream(held, partial(schema.to_internal, gaps=gaps), schema.internal_shape, schema.internal_dtype)

    def _check(self, gaps: bool) -> None:
        named = self.source not in ("DataFrame", "tensor", "array")
        clean_values(self.values, name=self.source if named else "X", gaps=gaps)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of contents, shapes and dtypes of values and condition, 32 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.values, self.condition):
            _update(digest, part)
        return digest.hexdigest()


def _update(digest: Any, part: Any) -> None:
    """Add shape, dtype and contents of an array, tensor or DataFrame to a hash."""
    if part is None:
        digest.update(b"none")
    elif is_frame(part):
        for column in part.columns:
            digest.update(repr((column, str(part[column].dtype))).encode())
            _update(digest, part[column].to_numpy())
    elif isinstance(part, PointSets):
        digest.update(repr(part.names).encode())
        for points in part:
            _update(digest, points)
    elif isinstance(part, Stored):
        digest.update(repr((part.shape, str(part.dtype))).encode())
        for rows in arrays_of(part):
            digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
    elif isinstance(part, torch.Tensor):
        digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
        digest.update(part.contiguous().flatten().view(torch.uint8).numpy())
    elif part.dtype == object:
        digest.update(repr((part.shape, part.tolist())).encode())
    else:
        digest.update(repr((part.shape, str(part.dtype))).encode())
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
