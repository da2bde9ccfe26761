"""The types of the columns of a table, found in the data or set by the user."""

import datetime
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import enumerate_names
from pushforward.data.columns.column import (
    COLUMN_TYPES,
    GAP_WORDS,
    Column,
    ColumnType,
    ColumnTypes,
    as_text,
    hold_only,
    is_text,
    limits_in_words,
    objects,
)
from pushforward.data.columns.infer_numbers import counts_rows, numbers_in, numbers_in_text
from pushforward.data.columns.levels import Levels
from pushforward.data.columns.moments import AmbiguousDateError, Moments, moment_format, moments_in, to_counts, unit_of
from pushforward.data.columns.numbers import Numbers, number_format
from pushforward.data.columns.table import LeftOut, Table

__all__ = ["infer_columns"]

_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
_MOSTLY = 0.9  # share of cells that make a column one of numbers, so that the others are mistakes
_RARE = 0.2  # share up to which "?" is a gap among words
_OWN_TEXT = 0.5  # share of different cells above which a text describes single rows
_FEW_ROWS = 20
_LONG = 100  # characters
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_LIMITED = re.compile(rf"(number|integer)(?: from {_NUMBER})?(?: to {_NUMBER})?")


def infer_columns(frame: Any, types: ColumnTypes = ()) -> Table:
    """Return the columns of a DataFrame, those that can be learned and those that are left out.

    Parameters
    ----------
    frame : DataFrame
    types : mapping or pairs
        Types by name of a column; all others are inferred.

    Raises
    ------
    ValueError, TypeError
        If a type does not exist or does not fit, a column of numbers has a cell that is not a number, dates have two readings,
        a column holds objects of other types, or no column is left.
    """
    wanted = _wanted(dict(types), list(frame.columns))
    found = [_with_gap_text(_infer(frame[name], name, wanted.get(name)), frame[name]) for name in frame.columns]
    columns = tuple(column for column in found if isinstance(column, Column))
    left_out = tuple(column for column in found if isinstance(column, LeftOut))
    if not columns:
        raise ValueError(f"no column is left to learn: {'; '.join(f'{out.name!r} {out.reason}' for out in left_out)}.")
    return Table(columns, left_out)


class _Wanted(NamedTuple):
    """A type set by the user, and limits."""

    kind: ColumnType
    low: float | None = None
    high: float | None = None


def _wanted(types: Mapping[str | int, str], names: list[Any]) -> dict[str | int, _Wanted]:
    found = {}
    for name, text in types.items():
        if name not in names:
            raise ValueError(f"columns sets the type of {name!r}, but the data have the columns {enumerate_names(names, 20)}.")
        limited = _LIMITED.fullmatch(text) if isinstance(text, str) else None
        kind = next((kind for kind in COLUMN_TYPES if text == kind or (limited and limited[1] == kind)), None)
        if kind is None:
            raise ValueError(
                f"columns sets {name!r} to {text!r}, but a type is one of {', '.join(COLUMN_TYPES)}, or 'number from 0 to 1' "
                "and 'integer from 0 to 120' with limits."
            )
        low, high = (None if end is None else float(end) for end in limited.groups()[1:]) if limited else (None, None)
        if low is not None and high is not None and not low < high:
            raise ValueError(f"columns sets {name!r} to {text!r}, but limits must rise: '{kind} {limits_in_words(high, low)}'.")
        if kind == "integer" and not all(end is None or end.is_integer() for end in (low, high)):
            raise ValueError(f"columns sets {name!r} to {text!r}, but the limits of integers are whole numbers.")
        found[name] = _Wanted(kind, low, high)
    return found


def _within(column: Column, cells: Any, wanted: _Wanted) -> Column:
    """Return a column of numbers with the limits set by the user."""
    if wanted.low is None and wanted.high is None:
        return column
    assert isinstance(column, Numbers)
    low, high = wanted.low, wanted.high
    if wanted.kind == "number":
        low, high = column.low if low is None else low, column.high if high is None else high
    values = column.encode(cells)
    outside = (values < (-math.inf if low is None else low)) | (values > (math.inf if high is None else high))
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"columns sets {column.name!r} to '{wanted.kind} {limits_in_words(low, high)}', but row {row} (counted from 0) "
            f"holds {values[row]:g}; correct it, leave it empty, or widen the limits."
        )
    return replace(column, low=low, high=high) if wanted.kind == "number" else replace(column, limits=(low, high))


def _infer(cells: Any, name: Any, wanted: _Wanted | None) -> Column | LeftOut:
    name = int(name) if isinstance(name, np.integer) else name
    if cells.isna().all():
        return LeftOut(name, "is empty in every row")
    if wanted is not None:
        return _within(_as_type(cells, name, wanted.kind), cells, wanted)
    from pandas.api import types

    dtype = cells.dtype
    if types.is_complex_dtype(dtype):
        raise ValueError(f"Complex data not supported: column {name!r} has dtype {dtype}; use its real and imaginary parts.")
    if isinstance(dtype.name, str) and dtype.name == "category":
        return _levels(cells, name)
    if types.is_bool_dtype(dtype):
        return _levels(cells, name, "boolean")
    if types.is_numeric_dtype(dtype):
        return counts_rows(cells, name) or numbers_in(cells, name)
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        return _moments(cells, name)
    return _of_objects(cells, name)


def _with_gap_text(column: Column | LeftOut, cells: Any) -> Column | LeftOut:
    """Return the column with the spelling of most of its gaps."""
    if not isinstance(column, Column) or not column.gaps or not is_text(cells):
        return column
    spellings = Counter(
        cell if isinstance(cell, str) and cell.strip() else None for cell in objects(cells[column.missing(cells)])
    )
    return replace(column, gap_text=spellings.most_common(1)[0][0])


def _as_type(cells: Any, name: Any, kind: ColumnType) -> Column:
    """Return the column with a type set by the user."""
    from pandas.api import types

    if kind in ("category", "boolean"):
        column: Column | LeftOut | None = _levels(cells, name, kind)
    elif kind in ("number", "integer"):
        written = is_text(cells) and not hold_only(cells, Real)
        column = numbers_in_text(cells, name, kind) if written else numbers_in(cells, name, kind)
    elif types.is_numeric_dtype(cells.dtype):
        column = None  # 20240131 and seconds since 1970 are numbers; pandas.to_datetime converts them
    else:
        column = _text_moments(cells, name, kind) if is_text(cells) and not _are_moments(cells) else _moments(cells, name, kind)
    if column is None or (isinstance(column, Levels) and kind == "boolean" and len(column.levels) > 2):
        shown = enumerate_names(dict.fromkeys(cells[~cells.isna()].tolist()), 3)
        raise ValueError(f"columns sets {name!r} to {kind!r}, but its cells, such as {shown}, are not of this type.")
    assert isinstance(column, Column)
    return column


def _of_objects(cells: Any, name: Any) -> Column | LeftOut:
    present = cells[~cells.isna()]
    if hold_only(present, bool):
        return _levels(cells, name, "boolean")
    if hold_only(present, Real, Decimal):
        return numbers_in(cells, name)
    if _are_moments(present):
        return _moments(cells, name)
    other = next((cell for cell in objects(present) if not isinstance(cell, str | Real | Decimal)), None)
    if other is not None:
        example = str(other)[:60]
        raise TypeError(
            f"column {name!r} holds objects of type {other.__class__.__name__}, such as {example}, which are neither numbers, "
            "text nor dates; split them into columns of their own, or omit the column."
        )
    return _of_text(cells, name)


def _of_text(cells: Any, name: Any) -> Column | LeftOut:
    words = [cell for cell in as_text(cells[~cells.isna()]) if cell.lower() not in GAP_WORDS]
    if not words:
        return LeftOut(name, "is empty in every row")
    if len(set(words)) == 2 and {word.lower() for word in words} in _BOOLEANS:
        return _levels(cells, name, "boolean", words=GAP_WORDS)
    column = numbers_in_text(cells, name) or _text_moments(cells, name)
    if column is not None:
        return column
    different = len(set(words))
    if different > _OWN_TEXT * len(words) and len(words) > _FEW_ROWS:
        _refuse_mistakes(cells, name, words)
        long = np.mean([len(word) for word in words]) > _LONG
        return LeftOut(
            name, "is long free text" if long else f"has its own text in most rows ({different:,} of {len(words):,})"
        )
    return _levels(cells, name)


def _refuse_mistakes(cells: Any, name: Any, words: list[str]) -> None:
    """Raise a ValueError if nearly all cells are numbers, and name the first that is not."""
    numbers = [number_format([word]) is not None for word in words]
    if _MOSTLY <= np.mean(numbers) < 1:
        wrong = words[numbers.index(False)]
        row = as_text(cells).index(wrong)
        category = Argument("columns", {name: "category"})
        message = (
            f"column {name!r} holds numbers, except for {len(numbers) - sum(numbers):,} cells, the first of them {wrong!r} in "
            f"row {row} (counted from 0); write numbers there or leave the cells empty, or learn them as words with {category}."
        )
        raise naming(ValueError(message), category)


def _text_moments(cells: Any, name: Any, kind: ColumnType | None = None) -> Moments | None:
    """Return the column of moments that are written as text, if all cells are."""
    text = as_text(cells.fillna(""))
    words = [word for word in text if word.lower() not in GAP_WORDS]
    try:
        found = moment_format(list(dict.fromkeys(words)))
    except AmbiguousDateError as error:
        raise ValueError(
            f"column {name!r} holds dates with two readings: {error}. Write them as 2024-12-31, or learn them as words with "
            f"{Argument('columns', {name: 'category'})}."
        ) from None
    if found is None or (kind is not None and found[0] != kind):
        return None
    return _moments(cells, name, found[0], text=found[1])


def _moments(cells: Any, name: Any, kind: Any = None, *, text: str | None = None) -> Moments:
    from pandas.api import types

    column = Moments(name=name, type=kind or "datetime", dtype=str(cells.dtype), unit="ns", low=0, high=0, text=text)
    gap = column.missing(cells)
    if kind is None:
        kind = "duration" if types.is_timedelta64_dtype(cells.dtype) else _moment_type(cells[~gap])
    moments = moments_in(cells[~gap], kind, text)
    unit = unit_of(moments.astype("int64"))
    counts = to_counts(moments, unit)
    return replace(column, type=kind, unit=unit, gaps=bool(gap.any()), low=float(counts.min()), high=float(counts.max()))


def _moment_type(present: Any) -> ColumnType:
    first = present.iloc[0]
    if isinstance(first, datetime.time):
        return "time"
    if isinstance(first, datetime.timedelta):
        return "duration"
    return "datetime" if isinstance(first, datetime.datetime) else "date"


def _levels(
    cells: Any, name: Any, kind: Literal["category", "boolean"] = "category", *, words: frozenset[str] | None = None
) -> Levels:
    gap = cells.isna().to_numpy()
    spellings = words
    if spellings is None:
        text = [cell.strip() for cell in objects(cells[~gap]) if isinstance(cell, str)] if is_text(cells) else []
        unknown = sum(cell == "?" for cell in text)
        spellings = frozenset(("", "?")) if 0 < unknown <= _RARE * len(cells) else frozenset(("",))
    levels = _distinct(cells[~gap], spellings, name)
    known = [_plain(level) for level in cells.cat.categories] if cells.dtype.name == "category" else None
    column = Levels(
        name=name,
        type=kind,
        dtype=str(cells.dtype),
        levels=tuple(levels),
        categories=None if known is None else tuple(known),
        ordered=bool(known is not None and cells.cat.ordered),
        gap_spellings=tuple(sorted(spellings)),
    )
    return replace(column, gaps=bool(column.missing(cells).any()))


def _distinct(present: Any, spellings: frozenset[str], name: Any) -> list[Any]:
    """Return the levels of a Series without gaps, sorted."""
    found = {_plain(cell) for cell in present.unique()}
    other = next((level for level in found if not isinstance(level, str | int | float | bool)), None)
    if other is not None:
        raise TypeError(f"the levels of column {name!r} must be words, numbers or booleans, not {other!r}; convert them first.")
    words = (level for level in found if not (isinstance(level, str) and level.strip().lower() in spellings))
    return sorted(words, key=lambda level: (isinstance(level, str), level))


def _plain(cell: Any) -> Any:
    return cell.item() if isinstance(cell, np.generic) else cell


def _are_moments(cells: Any) -> bool:
    kinds = (datetime.date, datetime.time, datetime.timedelta)
    return len(cells) > 0 and all(isinstance(cell, kinds) for cell in objects(cells))
