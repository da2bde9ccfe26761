"""Signals: each row is a sound or a series, with any number of channels, sampled at equal steps.

Arrays are channels last, ``(N, T)`` or ``(N, T, C)``, and tensors channels first, ``(N, T)`` or ``(N, C, T)``; both need
``kind="signals"``. Files of sounds are signals by themselves. Each row of the coordinates of a signal, such as a channel or a
band of frequencies, has one mean and one standard deviation for all times.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward._messages import Argument, naming
from pushforward.data.coding import SignalCoding
from pushforward.data.kinds.channelled import Channelled
from pushforward.data.kinds.kind import Channels, Drawing, Structure
from pushforward.data.kinds.registry import register_kind
from pushforward.data.kinds.sound import SOUND_ENDINGS, sound_bytes
from pushforward.data.signal import Signal
from pushforward.data.stream import AnyRows

__all__ = ["Signals"]

_SIGNALS, _RATE = Argument("kind", "signals"), Argument("rate", 8000)
_LAYOUTS = {"torch": "(N, C, T)", "numpy": "(N, T, C)"}
_MOST_DRAWN = 64
_SPECTRA_FROM = 128  # samples: shorter signals are compared as they are


@register_kind
class Signals(Channelled):
    """Sounds and series, ``(N, C, T)`` inside the library."""

    name: ClassVar[str] = "signals"
    noun: ClassVar[str] = "signals"
    structure: ClassVar[Structure] = "series"
    ability: ClassVar[str] = "takes_series"
    measures: ClassVar[tuple[str, ...]] = ("distances", "features", "series", "memorization")
    axes: ClassVar[int] = 1
    unit: ClassVar[str] = "signal values"
    files: ClassVar[tuple[str, ...]] = SOUND_ENDINGS
    shown: ClassVar[int] = 16
    followed: ClassVar[int] = 4
    drawn_while_training: ClassVar[int] = 16

    def __init__(self, signal: Signal | None = None) -> None:
        self.signal = signal or Signal()

    @property
    def ending(self) -> str:  # type: ignore[override]
        """That of the files of the training data."""
        return self.signal.ending

    def of(self, signal: Signal | None) -> "Signals":
        """Return the kind of signals of which this is known."""
        return Signals(signal)

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Return False: a table of numbers and a grey image have the same shapes."""
        return False

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Suggest series for three dimensions."""
        return "if each row is a sound or a series with channels" if len(shape) == 3 else ""

    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return "first" for tensors and "last" for arrays of three dimensions."""
        if container == "pandas":
            series = Argument("series", ("id", "time"))
            message = (
                f"{_SIGNALS} takes a table in long form, one line for each time of each series; name its columns: {series}."
            )
            raise naming(ValueError(message), _SIGNALS, series)
        if len(shape) not in (2, 3):
            message = f"{_SIGNALS} needs 2 or 3 dimensions, (N, T) or {_LAYOUTS[container]}, but the shape is {shape}."
            raise naming(ValueError(message), _SIGNALS)
        if shape[2 if len(shape) == 3 and container == "torch" else 1] < 2:
            raise naming(ValueError(f"{_SIGNALS} needs signals of 2 samples or more, but the shape is {shape}."), _SIGNALS)
        if len(shape) == 2:
            return None
        return "first" if container == "torch" else "last"

    def describe(self, shape: tuple[int, ...]) -> str:
        """Return for example "signals of 5,120 samples with 1 channel"."""
        channels, length = shape
        return f"signals of {length:,} samples with {channels} channel{'s' if channels > 1 else ''}"

    def coding(self, x: Tensor) -> SignalCoding | None:
        """Return the coordinates for long signals, and for those that end early."""
        return SignalCoding.fit(x, padded=self.signal.padded > 0)

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each row of x + u, over all signals and times; 1 for rows that are constant."""
        width = (high.amax(1) - low.amin(1)).clamp(min=torch.finfo(torch.float64).tiny)[:, None]
        relative = (x[:].double() - low.amin(1, keepdim=True)) / width
        mean = low.amin(1, keepdim=True) + width * relative.mean((0, 2))[:, None]
        variance = relative.var((0, 2), correction=0)[:, None]
        half, twelfth = torch.where(integer, 0.5, 0.0), torch.where(integer, 1 / 12, 0.0)
        scale = width * (variance + twelfth / width / width).sqrt()
        return mean + half, torch.where(scale > 0, scale, 1.0).expand(low.shape).clone()

    def reopening(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return the series, the length if signals were brought to it, and the rate if sounds were converted to it."""
        signal = self.signal
        rate, length = signal.rate if signal.resampled else None, shape[1] if signal.shortest else None
        return {"rate": rate, "length": length, "series": signal.series}

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Draw wave forms, and spectrograms of long signals."""
        shown = drawing.labels if drawing.labels is None else drawing.labels[:_MOST_DRAWN]
        return plots.signal_grid(rows[:_MOST_DRAWN], columns=drawing.columns, labels=shown, rate=self.signal.rate)

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Return small images of signals, their wave forms above their spectrograms."""
        return plots.signal_pictures(rows)

    def compared(self, x: np.ndarray) -> np.ndarray:
        """Return compressed spectrograms (n, C, frequencies, frames) of long signals, which do not depend on phases."""
        return plots.compressed_spectrograms(x) if x.shape[2] >= _SPECTRA_FROM else x.reshape(len(x), -1)

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Allow sounds for signals with a sample rate, and tables in long form for series that came from one."""
        signal = self.signal
        if path.suffix in ("", *self.files) and signal.rate is None:
            message = f"{path}: a sound needs a sample rate, but these signals have none; train with {_RATE}, or use .npy."
            raise naming(ValueError(message), _RATE)
        if signal.series is not None or path.suffix not in (".csv", ".parquet"):
            return
        if signal.rate is None:
            raise ValueError(f"{path}: these signals did not come from a table in long form; use .npy or .npz.")
        if path.suffix == ".csv":
            raise ValueError(
                f"{path}: a .csv file does not hold sounds; use {', '.join(self.files)}, .parquet, .npy or a folder."
            )

    def encoded(self, rows: Any, scale: tuple[float, float] | None, names: Sequence[str] | None) -> tuple[str, Iterable[bytes]]:
        """Return one file per signal, in the format of the training data, without its silent end."""
        return self.ending, (sound_bytes(clip[None], self.signal) for clip in rows)

    def file_bytes(self, rows: np.ndarray, ending: str) -> bytes:
        """Return one sound file of all signals, one after the other."""
        return sound_bytes(rows, self.signal, ending)

    def frame(self, rows: np.ndarray) -> Any:
        """Return a table in long form, or a column of encoded sounds in the convention of the `datasets` library."""
        import pandas as pd  # heavy

        series = self.signal.series
        if series is None:
            return pd.DataFrame({"audio": [{"bytes": sound_bytes(clip[None], self.signal), "path": None} for clip in rows]})
        n, length = rows.shape[:2]
        values = rows.reshape(n * length, -1)
        keys = {series[0]: np.repeat(np.arange(n), length), series[1]: np.tile(np.arange(length), n)}
        return pd.DataFrame(keys | {name: values[:, index] for index, name in enumerate(self.signal.names)})
