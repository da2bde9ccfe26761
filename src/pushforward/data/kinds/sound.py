"""Encode signals as sound files."""

import io
from dataclasses import replace

import numpy as np

from pushforward.data.signal import Signal

__all__ = ["SOUND_ENDINGS", "playable", "sound_bytes"]

SOUND_ENDINGS = (".wav", ".flac", ".ogg")
_PAUSE = 0.25  # seconds between the clips in one file
_LEAST_RATE, _RAISED_RATE = 3000, 8000  # browsers play no sound with fewer samples per second than the first


def sound_bytes(clips: np.ndarray, signal: Signal, ending: str = "") -> bytes:
    """Return a file of clips (n, T) or (n, T, channels), one after the other with a pause, without their silent ends."""
    import soundfile  # heavy

    assert signal.rate is not None  # the kind has refused sounds without a rate
    parts: list[np.ndarray] = []
    for clip in clips:
        audible = _without_end(clip)
        parts += [audible, np.zeros((round(_PAUSE * signal.rate), *audible.shape[1:]), dtype=audible.dtype)]
    name = (ending or signal.ending).upper()
    subtype = signal.subtype if soundfile.check_format(name, signal.subtype) else None
    whole = np.concatenate(parts[:-1]).astype(np.float32).clip(-1.0, 1.0)
    stream = io.BytesIO()
    soundfile.write(stream, whole, signal.rate, format=name, subtype=subtype)
    return stream.getvalue()


def playable(clips: np.ndarray, signal: Signal) -> tuple[np.ndarray, Signal]:
    """Return clips (n, T) or (n, T, channels) with as many samples per second as browsers need to play them."""
    if signal.rate is None or signal.rate >= _LEAST_RATE:
        return clips, signal
    from scipy.signal import resample_poly  # heavy

    factor = -(-_RAISED_RATE // signal.rate)
    return resample_poly(clips, factor, 1, axis=1), replace(signal, rate=factor * signal.rate)


def _without_end(clip: np.ndarray) -> np.ndarray:
    """Return a clip without the zeros at its end."""
    sounding = np.flatnonzero(clip.reshape(len(clip), -1).any(1))
    return clip[: sounding[-1] + 1] if len(sounding) else clip[:1]
