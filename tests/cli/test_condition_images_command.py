"""Images as conditions on the command line: folders paired by name, and masks."""

import json

import numpy as np
import pytest
from command_line import TINY, done, refused
from PIL import Image

import pushforward as pf

QUICK = ("--set", "train_steps=3", *TINY)
N = 24


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with photographs, their edges at half the size under other endings, and a run on both."""
    folder = tmp_path_factory.mktemp("home")
    numbers = np.random.default_rng(0)
    for row in range(N):
        name, image = f"{'ab'[row % 2]}/{row:02d}", numbers.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        for place in ("photos", "edges"):
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"photos/{name}.png")
        # The condition tells its photograph, so that a wrong pair is seen.
        Image.fromarray(np.full((4, 4), image[0, 0, 0])).save(folder / f"edges/{name}.bmp")
    done("train", "photos", "--condition-images", "edges", *QUICK, at=folder)
    return folder


def test_images_are_paired_by_name_and_the_folder_is_remembered(home, monkeypatch):
    monkeypatch.chdir(home)
    card = json.loads((home / "runs/photos/model.json").read_text())
    assert card["chosen"]["condition_images"] == "edges"
    model = pf.load("runs/photos")
    opened = model.space_.open("photos", card["chosen"])
    assert opened.fingerprint == card["data"]["fingerprint"]
    assert (opened.condition[:, 0, 0] == opened.values[:, 0, 0, 0]).all()
    assert "images of 4×4 with 1 channel" in done("inspect", "runs/photos", at=home)


def test_samples_follow_the_images_in_turn(home, tmp_path):
    said = done("sample", "runs/photos", "--condition-images", "edges", "--steps", 2, "--out", tmp_path / "all.npy", at=home)
    assert said.startswith(f"{N} samples")
    one = ("--condition-images", "edges/a/02.bmp", "-n", 3, "--steps", 2, "--seed", 1)
    done("sample", "runs/photos", *one, "--out", tmp_path / "one.npy", at=home)
    small = np.asarray(Image.open(home / "edges/a/02.bmp"))
    expected = pf.load(home / "runs/photos").sample(3, condition=small, steps=2, seed=1)
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), expected)


def test_scores_use_the_images_of_the_run_or_others(home):
    quick = ("--steps", 2, "--rows", 2)
    own = done("score", "runs/photos", "photos", *quick, at=home)
    assert own == done("score", "runs/photos", "photos", "--condition-images", "edges", *quick, at=home)
    assert own != done("score", "runs/photos", "photos", "--unconditional", *quick, at=home)


def test_masks_are_learned_and_inpaint_uses_them(home, tmp_path):
    shown = done("train", "photos", "--condition", "mask", *QUICK, "--dry-run", at=home)
    assert "# condition: the visible part of the image under random masks" in shown
    done("train", "photos", "--condition", "mask", "--out", "runs/masked", *QUICK, at=home)
    assert "visible part" in done("inspect", "runs/masked", at=home)
    Image.fromarray(np.where(np.arange(8)[:, None] < np.full(8, 4), 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    place = ("--mask", tmp_path / "mask.png", "--out", tmp_path / "filled.png")
    done("inpaint", "runs/masked", "photos/a/00.png", *place, "--steps", 2, "--seed", 3, at=home)
    photo, filled = (np.asarray(Image.open(path)) for path in (home / "photos/a/00.png", tmp_path / "filled.png"))
    np.testing.assert_array_equal(filled[4:], photo[4:])
    known = np.broadcast_to(np.arange(8)[:, None, None] >= 4, (1, 8, 8, 3))
    expected = pf.load(home / "runs/masked").impute(photo[None], mask=known, steps=2, seed=3)
    np.testing.assert_array_equal(filled, expected[0])


def test_a_stopped_run_goes_on_with_its_images(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    whole = pf.load("runs/photos")
    model = pf.FlowMatching(**{name: value for name, value in whole.get_params(deep=False).items() if name != "verbose"})
    from pathlib import Path

    made = pf.train("photos", model, out=tmp_path / "run", condition=Path("edges"))
    np.testing.assert_array_equal(made.sample(2, seed=0, steps=2), whole.sample(2, seed=0, steps=2))


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda home: (home / "edges/a/00.bmp").rename(home / "spare.bmp"), (), ["no image for 1 of the 24", "a/00", "add"]),
        (
            lambda home: Image.new("L", (4, 4)).save(home / "edges/a/00.png"),
            (),
            ["two images of one name", "a/00.bmp", "a/00.png"],
        ),
        (
            lambda home: [Image.new("L", (3, 3)).save(path) for path in (home / "edges").rglob("*.bmp")],
            (),
            ["same number in every pixel"],
        ),
        (lambda home: None, ("--condition", "none"), ["give one of the two"]),
        (lambda home: None, ("--model", "vae"), ["VAE takes no images", "FlowMatching"]),
    ],
)
def test_what_does_not_pair_is_refused_before_training(home, tmp_path, change, options, said):
    import shutil

    for place in ("photos", "edges"):
        shutil.copytree(home / place, tmp_path / place)
    change(tmp_path)
    message = refused("train", "photos", "--condition-images", "edges", *options, *QUICK, at=tmp_path)
    for part in said:
        assert part in message
    assert not (tmp_path / "runs").exists()


def test_other_misuse_is_refused(home):
    assert "is no file and no folder" in refused("train", "photos", "--condition-images", "nowhere", *QUICK, at=home)
    many = refused("sample", "runs/photos", "--condition-images", "photos", at=home)
    assert "trained with images of 4×4 with 1 channel" in many
