"""Checks of the rows that metrics compare, and random subsets of them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Rows", "as_rows", "pair", "subset"]

Rows = NDArray[np.floating[Any]]


def as_rows(values: ArrayLike, name: str = "rows", *, least: int = 1) -> Rows:
    """Return rows (n, ...) as a finite array (n, D), float32 where that loses nothing and float64 otherwise.

    Raises
    ------
    ValueError
        If there are fewer than ``least`` rows, no columns, or a number that is not finite.
    TypeError
        If the rows are not numbers.

    >>> as_rows(np.zeros((5, 8, 8), dtype=np.uint8)).shape
    (5, 64)
    >>> as_rows([[1.0], [np.nan]])
    Traceback (most recent call last):
    ValueError: rows must be finite, but row 1 holds nan; omit the rows with gaps, or fill them
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, but their dtype is {array.dtype}; encode categories as numbers first")
    if array.ndim < 2:
        raise ValueError(f"{name} must have the shape (n, ...) with one row per sample, but has {array.shape}")
    if len(array) < least:
        raise ValueError(f"{name} must be at least {least} rows for this figure, but there are {len(array)}")
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if not flat.shape[1]:
        raise ValueError(f"{name} must have at least one column, but have the shape {array.shape}")
    flat = np.ascontiguousarray(flat, dtype=np.result_type(flat.dtype, np.float32))
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        bad = flat[row][~np.isfinite(flat[row])][0]
        raise ValueError(f"{name} must be finite, but row {row} holds {bad}; omit the rows with gaps, or fill them")
    return flat


def pair(P: ArrayLike, Q: ArrayLike, *, least: int = 2) -> tuple[Rows, Rows]:
    """Return samples P (n, ...) and reference rows Q (m, ...) as finite arrays (n, D) and (m, D) of one dtype.

    Parameters
    ----------
    P, Q : array-like
    least : int
        Fewest rows that either may have.

    Raises
    ------
    ValueError
        As :func:`as_rows`, or if the widths differ.

    >>> [rows.shape for rows in pair(np.zeros((3, 2, 2)), np.zeros((2, 4)))]
    [(3, 4), (2, 4)]
    >>> pair(np.zeros((3, 2)), np.zeros((3, 5)))
    Traceback (most recent call last):
    ValueError: samples and reference rows must have the same number of columns, but they have 2 and 5
    """
    left, right = as_rows(P, "samples", least=least), as_rows(Q, "reference rows", least=least)
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            "samples and reference rows must have the same number of columns, "
            f"but they have {left.shape[1]} and {right.shape[1]}"
        )
    dtype = np.result_type(left, right)
    return left.astype(dtype, copy=False), right.astype(dtype, copy=False)


def subset(rows: Rows, most: int, generator: np.random.Generator) -> Rows:
    """Return the rows, or ``most`` of them drawn without replacement, in their order.

    >>> subset(np.arange(8.0)[:, None], 3, np.random.default_rng(0)).shape
    (3, 1)
    """
    if len(rows) <= most:
        return rows
    return rows[np.sort(generator.choice(len(rows), most, replace=False))]
