"""Columns of dates, times and durations: whole numbers of a unit, which may be text."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pushforward.data.columns.column import Column, ColumnType, as_text, is_text
from pushforward.probability.domain import Domain

__all__ = [
    "UNITS",
    "AmbiguousDateError",
    "Moments",
    "moment_format",
    "moments_in",
    "moments_of",
    "to_counts",
    "unit_of",
    "written",
]

UNITS = {"D": 86_400 * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of each unit; a column counts in the largest unit that all its moments are multiples of."""

_DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
_ZONES = ("", "%z", "Z")
_MOMENT = re.compile(r"\d{1,4}[-/.: ]\w|[A-Z][a-z]{2,8} \d")
_PROBES = 50


class AmbiguousDateError(ValueError):
    """Dates that can be read in two ways, with the day or with the month first."""


def moment_format(cells: Sequence[str]) -> tuple[str, str] | None:
    """Return the type, "date", "time" or "datetime", and the format of cells that all hold moments in one format, or None.

    Raises
    ------
    AmbiguousDateError
        If day and month can be exchanged.

    >>> moment_format(["2024-02-29", "2024-03-01"]), moment_format(["7:05", "12:30"]), moment_format(["f", "m"])
    (('date', '%Y-%m-%d'), ('time', '%-H:%M'), None)
    """
    if not cells or not all(map(_MOMENT.match, cells[:_PROBES])):
        return None
    found = [(kind, text) for kind, text in _candidates(cells[0]) if _fits(cells, text)]
    if not found:
        return None
    if len(found) > 1 and not np.array_equal(moments_of(cells, found[0][1]), moments_of(cells, found[1][1])):
        readings = [written(moments_of(cells[:1], text)[:1], "%Y-%m-%d")[0] for _, text in found[:2]]
        raise AmbiguousDateError(f"{cells[0]!r} can be {readings[0]} or {readings[1]}")
    return found[0][0], _unpadded(cells, found[0][1])


def _candidates(cell: str) -> list[tuple[str, str]]:
    kinds = [("date", text) for text in _DATES] + [("time", text) for text in _TIMES]
    kinds += [
        ("datetime", f"{date}{between}{time}{zone}")
        for date in _DATES
        for between in (" ", "T")
        for time in _TIMES
        for zone in _ZONES
    ]
    return [(kind, text) for kind, text in kinds if _is_written(cell, text)]


def _is_written(cell: str, text: str) -> bool:
    try:
        datetime.datetime.strptime(cell, text)
    except ValueError:
        return False
    return True


def _fits(cells: Sequence[str], text: str) -> bool:
    probes = cells[:_PROBES]
    return not np.isnat(moments_of(probes, text)).any() and not np.isnat(moments_of(cells, text)).any()


def moments_of(cells: Sequence[str], text: str) -> np.ndarray:
    """Return moments, datetime64[ns] in UTC, from cells in a format; NaT for those that are written otherwise."""
    import pandas as pd  # heavy

    parsed = pd.to_datetime(pd.Series(list(cells), dtype=object), format=text.replace("%-", "%"), errors="coerce", utc=True)
    return np.asarray(parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]"))


def written(moments: np.ndarray, text: str) -> list[str]:
    """Return moments, datetime64, as text in a format."""
    import pandas as pd  # heavy

    stamps = pd.DatetimeIndex(moments)
    return [str(cell) for cell in (stamps.tz_localize("UTC") if "%z" in text else stamps).strftime(text)]


def unit_of(nanoseconds: np.ndarray) -> str:
    """Return the largest unit of which all counts of nanoseconds are multiples."""
    return next(unit for unit, size in UNITS.items() if not (nanoseconds % size).any())


def _unpadded(cells: Sequence[str], text: str) -> str:
    """Return the format without leading zeros in days, months and hours, if the cells have none."""
    if written(moments_of(cells[:_PROBES], text), text) == list(cells[:_PROBES]):
        return text
    bare = text
    for code in "dmHI":
        bare = bare.replace(f"%{code}", f"%-{code}")
    return bare


def to_counts(moments: Any, unit: str) -> np.ndarray:
    """Return datetime64 or timedelta64 as float64 counts of a unit, NaN for NaT."""
    nanoseconds = np.asarray(moments).astype("int64" if moments.dtype.kind in "mM" else moments.dtype)
    return np.where(np.isnat(moments), np.nan, nanoseconds / UNITS[unit])


@dataclass(frozen=True, kw_only=True)
class Moments(Column):
    """A column of dates, times of the day, moments or durations, whose numbers count a unit.

    Dates and moments count from 1970-01-01, in UTC if they have a zone; times from midnight.

    Parameters
    ----------
    unit : str
        One of D, h, m, s, ms, us and ns.
    low, high : float
        The first and the last moment of the data.
    text : str, optional
        The format of moments that are text, as in :meth:`datetime.datetime.strftime`.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("date", "time", "datetime", "duration")

    unit: str
    low: float
    high: float
    text: str | None = None

    @property
    def domain(self) -> Domain:
        """Integers between the first and the last moment."""
        return Domain("integer", self.low, self.high)

    def _values(self) -> str:
        first, last = (str(cell) for cell in self.decode(np.array([self.low, self.high])))
        return f"{first} to {last}"

    def _read(self, cells: Any) -> np.ndarray:
        moments = moments_in(cells, self.type, self.text)
        counts = to_counts(moments, self.unit)
        return np.where(counts == np.round(counts), counts, np.nan)

    def _written(self, values: np.ndarray) -> Any:
        import pandas as pd

        nanoseconds = np.rint(values).astype("int64") * UNITS[self.unit]
        if self.type == "duration":
            return nanoseconds.astype("timedelta64[ns]")
        moments = nanoseconds.astype("datetime64[ns]")
        if self.text is not None:
            return written(moments, self.text)
        if self.dtype == "object":
            stamps = pd.DatetimeIndex(moments)
            return list({"date": stamps.date, "time": stamps.time}.get(self.type, stamps.to_pydatetime()))
        return moments

    def _typed(self, cells: Any) -> Any:
        import pandas as pd

        if self.text is None and self.type == "datetime" and "," in self.dtype:
            return pd.to_datetime(cells, utc=True).astype(self.dtype)
        if self.text is None and self.type == "duration":
            return pd.to_timedelta(cells).astype(self.dtype)
        return super()._typed(cells)

    def expected(self, cell: object) -> str:
        """Return how to write a moment, with an example."""
        shown = self.decode(np.array([self.low])).iloc[0]
        return f"write a {self.type} such as {str(shown)!r} (in whole {_UNIT_NAMES[self.unit]}), or leave the cell empty"

    def _check(self) -> None:
        if self.unit not in UNITS or not isinstance(self.text, str | None):
            raise ValueError(f"the unit of column {self.name!r} must be one of {', '.join(UNITS)}, and its format text")
        top = 2**63 / UNITS[self.unit]
        if not all(isinstance(end, int | float) and abs(end) < top for end in (self.low, self.high)):
            raise ValueError(f"the range of column {self.name!r} is not one of moments")
        _ = self.domain


_UNIT_NAMES = dict(
    zip(UNITS, ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"), strict=True)
)


def moments_in(cells: Any, kind: ColumnType, text: str | None) -> np.ndarray:
    """Return a Series without gaps as datetime64 or timedelta64, NaT for cells that are not understood."""
    import pandas as pd

    if kind == "duration":
        return np.asarray(pd.to_timedelta(cells, errors="coerce").to_numpy(dtype="timedelta64[ns]"))
    if kind == "time":
        strings: Sequence[str] = as_text(cells)
        form = text or ("%H:%M:%S.%f" if any("." in cell for cell in strings) else "%H:%M:%S")
        moments = moments_of(strings, form)
        return np.asarray((moments - moments.astype("datetime64[D]")).astype("int64").astype("datetime64[ns]"))
    if text is not None and is_text(cells):
        return moments_of(as_text(cells), text)
    stamps = pd.to_datetime(cells, errors="coerce", utc=True)
    return np.asarray(stamps.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]"))
