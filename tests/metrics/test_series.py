"""Distances of signals against closed forms."""

import numpy as np
import pytest
from scipy import stats

from pushforward.evaluation.parts.series import discriminative_score
from pushforward.metrics.series import autocorrelation_distance, spectral_distance
from pushforward.training import TrainingSettings

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


@pytest.mark.parametrize("distance", [spectral_distance, autocorrelation_distance])
def test_equal_laws_are_told_apart_at_the_stated_rate(distance):
    """p-values of equal laws are uniform; those of other colors of noise are small."""
    numbers = np.random.default_rng(1)
    white = numbers.normal(size=(60, 2, 80, 1, 24))
    p_values = np.array([distance(x, y, seed=seed, test=True).p_value for seed, (x, y) in enumerate(white)])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert (p_values <= 0.05).mean() < 0.2
    other = white[0, 0] + 0.5 * np.roll(white[0, 0], 1, -1)
    measure = distance(other, white[0, 1], test=True)
    assert measure.p_value < 0.001
    assert measure.side == "above"


def test_the_judge_of_signals_is_tested():
    x = np.random.default_rng(0).normal(size=(2, 200, 5, 1))
    settings = TrainingSettings(steps=25, batch_size=32, learning_rate=0.03)
    assert discriminative_score(x[0] + 2, x[1], training=settings).p_value < 1e-6
    equal = discriminative_score(x[0], x[1], training=settings)
    assert equal.p_value > 0.05
    assert equal.low == 0
