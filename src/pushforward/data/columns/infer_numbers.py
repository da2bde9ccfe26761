"""Columns of numbers, found in the data: integers or reals, their limits, and the values that have a share of their own."""

import re
from typing import Any, Literal

import numpy as np

from pushforward.data.columns.column import GAP_WORDS, as_text, hold_only
from pushforward.data.columns.numbers import Numbers, decimals_of, number_format
from pushforward.data.columns.table import LeftOut

__all__ = ["counts_rows", "numbers_in", "numbers_in_text", "plain_numbers"]

_ATOM = 0.01  # share of rows that makes a number an atom
_TIMES, _NEIGHBOURS = 5, 5  # and times the median count of this many neighbors on each side
_MOST_ATOMS = 20
_MOST_SHAPED = 100  # columns
_NEAR_ONE = 0.9
_NEAR = 0.05  # share of the median, or of 1, that is close to a bound
_INDEX_WORDS = ("#", "id", "idx", "index", "key", "no", "nr", "num", "number", "row", "rowid")


def counts_rows(cells: Any, name: Any) -> LeftOut | None:
    """Return why a column is left out if it only counts the rows; None for any other."""
    values = cells.to_numpy(dtype="float64", na_value=np.nan)
    counts = len(values) > 2 and np.array_equal(values, values[0] + np.arange(len(values)))
    words = re.findall(r"#|[A-Z]?[a-z]+|[A-Z]+", str(name))
    last = words[-1].lower() if words else ""
    named = not str(name).strip() or str(name).lower().startswith("unnamed:") or last in _INDEX_WORDS
    if counts and named:
        return LeftOut(name, "counts the rows")
    return None


def numbers_in(cells: Any, name: Any, kind: Literal["number", "integer"] | None = None) -> Numbers:
    """Return the column of numbers in a Series of numbers or of objects that are numbers.

    Raises
    ------
    ValueError
        If a number is infinite, or a column that the user calls one of integers has fractions.
    """
    from pandas.api import types

    gap = cells.isna().to_numpy()
    values = np.array(cells[~gap].astype(object).to_numpy(), dtype=np.float64)
    _refuse_infinities(np.array(cells.astype(object).where(~gap, 0.0).to_numpy(), dtype=np.float64), name)
    whole = bool((values == np.round(values)).all())
    if kind == "integer" and not whole:
        raise ValueError(
            f"columns sets {name!r} to 'integer', but it has fractions, such as {values[values != np.round(values)][0]}."
        )
    integer = types.is_integer_dtype(cells.dtype) or (whole and bool(gap.any())) or hold_only(cells[~gap], int)
    if kind == "integer" or (kind is None and integer):
        return Numbers(
            name=name,
            type="integer",
            dtype=str(cells.dtype),
            gaps=bool(gap.any()),
            low=float(values.min()),
            high=float(values.max()),
        )
    low, high, atoms = _shape(values)
    return Numbers(
        name=name,
        type="number",
        dtype=str(cells.dtype),
        gaps=bool(gap.any()),
        low=low,
        high=high,
        atoms=atoms,
        decimals=decimals_of(values),
    )


def _refuse_infinities(values: np.ndarray, name: Any) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        raise ValueError(
            f"column {name!r} contains {int(infinite.sum())} infinities, the first in row {int(infinite.argmax())} "
            "(counted from 0); all numbers must be finite: drop those rows, or leave the cells empty."
        )


def _shape(values: np.ndarray) -> tuple[float | None, float | None, tuple[float, ...]]:
    """Return the limits of reals, None where there is none, and the numbers that have a share of their own."""
    numbers, counts = np.unique(values, return_counts=True)
    often = (counts >= max(_ATOM * len(values), 3)) & (counts >= _TIMES * (1 + _usual(counts)))
    atoms = tuple(numbers[often].tolist()) if 0 < often.sum() <= min(_MOST_ATOMS, len(numbers) / 2) else ()
    low, high = float(numbers[0]), float(numbers[-1])
    # Numbers of which few come near 1 are no shares: other rows may go beyond it.
    share = low >= 0 and high <= 1 and bool((values > _NEAR_ONE).mean() >= _ATOM)
    top = 1.0 if share else high if high in atoms else None
    return (0.0 if low >= 0 else low if low in atoms else None), top, atoms


def _usual(counts: np.ndarray) -> np.ndarray:
    """Return the median count of each number and its neighbors."""
    padded = np.pad(counts, _NEIGHBOURS, mode="reflect")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1))


def numbers_in_text(cells: Any, name: Any, kind: Literal["number", "integer"] | None = None) -> Numbers | None:
    """Return the column of numbers that are written as text, if all cells are."""
    text = as_text(cells.fillna(""))
    words = [word for word in text if word.lower() not in GAP_WORDS]
    form = number_format(list(dict.fromkeys(words)))
    if form is None:
        return None
    values, gaps = form.parse(words), len(words) < len(text)
    low, high, atoms = _shape(values)
    if kind == "integer" or (kind is None and form.decimals == 0):
        kind, low, high, atoms = "integer", float(values.min()), float(values.max()), ()
    return Numbers(
        name=name,
        type=kind or "number",
        dtype=str(cells.dtype),
        gaps=gaps,
        low=low,
        high=high,
        atoms=atoms,
        decimals=form.decimals,
        format=form,
    )


def plain_numbers(frame: Any) -> bool:
    """Return whether a DataFrame is like an array: columns of numbers (or booleans) without gaps, and none counts the rows.

    No column of reals, of up to 100, has values with a share of their own, or comes close to a bound.
    """
    from pandas.api import types

    numeric = (types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype) for dtype in frame.dtypes)
    if not all(numeric) or bool(frame.isna().to_numpy().any()):
        return False
    if any(counts_rows(frame[name], name) for name in frame.columns):
        return False
    reals = [name for name in frame.columns if types.is_float_dtype(frame[name].dtype)]
    return len(reals) > _MOST_SHAPED or not any(_is_shaped(frame[name].to_numpy(dtype="float64")) for name in reals)


def _is_shaped(values: np.ndarray) -> bool:
    """Return whether reals have values with a share of their own, or come close to 0 and, as shares, to 1."""
    low, high, atoms = _shape(values)
    near_low = low == 0 and values.min() <= _NEAR * np.median(values)
    return bool(atoms) or bool(near_low) or (high == 1 and values.max() >= 1 - _NEAR)
