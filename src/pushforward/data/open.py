"""Open names, files, folders, arrays, tensors and tables as a :class:`Dataset`.

Data that would break training raise an error here, with the place and a remedy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pushforward._messages import Argument, naming
from pushforward.data.builtin import BUILTIN, BUILTIN_KINDS, BUILTIN_RATES
from pushforward.data.casting import is_integer
from pushforward.data.checks import (
    Condition,
    Data,
    as_pandas,
    check_rows,
    clean_values,
    is_frame,
    is_polars,
)
from pushforward.data.columns import ColumnTypes, Table, infer_columns, plain_numbers
from pushforward.data.conditions import MASK, Conditions, column_names, conditions_of
from pushforward.data.dataset import Dataset
from pushforward.data.files.images import read_images, read_partners
from pushforward.data.files.named import open_named, refuse_columns
from pushforward.data.files.series import Series, from_long_form, signal_of
from pushforward.data.files.tables import Names, part_frame
from pushforward.data.kinds import kind_named, kind_of
from pushforward.data.kinds.signals import Signals
from pushforward.data.kinds.tables import Tables
from pushforward.data.kinds.tokens import Tokens
from pushforward.data.lists import series_of_lists, spread
from pushforward.data.schema import Schema
from pushforward.data.stream import Stored
from pushforward.data.text import Text, Tokenizer, as_texts

__all__ = ["chosen_condition", "open_data"]


def open_data(
    source: Data,
    *,
    columns: Names = None,
    condition: Condition = None,
    kind: str | None = None,
    gaps: bool = False,
    types: ColumnTypes | Table | None = None,
    condition_types: ColumnTypes | Table | None = None,
    rate: int | None = None,
    length: int | None = None,
    series: Series | None = None,
    size: int | None = None,
    text: Text | Tokenizer | None = None,
    stream: bool | None = False,
) -> Dataset:
    """Open data of any form.

    Parameters
    ----------
    source : str, path, array, tensor, DataFrame or nested lists
        A built-in name (digits, moons, swissroll, checkerboard, rings, eight-gaussians, shapes, tones, markov-text), a
        ``.npy``, ``.npz``, ``.csv``, ``.parquet`` or ``.txt`` file, a folder of images, sounds, point clouds, ``.parquet`` or
        ``.txt`` files (sub-folders are classes; a warning counts files and pages that are left out), or the data themselves,
        rows first; texts are a list, an array or a Series of str. A file or folder with the name of a built-in needs a slash:
        ``./digits``.
    columns : str, int or list, optional
        Columns of a table to learn; for ``.npz`` the name of the array. Default: all, or the column of images.
    condition : optional
        A column name or a list of them, of any types (removed from the data), or an array, Series, DataFrame or list with one
        entry per row. None uses the labels of the data: sub-folder names, labels of built-ins, a column ``label`` beside
        images, an array ``condition`` in an .npz. False uses none. Of images also: images (N, h, w[, C]) of their size or of an
        integer fraction of it, a path of them (for two folders matched by the relative names of the files), or "mask", the
        visible part of the image itself under random masks, if no column has this name.
    kind : str, optional
        Name of a kind of data (:mod:`pushforward.data.kinds`), needed only if the shape is ambiguous.
    gaps : bool
        Whether NaN is allowed in arrays; few models learn from rows with gaps. Tables may have gaps.
    types : mapping or Table, optional
        Types of columns of a table by name: number, integer, category, boolean, date, time, datetime or duration. All others
        are found in the data. Or the columns of a trained model, as they are.
    condition_types : mapping or Table, optional
        The same for columns of the condition; default: those that ``types`` sets.
    rate : int, optional
        Samples per second: sounds are converted to it, and arrays of signals have it.
    length : int, optional
        Samples of a signal: longer ones are cropped to the first of them, and shorter ones are followed by silence.
    series : (str, str), optional
        Columns of a table in long form with the number and the time of each series; all others are its values.
    size : int, optional
        Images in a folder or a Parquet file become their center squares of this side.
    text : Text or Tokenizer, optional
        How texts become rows of tokens; or the tokens of a trained model, as they are.
    stream : bool or None
        Whether the rows of a ``.npy`` file or the images of a folder stay on disk, to be read when they are needed; None leaves
        them there if they would fill half of the memory.

    Raises
    ------
    FileNotFoundError
        If the source is not a built-in, a file or a folder.
    ValueError, TypeError
        If the data are invalid; the message names the problem, its place and a remedy.

    >>> data = open_data("digits")
    >>> data.values.shape, data.values.dtype, data.condition[:4]
    ((1797, 8, 8), dtype('uint8'), array([0, 1, 2, 3]))
    """
    for word, number in (("rate", rate), ("length", length), ("size", size)):
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{word} must be an integer of at least 1, not {number!r}.")
    polars, source = is_polars(source), as_pandas(source)
    if kind is None and isinstance(source, str):
        kind = BUILTIN_KINDS.get(source)
    elif kind is not None:
        source = kind_named(kind).gathered(source)
    read = _read(source, columns, condition, partial(open_named, rate=rate, length=length, size=size, stream=stream))
    values, labels, name = read.values, read.labels, read.name
    label = name if read.from_disk else "X"
    if series is not None:
        if not is_frame(values):
            raise ValueError(f"series={series!r} names columns of a table in long form, but {name} is no table; omit it.")
        values, labels = from_long_form(values, labels, series, length, name)
    kind = kind or BUILTIN_KINDS.get(name)
    values = series_of_lists(values, label) if kind == Signals.name else spread(values, label)
    values = _left_on_disk(values, kind, stream, name)
    values, signal = signal_of(values, kind, rate or (BUILTIN_RATES.get(name) if name in BUILTIN else None), length, name)
    kind = kind or (None if signal is None else Signals.name)
    named = read.by_name and labels is not None
    masked = isinstance(condition, str) and condition == MASK and not named
    if masked:
        condition = False
    elif isinstance(condition, Path):
        condition = _read_beside(condition, source, size)
    names = _names_of(condition) if named else column_names(condition)
    if not isinstance(types, Table):
        types, beside = _types_of(types, names or ())
        condition_types = condition_types or beside
    texts = as_texts(values, kind)
    if texts is not None:
        if size is not None:
            raise _useless_size(size, label, "texts")
        matched = _match_condition(condition, labels, named, len(texts), label, condition_types)
        return _of_texts(texts, text, matched, name, names)
    if kind == Tokens.name:
        raise TypeError(f"kind='tokens' is for texts, but {label} holds numbers; omit kind, or pass a list of str.")
    found = _table_of(values, kind, types)
    if found is None:
        values = clean_values(values, minimum=2, name=label, gaps=gaps)
    else:
        check_rows(len(values), 2, label)
        values = values[list(found.names)]
    if is_frame(values) and not named:
        _refuse_data_as_condition(condition, values)
    matched = _match_condition(condition, labels, named, len(values), label, condition_types)
    schema = replace(Schema.infer(values, kind, found), polars=polars and signal is None, signal=signal, size=size)
    if size is not None and (schema.rules.structure != "grid" or schema.internal_shape[1:] != (size, size)):
        raise _useless_size(size, label, schema.rules.describe(schema.internal_shape))
    if masked and schema.rules.structure != "grid":
        raise ValueError(
            f"condition={MASK!r} hides parts of images, but {label} holds {schema.rules.noun} and has no column {MASK!r}; name "
            "other columns, or pass one entry per row."
        )
    if matched is None:
        return Dataset(values, None, schema, name, masked=masked)
    return Dataset(values, matched.array, schema, name, condition_columns=names, condition_table=matched.table)


class _Read(NamedTuple):
    """Values and labels of a source, its name, and whether it was read from a place and holds conditions by name."""

    values: Any
    labels: Any
    name: str
    from_disk: bool = False
    by_name: bool = False


def _read(source: Any, columns: Names, condition: Condition, open_at: Callable[..., tuple[Any, Any, str]]) -> _Read:
    if isinstance(source, str | Path):
        values, labels, name = open_at(source, columns, condition)
        by_name = is_frame(values) or Path(source).suffix.lower() in (".npz", ".parquet")
        return _Read(values, labels, name, from_disk=True, by_name=by_name)
    if is_frame(source):
        return _Read(*part_frame(source, columns, condition, "the DataFrame"), "DataFrame", by_name=True)
    name = "tensor" if isinstance(source, torch.Tensor) else "array"
    refuse_columns(columns, f"an {name}" if name == "array" else f"a {name}")
    return _Read(source, None, name)


def _left_on_disk(values: Any, kind: str | None, stream: bool | None, name: str) -> Any:
    """Return stored rows as they are if their kind can stay on disk, otherwise in memory."""
    if not isinstance(values, Stored):
        if stream:
            raise _no_stream(name, "is no .npy file of numbers and no folder of images")
        return values
    rules = kind_named(kind) if kind is not None else kind_of(values.shape, str(values.dtype), is_integer(str(values.dtype)))
    if rules.stays_on_disk:
        return values
    if stream:
        raise _no_stream(name, f"holds rows of kind {kind!r}, which" if kind else "holds rows that")
    return values[:]


def _no_stream(name: str, why: str) -> ValueError:
    stream = Argument("stream", False)
    why = why if why.startswith("is ") else f"{why} cannot be learned from there"
    return naming(ValueError(f"the rows of {name} cannot stay on disk: it {why}; omit stream, or write {stream}."), stream)


def _useless_size(size: int, label: str, held: str) -> ValueError:
    given = Argument("size", size)
    return naming(
        ValueError(f"{given} crops and resizes images in a folder or a Parquet file, but {label} holds {held}; omit it."), given
    )


def chosen_condition(chosen: Mapping[str, Any]) -> Condition:
    """Return the condition that a run was started with, from its names: a path of images, columns, False or None."""
    images = chosen.get("condition_images")
    return chosen.get("condition") if images is None else Path(images)


def _read_beside(path: Path, source: Any, size: int | None) -> Any:
    """Return the images in a path; those of a folder in the order of the images of the same name in ``source``, if a folder."""
    beside = Path(source).expanduser() if isinstance(source, str | Path) and str(source) not in BUILTIN else None
    if path.is_dir() and beside is not None and beside.is_dir():
        return read_partners(path, beside, size)
    return read_images(path, size)


def _of_texts(
    texts: list[str], text: Text | Tokenizer | None, condition: Conditions | None, name: str, names: tuple[str, ...] | None
) -> Dataset:
    """Return texts as rows of tokens, each with the condition of the text that it comes from."""
    if isinstance(text, Tokenizer):
        tokenizer, (rows, origin) = text, text.encode(texts, cut=True)
        if not len(rows):
            raise ValueError(f"{name} has no whole block of {text.length:,} {text.noun}; give longer texts.")
    else:
        tokenizer, rows, origin = Tokenizer.fit(texts, text or Text())
        check_rows(len(rows), 2, name)
    schema = Schema.of_texts(tokenizer)
    if condition is None:
        return Dataset(rows, None, schema, name)
    return Dataset(rows, condition.array[origin], schema, name, condition_columns=names, condition_table=condition.table)


def _types_of(types: ColumnTypes | None, names: Sequence[str]) -> tuple[ColumnTypes, ColumnTypes]:
    """Return the types of columns of the data, and those of the columns with these names, which are the condition."""
    given = tuple(dict(types or ()).items())
    return tuple(pair for pair in given if pair[0] not in names), tuple(pair for pair in given if pair[0] in names)


def _refuse_data_as_condition(condition: Condition, values: Any) -> None:
    """Raise a ValueError if a DataFrame or Series of conditions has the name of a column of the data."""
    series: Any = condition if hasattr(condition, "to_frame") and hasattr(condition, "name") else None
    names = column_names(condition) or () if series is None else (series.name,)
    both = [name for name in names if isinstance(name, str) and name in values.columns]
    if both:
        named = Argument("condition", both[0] if len(names) == 1 else list(names))
        message = f"{both[0]!r} is a column of the data and of the condition; omit it from the data, or name it with {named}."
        raise naming(ValueError(message), named)


def _table_of(values: Any, kind: str | None, types: ColumnTypes | Table | None) -> Table | None:
    """Return the columns of data that are a table; None for arrays, and for frames of plain numbers, which are vectors."""
    if not is_frame(values):
        if types:
            raise ValueError("columns sets types of columns, but the data are no table; pass a DataFrame, or omit columns.")
        return None
    if isinstance(types, Table):
        return types
    check_rows(len(values), 2, "X")
    if kind != Tables.name and (kind is not None or (not types and plain_numbers(values))):
        return None
    table = infer_columns(values, types or ())
    table.warn_of_left_out()
    return table


def _names_of(condition: Any) -> tuple[str, ...] | None:
    """Return the columns that a condition names; None if it is the default."""
    return None if condition is None else (condition,) if isinstance(condition, str) else tuple(condition)


def _match_condition(
    condition: Condition, labels: Any, named: bool, rows: int, name: str, types: ColumnTypes | Table | None
) -> Conditions | None:
    """Return one condition per row, from the argument or else from the data.

    ``named`` is True if ``condition`` names the columns of ``labels``.
    """
    if condition is False:
        return None
    if isinstance(condition, str) and not named:
        raise ValueError(
            f"condition={condition!r} names a column, but {name} has no columns; pass an array with one entry per row."
        )
    values = labels if condition is None or named else condition
    if values is None:
        return None
    found = conditions_of(values, types)
    if not 1 <= found.array.ndim <= 4 or len(found.array) != rows:
        what = "label or one vector" if found.array.ndim < 3 else "image"
        raise ValueError(f"condition has shape {found.array.shape}, but the data have {rows} rows; pass one {what} per row.")
    return found
