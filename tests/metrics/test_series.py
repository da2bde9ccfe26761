"""Distances of signals against closed forms."""

import numpy as np

from pushforward.metrics.series import autocorrelation_distance, spectral_distance

RNG = np.random.default_rng(0)


def test_a_gain_is_seen_in_decibels():
    x = RNG.normal(size=(400, 2, 50))
    assert abs(spectral_distance(x, 2 * x).value - 20 * np.log10(2)) < 1e-3  # but for the floor of quiet bands
    same = spectral_distance(x[:200], x[200:])
    assert same.value < 1.0
    assert same.low <= same.value <= same.high


def test_the_autocorrelation_of_a_wave_is_its_cosine():
    """A wave of a whole number of periods has the autocorrelation (1 - k / T) cos(2 pi f k / T), up to 1 / T."""
    length, periods = 400, 20
    phases = RNG.uniform(0, 2 * np.pi, size=(300, 1, 1))
    waves = np.cos(2 * np.pi * periods * np.arange(length) / length + phases)
    white = RNG.normal(size=(300, 1, length))
    lags = np.arange(1, 65)
    expected = (1 - lags / length) * np.cos(2 * np.pi * periods * lags / length)
    assert abs(autocorrelation_distance(waves, white).value - np.sqrt((expected**2).mean())) < 0.01
    constant = np.ones((10, 1, 30))
    assert autocorrelation_distance(constant, constant).value == 0
