"""The memory of this machine."""

import os

__all__ = ["check_memory", "memory_bytes"]


def memory_bytes() -> int | None:
    """Return the size of the main memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(needed: float, what: str, instead: str) -> None:
    """Raise a ValueError if ``what`` needs more bytes than this machine has; ``instead`` says what to write.

    >>> check_memory(1e18, "n=10", "draw fewer")
    Traceback (most recent call last):
        ...
    ValueError: n=10 takes about 1,000,000,000 GB of memory, more than this machine has; draw fewer
    """
    there = memory_bytes()
    if there is not None and needed > there:
        raise ValueError(f"{what} takes about {needed / 1e9:,.0f} GB of memory, more than this machine has; {instead}")
