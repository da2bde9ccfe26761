"""Signals in models: exact laws of Gaussian series, sounds from folder to folder, and what families refuse."""

import math

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from scipy import stats

import pushforward as pf
from pushforward.data import open_data
from pushforward.networks import UNet1dSpec

SMALL = UNet1dSpec(width=8, levels=2, patch=4)


def ar2(n, length, seed=0, a=(1.2, -0.6), sigma=0.5):
    """Stationary series x_t = a_1 x_{t-1} + a_2 x_{t-2} + sigma e_t, after a burn-in of 200 steps."""
    e = np.random.default_rng(seed).normal(size=(n, length + 200)) * sigma
    x = np.zeros_like(e)
    for t in range(2, e.shape[1]):
        x[:, t] = a[0] * x[:, t - 1] + a[1] * x[:, t - 2] + e[:, t]
    return x[:, 200:]


def ar2_covariance(length, a=(1.2, -0.6), sigma=0.5):
    """The autocovariances of the Yule-Walker equations, as a Toeplitz matrix."""
    variance = sigma**2 * (1 - a[1]) / ((1 + a[1]) * ((1 - a[1]) ** 2 - a[0] ** 2))
    gamma = [variance, variance * a[0] / (1 - a[1])]
    while len(gamma) < length:
        gamma.append(a[0] * gamma[-1] + a[1] * gamma[-2])
    return np.array([[gamma[abs(i - j)] for j in range(length)] for i in range(length)])


@pytest.fixture(scope="module")
def gaussian():
    return pf.GMM(kind="signals", n_components=1, covariance="full", random_state=0).fit(ar2(6000, 12))


def test_the_density_of_an_autoregression_is_exact(gaussian):
    law = stats.multivariate_normal(np.zeros(12), ar2_covariance(12))
    fresh = ar2(300, 12, seed=1)
    assert abs(gaussian.score_samples(fresh) - law.logpdf(fresh)).mean() < 0.15
    result = gaussian.log_prob(fresh)
    assert result.kind == "exact"
    assert result.dims == 12
    bits = -result.values.mean() / (12 * math.log(2))
    assert abs(bits - law.entropy() / (12 * math.log(2))) < 0.05


def test_a_forecast_is_the_law_of_the_rest_given_the_beginning(gaussian):
    x = ar2(1, 12, seed=2)[0]
    x[8:] = np.nan
    rows = np.tile(x, (2000, 1))
    filled = gaussian.impute(rows, seed=0)
    np.testing.assert_array_equal(filled[:, :8], rows[:, :8])
    mean = [x[6], x[7]]
    for _ in range(4):
        mean.append(1.2 * mean[-1] - 0.6 * mean[-2])
    spread = filled[:, 8:].std(0)
    np.testing.assert_allclose(filled[:, 8:].mean(0), mean[2:], atol=0.08)
    np.testing.assert_allclose(spread[:2], [0.5, 0.5 * math.sqrt(1 + 1.2**2)], rtol=0.1)


@pytest.fixture(scope="module")
def tones():
    settings = pf.TrainingSettings(steps=20, batch_size=32, learning_rate=2e-3)
    return pf.FlowMatching(network=SMALL, training=settings, random_state=0).fit("tones")


def test_samples_of_signals_do_not_depend_on_the_batch(tones, tmp_path):
    samples = tones.sample(5, condition="A", seed=0)
    assert samples.shape == (5, 256)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(tones.sample(2, condition="A", seed=0, first=3), samples[3:], atol=1e-5)
    tones.save(tmp_path)
    np.testing.assert_array_equal(pf.load(tmp_path).sample(5, condition="A", seed=0), samples)


def test_gaps_of_signals_are_filled(tones):
    x = open_data("tones").values[:3].copy()
    x[0, 100:] = np.nan
    x[1, 50:60] = np.nan
    filled = tones.impute(x, steps=3, seed=0)
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(filled).all()
    drawn = tones.posterior(np.eye(256)[:3] * 2.0, [0.2, 0.4, 0.2], noise=1e-3, n=2, steps=5, seed=0)
    np.testing.assert_allclose(drawn[:, :3], [[0.1, 0.2, 0.1]] * 2, atol=0.02)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    for label, pitch in (("high", 900), ("low", 300)):
        (folder / label).mkdir()
        for index in range(12):
            length = int(generator.integers(1000, 1400))
            wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(length) / 8000 + generator.uniform(0, 6))
            soundfile.write(folder / label / f"{index}.wav", wave, 8000)
    return folder


@pytest.fixture(scope="module")
def sounds(clips):
    settings = pf.TrainingSettings(steps=10, batch_size=8, learning_rate=2e-3)
    return pf.FlowMatching(network=UNet1dSpec(width=8, levels=2), training=settings, random_state=0, held_out=0.2).fit(clips)


def test_sounds_of_different_lengths(sounds, tmp_path):
    assert not hasattr(sounds, "score_samples")  # silence after the end has no density
    samples = sounds.sample(4, seed=0)
    assert samples.shape == (4, *sounds.space_.schema.row_shape)
    sounds.save(tmp_path)
    again = pf.load(tmp_path)
    np.testing.assert_array_equal(again.sample(4, seed=0), samples)
    assert again.space_.schema.signal == sounds.space_.schema.signal
    gappy = samples.copy()
    gappy[:, 300:400] = np.nan
    filled = sounds.impute(gappy, steps=2, seed=0)
    np.testing.assert_array_equal(filled[:, :300], samples[:, :300])
    assert np.isfinite(filled).all()


def test_files_are_opened_as_those_of_the_training(tmp_path):
    """Other sounds get the rate and the length that were set for training."""
    numbers = np.random.default_rng(0)
    for index in range(24):
        wave = np.sin(np.arange(1400) * (0.1 + 0.02 * index)) + 0.1 * numbers.normal(size=1400)
        soundfile.write(tmp_path / f"{index:02d}.wav", 0.3 * wave, 16_000 if index % 2 else 8000)
    model = pf.PPCA(rate=8000, length=512, n_components=2, random_state=0).fit(tmp_path)
    x = open_data(tmp_path, rate=8000, length=512).values
    assert x.shape == (24, 512)
    np.testing.assert_array_equal(model.space_.open(tmp_path, {}).values, x)


@pytest.mark.parametrize("family", [pf.VAE, pf.GAN, pf.NormalizingFlow, pf.MaskedDiffusion])
def test_families_that_take_no_signals_say_which_do(family):
    with pytest.raises(
        ValueError, match=r"does not learn signals; use a family that does: .*Diffusion\(\), FlowMatching\(\).*PPCA\(\)"
    ):
        family(kind="signals").fit(np.random.default_rng(0).normal(size=(30, 8)))


def test_series_from_a_table(tmp_path):
    values = ar2(40, 6)
    frame = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "day": np.tile(np.arange(6), 40), "x": values.ravel()})
    model = pf.PPCA(series=("id", "day"), n_components=2, random_state=0).fit(frame)
    assert model.sample(3, seed=0).shape == (3, 6)
    np.testing.assert_allclose(model.space_.schema.to_internal(values)[:, 0], values)


def test_the_log_variances_of_the_network_are_a_gain():
    network = UNet1dSpec(width=8, levels=2, patch=2).build((3, 10), condition_dim=0)
    x, t = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.3)
    assert (network(x, t) == 0).all()
    with torch.no_grad():
        network.last.bias[6:] = 2.0
    torch.testing.assert_close(network(x, t), math.tanh(1.0) * x)
