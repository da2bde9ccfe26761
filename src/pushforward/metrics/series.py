"""Distances of signals that do not depend on their phases: of their spectra and of their autocorrelations.

Both compare means over signals, so that equal laws give 0 but for the noise of finite samples; the error of a figure is the
standard deviation of 100 resamples of the signals. Both are functions of sums over signals, and have a permutation test (see
:mod:`~pushforward.metrics.relabel`).
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import BlockSwaps, chance
from pushforward.probability import noise

__all__ = ["autocorrelation_distance", "spectral_distance"]

_Array = NDArray[np.floating]
_BANDS, _LAGS, _RESAMPLES = 64, 64, 100
_LEAST = 1e-6  # of the mean power: what is quieter counts as this


def spectral_distance(P: _Array, Q: _Array, *, seed: int = 0, test: bool = False) -> Measure:
    """Return the root mean square difference of two mean power spectra, in decibels.

    Parameters
    ----------
    P, Q : array (n, C, T), (m, C, T)
        Signals; their spectra are averaged over 64 bands of equal width, or fewer.
    seed : int
        Of the resamples and of the relabelings.
    test : bool
        Whether to test that the two laws are equal.

    >>> x = np.random.default_rng(0).normal(size=(2, 500, 1, 64))
    >>> round(spectral_distance(x[0], 10 * x[1]).value)
    20
    """
    of_p, of_q = (np.abs(np.fft.rfft(x, axis=-1)) ** 2 for x in (P, Q))
    floor = _LEAST * float(np.concatenate([of_p, of_q]).mean())

    def distance(p: _Array, q: _Array) -> _Array:
        gap = 10 * np.log10((p + floor) / (q + floor))
        return _root_mean_square(gap)

    return _measured(_in_bands(of_p), _in_bands(of_q), distance, seed, test)


def autocorrelation_distance(P: _Array, Q: _Array, *, seed: int = 0, test: bool = False) -> Measure:
    """Return the root mean square difference of two mean autocorrelations, over up to 64 lags.

    The arguments are those of :func:`spectral_distance`. The autocorrelation of a signal is that of its deviations from its
    mean, 1 at lag 0; that of a constant signal is 0.

    >>> x = np.random.default_rng(0).normal(size=(500, 1, 64))
    >>> round(autocorrelation_distance(x, x.cumsum(-1)).value, 1)
    0.3
    """

    def distance(p: _Array, q: _Array) -> _Array:
        return _root_mean_square(p - q)

    return _measured(_autocorrelations(P), _autocorrelations(Q), distance, seed, test)


def _in_bands(power: _Array) -> _Array:
    """Return powers (n, C, F) averaged to at most 64 bands, (n, C, B)."""
    count = power.shape[-1]
    edges = np.unique(np.arange(_BANDS) * count // _BANDS)
    sizes = np.diff(np.append(edges, count))
    averaged: _Array = np.add.reduceat(power, edges, axis=-1) / sizes
    return averaged


def _autocorrelations(x: _Array) -> _Array:
    """Return the autocorrelations (n, C, L) at lags 1 to L."""
    length = x.shape[-1]
    lags = min(_LAGS, length - 1)
    deviations = x - x.mean(-1, keepdims=True)
    spectra = np.abs(np.fft.rfft(deviations, n=2 * length, axis=-1)) ** 2
    products = np.fft.irfft(spectra, axis=-1)[..., : lags + 1]
    power = products[..., :1]
    ratio: _Array = products[..., 1:] / np.where(power > 0, power, 1.0)
    return ratio


def _root_mean_square(gaps: _Array) -> _Array:
    """Return the root mean square of gaps (..., C, F) over the last two axes, (...)."""
    size: _Array = np.sqrt((gaps**2).mean((-2, -1)))
    return size


def _measured(p: _Array, q: _Array, distance: Callable[[_Array, _Array], _Array], seed: int, test: bool) -> Measure:
    """Return the distance of the means of p (m, C, F) and q (n, C, F), with its error and its test."""
    generator = np.random.default_rng(noise.derive(seed, "resamples"))
    resamples = [[part[generator.integers(0, len(part), len(part))].mean(0) for part in (p, q)] for _ in range(_RESAMPLES)]
    error = float(np.std([distance(*means) for means in resamples]))
    measure = Measure.normal(float(distance(p.mean(0), q.mean(0))), error, min(len(p), len(q)), least=0.0)
    return measure.tested(*chance(_relabeled(p, q, distance, seed))[0]) if test else measure


def _relabeled(p: _Array, q: _Array, distance: Callable[[_Array, _Array], _Array], seed: int) -> Iterator[_Array]:
    """Yield the distances of the relabelings, (1, C)."""
    m, n = len(p), len(q)
    swaps = BlockSwaps.draw(m, n, seed)
    sums = swaps.sums(np.concatenate([p, q]).reshape(m + n, -1))
    whole = sums.sum(0)
    for member in swaps.chunks(256):
        of_p = member.T @ sums
        parts = (of_p / m, (whole - of_p) / n)
        yield distance(*(part.reshape(-1, *p.shape[1:]) for part in parts))[None]
