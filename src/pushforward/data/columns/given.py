"""Values of columns that a user gives by name: ``{"sex": "Female", "age": [30, 40]}``, or the text ``sex=Female,age=40``.

They are read as cells of the column, and more freely: a number also where the column writes numbers as text, a date also in
ISO format or as an object, a level in capital or small letters, a boolean also where the column has the words yes and no.
"""

import datetime
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from pushforward.data.checks import check_names, enumerate_names, is_frame
from pushforward.data.columns.column import Column
from pushforward.data.columns.levels import Levels
from pushforward.data.columns.moments import Moments
from pushforward.data.columns.numbers import Numbers

__all__ = ["Given", "cells_by_name", "named_values", "read_given", "unknown_name"]

Name: TypeAlias = str | int
Given: TypeAlias = Mapping[Name, Sequence[Any]]
"""Cells by the name of their column, one for all rows or one per row."""

_TRUE = ("true", "yes", "y", "t", "on", "1")
_MOMENTS = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def named_values(text: str, names: Iterable[Name], levels: Iterable[object] = ()) -> dict[Name, str] | None:
    """Return the values of a text such as "sex=Female,age=40" by name; None if it does not begin with a name and "=".

    A comma ends a value only where a name and "=" follow; ``levels`` are values that may contain both.

    Raises
    ------
    ValueError
        If a column is unknown or named twice.

    >>> named_values("income=>=50K, age=40", ["age", "income"])
    {'income': '>=50K', 'age': '40'}
    """
    keys, known = {str(name): name for name in names}, {str(level) for level in levels}
    parts = list(re.finditer(rf"(?:^|,)\s*({'|'.join(map(re.escape, keys))})\s*=", text))
    if not keys or not parts or parts[0].start() > 0:
        return None
    values: dict[Name, str] = {}
    ends = [part.start() for part in parts[1:]] + [len(text)]
    for part, end in zip(parts, ends, strict=True):
        name, value = keys[part[1]], text[part.end() : end].strip()
        if name in values:
            raise ValueError(
                f"{text!r} names {name!r} twice; name it once. A value that contains {part[0].strip()!r} can only be given in "
                f"Python, as in condition={{{name!r}: ...}}."
            )
        other = re.search(r",\s*([^,=]+?)\s*=", value)
        if other and value not in known:
            raise unknown_name(other[1], list(keys.values()))
        values[name] = value
    return values


def unknown_name(name: object, names: Sequence[Name], what: str = "condition") -> ValueError:
    """Return the error for a name that is none of these columns, which suggests the closest one."""
    close = difflib.get_close_matches(str(name), [str(known) for known in names], n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"{what} names {name!r}, but the columns that it can name are {enumerate_names(names, 30)}.{hint}")


def cells_by_name(values: Any, names: Sequence[Name], what: str = "condition", *, others: bool = False) -> Given:
    """Return the cells of the columns that a mapping, a Series (one row) or a DataFrame has.

    Parameters
    ----------
    values : mapping, Series or DataFrame
    names : sequence
        Columns that may be named.
    what : str
        What is given, for messages.
    others : bool
        Whether a Series or DataFrame may have other columns, which are ignored, if it has all of ``names``.

    Raises
    ------
    ValueError
        If another column is named.
    """
    if is_frame(values):
        check_names(values, what)
    given = {name: _listed(values[name]) for name in (values.columns if is_frame(values) else values.keys())}
    unknown = [name for name in given if name not in names]
    if not unknown:
        return given
    if isinstance(values, Mapping) or not others:
        raise unknown_name(unknown[0], names, what)
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"{what} has the columns {enumerate_names(given)}, but not {enumerate_names(missing)}, with which the model was "
            f"trained; rename them, or add them with gaps. The columns of training are {enumerate_names(names, 30)}."
        )
    return {name: given[name] for name in names}


def _listed(value: Any) -> list[Any]:
    """Return one value, or one per row, as a list."""
    if np.ndim(value) == 0:
        return [value.item() if hasattr(value, "item") and not isinstance(value, _MOMENTS) else value]
    return list(value.tolist() if hasattr(value, "tolist") and getattr(value.dtype, "kind", "O") not in "mM" else value)


def read_given(columns: Sequence[Column], given: Given, n: int | None = None, what: str = "condition") -> np.ndarray:
    """Return cells as float64 (1, C), or (n, C) if a column has one per row; NaN in gaps and in columns that are not given.

    Raises
    ------
    ValueError
        If a cell is not understood, or a column has neither one cell nor ``n`` (by default as many as the longest).
    """
    rows = n if n is not None else max(map(len, given.values()), default=1)
    for name, cells in given.items():
        if len(cells) not in (1, rows):
            raise ValueError(f"{what} {name!r} has {len(cells)} values for {rows} rows; give one, or one per row.")
    numbers = np.full((max(map(len, given.values()), default=1), len(columns)), np.nan)
    for index, column in enumerate(columns):
        if column.name in given:
            numbers[:, index] = _read(column, given[column.name], what)
    return numbers


def _read(column: Column, cells: Sequence[Any], what: str) -> np.ndarray:
    import pandas as pd  # heavy

    series = pd.Series(list(cells), dtype=object)
    gap = column.missing(series)
    values = np.full(len(series), np.nan)
    plain = ~gap & np.array([_is_plain(column, cell) for cell in cells], dtype=bool)
    if plain.any():
        values[plain] = column.read(series[plain])[0]
    for row in np.flatnonzero(np.isnan(values) & ~gap).tolist():
        values[row] = _freely(column, cells[row])
        if np.isnan(values[row]):
            where = f" in row {row}" if len(cells) > 1 else ""
            raise ValueError(f"{what} {column.name!r} is {cells[row]!r}{where}; {column.expected(cells[row])}.")
    return values


def _is_plain(column: Column, cell: Any) -> bool:
    """Return whether a cell is like those of the column in the data: text only where the column writes text."""
    if isinstance(column, Numbers):
        return isinstance(cell, str) is (column.format is not None)
    return not isinstance(column, Moments) or (isinstance(cell, str) if column.text is not None else isinstance(cell, _MOMENTS))


def _freely(column: Column, cell: Any) -> float:
    """Return the number of a cell that is written otherwise than in the data, NaN if it is not understood."""
    import pandas as pd  # heavy

    if isinstance(column, Levels):
        return _level(column, cell)
    if isinstance(column, Numbers):
        number = cell if isinstance(cell, str | Real) and not isinstance(cell, bool | np.bool_) else None
        return float(replace(column, format=None).read(pd.Series([number], dtype=object))[0][0])
    moment = _iso(cell, column.type) if isinstance(cell, str) else cell if isinstance(cell, _MOMENTS) else None
    assert isinstance(column, Moments)
    return float(replace(column, text=None).read(pd.Series([moment], dtype=object))[0][0])


def _level(column: Levels, cell: Any) -> float:
    words = [str(level).strip().lower() for level in column.levels]
    if column.type == "boolean" and isinstance(cell, bool | np.bool_):
        fits = [index for index, word in enumerate(words) if (word in _TRUE) is bool(cell)]
    else:
        fits = [index for index, word in enumerate(words) if word == str(cell).strip().lower()]
    return float(fits[0]) if len(fits) == 1 else np.nan


def _iso(text: str, kind: str) -> Any:
    """Return the moment that a text in ISO format names, a duration as pandas writes it; None for other text."""
    import pandas as pd  # heavy

    try:
        if kind == "time":
            return datetime.time.fromisoformat(text.strip())
        return pd.Timedelta(text) if kind == "duration" else pd.Timestamp(datetime.datetime.fromisoformat(text.strip()))
    except ValueError:
        return None
