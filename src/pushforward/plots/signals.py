"""Wave forms and spectrograms of signals, as small images side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pushforward.plots.grids import image_grid

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["compressed_spectrograms", "signal_grid", "signal_pictures"]

_Float = NDArray[np.float32]
_WIDTH, _WAVE, _SPECTRUM, _LEAST_WAVE = 96, 32, 48, 12  # pixels
_POWER = 0.3  # loudness is heard as about this power of the amplitude
_SPECTRA_FROM = 128
_QUANTILE = 0.999


def compressed_spectrograms(x: NDArray[np.floating], *, frequencies: int = 32, frames: int = 32) -> _Float:
    """Return |short-time Fourier transform|^0.3 of signals x (n, C, T), averaged to (n, C, frequencies, frames) or fewer.

    Windows are those of Hann, of about 3.6 sqrt(T) samples, and overlap by half. Scaling x by a scales the result by a^0.3.

    >>> compressed_spectrograms(np.ones((2, 1, 5120))).shape
    (2, 1, 32, 32)
    """
    x = np.asarray(x, dtype=np.float32)
    length = x.shape[-1]
    size = min(max(16, 1 << round(np.log2(3.6 * length**0.5))), length)
    starts = np.arange(0, max(length - size, 0) + 1, max(size // 2, 1))
    window = np.hanning(size + 1)[:size].astype(np.float32)
    parts = np.stack([x[..., start : start + size] * window for start in starts], axis=-1)
    spectra = np.abs(np.fft.rfft(parts, axis=-2)).astype(np.float32) ** _POWER
    return _averaged(_averaged(spectra, -2, frequencies), -1, frames)


def signal_grid(
    signals: NDArray[np.floating],
    *,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    rate: int | None = None,
) -> "Image":
    """Return wave forms, above spectrograms of long signals, side by side.

    Parameters
    ----------
    signals : array (n, T) or (n, T, C)
    columns : int, optional
        Signals in a row.
    labels : sequence, optional
        One per signal, written under it.
    rate : int, optional
        Samples per second; without labels the captions then say how long each signal lasts.
    """
    captions = labels
    if labels is None and rate is not None:
        sounding = np.asarray(np.asarray(signals).reshape(len(signals), len(signals[0]), -1).any(2))
        captions = [f"{(np.flatnonzero(row)[-1] + 1 if row.any() else 0) / rate:.2f} s" for row in sounding]
    return image_grid(signal_pictures(signals), columns=columns, labels=captions, scale=(-1.0, 1.0))


def signal_pictures(signals: NDArray[np.floating]) -> _Float:
    """Return images (n, H, W) in [-1, 1] of signals (n, T) or (n, T, C): a wave form per channel, then a spectrogram.

    All signals have one scale, which for each channel ends at all but the largest thousandth of its values.

    >>> signal_pictures(np.ones((2, 24, 6))).shape, signal_pictures(np.ones((2, 5120))).shape
    ((2, 72, 96), (2, 80, 96))
    """
    x = np.asarray(signals, dtype=np.float32)
    x = np.nan_to_num(x.reshape(len(x), x.shape[1], -1).transpose(0, 2, 1))
    height = max(_LEAST_WAVE, _WAVE // x.shape[1])
    low, high = (np.quantile(x, q, axis=(0, 2), keepdims=True) for q in (1 - _QUANTILE, _QUANTILE))
    unit = (x - low) / np.where(high > low, high - low, 1.0)
    waves = [_wave(unit[:, channel].astype(np.float32), height) for channel in range(x.shape[1])]
    if x.shape[2] < _SPECTRA_FROM:
        return np.concatenate(waves, axis=1)
    spectra = compressed_spectrograms(x, frequencies=_SPECTRUM, frames=_WIDTH).mean(1)[:, ::-1]
    top = float(np.quantile(spectra, _QUANTILE)) or 1.0
    shown = np.stack([spectra[..., index] for index in _nearest(spectra.shape[2], _WIDTH)], axis=-1)
    shown = shown[:, _nearest(shown.shape[1], _SPECTRUM)]
    return np.concatenate([*waves, 1 - 2 * (shown / top).clip(0, 1)], axis=1)


def _nearest(count: int, size: int) -> NDArray[np.intp]:
    return np.arange(size) * count // size


def _wave(unit: _Float, height: int) -> _Float:
    """Return images (n, height, _WIDTH) of wave forms (n, T) in [0, 1]: dark from least to greatest value of a column."""
    length = unit.shape[1]
    fine = max(4 * _WIDTH, length)
    places = np.linspace(0, length - 1, fine)
    left = np.floor(places).astype(int)
    right, share = np.minimum(left + 1, length - 1), (places - left).astype(np.float32)
    values = unit[:, left] * (1 - share) + unit[:, right] * share
    edges = np.linspace(0, fine, _WIDTH + 1).astype(int)[:-1]
    least, most = (
        np.round((1 - extreme.reduceat(values, edges, axis=1).clip(0, 1)) * (height - 1))
        for extreme in (np.maximum, np.minimum)
    )
    rows = np.arange(height)[:, None]
    return np.where((rows >= least[:, None]) & (rows <= most[:, None]), -1.0, 1.0).astype(np.float32)


def _averaged(x: _Float, axis: int, most: int) -> _Float:
    """Return means of neighbors along an axis, so that at most ``most`` remain."""
    count = x.shape[axis]
    if count <= most:
        return x
    edges = np.arange(most) * count // most
    sizes = np.diff(np.append(edges, count)).astype(np.float32)
    summed = np.add.reduceat(x, edges, axis=axis)
    averaged: _Float = (summed / (sizes if axis == -1 else sizes[:, None])).astype(np.float32)
    return averaged
