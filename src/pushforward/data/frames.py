"""DataFrames of vectors: the names of their columns, and their cells from numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pushforward.data.casting import cast_array, is_integer, refuse_non_finite
from pushforward.data.columns.numbers import decimals_of

__all__ = ["as_frame", "as_polars", "check_feature_names", "decimals_in"]


def as_frame(
    rows: np.ndarray, columns: Sequence[str | int], dtypes: Sequence[str], decimals: Sequence[int | None] | None
) -> Any:
    """Return rows (N, D) as a DataFrame with these columns, dtypes, and numbers of decimals, None for as many as fit.

    Raises
    ------
    ValueError
        If a column of integers has NaN or infinite values.
    """
    import pandas as pd  # heavy

    parts = []
    for index, dtype in enumerate(dtypes):
        column, digits = rows[:, index], None if decimals is None else decimals[index]
        column = column if digits is None else np.round(column, digits)
        if is_integer(dtype):
            refuse_non_finite(column)
            column = np.rint(column)
        if is_integer(dtype) and "bool" in dtype.lower():
            column = column > 0
        else:
            column = cast_array(column, np.dtype(dtype.lower().split("[")[0]))
        parts.append(pd.Series(column).astype(dtype))
    frame = pd.concat(parts, axis=1) if parts else pd.DataFrame()
    frame.columns = pd.Index(columns)
    return frame


def as_polars(frame: Any) -> Any:
    """Return a DataFrame of pandas as one of polars."""
    import polars  # optional

    return polars.from_pandas(frame)


def check_feature_names(names: Sequence[Any], known: Sequence[Any]) -> None:
    """Raise a ValueError, in scikit-learn's words, if names of columns are not those of training in the same order."""
    if list(names) == list(known):
        return
    lines = ["The feature names should match those that were passed during fit."]
    unseen = sorted((name for name in names if name not in known), key=str)
    missing = sorted((name for name in known if name not in names), key=str)
    if unseen:
        lines += ["Feature names unseen at fit time:", *_bullets(unseen)]
    if missing:
        lines += ["Feature names seen at fit time, yet now missing:", *_bullets(missing)]
    if not unseen and not missing:
        lines += ["Feature names must be in the same order as they were in fit."]
    raise ValueError("\n".join(lines) + "\n")


def decimals_in(column: Any) -> int | None:
    """Return the number of decimals of a column of a DataFrame; None for integers, and if they need more than a few."""
    if not str(column.dtype).lower().startswith("float"):
        return None
    return decimals_of(column.dropna().to_numpy(dtype=np.float64))


def _bullets(names: list[Any]) -> list[str]:
    return [f"- {name}" for name in names[:5]] + (["- ..."] if len(names) > 5 else [])
