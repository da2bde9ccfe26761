"""Columns of numbers, and numbers as text: decimal marks, thousands separators, currencies and percent signs."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pushforward.data.columns.column import Column, ColumnType, as_text, is_text, limits_in_words
from pushforward.probability.domain import Domain

__all__ = ["MOST_DECIMALS", "NumberFormat", "Numbers", "decimals_of", "number_format"]

_SIGNS = r"[$€£¥₹₽₩₺]|[A-Z]{3}"
_GROUPS = {".": (",", " ", "\u00a0", "\u202f", "'"), ",": (".", " ", "\u00a0", "\u202f", "'")}
MOST_DECIMALS = 6


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    Parameters
    ----------
    prefix, suffix : str
        Around every number, such as "$" or " %".
    thousands : str
        Between groups of three digits; "" for none.
    decimal : {".", ","}
    decimals : int
        Digits behind the decimal mark.

    >>> money = number_format(["$1,014.91", "$0.50"])
    >>> money.parse(["$1,014.91", "-$3.00"]).tolist(), money.write([1252.4])
    ([1014.91, -3.0], ['$1,252.40'])
    """

    prefix: str = ""
    suffix: str = ""
    thousands: str = ""
    decimal: str = "."
    decimals: int = 0

    def parse(self, cells: Sequence[str]) -> np.ndarray:
        """Return the numbers, float64, NaN for cells that are not written in this way."""
        number = _pattern(self.thousands, self.decimal)
        parts = re.compile(rf"([-+]?){re.escape(self.prefix)}([-+]?)({number.pattern}){re.escape(self.suffix)}")
        return np.array([self._number(parts.fullmatch(cell.strip())) for cell in cells], dtype=np.float64)

    def _number(self, match: re.Match[str] | None) -> float:
        if match is None:
            return np.nan
        digits = match[3].replace(self.thousands, "") if self.thousands else match[3]
        return float((match[1] or match[2]) + digits.replace(self.decimal, "."))

    def write(self, numbers: Sequence[float]) -> list[str]:
        """Return the numbers as text, rounded to ``decimals``."""
        marks = str.maketrans({",": self.thousands, ".": self.decimal})
        rounded = [round(number, self.decimals) for number in numbers]
        texts = [f"{abs(number):,.{self.decimals}f}".translate(marks) for number in rounded]
        signs = ["-" if number < 0 else "" for number in rounded]
        return [f"{sign}{self.prefix}{text}{self.suffix}" for sign, text in zip(signs, texts, strict=True)]


def number_format(cells: Sequence[str], *, comma: bool = False) -> NumberFormat | None:
    """Return the format in which all cells are numbers, or None.

    Where both readings fit, as for "1,252", a comma separates thousands, unless ``comma`` says that it is a decimal mark, as in
    files with semicolons between the cells.
    """
    stripped = [cell.strip() for cell in cells]
    around = [_split(cell) for cell in stripped]
    if not around or any(part is None for part in around):
        return None
    prefixes, bodies, suffixes = zip(*(part for part in around if part is not None), strict=True)
    if len(set(prefixes)) > 1 or len(set(suffixes)) > 1:
        return None
    for decimal in (",", ".") if comma else (".", ","):
        for thousands in ("", *_GROUPS[decimal]):
            number = _pattern(thousands, decimal)
            if all(number.fullmatch(body) for body in bodies):
                decimals = max(len(body.partition(decimal)[2]) for body in bodies)
                return NumberFormat(prefixes[0], suffixes[0], thousands, decimal, decimals)
    return None


def decimals_of(values: np.ndarray) -> int | None:
    """Return the number of decimals that write all values exactly, at most 6; None if they need more.

    >>> decimals_of(np.array([0.5, 1.25])), decimals_of(np.array([1 / 3]))
    (2, None)
    """
    for decimals in range(MOST_DECIMALS + 1):
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None


def _pattern(thousands: str, decimal: str) -> re.Pattern[str]:
    # A number with zeros in front, such as 007, is a code.
    whole = r"(?:0|[1-9]\d*)" if not thousands else rf"(?:0|[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})*)"
    return re.compile(rf"{whole}(?:{re.escape(decimal)}\d+)?|{re.escape(decimal)}\d+")


_AROUND = re.compile(rf"([-+]?)((?:{_SIGNS})?\s?)([-+]?)([\d.,'\s]*\d)((?:\s?(?:%|{_SIGNS}))?)")


def _split(cell: str) -> tuple[str, str, str] | None:
    """Return what stands before the digits, the digits, and what stands behind them."""
    match = _AROUND.fullmatch(cell)
    return None if match is None else (match[2], match[4].strip(), match[5])


@dataclass(frozen=True, kw_only=True)
class Numbers(Column):
    """A column of numbers, which may be written as text.

    Parameters
    ----------
    low, high : float, optional
        The smallest and the largest possible value; for integers those of the data. None for reals without a limit.
    limits : (float or None, float or None)
        The smallest and the largest possible integer, where they are declared.
    atoms : tuple of float
        Reals with a share of their own.
    decimals : int, optional
        Digits behind the decimal mark that the data have; None for as many as fit.
    format : NumberFormat, optional
        How the numbers are written, if they are text.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("number", "integer")

    low: float | None = None
    high: float | None = None
    limits: tuple[float | None, float | None] = (None, None)
    atoms: tuple[float, ...] = ()
    decimals: int | None = None
    format: NumberFormat | None = None

    @property
    def domain(self) -> Domain:
        """Integers of the range, or reals."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.type == "number":
            return Domain("real", low, high, self.atoms)
        least, most = self.limits
        return Domain("integer", low, high, (), (-math.inf if least is None else least, math.inf if most is None else most))

    def _values(self) -> str:
        if self.type == "integer":
            limits = limits_in_words(*self.limits)
            return f"{self.low:.0f} to {self.high:.0f}{limits and f', possible {limits}'}"
        atoms = f"often exactly {', '.join(f'{atom:g}' for atom in self.atoms[:6])}" if self.atoms else ""
        places = "" if self.decimals is None else f"{self.decimals} decimal{'' if self.decimals == 1 else 's'}"
        return ", ".join(filter(None, (limits_in_words(self.low, self.high), places, atoms))) or "any"

    def _read(self, cells: Any) -> np.ndarray:
        import pandas as pd

        if self.format is not None and is_text(cells):
            return self.format.parse(as_text(cells))
        values = np.array(pd.to_numeric(cells.astype(object), errors="coerce"), dtype=np.float64)
        values[np.isinf(values)] = np.nan
        return np.where(values == np.round(values), values, np.nan) if self.type == "integer" else values

    def _written(self, values: np.ndarray) -> Any:
        if self.type == "integer":
            values = np.rint(values)
        elif self.decimals is not None:
            values = np.round(values, self.decimals)
        return values if self.format is None else self.format.write(values.tolist())

    def _typed(self, cells: Any) -> Any:
        if self.format is not None or self.type == "number":
            return super()._typed(cells)
        # Wide integers go to their dtype from Python's integers, since float64 has no room for the last digits.
        return cells.astype("Float64").astype("Int64" if not self.dtype.startswith("uint64") else "UInt64").astype(self.dtype)

    def expected(self, cell: object) -> str:
        """Return how to write numbers, with an example where they are text."""
        what = "whole number" if self.type == "integer" else "number"
        shown = "" if self.format is None else f" such as {self.format.write([1234.5])[0]!r}"
        return f"write a {what}{shown}, or leave the cell empty"

    def _check(self) -> None:
        numbers = (*(end or 0.0 for end in (self.low, self.high, *self.limits)), *self.atoms)
        whole = self.type == "number" or None not in (self.low, self.high)
        if (
            not all(isinstance(number, int | float) for number in numbers)
            or not whole
            or not isinstance(self.decimals, int | None)
        ):
            raise ValueError(f"column {self.name!r} of numbers has numbers as its range, atoms and decimals")
        _ = self.domain
