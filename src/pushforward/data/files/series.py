"""Signals from arrays, and from tables in long form, which have one line for each time of each series."""

from typing import Any

import numpy as np
import torch

from pushforward._messages import Argument, naming
from pushforward.data.checks import enumerate_names, missing_column
from pushforward.data.files.sounds import Sounds
from pushforward.data.kinds.signals import Signals
from pushforward.data.signal import Signal

__all__ = ["Series", "from_long_form", "signal_of"]

Series = tuple[str, str]
"""The columns of a table in long form that hold the number, or the name, and the time of each series."""


def from_long_form(frame: Any, labels: Any, series: Series, length: int | None, source: str) -> tuple[Sounds, Any]:
    """Return the series of a table, (N, T) or (N, T, C), in the order in which they begin, and one line of labels for each.

    Parameters
    ----------
    frame : DataFrame
        Its columns are those of ``series``, and numbers.
    labels : DataFrame or None
        Columns that do not change within a series.
    series : (str, str)
    length : int or None
        Number of times that are kept of each series, the first ones; None if all series are equally long.
    source : str
        Origin of the table, for messages.

    Raises
    ------
    ValueError
        If a column is missing or holds text, a time of a series is there twice, series differ in length, or labels change.
    """
    import pandas as pd

    for name in series:
        if name not in frame.columns:
            raise missing_column(name, list(frame.columns), source)
    names = [name for name in frame.columns if name not in series]
    text = [name for name in names if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if text or not names:
        what = f"{enumerate_names(text)} hold text, not numbers" if text else "there is no column of values"
        raise ValueError(f"{source}: {what} beside {series[0]!r} and {series[1]!r}; choose columns of numbers with columns=.")
    for name in series:
        if frame[name].isna().any():
            raise ValueError(f"{source}: {name!r} is missing in row {int(frame[name].isna().argmax())}; omit these rows.")
    number, found = pd.factorize(frame[series[0]])
    ids = found.tolist()
    twice = frame.duplicated(list(series)).to_numpy()
    if twice.any():
        which, when = (frame[name].iloc[[int(twice.argmax())]].tolist()[0] for name in series)
        raise ValueError(f"{source}: series {which!r} has the time {when!r} twice; keep one of these rows.")
    counts = np.bincount(number)
    target = length or int(counts[0])
    _check_lengths(counts, ids, target, length, source)
    order = pd.DataFrame({"number": number, "time": frame[series[1]].to_numpy()}).sort_values(["number", "time"]).index
    ordered = frame[names].to_numpy(dtype=np.float64, na_value=np.nan)[order]
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    values = np.stack([ordered[start : start + target] for start in starts])
    signal = Signal(
        shortest=int(counts.min()),
        longest=int(counts.max()),
        cropped=int((counts > target).sum()),
        series=series,
        names=tuple(map(str, names)),
    )
    first = np.asarray(order)[starts]
    _check_labels(labels, number, ids, source)
    rows = values[..., 0] if len(names) == 1 else values
    return Sounds(rows, signal), None if labels is None else labels.iloc[first].reset_index(drop=True)


def _check_lengths(counts: np.ndarray, ids: list[Any], target: int, length: int | None, source: str) -> None:
    short = np.flatnonzero(counts < target)
    if len(short) or (length is None and (counts != target).any()):
        shortest = int(counts.min())
        argument = Argument("length", shortest)
        what = f"lengths from {shortest:,} to {int(counts.max()):,}" if length is None else f"fewer times than length={length}"
        which = enumerate_names([ids[index] for index in (np.flatnonzero(counts != target) if length is None else short)], 5)
        message = (
            f"{source} has series of {what} ({which}); keep the first times of each with {argument}, or omit short series."
        )
        raise naming(ValueError(message), argument)


def _check_labels(labels: Any, number: np.ndarray, ids: list[Any], source: str) -> None:
    for name in () if labels is None else labels.columns:
        several = labels[name].groupby(number).nunique(dropna=False).to_numpy() > 1
        if several.any():
            raise ValueError(
                f"{source}: the condition {name!r} changes within series {ids[int(several.argmax())]!r}; a condition "
                "is one for all times of a series."
            )


def signal_of(values: Any, kind: str | None, rate: int | None, length: int | None, name: str) -> tuple[Any, Signal | None]:
    """Return the values, and what is known of them if they are signals; arrays are cropped and padded to ``length``."""
    if isinstance(values, Sounds):
        return values
    if kind != Signals.name:
        for argument in (Argument("rate", rate), Argument("length", length)):
            if argument.value is not None:
                message = f"{argument} is for signals, but {name} holds none; omit it, or set kind='signals'."
                raise naming(ValueError(message), argument, Argument("kind", "signals"))
        return values, None
    if length is None or not hasattr(values, "shape") or len(values.shape) not in (2, 3):
        return values, Signal(rate=rate)
    axis = 2 if isinstance(values, torch.Tensor) and values.ndim == 3 else 1
    size = int(values.shape[axis])
    cropped, padded = len(values) * (size > length), len(values) * (size < length)
    rows = _to_length(values, axis, length)
    return rows, Signal(rate=rate, shortest=size, longest=size, cropped=cropped, padded=padded)


def _to_length(values: Any, axis: int, length: int) -> Any:
    """Return an array or a tensor cropped to a length along an axis, or followed by zeros."""
    cropped = values[:, :length] if axis == 1 else values[:, :, :length]
    more = max(0, length - int(values.shape[axis]))
    if isinstance(values, torch.Tensor):
        return torch.nn.functional.pad(cropped, (0, more) if axis == values.ndim - 1 else (0, 0, 0, more))
    return np.pad(cropped, [(0, more if number == axis else 0) for number in range(values.ndim)])
