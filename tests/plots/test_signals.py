"""Pictures of signals: a wave form is where its values are, and a tone is a line at its frequency."""

import numpy as np

from pushforward.plots import compressed_spectrograms, signal_grid, signal_pictures


def test_a_tone_is_one_line_of_the_spectrogram():
    t = np.arange(4096)
    tones = np.cos(2 * np.pi * np.array([[0.125], [0.25]]) * t)
    spectra = compressed_spectrograms(tones[:, None]).mean((1, 3))
    assert spectra.shape == (2, 32)
    assert abs(spectra.argmax(1) - [8, 16]).max() <= 1
    np.testing.assert_allclose(compressed_spectrograms(10 * tones[:, None]).mean((1, 3)), 10**0.3 * spectra, atol=0.05)


def test_a_ramp_is_drawn_from_corner_to_corner():
    wave = signal_pictures(np.stack([np.linspace(0, 1, 100), np.linspace(1, 0, 100)]))
    dark = wave < 0
    assert dark[0, -2:, 0].any()
    assert dark[0, :2, -1].any()
    assert dark[1, :2, 0].any()
    assert signal_grid(np.ones((3, 30, 2)), rate=10).size[0] > 96
