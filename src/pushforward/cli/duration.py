"""Durations on the command line."""

import re

__all__ = ["seconds_of"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds_of(text: str, option: str = "--max-time") -> float:
    """Parse a duration such as "90", "90s", "4m" or "1h30m" to seconds; errors name ``option``.

    >>> seconds_of("4m"), seconds_of("1h30m"), seconds_of("90")
    (240.0, 5400.0, 90.0)
    """
    number = r"(\d+(?:\.\d+)?)"
    plain = text.strip().lower()
    composed = re.fullmatch("".join(f"(?:{number}{unit})?" for unit in _UNITS), plain)
    bare = re.fullmatch(number, plain)
    if not plain or not (composed or bare):
        raise ValueError(f"{option} is written 90s, 4m, 1h30m or 2d, not {text!r}")
    if bare:
        total = float(plain)
    else:
        assert composed is not None
        total = sum(float(part) * unit for part, unit in zip(composed.groups(), _UNITS.values(), strict=True) if part)
    if total <= 0:
        raise ValueError(f"{option} must be longer than zero, got {text!r}")
    return total
