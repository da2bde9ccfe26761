"""Columns of lists: DataFrames whose cells hold equally many numbers each, such as embeddings or short series."""

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import as_pandas, enumerate_names, is_frame

__all__ = ["as_plain_frame", "series_of_lists", "spread"]


def as_plain_frame(values: Any) -> Any:
    """Return a DataFrame of pandas or polars as one of pandas without columns of lists; all else as it is."""
    return spread(as_pandas(values), "X")


def spread(values: Any, source: str) -> Any:
    """Return a DataFrame with one column per element of each column of lists, such as ``emb_0``, ``emb_1``; all else as it is.

    Raises
    ------
    ValueError
        If the lists of a column have different lengths, or a name is taken; the message names the column, and the first row.

    >>> import pandas as pd
    >>> spread(pd.DataFrame({"emb": [[1.0, 2.0], [3.0, 4.0]], "y": [5, 6]}), "X").columns.tolist()
    ['emb_0', 'emb_1', 'y']
    """
    names = list(_list_columns(values))
    if not names:
        return values
    import pandas as pd  # heavy

    parts = []
    for name in values.columns:
        if name not in names:
            parts.append(values[[name]])
            continue
        rows = _lists_of(values[name], name, source)
        parts.append(pd.DataFrame(rows, index=values.index, columns=[f"{name}_{index}" for index in range(rows.shape[1])]))
    frame = pd.concat(parts, axis=1)
    taken = [name for name, again in zip(frame.columns, frame.columns.duplicated(), strict=True) if again]
    if taken:
        raise ValueError(
            f"{source}: the elements of {enumerate_names(names)} become columns, but {enumerate_names(taken)} "
            f"{'is' if len(taken) == 1 else 'are'} among the columns already; rename the columns of numbers."
        )
    return frame


def series_of_lists(values: Any, source: str) -> Any:
    """Return the only column of a DataFrame as an array (N, length) if it holds lists; all else as it is.

    Raises
    ------
    ValueError
        If there are further columns.
    """
    names = list(_list_columns(values))
    if not names:
        return values
    if len(values.columns) > 1:
        others = enumerate_names([name for name in values.columns if name != names[0]])
        chosen = Argument("columns", names[0])
        message = (
            f"{source}: the lists of a column are series, and {others} can be no part of them; choose the lists with {chosen}"
        )
        raise naming(ValueError(f"{message}, and name conditions by column."), chosen)
    return _lists_of(values[names[0]], names[0], source)


def _lists_of(cells: Any, name: Any, source: str) -> np.ndarray:
    """Return the lists of a column as an array (N, length), NaN where a list or an element is missing."""
    missing = cells.isna().to_numpy(dtype=bool)
    present = [np.asarray(cell) if None not in cell else np.asarray(cell, dtype=float) for cell in cells[~missing]]
    length = len(present[0])
    rows_of = np.flatnonzero(~missing)
    other = next((row for row, cell in zip(rows_of, present, strict=True) if cell.shape != (length,)), None)
    if other is not None:
        raise ValueError(
            f"{source}: the lists in column {name!r} differ in length: row {other + 1} has {len(cells.iloc[other])} elements "
            f"and the first has {length}; cut or pad them to one length, or omit the column."
        )
    if not missing.any():
        return np.stack(present)
    rows = np.full((len(cells), length), np.nan)
    rows[~missing] = np.stack(present)
    return rows


def _list_columns(values: Any) -> Iterator[Any]:
    """Yield the names of the columns whose cells are lists of numbers."""
    if not is_frame(values):
        return
    for name, dtype in zip(values.columns, values.dtypes, strict=True):
        if str(dtype) != "object" and "list" not in str(dtype):
            continue
        place = values.columns.get_loc(name)
        cells = values.iloc[:, place] if isinstance(place, int) else None  # duplicate names raise an error later
        first = None if cells is None else next((cell for cell in cells if isinstance(cell, list | tuple | np.ndarray)), None)
        if first is not None and np.ndim(first) == 1 and len(first) and all(isinstance(item, Real | None) for item in first):
            yield name
