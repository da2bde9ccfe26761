"""Checks of mixed rows, and their columns as whole numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.probability.domain import Domain

__all__ = ["Floats", "Integers", "as_mixed", "level_numbers", "mixed_pair", "plural"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def as_mixed(values: ArrayLike, domains: Sequence[Domain], name: str = "rows", *, least: int = 1) -> Floats:
    """Return mixed rows (n, C) as float64, NaN for a gap, after a check of their shape and of the levels of categories.

    Raises
    ------
    ValueError
        If there are fewer than ``least`` rows, not one column per domain, an infinite number, or a category that is no level
        of its domain.
    TypeError
        If the rows are not numbers.

    >>> as_mixed([[0, 2.5], [float("nan"), 1.0]], (Domain("category", 0, 1), Domain("real"))).shape
    (2, 2)
    >>> as_mixed([[2]], (Domain("category", 0, 1),))
    Traceback (most recent call last):
    ValueError: column 0 of rows has the levels 0 to 1, but row 0 holds 2; number the levels from 0
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, but their dtype is {array.dtype}; give the number of the level of a category")
    if array.ndim != 2 or array.shape[1] != len(domains) or not len(domains):
        raise ValueError(
            f"{name} must have the shape (n, {len(domains)}), a column for each domain and at least one, but have {array.shape}"
        )
    if len(array) < least:
        raise ValueError(f"{name} must be at least {least} rows for this figure, but there {plural(len(array))}")
    rows = array.astype(np.float64)
    infinite = np.isinf(rows)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise ValueError(f"{name} must be finite or gaps, but row {row} holds {rows[row, column]} in column {column}; omit it")
    for j, domain in enumerate(domains):
        if domain.type == "category":
            known = np.isnan(rows[:, j]) | (
                (rows[:, j] == np.rint(rows[:, j])) & (rows[:, j] >= 0) & (rows[:, j] <= domain.high)
            )
            if not known.all():
                row = int(np.argmin(known))
                raise ValueError(
                    f"column {j} of {name} has the levels 0 to {domain.high:g}, but row {row} holds {rows[row, j]:g}; "
                    "number the levels from 0"
                )
    return rows


def plural(count: int) -> str:
    """Return "is 1" or "are" and the count."""
    return "is 1" if count == 1 else f"are {count}"


def mixed_pair(P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, least: int = 2) -> tuple[Floats, Floats]:
    """Return samples P (n, C) and reference rows Q (m, C) as checked by :func:`as_mixed`."""
    return as_mixed(P, domains, "samples", least=least), as_mixed(Q, domains, "reference rows", least=least)


def level_numbers(column: Floats, domain: Domain) -> Integers:
    """Return the levels of a category as whole numbers; a gap is one more level, the last.

    >>> level_numbers(np.array([1.0, np.nan]), Domain("category", 0, 1)).tolist()
    [1, 2]
    """
    return np.where(np.isnan(column), domain.levels, column).astype(np.int64)
