"""Read sounds from folders, whose sub-folders are classes, and from encoded bytes in tables.

All clips of a data set become one float32 array ``(N, T)`` or ``(N, T, channels)`` with values in [-1, 1], and have one sample
rate. If their lengths differ, T is the longest, unless it is more than 1.5 times the length that 95 % of the clips do not
exceed; then T is that length. Longer clips are cropped to their first T samples, and shorter ones are followed by zeros. If
mono and stereo are mixed, mono clips are copied to all channels, with a warning.
"""

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import enumerate_names
from pushforward.data.files.images import classes_of, listing
from pushforward.data.kinds.sound import SOUND_ENDINGS
from pushforward.data.signal import Signal

__all__ = ["SOUND_ENDINGS", "Sounds", "as_signal", "decode_sounds", "is_sound", "read_sound_folder"]

_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS")
_NAMED = 5
_CLIPPED, _RUN = 0.9995, 3  # a clip is clipped where this many samples in a row are beyond this share of the range
_MOST, _TYPICAL, _ROUND = 1.5, 0.95, 16


class Sounds(NamedTuple):
    """Signals (N, T) or (N, T, channels), and what else is known of them."""

    values: np.ndarray
    signal: Signal


def is_sound(content: bytes | None) -> bool:
    """Whether bytes begin like a WAV, FLAC or OGG file."""
    return content is not None and content[:4] in _MAGIC


def read_sound_folder(folder: Path, rate: int | None, length: int | None) -> tuple[Sounds, np.ndarray | None]:
    """Return all sounds of a folder in the order of their paths, and their classes, as for images.

    Raises
    ------
    ValueError
        If there is no sound, one is broken or empty, rates differ, or sounds are both in the folder and in sub-folders.
    """
    sounds, flat = listing(folder, SOUND_ENDINGS, "sound")
    clips = decode_sounds(((str(name), folder / name) for name in sounds), str(folder), rate, length)
    return clips, None if flat else classes_of(sounds)


def decode_sounds(
    encoded: Iterable[tuple[str, Path | bytes | None]], source: str, rate: int | None = None, length: int | None = None
) -> Sounds:
    """Decode named files or bytes into one array (N, T) or (N, T, channels).

    Parameters
    ----------
    encoded : iterable of (name, path or bytes)
        Names are used in messages; None instead of bytes counts as broken.
    source : str
        Origin of the sounds, for messages.
    rate : int, optional
        Samples per second to which all are converted.
    length : int, optional
        T.

    Raises
    ------
    ValueError
        If sounds are broken or empty, or rates differ and none is set.
    """
    clips: dict[str, np.ndarray] = {}
    facts: list[tuple[int, str, str]] = []
    broken: list[str] = []
    for name, content in encoded:
        try:
            clip, rate_of_file, form, subtype = _decoded(content)
            clips[name] = clip
            facts.append((rate_of_file, form, subtype))
        except Exception as error:  # soundfile raises many types for broken files
            broken.append(f"{name} ({_reason(error)})")
    if broken:
        shown = "; ".join(broken[:_NAMED]) + (f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else "")
        count = len(broken) + len(clips)
        what = "does not hold sounds" if not clips else f"has {len(broken)} broken among {count} sounds"
        raise ValueError(f"{source} {what}: {shown}. Remove or replace {'it' if len(broken) == 1 else 'them'}.")
    rates = Counter(fact[0] for fact in facts)
    if len(rates) > 1 and rate is None:
        raise _mixed_rates(source, rates, dict(zip(clips, (fact[0] for fact in facts), strict=True)))
    _warn_of_loudness(source, clips)
    target = rate or facts[0][0]
    signals = [_resampled(clip, fact[0], target) for clip, fact in zip(clips.values(), facts, strict=True)]
    before = tuple(sorted(rates)) if set(rates) != {target} else ()
    values, signal = as_signal(_same_channels(list(clips), signals, source), length)
    kinds = Counter(fact[1:] for fact in facts).most_common(1)[0][0]
    facts_of_files: dict[str, Any] = {"rate": target, "format": kinds[0], "subtype": kinds[1], "resampled": before}
    return Sounds(values[..., 0] if values.shape[2] == 1 else values, replace(signal, **facts_of_files))


def as_signal(clips: Sequence[np.ndarray], length: int | None) -> Sounds:
    """Return clips (T_i, channels) as one array (N, T, channels), cropped and padded by the rule of this module."""
    lengths = np.array([len(clip) for clip in clips])
    target = length or _common_length(lengths)
    values = np.zeros((len(clips), target, clips[0].shape[1]), dtype=clips[0].dtype)
    for row, clip in zip(values, clips, strict=True):
        row[: len(clip)] = clip[:target]
    cropped, padded = int((lengths > target).sum()), int((lengths < target).sum())
    return Sounds(values, Signal(shortest=int(lengths.min()), longest=int(lengths.max()), cropped=cropped, padded=padded))


def _decoded(content: Path | bytes | None) -> tuple[np.ndarray, int, str, str]:
    """Return the samples (T, channels) of a file or of bytes, their rate, and format and subtype."""
    import soundfile  # heavy

    if content is None:
        raise ValueError("there are no bytes")
    if content == b"" or (isinstance(content, Path) and not content.stat().st_size):
        raise ValueError("the file is empty")
    with soundfile.SoundFile(content if isinstance(content, Path) else io.BytesIO(content)) as file:
        clip = file.read(dtype="float32", always_2d=True)
        facts = int(file.samplerate), str(file.format), str(file.subtype)
    if not len(clip):
        raise ValueError("it has no samples")
    if not np.isfinite(clip).all():
        raise ValueError("it has NaN or infinite samples")
    name = "WAV" if facts[1].startswith("WAV") or facts[1] not in ("FLAC", "OGG") else facts[1]
    return clip, facts[0], name, facts[2]


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return "not a sound file that libsndfile can read" if "Format not recognised" in text else text


def _mixed_rates(source: str, rates: Counter[int], of_names: dict[str, int]) -> ValueError:
    listed = ", ".join(
        f"{count} of {rate:,} ({next(name for name, other in of_names.items() if other == rate)!r})"
        for rate, count in rates.most_common()
    )
    argument = Argument("rate", min(rates))
    message = f"{source} mixes sample rates: {listed}. Convert all to one rate with {argument}, or separate them."
    return naming(ValueError(message), argument)


def _warn_of_loudness(source: str, clips: dict[str, np.ndarray]) -> None:
    """Warn of clips without any sound, and of those whose peaks were cut off."""
    silent = [name for name, clip in clips.items() if (clip == clip[0]).all()]
    clipped = [name for name, clip in clips.items() if _is_clipped(clip)]
    if silent:
        warnings.warn(
            f"{source}: {len(silent)} of {len(clips)} sounds are constant, without any sound: "
            f"{enumerate_names(silent, _NAMED)}; remove them unless silence is to be learned.",
            stacklevel=5,
        )
    if clipped:
        warnings.warn(
            f"{source}: {len(clipped)} of {len(clips)} sounds are clipped, with peaks cut off at full scale: "
            f"{enumerate_names(clipped, _NAMED)}; samples will sound so too. Record them at a lower level, or remove them.",
            stacklevel=5,
        )


def _is_clipped(clip: np.ndarray) -> bool:
    full = np.abs(clip) >= _CLIPPED
    if len(clip) < _RUN or not full.any():
        return False
    runs = full[_RUN - 1 :].copy()
    for shift in range(_RUN - 1):
        runs &= full[shift : len(clip) - _RUN + 1 + shift]
    return bool(runs.any())


def _resampled(clip: np.ndarray, rate: int, target: int) -> np.ndarray:
    if rate == target:
        return clip
    from scipy import signal  # heavy

    common = math.gcd(rate, target)
    converted = signal.resample_poly(clip, target // common, rate // common, axis=0)
    return np.asarray(converted, dtype=np.float32)


def _same_channels(names: list[str], clips: list[np.ndarray], source: str) -> list[np.ndarray]:
    counts = [clip.shape[1] for clip in clips]
    most = max(counts)
    others = sorted(set(counts) - {1, most})
    if others:
        raise ValueError(
            f"{source} mixes sounds of {', '.join(map(str, sorted(set(counts))))} channels; convert all to one number of "
            "channels."
        )
    converted = [name for name, count in zip(names, counts, strict=True) if count < most]
    if converted:
        warnings.warn(
            f"{source} mixes mono sounds and sounds of {most} channels; mono ones are copied to all channels "
            f"(converted: {enumerate_names(converted, 2)}).",
            stacklevel=5,
        )
    return [np.repeat(clip, most // clip.shape[1], axis=1) for clip in clips]


def _common_length(lengths: np.ndarray) -> int:
    """Return T: the common length, or for different lengths that of the rule of this module, rounded up.

    >>> _common_length(np.array([5, 5])), _common_length(np.array([100, 90])), _common_length(np.array([100] * 99 + [900]))
    (5, 112, 112)
    """
    longest = int(lengths.max())
    if longest == int(lengths.min()):
        return longest
    typical = float(np.quantile(lengths, _TYPICAL))
    target = longest if longest <= _MOST * typical else typical
    step = max(_ROUND, 1 << max(0, round(math.log2(math.sqrt(3.2 * target)))))
    return math.ceil(target / step) * step
