"""Numbers as text: decimal marks, thousands separators, currencies and percent signs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MOST_DECIMALS", "NumberFormat", "decimals_of", "number_format"]

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
