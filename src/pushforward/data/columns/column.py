"""Columns of a table: conversion of their cells to numbers and back.

Inside the library a table is float64 (N, C), one number per column: the number of a level, a whole number, a count of days or
seconds, or a real. NaN is a gap. :mod:`pushforward.probability.domain` says what the numbers can be.
"""

import abc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from pushforward.data.checks import Facts
from pushforward.probability.domain import Domain

__all__ = [
    "COLUMN_TYPES",
    "GAP_WORDS",
    "Column",
    "ColumnType",
    "ColumnTypes",
    "as_text",
    "hold_only",
    "is_text",
    "limits_in_words",
    "objects",
]

ColumnType = Literal["number", "integer", "category", "boolean", "date", "time", "datetime", "duration"]
ColumnTypes: TypeAlias = Mapping[str | int, str] | tuple[tuple[str | int, str], ...]
"""Types by the name of a column, or pairs of name and type; numbers may have limits: "number from 0 to 1", "integer from 0"."""
COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)

GAP_WORDS = frozenset(("", "?", "-", "--", "na", "n/a", "n.a.", "#n/a", "nan", "nat", "null", "none", "<na>"))
"""Spellings of a missing cell in lower case, in columns of numbers, dates and booleans."""


def is_text(cells: Any) -> bool:
    """Return whether a Series holds text or any other objects."""
    from pandas.api import types

    return bool(types.is_object_dtype(cells.dtype) or types.is_string_dtype(cells.dtype)) and cells.dtype.name != "category"


def as_text(cells: Any) -> list[str]:
    """Return the cells of a Series as text without surrounding blanks."""
    return [str(cell).strip() for cell in objects(cells)]


def objects(cells: Any) -> list[Any]:
    """Return the cells of a Series as a list, which is faster to go through."""
    return list(cells.to_numpy(dtype=object))


def hold_only(cells: Any, *types: type) -> bool:
    """Return whether there are cells in a Series and all are of these types; a boolean is no number."""
    return len(cells) > 0 and all(
        isinstance(cell, types) and (bool in types or not isinstance(cell, bool)) for cell in objects(cells)
    )


def limits_in_words(low: float | None, high: float | None) -> str:
    """Return "from 0 to 1", or the part of it that there is."""
    return " ".join(f"{word} {end:g}" for word, end in (("from", low), ("to", high)) if end is not None)


@dataclass(frozen=True, kw_only=True)
class Column(abc.ABC):
    """One column of a table.

    Parameters
    ----------
    name : str or int
    type : str
        One of :data:`COLUMN_TYPES`.
    dtype : str
        The dtype in a DataFrame.
    gaps : bool
        Whether cells were missing in the data.
    gap_text : str, optional
        How most missing cells were written in the data, such as "?"; None if they were empty.
    """

    name: str | int
    type: ColumnType
    dtype: str
    gaps: bool = False
    gap_text: str | None = None

    @property
    @abc.abstractmethod
    def domain(self) -> Domain:
        """The numbers that the column can take."""

    @property
    def words(self) -> tuple[str, ...]:
        """The levels of a category as text; none for other types."""
        return ()

    @property
    def gap_words(self) -> frozenset[str]:
        """Spellings of a missing cell, in lower case."""
        return GAP_WORDS

    def describe(self) -> str:
        """Return the type and the values in words, such as "integer, 17 to 90, with gaps"."""
        return f"{self.type}, {self._values()}{', with gaps' if self.gaps else ''}"

    @abc.abstractmethod
    def _values(self) -> str:
        """Return the values in words."""

    @abc.abstractmethod
    def _read(self, cells: Any) -> np.ndarray:
        """Return a Series without gaps as float64, NaN for cells that are not understood."""

    @abc.abstractmethod
    def _written(self, values: np.ndarray) -> Any:
        """Return numbers without gaps as a list or an array of cells."""

    @abc.abstractmethod
    def expected(self, cell: object) -> str:
        """Return what to write instead of ``cell``, which is not understood."""

    def text_of(self, number: float) -> str:
        """Return the cell of a number as text."""
        return str(self.decode(np.array([number])).iloc[0]).removesuffix(" 00:00:00")

    @property
    def integer(self) -> bool:
        """Whether the numbers are whole."""
        return self.domain.type != "real"

    def missing(self, cells: Any) -> np.ndarray:
        """Return which cells of a Series are gaps, bool (N,)."""
        gap = np.array(cells.isna().to_numpy(), dtype=bool)
        if is_text(cells):
            listed = objects(cells)
            different = {cell for cell in listed if isinstance(cell, str)}  # far fewer than cells
            words = {word for word in different if word.strip().lower() in self.gap_words}
            gap |= np.array([isinstance(cell, str) and cell in words for cell in listed], dtype=bool)
        return gap

    def read(self, cells: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells of a Series as float64 (N,), NaN in gaps and where not understood, and which are the latter."""
        gap = self.missing(cells)
        values = np.full(len(cells), np.nan)
        values[~gap] = self._read(cells[~gap])
        return values, np.isnan(values) & ~gap

    def encode(self, cells: Any) -> np.ndarray:
        """Return the cells of a Series as float64 (N,), NaN in gaps.

        Raises
        ------
        ValueError
            For the first cell that is not understood.
        """
        values, unread = self.read(cells)
        if unread.any():
            row = int(unread.argmax())
            cell = cells.iloc[row]
            cell = cell.item() if isinstance(cell, np.generic) else cell
            raise ValueError(f"column {self.name!r} has {cell!r} in row {row} (counted from 0); {self.expected(cell)}.")
        return values

    def decode(self, values: np.ndarray) -> Any:
        """Return numbers (N,) as a Series with the dtype of the column, gaps included."""
        import pandas as pd

        gap = np.isnan(values)
        if not gap.any():
            return self._typed(pd.Series(self._written(values)))
        cells = pd.Series([self.gap_text] * len(values), dtype=object)
        cells[~gap] = list(self._written(values[~gap]))
        return self._typed(cells)

    def _typed(self, cells: Any) -> Any:
        return cells.astype(self.dtype)

    def to_json(self) -> Facts:
        """Return the column as plain data; a :class:`~pushforward.data.columns.Table` restores it."""
        return asdict(self)

    def check(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        if type(self.name) not in (str, int) or not isinstance(self.dtype, str) or not isinstance(self.gaps, bool):
            raise ValueError(f"a column has a name, a dtype, and gaps or none, not {asdict(self)!r:.200}")
        text = self.gap_text
        if text is not None and not (isinstance(text, str) and text.strip().lower() in self.gap_words):
            raise ValueError(f"column {self.name!r} writes gaps as {text!r:.40}, which is read as no gap")
        self._check()

    @abc.abstractmethod
    def _check(self) -> None:
        """Raise a ValueError if the parts of this type of column do not fit each other."""
