"""Conditions that a user gives to a trained model: by the names of columns, as text, or by position."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pushforward.data.checks import is_frame
from pushforward.data.columns.given import Given, cells_by_name

__all__ = ["frame_of", "given_of", "positional"]


def given_of(values: Any, names: Sequence[str | int]) -> Given | None:
    """Return the cells of a mapping, a DataFrame, or a Series that is one row, by name; None for anything else.

    Raises
    ------
    ValueError
        If a column is unknown, or missing in a DataFrame or Series that has other columns.
    """
    row = len(names) > 1 and _is_named_row(values)
    return cells_by_name(values, names, others=True) if isinstance(values, Mapping) or is_frame(values) or row else None


def frame_of(given: Given, names: Sequence[str | int]) -> Any:
    """Return cells by name as a DataFrame with these columns, None in those that are not given."""
    import pandas as pd  # heavy

    rows = max(map(len, given.values()), default=1)
    wrong = next((name for name, cells in given.items() if len(cells) not in (1, rows)), None)
    if wrong is not None:
        raise ValueError(f"condition {wrong!r} has {len(given[wrong])} values for {rows} rows; give one, or one per row.")
    cells = {name: list(given.get(name, [None])) for name in names}
    whole = {name: column if len(column) == rows else column * rows for name, column in cells.items()}
    return pd.DataFrame(whole, index=range(rows), dtype=object)


def positional(values: Any, size: int) -> list[Any]:
    """Return the rows of an array or list of cells, also of a single row, and for one column of single cells."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if is_frame(values):
        return list(values.itertuples(index=False, name=None))
    many = not isinstance(values, str) and hasattr(values, "__len__") and np.ndim(values) > 0
    listed = list(values) if many else [values]
    if all(hasattr(row, "__len__") and not isinstance(row, str) for row in listed):
        return listed
    return [[cell] for cell in listed] if size == 1 else [listed]


def _is_named_row(values: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.Series) and all(isinstance(name, str) for name in values.index)
