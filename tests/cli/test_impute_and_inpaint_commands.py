"""``pushforward impute`` and ``pushforward inpaint``: what they write is what the model fills, and what is known stays."""

import re

import numpy as np
import pandas as pd
import pytest
from command_line import TINY, done, refused
from PIL import Image

import pushforward as pf

QUICK = ("--set", "train_steps=3", *TINY)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs on images, on a table with a label, and on an array, and files with gaps."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    done("train", "digits", *QUICK, at=folder)
    table = pd.DataFrame({"a": rng.normal(size=60), "k": rng.integers(0, 9, 60), "name": ["x", "y"] * 30})
    table.to_csv(folder / "table.csv", index=False)
    done("train", "table.csv", "--condition", "name", *QUICK, at=folder)
    np.save(folder / "array.npy", rng.normal(size=(60, 3)))
    done("train", "array.npy", *QUICK, at=folder)
    gappy = table[["name", "k", "a"]].iloc[:6].copy()
    gappy.loc[0, "a"] = np.nan
    gappy["k"] = gappy["k"].astype("Int64")
    gappy.loc[2, "k"] = pd.NA
    gappy.to_csv(folder / "gaps.csv", index=False)
    gappy.to_parquet(folder / "gaps.parquet", index=False)
    rows = rng.normal(size=(4, 3))
    rows[1, 1:] = np.nan
    np.save(folder / "gaps.npy", rows)
    digit = pf.open_data("digits").values[3]
    Image.fromarray(digit).save(folder / "three.png")
    covered = np.zeros((8, 8), dtype=np.uint8)
    covered[4:] = 255
    Image.fromarray(covered).save(folder / "mask.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "dark.png")
    Image.fromarray(np.zeros((9, 8), dtype=np.uint8)).save(folder / "tall.png")
    return folder


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_filled_as_by_the_model(home, tmp_path, ending):
    out = tmp_path / f"made.{ending}"
    said = done("impute", "runs/table", f"gaps.{ending}", "--seed", 4, "--steps", 3, "--out", out, at=home)
    assert said == f"2 gaps filled in {out} (seed 4)\n"
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    made, gappy = read(out), read(home / f"gaps.{ending}")
    assert list(made.columns) == ["name", "k", "a"]
    expected = pf.load(home / "runs/table").impute(gappy[["a", "k"]], seed=4, steps=3)
    pd.testing.assert_frame_equal(made[["a", "k"]], expected, rtol=1e-12)
    pd.testing.assert_series_equal(made["name"], gappy["name"])
    kept = gappy[["a", "k"]].notna().to_numpy()
    np.testing.assert_array_equal(made[["a", "k"]].to_numpy()[kept], gappy[["a", "k"]].astype(float).to_numpy()[kept])


def test_options_reach_the_model_and_many_are_numbered(home, tmp_path):
    words = ["--condition", "x", "--guidance-scale", 2, "--steps", 2, "--seed", 1, "-n", 2, "--out", tmp_path / "made.csv"]
    said = done("impute", "runs/table", "gaps.csv", *words, at=home)
    assert len(said.splitlines()) == 2
    model, gappy = pf.load(home / "runs/table"), pd.read_csv(home / "gaps.csv")
    expected = model.impute(gappy[["a", "k"]], condition="x", guidance=2.0, steps=2, seed=1, n=2)
    for number in (1, 2):
        made = pd.read_csv(tmp_path / f"made-{number}.csv")
        pd.testing.assert_frame_equal(made[["a", "k"]], expected[number - 1], rtol=1e-9)


def test_an_array_and_the_default_name(home):
    said = done("impute", "runs/array", "gaps.npy", at=home)
    seed = int(re.fullmatch(r"2 gaps filled in gaps-filled.npy \(seed (\d+)\)\n", said)[1])
    made, gappy = np.load(home / "gaps-filled.npy"), np.load(home / "gaps.npy")
    np.testing.assert_array_equal(made, pf.load(home / "runs/array").impute(gappy, seed=seed))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--negative", "y"], {"negative": "y"}),
        (["--guidance-interval", "0.1,2"], {"interval": (0.1, 2.0)}),
    ],
)
def test_options_of_guidance_reach_the_model(home, words, options):
    words = (*words, "--condition", "x", "--guidance-scale", 3, "--seed", 1, "--overwrite")
    done("impute", "runs/table", "gaps.csv", *words, at=home)
    gappy, model = pd.read_csv(home / "gaps.csv"), pf.load(home / "runs/table")
    common = {"condition": "x", "seed": 1}
    made = pd.read_csv(home / "gaps-filled.csv")[["a", "k"]]
    expected = model.impute(gappy[["a", "k"]], guidance=pf.Guidance(3.0, **options), **common)
    pd.testing.assert_frame_equal(made, expected, check_dtype=False, rtol=1e-5)
    assert not np.allclose(expected, model.impute(gappy[["a", "k"]], guidance=3.0, **common))


def test_inpaint(home, tmp_path):
    out = tmp_path / "made.png"
    words = ["--mask", "mask.png", "--steps", 3, "--seed", 2, "--condition", 3, "--out", out]
    said = done("inpaint", "runs/digits", "three.png", *words, at=home)
    assert said == f"32 pixels drawn anew in {out} (seed 2)\n"
    digit, known = pf.open_data("digits").values[3:4], np.arange(8)[:, None].repeat(8, 1)[None] < 4
    expected = pf.load(home / "runs/digits").impute(digit, mask=known, condition="3", steps=3, seed=2)[0]
    with Image.open(out) as image:
        made = np.asarray(image)
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(made[:4], digit[0, :4])
    assert (made[4:] != digit[0, 4:]).any()
    done("inpaint", "runs/digits", "three.png", *words, "-n", 2, at=home)
    assert (tmp_path / "made-1.png").read_bytes() == out.read_bytes()
    assert (tmp_path / "made-2.png").read_bytes() != out.read_bytes()


@pytest.mark.parametrize("form", ["alpha", "deep"])
def test_a_mask_may_be_transparent_or_have_sixteen_bits(home, tmp_path, form):
    bright = np.asarray(Image.open(home / "mask.png"))
    white = np.full_like(bright, 255)
    # White paint on nothing, as an editor saves it; and twelve bits in sixteen, of which dark ones are above 255.
    values = np.stack([white, bright], axis=-1) if form == "alpha" else bright.astype(np.uint16) * 14 + 500
    Image.fromarray(values).save(tmp_path / "mask.png")
    words = ["--mask", tmp_path / "mask.png", "--steps", 3, "--seed", 2, "--out", tmp_path / "made.png"]
    assert done("inpaint", "runs/digits", "three.png", *words, at=home).startswith("32 pixels drawn anew")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["impute", "runs/array", "nothing.csv"], "there is no file nothing.csv"),
        (["impute", "runs/array", "three.png"], "three.png ends in .png, which is not supported; use .csv, .parquet or .npy"),
        (["impute", "runs/table", "table.csv", "--out", "x.jpg"], "x.jpg ends in .jpg, which is not supported"),
        (["impute", "runs/digits", "gaps.csv"], "gaps.csv is a table, but the model was trained on images"),
        (["impute", "runs/array", "gaps.csv"], "could not convert string to float"),
        (["impute", "runs/table", "gaps.csv", "--guidance-scale", "2"], "needs a condition"),
        (["impute", "runs/table", "gaps.csv", "--guidance", "wish"], "--guidance must be condition or classifier, got 'wish'"),
        (["impute", "runs/table", "gaps.csv", "--guidance-interval", "2"], "--guidance-interval is two noise levels such as"),
        (["impute", "runs/table", "gaps.csv", "--guidance", "classifier"], "needs a classifier of noisy rows"),
        (
            ["inpaint", "runs/digits", "three.png", "--mask", "mask.png", "--negative", "3"],
            "have no effect at a guidance scale",
        ),
        (["impute", "runs/table", "gaps.csv", "-n", "0"], "n must be at least 1, got 0"),
        (["impute", "runs/table", "gaps.csv", "--steps", "0"], "steps must be at least 1"),
        (["inpaint", "runs/array", "three.png", "--mask", "mask.png"], "was trained on vectors; fill the gaps of a table with"),
        (
            ["inpaint", "runs/digits", "three.png", "--mask", "tall.png"],
            "dark or transparent everywhere, so there is nothing to draw",
        ),
        (["inpaint", "runs/digits", "tall.png", "--mask", "mask.png"], "is 8×8 (width×height), but tall.png is 8×9"),
        (["inpaint", "runs/digits", "three.png", "--mask", "gaps.csv"], "gaps.csv (not an image that Pillow can read)"),
        (["inpaint", "runs/digits", "three.png", "--mask", "mask.png", "--out", "x.jpg"], "x.jpg must end in .png"),
    ],
)
def test_errors(words, message, home):
    (home / "gaps-filled.csv").unlink(missing_ok=True)
    assert message in refused(*words, at=home)


def test_a_missing_column_is_named(home):
    pd.DataFrame({"a": [1.0, None], "kk": [1, 2]}).to_csv(home / "other.csv", index=False)
    assert "there is no column 'k' in other.csv, which has 'a', 'kk'. Did you mean 'kk'?" in refused(
        "impute", "runs/table", "other.csv", at=home
    )
    pd.DataFrame({"a": ["u", "v"], "k": [1, 2]}).to_csv(home / "text.csv", index=False)
    assert "'a' must hold numbers or gaps, not text" in refused("impute", "runs/table", "text.csv", at=home)
