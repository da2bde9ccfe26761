"""Columns of a table: conversion of their cells to numbers and back.

Inside the library a table is float64 (N, C), one number per column: the number of a level, a whole number, a count of days or
seconds, or a real. NaN is a gap. :mod:`pushforward.probability.domain` says what the numbers can be.
"""

import abc
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, cast, get_args

import numpy as np

from pushforward.data.checks import Facts, enumerate_names
from pushforward.data.columns.moments import UNITS, moments_of, to_counts, written
from pushforward.data.columns.numbers import NumberFormat
from pushforward.probability.domain import Domain

__all__ = [
    "COLUMN_TYPES",
    "GAP_WORDS",
    "Column",
    "ColumnType",
    "ColumnTypes",
    "Levels",
    "Moments",
    "Numbers",
    "as_text",
    "is_text",
    "limits_in_words",
    "objects",
]

ColumnType = Literal["number", "integer", "category", "boolean", "date", "time", "datetime", "duration"]
ColumnTypes: TypeAlias = Mapping[str | int, str] | tuple[tuple[str | int, str], ...]
"""Types by the name of a column, or pairs of name and type; that of a number may have limits, "number from 0 to 1"."""
COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
Level: TypeAlias = str | int | float | bool

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
        """Return the column as plain data; :meth:`from_json` restores it."""
        return asdict(self)

    @staticmethod
    def from_json(facts: Facts) -> "Column":
        """Return the column from the output of :meth:`to_json`.

        Raises
        ------
        ValueError
            If the facts do not describe a column.
        """
        kind = next((kind for kind in (Numbers, Levels, Moments) if facts.get("type") in kind.types), None)
        if kind is None or set(facts) != {field.name for field in fields(kind)}:
            raise ValueError(f"a column has one of the types {', '.join(COLUMN_TYPES)} and its facts, not {facts!r:.200}")
        parts: Facts = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
        if parts.get("format") is not None and kind is Numbers:
            parts["format"] = NumberFormat(**parts["format"])
        column = cast(Column, kind(**parts))
        if type(column.name) not in (str, int) or not isinstance(column.dtype, str) or not isinstance(column.gaps, bool):
            raise ValueError(f"a column has a name, a dtype, and gaps or none, not {facts!r:.200}")
        text = column.gap_text
        if text is not None and not (isinstance(text, str) and text.strip().lower() in column.gap_words):
            raise ValueError(f"column {column.name!r} writes gaps as {text!r:.40}, which is read as no gap")
        column._check()
        return column

    @abc.abstractmethod
    def _check(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""


@dataclass(frozen=True, kw_only=True)
class Numbers(Column):
    """A column of numbers, which may be written as text.

    Parameters
    ----------
    low, high : float, optional
        The smallest and the largest possible value; for integers those of the data. None for reals without a limit.
    atoms : tuple of float
        Reals with a share of their own.
    decimals : int, optional
        Digits behind the decimal mark that the data have; None for as many as fit.
    format : NumberFormat, optional
        How the numbers are written, if they are text.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("number", "integer")

    low: float | None = None
    high: float | None = None
    atoms: tuple[float, ...] = ()
    decimals: int | None = None
    format: NumberFormat | None = None

    @property
    def domain(self) -> Domain:
        """Integers of the range, or reals."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return Domain("integer" if self.type == "integer" else "real", low, high, self.atoms)

    def _values(self) -> str:
        if self.type == "integer":
            return f"{self.low:.0f} to {self.high:.0f}"
        atoms = f"often exactly {', '.join(f'{atom:g}' for atom in self.atoms[:6])}" if self.atoms else ""
        places = "" if self.decimals is None else f"{self.decimals} decimal{'' if self.decimals == 1 else 's'}"
        return ", ".join(filter(None, (limits_in_words(self.low, self.high), places, atoms))) or "any"

    def _read(self, cells: Any) -> np.ndarray:
        import pandas as pd

        if self.format is not None and is_text(cells):
            return self.format.parse(as_text(cells))
        values = np.array(pd.to_numeric(cells.astype(object), errors="coerce"), dtype=np.float64)
        values[np.isinf(values)] = np.nan
        return np.where(values == np.round(values), values, np.nan) if self.type == "integer" else values

    def _written(self, values: np.ndarray) -> Any:
        if self.type == "integer":
            values = np.rint(values)
        elif self.decimals is not None:
            values = np.round(values, self.decimals)
        return values if self.format is None else self.format.write(values.tolist())

    def _typed(self, cells: Any) -> Any:
        if self.format is not None or self.type == "number":
            return super()._typed(cells)
        # Wide integers go to their dtype from Python's integers, since float64 has no room for the last digits.
        return cells.astype("Float64").astype("Int64" if not self.dtype.startswith("uint64") else "UInt64").astype(self.dtype)

    def expected(self, cell: object) -> str:
        """Return that numbers are to be written, with an example where they are text."""
        what = "whole number" if self.type == "integer" else "number"
        shown = "" if self.format is None else f" such as {self.format.write([1234.5])[0]!r}"
        return f"write a {what}{shown}, or leave the cell empty"

    def _check(self) -> None:
        numbers = (self.low or 0.0, self.high or 0.0, *self.atoms)
        whole = self.type == "number" or None not in (self.low, self.high)
        if (
            not all(isinstance(number, int | float) for number in numbers)
            or not whole
            or not isinstance(self.decimals, int | None)
        ):
            raise ValueError(f"column {self.name!r} of numbers has numbers as its range, atoms and decimals")
        _ = self.domain


@dataclass(frozen=True, kw_only=True)
class Levels(Column):
    """A column of categories or booleans, whose numbers are those of its levels.

    Parameters
    ----------
    levels : tuple
        Words, numbers or booleans that occur in the data.
    categories : tuple, optional
        All categories of a pandas categorical, those without a row included.
    ordered : bool
        Whether these are ordered.
    gap_spellings : tuple of str
        Spellings of a missing cell, in lower case.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("category", "boolean")

    levels: tuple[Level, ...]
    categories: tuple[Level, ...] | None = None
    ordered: bool = False
    gap_spellings: tuple[str, ...] = ("",)

    @property
    def domain(self) -> Domain:
        """The numbers of the levels."""
        return Domain("category", 0, len(self.levels) - 1)

    @property
    def words(self) -> tuple[str, ...]:
        """The levels as text."""
        return tuple(map(str, self.levels))

    @property
    def gap_words(self) -> frozenset[str]:
        """Spellings of a missing cell, in lower case."""
        return frozenset(self.gap_spellings)

    def _values(self) -> str:
        return enumerate_names(self.levels, 6)

    def _read(self, cells: Any) -> np.ndarray:
        exact = {level: index for index, level in enumerate(self.levels)}
        loose = {str(level).strip(): index for index, level in enumerate(self.levels)}
        return np.array([self._number(cell, exact, loose) for cell in objects(cells)], dtype=np.float64)

    def _number(self, cell: Any, exact: dict[Level, int], loose: dict[str, int]) -> float:
        """Return the number of a cell's level; a word also fits a level that is written like it."""
        try:
            index = exact.get(cell)
        except TypeError:
            return np.nan
        if index is None:
            text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
            index = loose.get(text)
        return np.nan if index is None else index

    def _written(self, values: np.ndarray) -> Any:
        return [self.levels[index] for index in np.rint(values).astype(int)]

    def _typed(self, cells: Any) -> Any:
        import pandas as pd

        if self.categories is None:
            return super()._typed(cells)
        return pd.Series(pd.Categorical(cells, categories=list(self.categories), ordered=self.ordered))

    def expected(self, cell: object) -> str:
        """Return the levels, and the one that is closest."""
        close = difflib.get_close_matches(str(cell), [str(level) for level in self.levels], n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}" if close else ""
        return f"the data have the levels {enumerate_names(self.levels, 12)} there{hint}"

    def _check(self) -> None:
        for levels in (self.levels, self.categories or ()):
            if any(type(level) not in (str, int, float, bool) for level in levels) or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of column {self.name!r} must be different words, numbers or booleans")
        spellings, known = self.gap_spellings, self.categories
        if not self.levels or not all(isinstance(word, str) for word in spellings) or type(self.ordered) is not bool:
            raise ValueError(f"column {self.name!r} needs levels, and words for missing cells")
        if known is not None and not set(self.levels) <= set(known):
            raise ValueError(f"column {self.name!r} has levels that are none of its categories")


@dataclass(frozen=True, kw_only=True)
class Moments(Column):
    """A column of dates, times of the day, moments or durations, whose numbers count a unit.

    Dates and moments count from 1970-01-01, in UTC if they have a zone; times from midnight.

    Parameters
    ----------
    unit : str
        One of D, h, m, s, ms, us and ns.
    low, high : float
        The first and the last moment of the data.
    text : str, optional
        The format of moments that are text, as in :meth:`datetime.datetime.strftime`.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("date", "time", "datetime", "duration")

    unit: str
    low: float
    high: float
    text: str | None = None

    @property
    def domain(self) -> Domain:
        """Integers between the first and the last moment."""
        return Domain("integer", self.low, self.high)

    def _values(self) -> str:
        first, last = (str(cell) for cell in self.decode(np.array([self.low, self.high])))
        return f"{first} to {last}"

    def _read(self, cells: Any) -> np.ndarray:
        moments = moments_in(cells, self.type, self.text)
        counts = to_counts(moments, self.unit)
        return np.where(counts == np.round(counts), counts, np.nan)

    def _written(self, values: np.ndarray) -> Any:
        import pandas as pd

        nanoseconds = np.rint(values).astype("int64") * UNITS[self.unit]
        if self.type == "duration":
            return nanoseconds.astype("timedelta64[ns]")
        moments = nanoseconds.astype("datetime64[ns]")
        if self.text is not None:
            return written(moments, self.text)
        if self.dtype == "object":
            stamps = pd.DatetimeIndex(moments)
            return list({"date": stamps.date, "time": stamps.time}.get(self.type, stamps.to_pydatetime()))
        return moments

    def _typed(self, cells: Any) -> Any:
        import pandas as pd

        if self.text is None and self.type == "datetime" and "," in self.dtype:
            return pd.to_datetime(cells, utc=True).astype(self.dtype)
        if self.text is None and self.type == "duration":
            return pd.to_timedelta(cells).astype(self.dtype)
        return super()._typed(cells)

    def expected(self, cell: object) -> str:
        """Return that a moment is to be written, with an example."""
        shown = self.decode(np.array([self.low])).iloc[0]
        return f"write a {self.type} such as {str(shown)!r} (in whole {_UNIT_NAMES[self.unit]}), or leave the cell empty"

    def _check(self) -> None:
        if self.unit not in UNITS or not isinstance(self.text, str | None):
            raise ValueError(f"the unit of column {self.name!r} must be one of {', '.join(UNITS)}, and its format text")
        top = 2**63 / UNITS[self.unit]
        if not all(isinstance(end, int | float) and abs(end) < top for end in (self.low, self.high)):
            raise ValueError(f"the range of column {self.name!r} is not one of moments")
        _ = self.domain


_UNIT_NAMES = dict(
    zip(UNITS, ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"), strict=True)
)


def moments_in(cells: Any, kind: ColumnType, text: str | None) -> np.ndarray:
    """Return a Series without gaps as datetime64 or timedelta64, NaT for cells that are not understood."""
    import pandas as pd

    if kind == "duration":
        return np.asarray(pd.to_timedelta(cells, errors="coerce").to_numpy(dtype="timedelta64[ns]"))
    if kind == "time":
        strings: Sequence[str] = as_text(cells)
        form = text or ("%H:%M:%S.%f" if any("." in cell for cell in strings) else "%H:%M:%S")
        moments = moments_of(strings, form)
        return np.asarray((moments - moments.astype("datetime64[D]")).astype("int64").astype("datetime64[ns]"))
    if text is not None and is_text(cells):
        return moments_of(as_text(cells), text)
    stamps = pd.to_datetime(cells, errors="coerce", utc=True)
    return np.asarray(stamps.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]"))
