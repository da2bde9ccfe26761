"""Counts as callers give them."""

import operator

__all__ = ["check_count"]


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return an integer of at least ``least`` as an int; the error for anything else names the argument.

    >>> check_count("steps", np.int64(3))
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    count = operator.index(value)
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count
