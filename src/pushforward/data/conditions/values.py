"""Conditions as they come from a user: labels, vectors of numbers, columns of several types, or images.

A condition is a *table* if it has a column set to a type by the user, several columns of which not all are numbers, or one of
moments: dates, times or durations, which as text are more than 20 different ones. Arrays of three or four dimensions are
images. Anything else is labels or a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pushforward._messages import Argument, naming
from pushforward.data.checks import check_names, is_frame
from pushforward.data.columns import ColumnTypes, Table, infer_columns
from pushforward.data.columns.column import GAP_WORDS, as_text, is_text
from pushforward.data.columns.moments import AmbiguousDateError, moment_format

__all__ = [
    "FEW",
    "MOST_CLASSES",
    "ConditionKind",
    "Conditions",
    "Label",
    "as_condition_array",
    "as_label",
    "as_numbers",
    "column_names",
    "conditions_of",
    "kind_of_array",
]

ConditionKind = Literal["labels", "vector", "table", "images", "mask"]
Label: TypeAlias = str | int | bool

FEW = 20
MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of the rows of data.

    Parameters
    ----------
    array : array
        Labels ``(N,)``, numbers ``(N,)``, vectors ``(N, K)`` or images ``(N, h, w[, C])``; with a table the cells of its
        columns, objects ``(N, K)`` with None in gaps.
    table : Table or None
        The columns, if they have types of their own.
    """

    array: np.ndarray
    table: Table | None = None


def conditions_of(values: Any, types: ColumnTypes | Table | None = None) -> Conditions:
    """Return conditions as an array, with the types of their columns if they are a table (see the module docstring).

    Parameters
    ----------
    values : array, tensor, Series, DataFrame, mapping or list
        One condition per row.
    types : mapping or Table, optional
        Types of columns by name, or the columns of a trained model.

    Raises
    ------
    ValueError, TypeError
        If a column does not fit its type, or says nothing about new rows, such as a name.
    """
    frame = _as_frame(values)
    if frame is not None and isinstance(types, Table) and len(frame.columns) == len(types.columns):
        return Conditions(_cells(frame), types)
    if frame is None or (not (types and not isinstance(types, Table)) and not _is_table(frame)):
        return Conditions(_numbers(frame) if frame is not None and len(frame.columns) > 1 else as_condition_array(values))
    check_names(frame, "condition")
    table = infer_columns(frame, () if isinstance(types, Table) else types or ())
    if table.left_out:
        out = table.left_out[0]
        category = Argument("columns", {out.name: "category"})
        message = f"condition column {out.name!r} {out.reason} and says nothing about new rows; omit it, or set {category}."
        raise naming(ValueError(message), category)
    for column in table.columns:
        if column.domain.type == "category" and column.domain.levels > MOST_CLASSES:
            raise ValueError(
                f"condition column {column.name!r} has {column.domain.levels:,} different levels, more than {MOST_CLASSES:,}; "
                "group them, or omit it."
            )
    return Conditions(_cells(frame), table)


def _as_frame(values: Any) -> Any:
    """Return values as a DataFrame if they have columns, or are other than numbers or words; None for anything else."""
    if is_frame(values):
        return values
    if hasattr(values, "to_frame") and hasattr(values, "isna"):
        return values.to_frame()
    if isinstance(values, Tensor) or not isinstance(values, Mapping | list | tuple | np.ndarray):
        return None
    import pandas as pd  # heavy

    if isinstance(values, Mapping):
        return pd.DataFrame(dict(values))
    if not isinstance(values, np.ndarray) and _has_words_in_rows(values):
        return pd.DataFrame([list(row) for row in values])
    array = values if isinstance(values, np.ndarray) else as_objects(values)
    if array.dtype.kind in "Mm" or (array.ndim == 2 and array.dtype.kind in "OUST"):
        return pd.DataFrame(array).infer_objects() if array.ndim == 2 else pd.Series(array).to_frame()
    other = array.dtype == object and array.ndim == 1 and not all(_is_simple(value) for value in array)
    return pd.DataFrame({0: list(array)}) if other else None


def _has_words_in_rows(values: Any) -> bool:
    return len(values) > 0 and all(
        isinstance(row, list | tuple) and len(row) > 1 and any(isinstance(cell, str) for cell in row) for row in values
    )


def as_objects(values: Any) -> np.ndarray:
    """Return a list as an array, of objects unless all entries are numbers."""
    if any(value is None or isinstance(value, str) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    return np.asarray(values)


def _is_simple(value: object) -> bool:
    return _is_gap(value) or isinstance(value, str | bytes | Real | np.generic)


def _is_table(frame: Any) -> bool:
    from pandas.api import types

    dtypes = list(frame.dtypes)
    if len(dtypes) > 1:
        numbers = (types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype) for dtype in dtypes)
        return not all(numbers) and not _are_number_objects(frame)
    cells = frame.iloc[:, 0]
    if types.is_datetime64_any_dtype(cells.dtype) or types.is_timedelta64_dtype(cells.dtype):
        return True
    if not is_text(cells):
        return False
    present = cells[~cells.isna()]
    if not all(isinstance(cell, str) for cell in present):
        return len(present) > 0 and not all(_is_simple(cell) for cell in present)
    words = [word for word in dict.fromkeys(as_text(present)) if word.lower() not in GAP_WORDS]
    try:
        return len(words) > FEW and moment_format(words) is not None
    except AmbiguousDateError:
        return False


def _are_number_objects(frame: Any) -> bool:
    """Return whether all cells are numbers or gaps, whatever the dtypes of the columns."""
    return all(cells.dtype == object or cells.dtype.kind in "biuf" for _, cells in frame.items()) and all(
        _is_gap(cell) or isinstance(cell, Real) for _, cells in frame.items() for cell in cells
    )


def _cells(frame: Any) -> np.ndarray:
    cells = np.empty(frame.shape, dtype=object)
    for index in range(frame.shape[1]):
        column = frame.iloc[:, index]
        present = ~column.isna().to_numpy(dtype=bool)
        cells[present, index] = column[present].to_numpy(dtype=object)
    return cells


def _numbers(frame: Any) -> np.ndarray:
    return np.asarray(frame.to_numpy(dtype=float, na_value=np.nan))


def as_condition_array(values: Any) -> np.ndarray:
    """Return conditions as an array: numbers unchanged, everything else as objects; a single column of labels is flattened."""
    if isinstance(values, Tensor):
        array = values.detach().cpu().numpy()
        array = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array  # images, channels last
    elif hasattr(values, "to_numpy"):
        array = _from_pandas(values)
    elif isinstance(values, list | tuple):
        array = as_objects(values)
    else:
        array = np.asarray(values)
    if array.dtype.kind in "UST":
        array = array.astype(object)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"condition must be real numbers or labels, not an array of dtype {array.dtype}.")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind != "f" else array


def column_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a DataFrame or mapping, if all are text; None for anything else."""
    names: list[Any] = list(values.columns) if is_frame(values) else list(values) if isinstance(values, Mapping) else [None]
    return tuple(names) if all(isinstance(name, str) for name in names) else None


def _from_pandas(values: Any) -> np.ndarray:
    """Return a Series, Index or DataFrame as an array; missing entries of numbers become NaN, those of whole numbers None."""
    from pandas.api import types

    if values.ndim == 2 and values.shape[1] == 1:
        values = values.iloc[:, 0]
    dtypes = values.dtypes if values.ndim == 2 else [values.dtype]
    numeric = all(types.is_numeric_dtype(dtype) for dtype in dtypes)
    floating = any(types.is_float_dtype(dtype) for dtype in dtypes)
    if numeric and bool(np.asarray(values.isna()).any()):
        if floating or values.ndim == 2:
            return np.asarray(values.to_numpy(dtype=float, na_value=np.nan))
        return np.asarray(values.to_numpy(dtype=object, na_value=None))
    array = np.asarray(values.to_numpy())
    return array.astype(float if floating else np.int64) if numeric and array.dtype == object else array


def kind_of_array(array: np.ndarray) -> Literal["labels", "vector", "images"]:
    """Return whether conditions without a table are labels, vectors or images."""
    if array.ndim > 1:
        return "vector" if array.ndim == 2 else "images"
    if array.dtype.kind == "b":
        return "labels"
    present = array[~np.array([_is_gap(value) for value in array.tolist()], dtype=bool)]
    if array.dtype.kind == "O" and not all(isinstance(value, Real) and not isinstance(value, bool) for value in present):
        return "labels"
    numbers = present.astype(np.float64)
    floats = array.dtype.kind == "f" or (len(present) > 0 and all(isinstance(value, float) for value in present))
    if len(present) == 0 or (numbers != np.floor(numbers)).any() or (floats and len(present) == len(array)):
        return "vector" if floats else "labels"
    distinct = np.unique(numbers)
    counting = len(distinct) <= MOST_CLASSES and distinct[0] == 0 and distinct[-1] == len(distinct) - 1
    return "labels" if len(distinct) <= FEW or (counting and len(array) >= 10 * len(distinct)) else "vector"


def as_label(value: object) -> Label | None:
    """Return a label as str, int or bool, or None for a gap."""
    value = value.item() if isinstance(value, np.generic | Tensor) else value
    if _is_gap(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | bool | int):
        return value
    raise ValueError(f"a label must be text, an integer or a boolean, not {value!r} ({type(value).__name__}).")


def _is_gap(value: object) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def as_numbers(array: np.ndarray) -> Tensor:
    """Return float64 numbers with NaN for gaps; raise for text, complex numbers and infinities."""
    if array.dtype.kind == "O":
        array = np.array([np.nan if _is_gap(value) else value for value in array.ravel()], dtype=object).reshape(array.shape)
    try:
        numbers = torch.from_numpy(np.array(array, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"condition must be numbers: {error}.") from None
    if bool(numbers.isinf().any()):
        raise ValueError(f"condition contains {int(numbers.isinf().sum())} infinities; all numbers must be finite.")
    return numbers
