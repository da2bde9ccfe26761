"""Counts as callers give them."""

import operator

__all__ = ["check_count", "check_steps"]

MOST_STEPS = 100_000


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


def check_steps(steps: object, least: int = 1) -> int:
    """Return the number of steps of a solver as an int; a mistyped one would compute for hours before the first row.

    >>> check_steps(20)
    20
    """
    count = check_count("steps", steps, least)
    if count > MOST_STEPS:
        raise ValueError(f"steps must be at most {MOST_STEPS:,}, got {count:,}; a few hundred are exact enough for any figure")
    return count
