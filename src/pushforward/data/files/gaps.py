"""Read tables and arrays with gaps, for models that fill them."""

from pathlib import Path
from typing import Any

import numpy as np

from pushforward.data.checks import enumerate_names, missing_column
from pushforward.data.files.csv import is_csv, read_csv
from pushforward.data.files.points import split_by_size
from pushforward.data.files.texts import read_text
from pushforward.data.schema import Schema

__all__ = ["read_with_gaps"]


def read_with_gaps(path: str | Path, schema: Schema) -> tuple[Any, Any]:
    """Return the rows for a model with this schema, with NaN in gaps, and the whole table or array.

    Parameters
    ----------
    path : str or path
        A ``.csv`` or ``.parquet`` table, with the model's columns in any order and possibly others, a ``.npy`` array, an
        ``.npz`` file of sets of points, or for texts a ``.txt`` file: a text per line if texts have an end mark, else one.
    schema : Schema

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, its ending is unknown, a column is missing or holds text, or the model's kind has no tables.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    suffix = ".csv" if is_csv(path) else path.suffix.lower()
    if schema.text is not None:
        if suffix != ".txt":
            raise ValueError(f"{path} ends in {suffix or 'nothing'}, but the model was trained on texts; use .txt")
        texts = read_text(path).removesuffix("\n")
        rows = np.array(texts.split("\n") if schema.text.ends else [texts], dtype=object)
        return rows, rows
    if suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as a NumPy file: {error}.") from None
        return array, array
    if suffix == ".npz" and schema.rules.structure == "points":
        sets = _read_sets(path)
        return sets, sets
    if suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"{path} ends in {suffix or 'nothing'}, which is not supported; use .csv, .parquet or .npy, or .npz for sets of "
            "points"
        )
    frame = read_csv(path) if suffix == ".csv" else _read_parquet(path)
    if not schema.rules.takes_frames:
        raise ValueError(
            f"{path} is a table, but the model was trained on {schema.kind}; pass an array (.npy) of them with NaN"
        )
    if schema.columns is None:
        return frame.to_numpy(dtype=float, na_value=np.nan), frame
    for name in schema.columns:
        if name not in frame.columns:
            raise missing_column(name, list(frame.columns), str(path))
    part = frame[list(schema.columns)]
    if schema.table is not None:
        return part, frame
    text = [name for name in part.columns if part[name].dtype.kind not in "biufc"]
    if text:
        raise ValueError(f"{path}: {enumerate_names(text)} must hold numbers or gaps, not text")
    return part, frame


def _read_sets(path: Path) -> Any:
    """Return the sets of an .npz file as samples are written: an array, or the points of all sets and their sizes."""
    with np.load(path, allow_pickle=False) as archive:
        names = [name for name in archive.files if name not in ("sizes", "condition")]
        if len(names) != 1:
            raise ValueError(f"{path} must hold one array of points, but has {enumerate_names(names)}")
        points = archive[names[0]]
        return split_by_size(points, archive["sizes"]) if "sizes" in archive.files else points


def _read_parquet(path: Path) -> Any:
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from None
