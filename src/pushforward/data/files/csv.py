"""Read CSV files of any dialect as DataFrames.

Encoding (UTF-8, UTF-16 or Latin-1), separator (comma, semicolon, tab, bar or blanks), header, decimal comma and compression are
found in the file. Columns in which all cells are plain numbers, or all True and False, get a dtype of these; all others are
text, with their empty cells missing.
"""

import bz2
import csv
import gzip
import io
import itertools
import lzma
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pushforward.data.columns.column import GAP_WORDS
from pushforward.data.columns.numbers import NumberFormat, number_format

__all__ = ["CSV_ENDINGS", "is_csv", "read_csv"]

CSV_ENDINGS = (".csv", ".tsv")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_SEPARATORS = "\t;|,"
_PROBED = 100  # records
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|(?=\.\d))(\.\d*)?([eE][-+]?\d+)?|[-+]?(inf|infinity)", re.IGNORECASE)
_MOST_INTEGER = 2**63


def is_csv(path: Path) -> bool:
    """Return whether a file is CSV by its ending, compressed or not."""
    plain = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return plain.suffix.lower() in CSV_ENDINGS


def read_csv(path: Path) -> Any:
    """Return a CSV file as a DataFrame.

    Raises
    ------
    ValueError
        If the file is empty, or its lines do not have the same number of cells.
    """
    import pandas as pd

    text = _without_comments(_text(path))
    if not _records(text, ",", _PROBED):
        raise ValueError(f"{path} is empty: its first line must be a header or numbers.")
    separator = _separator(text)
    try:
        records = _records(text, separator)
    except csv.Error as error:
        raise ValueError(f"{path} is not a regular table: {error}.") from None
    head = _header(records, separator)
    rows, names = _trimmed(records if head is None else records[1:], head, path)
    if not rows:
        raise ValueError(f"{path} has a header, but no rows.")
    frame = pd.concat([pd.Series(_typed(column, separator)) for column in zip(*rows, strict=True)], axis=1)
    frame.columns = pd.Index(names)
    return frame


def _text(path: Path) -> str:
    opener: Callable[..., Any] = _PACKED.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            content: bytes = file.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        if path.suffix.lower() not in _PACKED:
            raise
        raise ValueError(f"{path} cannot be unpacked: {error}.") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _without_comments(text: str) -> str:
    """Return the text without comments, that is, lines that begin with #, before the table."""
    lines = re.match(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*", text)
    return text if lines is None else text[lines.end() :]


def _records(text: str, separator: str, most: int | None = None) -> list[list[str]]:
    """Return the records of a CSV file that are not blank, all or the first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " ")
    records = ([cell for cell in row if cell] if separator == " " else row for row in reader)
    return list(itertools.islice((row for row in records if any(map(str.strip, row))), most))


def _separator(text: str) -> str:
    """Return the separator that gives most records the same number of cells, at least two; a comma if there is none."""
    shares = {separator: _regularity(text, separator) for separator in _SEPARATORS}
    best = max(shares, key=lambda separator: shares[separator])
    if shares[best]:
        return best
    # Blanks also stand within cells, so that they separate only where nothing else does.
    return " " if _regularity(text, " ") == 1 else ","


def _regularity(text: str, separator: str) -> float:
    """Return the share of records with the most common number of cells; 0 if that number is one."""
    counts = Counter(map(len, _records(text, separator, _PROBED)))
    width, agreeing = counts.most_common(1)[0]
    return agreeing / counts.total() if width > 1 else 0.0


def _header(records: list[list[str]], separator: str) -> list[str] | None:
    """Return the names in the first record, or None if it is a row like the others."""
    first = [" ".join(cell.split()) for cell in records[0]]
    if len(records) > 1 and first == [str(place) for place in range(len(first))]:
        return first  # the names that pandas gives to columns without names
    mark = "." if separator == "," else ","
    numbers = [_is_number(cell.replace(mark, ".")) for cell in first]
    if not any(numbers):
        return first
    words = [position for position, cell in enumerate(first) if not numbers[position] and cell]
    repeated = (any(row[place : place + 1] == [records[0][place]] for row in records[1:]) for place in words)
    return None if all(repeated) else first


def _trimmed(rows: list[list[str]], head: list[str] | None, path: Path) -> tuple[list[list[str]], list[str]]:
    """Return rows of equal lengths, without the cells that only trailing separators make, and the names of their columns.

    Raises
    ------
    ValueError
        If a row has fewer cells than others, or more than the header.
    """
    width = len(head) if head is not None else max(map(len, rows))
    for number, row in enumerate(rows):
        if len(row) < width or any(map(str.strip, row[width:])):
            found = f"{number} (counted from 0, without a header) has {len(row)} cells, not {width}: {', '.join(row)!r:.80}"
            raise ValueError(f"{path} is not a regular table: row {found}.")
    while width > 1 and (head is None or not head[width - 1]) and not any(row[width - 1].strip() for row in rows):
        width -= 1
    names = [str(place) if head is None else head[place] or f"Unnamed: {place}" for place in range(width)]
    return [row[:width] for row in rows], names


def _typed(cells: Sequence[str], separator: str) -> Any:
    """Return a column of text as an array of numbers or booleans, if all of its cells are."""
    import pandas as pd

    stripped = list(map(str.strip, cells))
    different = set(stripped)
    missing = {cell for cell in different if cell.lower() in GAP_WORDS}
    found = _meanings(sorted(different - missing), separator)
    if found is None:
        return pd.array([cell if word else None for cell, word in zip(cells, stripped, strict=True)], dtype="str")
    meanings, whole, gappy = found
    gap = math.nan if gappy == "float64" else None
    return pd.array([meanings.get(cell, gap) for cell in stripped], dtype=gappy if missing else whole)


def _meanings(cells: list[str], separator: str) -> tuple[dict[str, Any], str, str] | None:
    """Return what each different cell means, and the dtypes of a column without and with gaps; None for text."""
    if not cells:
        return {}, "float64", "float64"
    if all(map(_INTEGER.fullmatch, cells)) and all(abs(int(cell)) < _MOST_INTEGER for cell in cells):
        return {cell: int(cell) for cell in cells}, "int64", "Int64"
    if all(map(_is_number, cells)):
        return {cell: float(cell) for cell in cells}, "float64", "float64"
    if cells in (["False", "True"], ["FALSE", "TRUE"], ["false", "true"]):
        return {cell: cell.lower() == "true" for cell in cells}, "bool", "boolean"
    form = None if separator == "," else number_format(cells, comma=True)
    if form is not None and form == NumberFormat(decimal=",", decimals=form.decimals):
        return dict(zip(cells, form.parse(cells).tolist(), strict=True)), "float64", "float64"
    return None


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None
