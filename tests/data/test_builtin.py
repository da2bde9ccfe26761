import numpy as np
import pytest
import torch
from scipy import integrate
from sklearn.datasets import load_digits

from pushforward.data import open_data
from pushforward.data.builtin import BUILTIN, BUILTIN_LAWS, checkerboard, eight_gaussians, moons, rings, swissroll

POINTS = {
    "moons": moons,
    "swissroll": swissroll,
    "checkerboard": checkerboard,
    "rings": rings,
    "eight-gaussians": eight_gaussians,
}


def test_digits_are_those_of_scikit_learn():
    data = open_data("digits")
    bunch = load_digits()
    assert data.values.dtype == np.uint8
    np.testing.assert_array_equal(data.values, bunch.images)
    np.testing.assert_array_equal(data.condition, bunch.target)


def test_every_name_opens():
    assert set(BUILTIN) == {"digits", "markov-text", "shapes", "tones", *POINTS}
    for name in POINTS:
        data = open_data(name)
        assert data.values.shape == (10_000, 2)
        assert data.values.dtype == np.float32
        assert (data.condition is None) == (name in ("swissroll", "checkerboard"))
        assert np.abs(data.values).max() < 3.2


@pytest.mark.parametrize("name", list(POINTS))
def test_points_depend_on_seed_and_row_alone(name):
    state = torch.get_rng_state()
    long, short = POINTS[name](200, seed=5), POINTS[name](50, seed=5)
    np.testing.assert_array_equal(long[0][:50], short[0])
    if long[1] is not None:
        np.testing.assert_array_equal(long[1][:50], short[1])
    assert not np.array_equal(POINTS[name](50, seed=6)[0], short[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_rings_and_gaussians_lie_where_their_labels_say():
    points, label = rings(20_000, seed=1)
    radius = np.hypot(*points.T)
    points8, label8 = eight_gaussians(20_000, seed=1)
    for k in range(4):
        assert abs((label == k).mean() - 0.25) < 0.015
        assert abs(radius[label == k].mean() - 0.65 * (k + 1)) < 0.005
    for k in range(8):
        chosen = points8[label8 == k]
        center = 2 * np.array([np.cos(np.pi * k / 4), np.sin(np.pi * k / 4)])
        np.testing.assert_allclose(chosen.mean(0), center, atol=0.02)
        np.testing.assert_allclose(np.cov(chosen.T), 0.04 * np.eye(2), atol=0.004)


def test_the_checkerboard_is_uniform_on_its_dark_squares():
    points, _ = checkerboard(40_000, seed=1)
    counts = np.histogram2d(*points.T, bins=8, range=[[-2, 2]] * 2)[0]
    square = np.add.outer(np.arange(8) // 2, np.arange(8) // 2) % 2 == 0
    assert counts[~square].max() <= 2
    # Each quarter of a dark square holds 1/32 of the points.
    np.testing.assert_allclose(counts[square], 1250, atol=5 * 1250**0.5)


def test_moons_are_half_circles_and_the_roll_a_spiral():
    points, label = moons(2000, spread=0.0)
    points = points / 1.5 + [0.5, 0.25]
    np.testing.assert_allclose(np.hypot(*points[label == 0].T), 1, atol=1e-5)
    np.testing.assert_allclose(np.hypot(*(points[label == 1] - [1, 0.5]).T), 1, atol=1e-5)
    assert (points[label == 0][:, 1] >= -1e-5).all()
    assert (points[label == 1][:, 1] <= 0.5 + 1e-5).all()
    roll, _ = swissroll(2000, spread=0.0)
    turns = np.hypot(*roll.T) * 5 - np.arctan2(roll[:, 1], roll[:, 0])
    np.testing.assert_allclose(np.cos(turns), 1, atol=1e-5)
    assert np.hypot(*roll.T).min() < 1.0 < 2.7 < np.hypot(*roll.T).max()


def _curve(name):
    """Points of a noiseless draw of each class, from the definition."""
    angle = np.linspace(0, 1, 20_001)
    if name == "moons":
        a = np.pi * angle
        return [
            1.5 * np.stack([np.cos(a) - 0.5, np.sin(a) - 0.25], 1),
            1.5 * np.stack([0.5 - np.cos(a), 0.25 - np.sin(a)], 1),
        ]
    if name == "rings":
        a = 2 * np.pi * angle
        return [0.65 * k * np.stack([np.cos(a), np.sin(a)], 1) for k in range(1, 5)]
    a = np.pi * (1.5 + 3 * angle)
    return [a[:, None] * np.stack([np.cos(a), np.sin(a)], 1) / 5]


@pytest.mark.parametrize(("name", "spread"), [("moons", 0.08), ("rings", 0.06), ("swissroll", 0.06)])
def test_the_law_of_a_curve_with_noise_is_an_integral_along_it(name, spread):
    law, points = BUILTIN_LAWS[name](), BUILTIN[name]()[0][:60].astype(float)
    truth = 0.0
    for curve in _curve(name):
        squares = ((points[:, None] - curve) ** 2).sum(-1)
        heights = np.exp(-squares / (2 * spread**2)) / (2 * np.pi * spread**2)
        truth = truth + integrate.simpson(heights, dx=1 / 20_000) / len(_curve(name))
    np.testing.assert_allclose(law.log_prob(torch.from_numpy(points)).exp(), truth, rtol=1e-8)


def test_every_point_of_the_checkerboard_has_the_density_of_its_law():
    law = BUILTIN_LAWS["checkerboard"]()
    points = torch.from_numpy(checkerboard(5000, seed=2)[0]).double()
    inside = (law.log_prob(points) - np.log(1 / 8)).abs() < 1e-12
    assert inside.double().mean() > 0.999  # float32 may leave a square by its last digit
    torch.testing.assert_close(points.mean(0), law.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(points.var(0), law.variance, atol=0.08, rtol=0)
