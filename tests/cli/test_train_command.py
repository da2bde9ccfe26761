"""``pushforward train`` on data of every form, with every option."""

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from command_line import TINY, call, done, refused
from PIL import Image
from safetensors.torch import load_file

import pushforward as pf
from pushforward.cli.duration import seconds_of

QUICK = ("--set", "train_steps=3", *TINY)
RNG = np.random.default_rng(3)
POINTS = RNG.normal(size=(60, 2))
IMAGES = RNG.integers(0, 256, size=(60, 6, 6), dtype=np.uint8)


def card(run: Path) -> dict:
    return json.loads((run / "model.json").read_text())


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="png")
    return stream.getvalue()


def write_npy(folder: Path) -> list[str]:
    np.save(folder / "points.npy", POINTS)
    return ["points.npy"]


def write_float_images(folder: Path) -> list[str]:
    np.save(folder / "grey.npy", IMAGES.astype(np.float32))
    return ["grey.npy", "--set", "kind=images"]


def write_npz(folder: Path) -> list[str]:
    np.savez(folder / "two.npz", images=IMAGES, other=POINTS, digit=np.arange(60) % 3)
    return ["two.npz", "--column", "images", "--condition", "digit"]


def write_csv(folder: Path) -> list[str]:
    frame = pd.DataFrame({"height": POINTS[:, 0], "weight": POINTS[:, 1], "species": ["cat", "dog"] * 30, "age": POINTS[:, 0]})
    frame.to_csv(folder / "table.csv", index=False)
    return ["table.csv", "--column", "height", "--column", "weight", "--condition", "species"]


def write_numbers(folder: Path) -> list[str]:
    return [write_csv(folder)[0], "--column", "height", "--condition", "age,weight"]


def write_parquet(folder: Path) -> list[str]:
    images = [{"bytes": png(image), "path": None} for image in IMAGES]
    pd.DataFrame({"image": images, "label": np.arange(60) % 4}).to_parquet(folder / "images.parquet")
    return ["images.parquet"]


def write_folder(folder: Path) -> list[str]:
    for index, image in enumerate(IMAGES):
        path = folder / "photos" / ("left", "right")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return ["photos/"]


def write_nothing(folder: Path) -> list[str]:
    return ["digits", "--condition", "none"]


FORMS = {
    "built-in": (write_nothing, "digits", "images", [8, 8], None),
    "npy": (write_npy, "points", "vectors", [2], None),
    "npy of real images": (write_float_images, "grey", "images", [6, 6], None),
    "npz": (write_npz, "two", "images", [6, 6], [0, 1, 2]),
    "csv": (write_csv, "table", "vectors", [2], ["cat", "dog"]),
    "csv with numbers as condition": (write_numbers, "table", "vectors", [1], []),
    "parquet": (write_parquet, "images", "images", [6, 6], [0, 1, 2, 3]),
    "folder": (write_folder, "photos", "images", [6, 6], ["left", "right"]),
}


# By the tests of data, through the function that train calls.
READ_ELSEWHERE = {"npy", "npy of real images", "npz", "parquet"}


@pytest.mark.parametrize(
    ("write", "name", "kind", "shape", "classes"),
    [pytest.param(*form, id=name, marks=[pytest.mark.full] if name in READ_ELSEWHERE else []) for name, form in FORMS.items()],
)
def test_every_form_of_data(write, name, kind, shape, classes, tmp_path):
    out = done("train", *write(tmp_path), *QUICK, at=tmp_path)
    run = tmp_path / "runs" / name
    facts = card(run)
    assert facts["schema"]["kind"] == kind
    assert facts["schema"]["row_shape"] == shape
    assert (facts["condition"] or {}).get("classes") == classes
    assert facts["data"]["rows"] == (1797 if name == "digits" else 60)
    assert "images/s" in out if kind == "images" else "rows/s" in out
    sample = pf.load(run).sample(2, seed=0)
    assert np.isfinite(np.asarray(sample)).all()


def test_what_the_run_folder_holds_and_the_next_commands(rendered, tmp_path):
    out = done("train", *write_folder(tmp_path), "--set", "train_steps=20", *TINY, at=tmp_path)
    run = tmp_path / "runs/photos"
    names = sorted(path.name for path in run.iterdir())
    assert names == ["checkpoint", "metrics.jsonl", "model.json", "samples", "samples.png", "weights.safetensors"]
    assert sorted(path.name for path in (run / "checkpoint").iterdir()) == ["step-00000018", "step-00000020"]
    assert sorted(path.name for path in (run / "samples").iterdir()) == [f"step-{step:08d}.png" for step in (4, 8, 12, 16)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    facts = card(run)
    assert facts["status"] == "finished"
    assert facts["seed"] == 5
    assert facts["result"]["held_out_loss"] == min(line["held_out_loss"] for line in lines)
    assert set(facts["novelty"]) == {"samples", "held_out", "ratio"}
    assert "Samples: runs/photos/samples.png" in out
    with Image.open(run / "samples.png") as image:
        assert min(image.size) > 40
    commands = [line.split()[1:] for line in out.splitlines() if line.startswith("    pushforward ")]
    assert [words[0] for words in commands] == ["inspect", "sample", "sample"]
    for words in commands:
        done(*words, at=tmp_path)
    assert np.load(tmp_path / "samples.npy").shape == (1000, 6, 6)
    assert (tmp_path / "samples.png").is_file()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    words = ["train", *write_npy(tmp_path), *QUICK]
    for seed, out in ((5, "a"), (5, "b"), (6, "c")):
        done(*words, "--seed", seed, "--out", out, at=tmp_path)
    first, again, other = ((tmp_path / out / "weights.safetensors").read_bytes() for out in "abc")
    assert first == again != other
    words = words[: words.index("--seed")]
    for out in "de":
        done(*words, "--out", out, at=tmp_path)
    assert card(tmp_path / "d")["seed"] != card(tmp_path / "e")["seed"]


def test_model_set_and_recipe_reach_the_model(tmp_path):
    write_npy(tmp_path)
    recipe = {"model": "flow-matching", "prediction": "v", "network": {"width": 4}, "training": {"learning_rate": 0.5}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    changes = ("schedule=SubVP", "schedule.beta_max=7", "network.depth=2", "training.batch_size=16", "train_steps=2")
    sets = [word for change in changes for word in ("--set", change)]
    done("train", "points.npy", "--recipe", "r.yaml", "--model", "diffusion", *sets, "--out", "deep/er", at=tmp_path)
    facts = card(tmp_path / "deep/er")
    assert facts["class"] == "Diffusion"
    resolved = facts["resolved"]
    assert resolved["schedule"] == {"name": "SubVP", "beta_min": 0.1, "beta_max": 7.0}
    assert resolved["prediction"] == "v"
    assert resolved["network"] == {"name": "MLPSpec", "width": 4, "depth": 2}
    training = resolved["training"]
    assert (training["learning_rate"], training["batch_size"], training["steps"]) == (0.5, 16, 2)


def test_dry_run_shows_a_recipe_that_says_everything(tmp_path):
    write_npy(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    out = done("train", "points.npy", *TINY, "--model", "diffusion", "--max-time", "60s", "--dry-run", at=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    recipe = yaml.safe_load(out)
    assert recipe["model"] == "diffusion"
    assert recipe["random_state"] == 5
    assert recipe["training"]["steps"] > 100
    (tmp_path / "recipe.yaml").write_text(out)
    again = done("train", "points.npy", "--recipe", "recipe.yaml", "--dry-run", at=tmp_path)
    assert yaml.safe_load(again) == recipe
    done("train", "points.npy", "--recipe", "recipe.yaml", "--set", "training.steps=2", at=tmp_path)
    weights = load_file(tmp_path / "runs/points/weights.safetensors")
    learned = sum(value.numel() for name, value in weights.items() if name.startswith("denoiser."))
    assert f"# {learned:,} parameters" in out
    assert "# estimated training time: " in out
    assert "# would train in runs/points; nothing was written" in out


def test_max_time_counts_from_the_start_of_the_command(tmp_path, monkeypatch):
    write_npy(tmp_path)
    begun = time.perf_counter() - 7
    monkeypatch.setattr("pushforward.cli.app.time", SimpleNamespace(perf_counter=lambda: begun))
    done("train", "points.npy", *TINY, "--max-time", "8s", at=tmp_path)
    # A quarter of the time is for training however long its preparation took.
    assert json.loads((tmp_path / "runs/points/pace.json").read_text())["seconds"] == pytest.approx(2.0)


def test_a_fit_by_em_is_not_said_to_have_few_steps(tmp_path):
    write_npy(tmp_path)
    out = done("train", "points.npy", "--model", "gmm", "--set", "n_components=2", "--max-time", "1h", at=tmp_path)
    assert "Finished" in out
    assert "few steps" not in out


@pytest.mark.full  # five seconds by the clock; the tests of the families measure shorter ones
def test_max_time_sets_the_number_of_steps(tmp_path):
    write_npy(tmp_path)
    started = time.perf_counter()
    done("train", "points.npy", *TINY, "--max-time", "5s", at=tmp_path)
    took = time.perf_counter() - started
    facts = card(tmp_path / "runs/points")
    steps = facts["result"]["steps"]
    assert facts["params"]["max_time"] == 5.0
    assert facts["resolved"]["max_time"] is None
    assert steps > 50
    assert json.loads((tmp_path / "runs/points/pace.json").read_text())["plans"][-1][2] == steps
    last = json.loads((tmp_path / "runs/points/metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == steps
    assert 2 < facts["result"]["seconds"] < 10
    assert took < 15


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "moon"], "'moon' is not a file, a folder or a built-in data set .*Did you mean 'moons'?"),
        (["train", "moons", "--set", "network.widht=3"], "network (MLPSpec) has no 'widht'.*Did you mean 'width'?"),
        (
            ["train", "moons", "--set", "trian_steps=3"],
            "FlowMatching has no argument 'trian_steps'.*Did you mean 'train_steps'?",
        ),
        (["train", "moons", "--set", "width"], "an override has the form argument=value"),
        (["train", "moons", "--set", "held_out=2"], "held_out=2 is not allowed"),
        (["train", "moons", "--model", "difusion"], "there is no model 'difusion'.*Did you mean 'diffusion'?"),
        (["train", "moons", "--recipe", "none.yaml"], "there is no recipe none.yaml"),
        (["train", "moons", "--max-time", "soon"], "--max-time is written 90s, 4m, 1h30m or 2d, not 'soon'"),
        (["train", "moons", "--max-time", "0s"], "--max-time must be longer than zero"),
        (["train", "moons", "--max-time", "0.001s"], "No training step fits into 0.001 s"),
        (["train", "moons", "--column", "x,y"], "--column x,y selects columns of a table"),
        (["train", "moons", "--condition", "kind"], "condition='kind' names a column, but moons has no columns"),
        (["train", "moons", "--device", "gpu"], "there is no kind of device called 'gpu'; here there is cpu"),
        (["train", "moons", "--set", "device=gpu"], "there is no kind of device called 'gpu'; here there is cpu"),
        (["train", "grey.npy"], "--set kind=images if each row is a grey image, or --set kind=vectors"),
        (["train", "two.npz"], "choose one of them with --column images"),
        (
            ["train", "table.csv", "--set", "kind=vectors"],
            "numeric columns: --column height,weight,age. A column of labels can be the condition: --condition species.",
        ),
        (["train", "table.csv", "--column", "hight"], "there is no column 'hight'.*Did you mean 'height'?"),
    ],
)
def test_errors_are_one_message(words, message, tmp_path):
    write_float_images(tmp_path)
    write_npz(tmp_path)
    write_csv(tmp_path)
    said = refused(*words, at=tmp_path)
    position = 0
    for part in message.split(".*"):
        assert part in said, said
        assert said.index(part) >= position
        position = said.index(part)
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("always")
def test_a_run_that_fails_to_learn_warns_and_ends_with_code_1(tmp_path):
    write_npy(tmp_path)
    wild = ("--set", "train_steps=40", "--set", "training.learning_rate=1e300")
    said = call("train", "points.npy", *TINY, *wild, at=tmp_path)
    assert said.code == 1
    warnings, (last,) = said.err.splitlines()[:-1], said.err.splitlines()[-1:]
    assert warnings
    assert all(line.startswith("Warning: ") for line in warnings)
    assert last.startswith("Error: ")


def test_times():
    for text, seconds in (("90", 90), ("90s", 90), ("1.5m", 90), ("1h30m", 5400), ("2d", 172800), (" 4M ", 240), ("1m1s", 61)):
        assert seconds_of(text) == seconds
    for text in ("", "m", "4x", "1h30", "30m1h", "-3s", "1 h", "nan", "1..5s"):
        with pytest.raises(ValueError, match="--max-time is written"):
            seconds_of(text)
