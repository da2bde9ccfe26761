"""What is known of signals besides their samples: rate, format, the lengths they came with, and how long series name them."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["MOST_RATE", "Signal"]

MOST_RATE = 768_000  # samples per second
_FORMATS = {"WAV": "wav", "FLAC": "flac", "OGG": "ogg"}


@dataclass(frozen=True)
class Signal:
    """Facts about the signals of one data set.

    Parameters
    ----------
    rate : int, optional
        Samples per second, if known.
    format : {"WAV", "FLAC", "OGG"}
        Of files that are written.
    subtype : str
        Of the numbers in these files, such as "PCM_16".
    resampled : tuple of int
        The rates of the files, if they were converted to ``rate``.
    shortest, longest : int
        Lengths that the signals came with, in samples.
    cropped, padded : int
        Numbers of signals that were longer and shorter than the rows.
    series : (str, str), optional
        The columns of a table in long form that hold the number and the time of each series.
    names : tuple of str
        The columns of this table that hold its values.
    """

    rate: int | None = None
    format: str = "WAV"
    subtype: str = "PCM_16"
    resampled: tuple[int, ...] = ()
    shortest: int = 0
    longest: int = 0
    cropped: int = 0
    padded: int = 0
    series: tuple[str, str] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = (self.shortest, self.longest, self.cropped, self.padded)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"lengths and counts of signals must be integers of at least 0, not {counts}")
        if not all(
            type(rate) is int and 0 < rate <= MOST_RATE for rate in (*self.resampled, 1 if self.rate is None else self.rate)
        ):
            raise ValueError(f"rate must be an integer from 1 to {MOST_RATE:,}, not {self.rate!r}")
        if self.format not in _FORMATS or type(self.subtype) is not str:
            raise ValueError(f"format must be one of {', '.join(_FORMATS)}, not {self.format!r}")
        if self.series is not None and not (len(self.series) == 2 and all(type(name) is str for name in self.series)):
            raise ValueError(f"series must name two columns, not {self.series!r}")

    @property
    def ending(self) -> str:
        """The ending of files that hold such signals."""
        return "csv" if self.series is not None else "npy" if self.rate is None else _FORMATS[self.format]

    def describe(self, length: int) -> list[str]:
        """Return lines that say what was done to get rows of this many samples."""
        lines = []
        if self.rate is not None:
            lines.append(f"{self.rate:,} samples per second, so that a row lasts {length / self.rate:.3g} s")
        if self.resampled:
            lines.append(f"resampled from {', '.join(f'{rate:,}' for rate in self.resampled)} samples per second")
        done = [f"{self.cropped:,} cropped to the first {length:,} samples"] if self.cropped else []
        done += [f"{self.padded:,} followed by silence, exactly 0, which samples keep"] if self.padded else []
        if done:
            lines.append(f"lengths from {self.shortest:,} to {self.longest:,}: {', '.join(done)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Signal":
        """Return the facts from the output of :meth:`to_json`."""
        parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
        return cls(**parts)
