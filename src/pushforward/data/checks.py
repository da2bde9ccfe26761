"""Convert data to a NumPy array, a CPU tensor or a pandas DataFrame of finite real numbers, and reject invalid data.

Errors name the problem, its place and a remedy; where scikit-learn's checks expect a wording, that wording is used.
"""

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import numpy as np
import torch

from pushforward._messages import Argument, naming
from pushforward.data.points import PointSets
from pushforward.data.stream import Stored, arrays_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ArrayLike",
    "Condition",
    "Data",
    "Facts",
    "Values",
    "check_names",
    "check_rows",
    "clean_values",
    "enumerate_names",
    "is_frame",
    "missing_column",
]

Values: TypeAlias = Union[np.ndarray, torch.Tensor, "pd.DataFrame"]
ArrayLike: TypeAlias = Values | Sequence[object]
"""Rows from a user: :data:`Values`, or nested lists."""
Data: TypeAlias = ArrayLike | str | Path
"""Input of :func:`open_data`: rows, a path, or the name of a built-in."""
Condition: TypeAlias = Union[
    str,
    float,
    np.generic,
    np.ndarray,
    torch.Tensor,
    "pd.Series",
    "pd.DataFrame",
    Mapping[Any, Any],
    Sequence[object],
    Path,
    None,
]
"""A label, a number, a vector or an image; one of them per row; values by name of column; the names of columns; a path of
images, or "mask"; or False for none."""
Facts: TypeAlias = dict[str, Any]
"""Plain data for JSON."""

_RESHAPE = (
    "Reshape your data either using X.reshape(-1, 1) if it has a single feature "
    "or X.reshape(1, -1) if it contains a single sample."
)


def is_frame(values: object) -> bool:
    """Return whether ``values`` is a pandas DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.DataFrame)


def is_polars(values: object) -> bool:
    """Return whether ``values`` is a polars DataFrame, without importing polars."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(values, polars.DataFrame)


def as_pandas(values: Any) -> Any:
    """Return a polars DataFrame as one of pandas with Arrow's dtypes, which keep its types and gaps; all else as it is."""
    if not is_polars(values):
        return values
    frame = values.to_pandas(use_pyarrow_extension_array=True)
    for name, dtype in values.schema.items():
        if str(dtype).startswith(("Categorical", "Enum")):
            frame[name] = values[name].to_pandas()  # Arrow's dictionaries are no categories for pandas
    return frame


def enumerate_names(names: Iterable[object], limit: int = 6) -> str:
    """Return names in quotes for a message, cut after ``limit``.

    >>> enumerate_names(["age", "sex", "income"], limit=2)
    "'age', 'sex' and 1 more"
    """
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def missing_column(name: Any, names: Sequence[Any], source: str, what: str = "column") -> ValueError:
    """Return the error for a missing column, which suggests the closest one."""
    close = difflib.get_close_matches(str(name), [str(known) for known in names], n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    known = enumerate_names(names, 20)
    subject = f"{what} {name!r} is not a column of" if what == "condition" else f"there is no column {name!r} in"
    return ValueError(f"{subject} {source or 'the data'}, which has {known}.{hint}")


def clean_values(values: object, *, minimum: int = 1, name: str = "X", gaps: bool = False) -> Values:
    """Return data as an array, a CPU tensor or a DataFrame of finite real numbers with at least ``minimum`` rows.

    Parameters
    ----------
    values : array, tensor, DataFrame, nested lists, or anything with ``__array__``
        Two or more dimensions; rows first. An object array is read as float64 if all its entries are numbers.
    minimum : int
        Minimal number of rows.
    name : str
        Name of the data in messages.
    gaps : bool
        Whether NaN is allowed.

    Raises
    ------
    ValueError, TypeError
        For text, complex, sparse, masked, ragged or one-dimensional data, NaN or infinities, and too few rows.
    """
    result: Any
    if isinstance(values, PointSets):
        return cast(Values, _clean_sets(values, minimum, name, gaps))
    if isinstance(values, Stored):
        _check_stored(values, minimum, name, gaps)
        return cast(Values, values)
    if isinstance(values, torch.Tensor):
        result = _clean_tensor(values, name)
    elif is_frame(values):
        result = _clean_frame(values, name)
    else:
        result = _clean_array(values, name)
    _check_shape(tuple(result.shape), minimum, name)
    _check_finite(result, name, gaps)
    return cast(Values, result)


def _clean_sets(values: PointSets, minimum: int, name: str, gaps: bool) -> PointSets:
    sets = PointSets.of(values, name)
    check_rows(len(sets), minimum, name)
    for index, points in enumerate(sets):
        bad = ~np.isfinite(points)
        infinities = int(np.isinf(points).sum())
        if bad.any() and (infinities or not gaps):
            raise ValueError(
                f"{name}: set {index} contains {int(bad.sum()) - infinities} NaN and {infinities} infinities, the first in "
                f"point {int(bad.any(1).argmax())} (counted from 0). All numbers must be finite: drop those points first. A "
                "set may have fewer points than others."
            )
    return sets


def _check_stored(values: Stored, minimum: int, name: str, gaps: bool) -> None:
    """Raise an error for rows on disk that are not finite; all of them are read once."""
    _check_shape(values.shape, minimum, name)
    _clean_array(np.empty((1, *values.shape[1:]), values.dtype), name)
    if values.dtype.kind != "f":
        return
    first = 0
    for rows in arrays_of(values):
        _check_finite(rows, name, gaps, first)
        first += len(rows)


def _clean_tensor(values: torch.Tensor, name: str) -> torch.Tensor:
    if values.layout != torch.strided:
        raise TypeError(f"{name} is a sparse tensor; only dense data are supported: pass {name}.to_dense().")
    if values.is_complex():
        raise ValueError(f"Complex data not supported: {name} has dtype {values.dtype}; pass real numbers, e.g. {name}.abs().")
    return values.detach().cpu()


def check_names(frame: "pd.DataFrame", name: str) -> None:
    """Raise an error if the names of the columns are not different words or integers."""
    columns = list(frame.columns)
    unnamed = [column for column in columns if not isinstance(column, str | int | np.integer)]
    if unnamed:
        raise TypeError(f"{name} has column names that are neither text nor integers, {enumerate_names(unnamed)}; rename them.")
    if len(set(columns)) < len(columns):
        repeated = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
        raise ValueError(f"{name} has more than one column called {enumerate_names(repeated)}; rename them.")


def _clean_frame(frame: "pd.DataFrame", name: str) -> "pd.DataFrame":
    check_names(frame, name)
    columns = list(frame.columns)
    changed = {column: frame[column].astype("float64") for column in columns if _holds_number_objects(frame[column])}
    if changed:
        frame = frame.copy(deep=False)
        for column, series in changed.items():
            frame[column] = series
    text = [column for column in columns if column not in changed and not _is_real(frame[column].dtype)]
    if text:
        numeric = [column for column in columns if column not in text]
        raise _text_error(text, numeric, name)
    return frame


def _text_error(text: list[Any], numeric: list[Any], name: str) -> ValueError:
    plural = "s" if len(text) > 1 else ""
    wrong = f"{name}: column{plural} {enumerate_names(text)} hold{'' if plural else 's'} text (or dates) instead of numbers."
    if not numeric:
        return ValueError(f"{wrong} There is no numeric column; encode the text as numbers first.")
    columns, condition = Argument("columns", numeric[:8]), Argument("condition", text[0])
    message = f"{wrong} Choose the numeric columns: {columns}. A column of labels can be the condition: {condition}."
    return naming(ValueError(message), columns, condition)


def _is_real(dtype: Any) -> bool:
    from pandas.api import types

    return bool(types.is_numeric_dtype(dtype)) and not types.is_complex_dtype(dtype)


def _holds_number_objects(series: "pd.Series") -> bool:
    return series.dtype == object and all(isinstance(value, Real) for value in series)


def _clean_array(values: Any, name: str) -> np.ndarray:
    if type(values).__module__.startswith("scipy.sparse"):
        raise TypeError(f"Sparse data was passed as {name}, but dense data is required: pass {name}.toarray().")
    if values is None or isinstance(values, str | bytes | dict | set):
        raise TypeError(
            f"{name} must be an array, a tensor, a DataFrame or nested lists of numbers, not {type(values).__name__}."
        )
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array with {int(np.ma.getmaskarray(values).sum())} masked entries; "
            "drop those rows or fill the entries."
        )
    one_dimensional = getattr(values, "ndim", None) == 1
    try:
        array = np.asarray(values)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(
            f"{name} has rows of different lengths ({error}); every row must have the same shape, unless rows are "
            "sets of points: set kind='sets'."
        ) from None
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}; pass real numbers, e.g. np.abs({name}).")
    if array.ndim == 0:
        raise ValueError(f"{name} is a single value; expected a 2D array with one row per sample. {_RESHAPE}")
    if one_dimensional or array.ndim == 1:
        raise ValueError(f"Expected 2D array, got 1D array instead: {name} has shape {array.shape}. {_RESHAPE}")
    if array.dtype.kind == "O":
        return _from_objects(array, name)
    if array.dtype.kind not in "biuf":
        what = {"U": "text", "S": "text", "T": "text", "M": "dates", "m": "time spans", "V": "records"}.get(
            array.dtype.kind, "no numbers"
        )
        raise ValueError(f"{name} holds {what} (dtype {array.dtype}) instead of numbers; convert it to numbers first.")
    return array


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is an object array with entries that are not numbers: {error}.") from None


def _check_shape(shape: tuple[int, ...], minimum: int, name: str) -> None:
    if len(shape) < 2:
        raise ValueError(f"Expected 2D array, got {len(shape)}D array instead: {name} has shape {shape}. {_RESHAPE}")
    if len(shape) == 2 and shape[1] == 0:
        raise ValueError(f"{name} has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if 0 in shape[1:]:
        raise ValueError(f"{name} has rows without elements (shape={shape}); every axis must have a length above 0.")
    check_rows(shape[0], minimum, name, f" (shape={shape})")


def check_rows(count: int, minimum: int, name: str, shape: str = "") -> None:
    """Raise a ValueError if there are too few rows."""
    if count < minimum:
        what = " to learn a law." if minimum > 1 else "."
        raise ValueError(f"{name} has {count} sample(s){shape} while a minimum of {minimum} is required{what}")


def _check_finite(values: Values, name: str, gaps: bool, first: int = 0) -> None:
    bad = _first_bad(values, first)
    if bad is None:
        return
    nans, infinities, where = bad
    if gaps and not infinities:
        return
    counts = " and ".join(text for count, text in ((nans, f"{nans} NaN"), (infinities, f"{infinities} infinities")) if count)
    raise ValueError(
        f"{name} contains {counts}, the first at {where} (counted from 0). All numbers must be finite: "
        "drop those rows or fill the entries first."
    )


def _first_bad(values: Values, first: int = 0) -> tuple[int, int, str] | None:
    if is_frame(values):
        return _first_bad_in_frame(values)
    array = values if isinstance(values, np.ndarray) else _numpy(values)
    if array.dtype.kind != "f":
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    index = np.unravel_index(int(np.argmin(finite)), finite.shape)
    nans = int(np.isnan(array).sum())
    column = f"column {index[1]}" if array.ndim == 2 else f"element {tuple(int(i) for i in index[1:])}"
    return nans, int(finite.size - finite.sum()) - nans, f"row {first + index[0]}, {column}"


def _first_bad_in_frame(frame: Any) -> tuple[int, int, str] | None:
    nans = infinities = 0
    first: tuple[int, str] | None = None
    for column in frame.columns:
        # Extension types use NA for missing numbers; convert it to NaN.
        numbers = frame[column].to_numpy(dtype="float64", na_value=np.nan)
        finite = np.isfinite(numbers)
        if finite.all():
            continue
        missing = int(np.isnan(numbers).sum())
        nans, infinities = nans + missing, infinities + int((~finite).sum()) - missing
        row = int(np.argmin(finite))
        if first is None or row < first[0]:
            first = (row, f"row {row}, column {column!r}")
    return None if first is None else (nans, infinities, first[1])


def _numpy(values: Any) -> np.ndarray:
    return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)
