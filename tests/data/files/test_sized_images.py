"""Photographs of mixed sizes become squares of one size, which is remembered with the model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pushforward as pf
from pushforward.data.files.pixels import to_square
from pushforward.models.run import reopen

QUICK = {"network": pf.UNetSpec(width=4, levels=1), "train_steps": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve images of two sizes with one color at the left of the center square and one at the right, and their edges."""
    folder = tmp_path_factory.mktemp("home")
    for place in ("photos", "small"):
        (folder / place).mkdir()
    numbers = np.random.default_rng(0)
    for row in range(12):
        height, width = [(20, 40), (32, 16)][row % 2]
        side, image = min(height, width), np.zeros((height, width, 3), np.uint8)
        top, left = (height - side) // 2, (width - side) // 2
        colors = numbers.integers(50, 255, (2, 3))
        image[top : top + side, left : left + side // 2] = colors[0]
        image[top : top + side, left + side // 2 : left + side] = colors[1]
        Image.fromarray(image).save(folder / f"photos/{row:02d}.png")
        Image.fromarray(np.full((4, 4), colors[0, 0], np.uint8)).save(folder / f"small/{row:02d}.png")
    return folder


def test_the_centre_square_is_kept_and_nothing_else(photos):
    opened = pf.open_data(photos / "photos", size=8)
    assert opened.values.shape == (12, 8, 8, 3)
    # The first and last columns are far from the edge in the middle, so the filter leaves their color.
    assert (opened.values[:, :, 0] == opened.values[:, :1, 0]).all()
    assert (opened.values[:, :, [0, 7]] >= 45).all()
    assert opened.schema.size == 8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_resizing_keeps_dtype_mean_and_orientation(dtype, channels):
    ramp = np.broadcast_to(np.linspace(0, 200, 32).reshape(1, 32, *[1] * len(channels)), (48, 32, *channels)).astype(dtype)
    small = to_square(ramp, 8)
    assert (small.dtype, small.shape) == (dtype, (8, 8, *channels))
    expected = ramp[8:40].reshape(8, 4, 8, 4, *channels).astype(float).mean((1, 3))
    np.testing.assert_allclose(small[:, 1:-1], expected[:, 1:-1], atol=2)
    np.testing.assert_allclose(small, expected, atol=8)


def test_mixed_sizes_are_refused_with_what_to_write(photos):
    with pytest.raises(ValueError, match=r"40×20.*16×32.*Set size=16 to cut out") as caught:
        pf.open_data(photos / "photos")
    assert [argument.name for argument in caught.value.arguments] == ["size"]
    for source in (np.zeros((5, 9, 9), np.uint8), "moons", ["a text", "and more"]):
        with pytest.raises(ValueError, match="size=8 crops and resizes images"):
            pf.open_data(source, size=8)
    with pytest.raises(ValueError, match="size must be an integer"):
        pf.open_data(photos / "photos", size=0)


def test_a_run_remembers_the_size(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    model = pf.train("photos", pf.FlowMatching(size=8, **QUICK), out=tmp_path / "run")
    loaded = pf.load(tmp_path / "run")
    card = json.loads((tmp_path / "run/model.json").read_text())
    assert loaded.space_.open("photos", card["chosen"]).fingerprint == card["data"]["fingerprint"]
    assert card["schema"]["size"] == card["resolved"]["size"] == 8
    assert loaded.sample(2, steps=2).shape == (2, 8, 8, 3)
    square = pf.open_data("photos", size=8).values[:2]
    np.testing.assert_array_equal(model.space_.schema.to_internal(square), loaded.space_.schema.to_internal(square))
    assert len(reopen("photos", tmp_path / "run").prepared.x) == 11  # of the same rows as before


def test_small_conditions_stay_as_they_are_and_others_become_squares(photos, monkeypatch):
    monkeypatch.chdir(photos)

    assert pf.open_data("photos", size=8, condition=Path("small")).condition.shape == (12, 4, 4)
    assert pf.open_data("photos", size=8, condition=Path("photos")).condition.shape == (12, 8, 8, 3)
