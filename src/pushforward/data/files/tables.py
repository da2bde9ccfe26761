"""Open Parquet files, and split tables into data and condition.

In Parquet files a column of images or sounds follows the convention of the `datasets` library: a struct of ``bytes`` and
``path``.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pushforward._messages import Argument, naming
from pushforward.data.checks import check_names, enumerate_names, missing_column
from pushforward.data.conditions import MASK
from pushforward.data.files.images import decode_images
from pushforward.data.files.sounds import SOUND_ENDINGS, decode_sounds, is_sound

__all__ = ["Names", "part_frame", "read_parquet", "read_parquet_parts"]

_PROBED = 100  # cells

Names = str | int | Sequence[str | int] | None


def read_parquet(
    path: Path,
    columns: Names,
    condition: Any,
    *,
    rate: int | None = None,
    length: int | None = None,
    size: int | None = None,
) -> tuple[Any, Any]:
    """Return the data of a Parquet file, a DataFrame, images or sounds, and the columns that the condition names, if any.

    Without ``columns`` a single column of images or sounds is the data, and a column ``label`` beside it the condition, unless
    ``condition=False``. ``rate`` and ``length`` are those of sounds, ``size`` that of images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from None
    encoded = [field.name for field in schema if _may_hold_files(field.type)]
    chosen = as_names(columns)
    for name in chosen or ():
        if name not in schema.names:
            raise missing_column(name, schema.names, str(path))
    if chosen is None and len(encoded) > 1:
        first = Argument("columns", encoded[0])
        message = f"{path} has {len(encoded)} columns of bytes, {enumerate_names(encoded)}; choose one with {first}."
        raise naming(ValueError(message), first)
    if chosen is None and encoded:
        chosen = encoded
        if condition is None and "label" in schema.names:
            condition = "label"
    if not set(chosen or ()) & set(encoded):
        needed = None if chosen is None else [*chosen, *(name for name in condition_names(condition, schema.names, None) or ())]
        frame = pq.read_table(path, columns=None if needed is None else list(dict.fromkeys(needed))).to_pandas()
        return part_frame(frame, columns, condition, str(path))
    if isinstance(condition, str) and condition == MASK and MASK not in schema.names:
        condition = False
    if len(chosen or ()) > 1:
        raise ValueError(
            f"{path}: images and sounds cannot be combined with other columns; choose one of {enumerate_names(chosen or ())}."
        )
    return _read_encoded(path, str((chosen or [""])[0]), condition, schema.names, rate, length, size)


def read_parquet_parts(folder: Path, columns: Names, condition: Any) -> tuple[Any, Any]:
    """Return the rows of all Parquet files of a folder as one table, in the order of their names, and their conditions.

    Raises
    ------
    ValueError
        If the files have different columns, or hold images or sounds.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    files = sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
    schemas = [pq.read_schema(path) for path in files]
    for path, schema in zip(files, schemas, strict=True):
        if any(_may_hold_files(field.type) for field in schema):
            raise ValueError(f"{path} holds images or sounds, of which one file at a time is read; give this file.")
        if schema.names != schemas[0].names:
            raise ValueError(
                f"{path} has other columns than {files[0]}; put tables of different columns into different folders."
            )
    frame = pd.concat([pq.read_table(path).to_pandas() for path in files], ignore_index=True)
    return part_frame(frame, columns, condition, str(folder))


def part_frame(frame: Any, columns: Names, condition: Any, source: str) -> tuple[Any, Any]:
    """Return the chosen columns of a DataFrame, and those that the condition names, if any, which are no data."""
    check_names(frame, source if source != "the DataFrame" else "X")
    names = list(frame.columns)
    from_columns = condition_names(condition, names, len(frame), source)
    chosen = as_names(columns)
    for name in chosen or ():
        if name not in names:
            raise missing_column(name, names, source)
        if name in (from_columns or ()):
            raise ValueError(
                f"{source}: column {name!r} is one of the data and cannot also be a condition; name another, or omit it from "
                "columns."
            )
    keep = [name for name in (names if chosen is None else chosen) if name not in (from_columns or ())]
    if not keep:
        raise ValueError(f"{source}: no column is left as data if {enumerate_names(from_columns or [])} is the condition.")
    part = frame[keep].reset_index(drop=True)
    return part, None if from_columns is None else frame[from_columns].reset_index(drop=True)


def condition_names(condition: Any, names: Sequence[Any], rows: int | None, source: str = "") -> list[Any] | None:
    """Return the columns that a condition names, or None if it holds values or is None."""
    if isinstance(condition, str):
        if condition not in names:
            raise missing_column(condition, names, source, "condition")
        return [condition]
    if isinstance(condition, list | tuple) and condition and all(isinstance(name, str) for name in condition):
        if all(name in names for name in condition):
            return list(condition)
        # A list of text holds labels if there is one per row, otherwise column names.
        if rows is not None and len(condition) != rows:
            raise missing_column(next(name for name in condition if name not in names), names, source, "condition")
    return None


def as_names(columns: Names) -> list[Any] | None:
    """Return column names as a list, or None for all."""
    if columns is None:
        return None
    names = [columns] if isinstance(columns, str | int) else list(columns)
    if not names:
        raise ValueError("columns is empty; name at least one column, or omit it for all.")
    return list(dict.fromkeys(names))


def _read_encoded(
    path: Path, name: str, condition: Any, names: list[str], rate: int | None, length: int | None, size: int | None
) -> tuple[Any, Any]:
    import pyarrow.parquet as pq

    from_columns = condition_names(condition, names, None, str(path))
    table = pq.read_table(path, columns=[name, *(from_columns or ())])

    def encoded() -> Iterator[tuple[str, Path | bytes | None]]:
        for row, cell in enumerate(table.column(name).to_pylist()):
            content, file = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
            yield f"row {row}", content if content is not None or file is None else path.parent / file

    source = f"column {name!r} of {path}"
    if any(_sounds(content) for _, content in itertools.islice(encoded(), _PROBED)):
        rows: Any = decode_sounds(encoded(), source, rate, length)
    else:
        rows = decode_images(encoded(), source, size)
    return rows, None if from_columns is None else table.select(from_columns).to_pandas()


def _sounds(content: Path | bytes | None) -> bool:
    return content.suffix.lower() in SOUND_ENDINGS if isinstance(content, Path) else is_sound(content)


def _may_hold_files(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        inner = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        return "bytes" in inner and (pa.types.is_binary(inner["bytes"]) or pa.types.is_large_binary(inner["bytes"]))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
