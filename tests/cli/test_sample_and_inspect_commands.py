"""``pushforward sample``, ``pushforward inspect``, the help, and what is imported when."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from command_line import TINY, call, done, refused
from forked import SOURCE
from PIL import Image

import pushforward as pf
from pushforward.cli.options import given_to

QUICK = ("--set", "train_steps=3", *TINY)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run on each of: images with labels, points without, a table with numbers as condition."""
    folder = tmp_path_factory.mktemp("home")
    done("train", "digits", *QUICK, at=folder)
    done("train", "swissroll", *QUICK, at=folder)
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(50, 4)), columns=list("abuv")).to_csv(folder / "table.csv", index=False)
    done("train", "table.csv", "--condition", "u,v", *QUICK, at=folder)
    pd.DataFrame({"a": rng.normal(size=50), "name": ["x, y", "z"] * 25}).to_csv(folder / "names.csv", index=False)
    done("train", "names.csv", "--condition", "name", *QUICK, at=folder)
    frame = pd.DataFrame(rng.normal(size=(50, 2)), columns=list("ab"))
    frame.assign(kind=["x", "z"] * 25, c=rng.normal(size=50)).to_csv(folder / "labeled.csv", index=False)
    done("train", "labeled.csv", "--column", "a,b", "--out", "runs/plain", *QUICK, at=folder)
    mixed = frame.assign(sex=["f", "m"] * 25, age=range(50), zip=[1, 2, 3, 4, 5] * 10)
    mixed.assign(a=mixed["a"] + 9 * (mixed["sex"] == "m")).to_csv(folder / "mixed.csv", index=False)
    done("train", "mixed.csv", "--model", "ppca", "--condition", "sex,age,zip", "--set", "columns.zip=category", at=folder)
    optimal = ("--set", "coupling=optimal-transport")
    done("train", "labeled.csv", "--column", "a,b", "--out", "runs/paired", *optimal, *QUICK, at=folder)
    return folder


def sample(home, tmp_path, run, *words, ending):
    out = tmp_path / f"made{ending}"
    if out.is_file():
        words = (*words, "--overwrite")
    said = done("sample", f"runs/{run}", "--steps", 3, "--seed", 4, *words, "--out", out, at=home)
    assert re.search(r"^[\d,]+ samples in .*made\S* \(seed 4\)$", said)
    return out


def size_and_pixels(path):
    with Image.open(path) as image:
        return image.size, np.asarray(image)


def expected(home, run, n, **options):
    return pf.load(home / "runs" / run).sample(n, seed=4, steps=3, **options)


def test_each_ending(home, tmp_path):
    images = expected(home, "digits", 5, condition=["7", "2", "7", "2", "7"])
    words = ["-n", 5, "--condition", "7,2"]
    assert np.array_equal(np.load(sample(home, tmp_path, "digits", *words, ending=".npy")), images)
    with np.load(sample(home, tmp_path, "digits", *words, ending=".npz")) as archive:
        assert np.array_equal(archive["samples"], images)
        assert archive["condition"].tolist() == ["7", "2", "7", "2", "7"]
    back = pf.open_data(sample(home, tmp_path, "digits", *words, ending=".parquet"))
    assert np.array_equal(back.values, images)
    folder = sample(home, tmp_path, "digits", *words, ending="")
    assert sorted(path.name for path in (folder / "7").iterdir()) == ["00000.png", "00002.png", "00004.png"]
    assert np.array_equal(size_and_pixels(folder / "2/00003.png")[1], images[3])
    assert size_and_pixels(sample(home, tmp_path, "digits", *words, ending=".png"))[0] > (40, 8)
    points = expected(home, "swissroll", 6)
    table = pd.read_csv(sample(home, tmp_path, "swissroll", "-n", 6, ending=".csv"))
    np.testing.assert_allclose(table.to_numpy(), points, rtol=1e-6)
    named = pd.read_csv(sample(home, tmp_path, "table", "-n", 2, "--condition", "0.5,-1", ending=".csv"))
    assert list(named.columns) == ["a", "b", "condition0", "condition1"]
    assert named["condition1"].tolist() == [-1.0, -1.0]
    np.testing.assert_allclose(named[["a", "b"]], expected(home, "table", 2, condition=[0.5, -1.0]), rtol=1e-12)


def test_sampler_steps_and_guidance_reach_the_model(home, tmp_path):
    words = ["-n", 3, "--condition", "0.5,-1", "--guidance-scale", 2.5, "--sampler", "ddim:eta=0.5"]
    made = np.load(sample(home, tmp_path, "table", *words, ending=".npy"))
    options = {"condition": [0.5, -1.0], "guidance": 2.5, "sampler": pf.DDIM(eta=0.5)}
    assert np.array_equal(made, expected(home, "table", 3, **options))
    for change in ({"guidance": 1.0}, {"sampler": pf.DDIM()}, {"condition": [2.0, 1.0]}):
        assert not np.array_equal(made, expected(home, "table", 3, **(options | change)))


def test_guidance_by_an_interval_and_a_negative_condition_reaches_the_model(home, tmp_path):
    words = ["-n", 3, "--condition", "7", "--guidance-scale", 2.5]
    for more, same in (
        (["--guidance-interval", "0.1,2"], {"interval": (0.1, 2.0)}),
        (["--guidance-interval", "0,inf"], {}),
        (["--negative", "3"], {"negative": 3}),
        (["--negative", "3", "--guidance-interval", "0.5, 80"], {"negative": 3, "interval": (0.5, 80.0)}),
        (["--guidance", "condition"], {}),
    ):
        made = np.load(sample(home, tmp_path, "digits", *words, *more, ending=".npy"))
        assert np.array_equal(made, expected(home, "digits", 3, condition="7", guidance=pf.Guidance(2.5, **same)))
    vectors = ["-n", 3, "--condition", "0.5,-1", "--guidance-scale", 2.5, "--negative", "1, 0"]
    made = np.load(sample(home, tmp_path, "table", *vectors, ending=".npy"))
    options = {"condition": [0.5, -1.0], "guidance": pf.Guidance(2.5, negative=[1.0, 0.0])}
    assert np.array_equal(made, expected(home, "table", 3, **options))


def test_a_classifier_is_trained_and_guides(home, tmp_path):
    """On a run without conditions; the run is the same afterwards but for the classifier."""
    shutil.copytree(home / "runs/plain", tmp_path / "runs/plain")
    at, run = tmp_path, tmp_path / "runs/plain"
    shutil.copy(home / "labeled.csv", at)
    missing = refused("sample", "runs/plain", "--guidance", "classifier", "--condition", "x", at=at)
    assert "has none; train one with" in missing
    assert "pushforward fit-classifier RUN DATA" in missing
    before, plain = json.loads((run / "model.json").read_text()), expected(at, "plain", 4)
    said = done("fit-classifier", "runs/plain", "labeled.csv", "--condition", "kind", "--steps", 3, "--device", "cpu", at=at)
    assert "A classifier of 2 labels in runs/plain, held-out loss" in said
    after = json.loads((run / "model.json").read_text())
    assert after["state"].pop("classifier")["encoder"]["classes"] == ["x", "z"]
    assert after.pop("weights") != before.pop("weights")
    assert after == before
    assert np.array_equal(expected(at, "plain", 4), plain)
    follow = said.split("Next:")[1].strip().split()[1:]
    assert follow == ["sample", "runs/plain", "--guidance", "classifier", "--condition", "z"]
    done(*follow, "-n", 2, "--steps", 2, at=at)
    words = ["-n", 3, "--condition", "z, x", "--guidance", "classifier", "--guidance-scale", 2]
    made = pd.read_csv(sample(at, tmp_path, "plain", *words, ending=".csv"))
    assert made["label"].tolist() == ["z", "x", "z"]
    options = {"condition": ["z", "x", "z"], "guidance": pf.Guidance(2.0, by="classifier")}
    np.testing.assert_allclose(made[["a", "b"]], expected(at, "plain", 3, **options), rtol=1e-6)
    assert "pass condition=..., one of x, z" in refused("sample", "runs/plain", "--guidance", "classifier", at=at)
    # Once more with other steps: the new one takes the place of the old.
    done("fit-classifier", "runs/plain", "labeled.csv", "--condition", "kind", "--steps", 4, "--device", "cpu", at=at)
    assert not np.array_equal(made[["a", "b"]], expected(at, "plain", 3, **options))


def test_columns_of_several_types_are_given_by_name(home, tmp_path):
    def drawn(text, ending=".csv"):
        out = tmp_path / f"made{ending}"
        done("sample", "runs/mixed", "-n", 4, "--condition", text, "--seed", 4, "--out", out, "--overwrite", at=home)
        return out

    model = pf.load(home / "runs" / "mixed")
    made = pd.read_csv(drawn("age=40, sex=m,zip=3"))
    wanted = model.sample(4, condition={"sex": "m", "age": 40, "zip": 3}, seed=4)
    np.testing.assert_allclose(made[["a", "b"]], wanted)
    assert made[["sex", "age", "zip"]].to_numpy().tolist() == [["m", 40, 3]] * 4
    part = pd.read_parquet(drawn("sex=f", ".parquet"))
    assert part["age"].isna().all()
    assert part["a"].mean() + 5 < made["a"].mean()
    said = refused("sample", "runs/mixed", "--condition", "sex=d,age=40", at=home)
    assert "condition 'sex' is 'd'; the data have the levels 'f', 'm'" in said
    assert "Did you mean 'age'?" in refused("sample", "runs/mixed", "--condition", "sex=f,agee=40", at=home)
    shown = done("inspect", "runs/mixed", at=home)
    assert "sex: category, 'f', 'm'; age: integer, 0 to 49; zip: category" in " ".join(shown.split())
    done("score", "runs/mixed", "mixed.csv", at=home)
    np.testing.assert_allclose(
        pd.read_csv(sample(home, tmp_path, "names", "--condition", "name=z", ending=".csv"))["a"],
        expected(home, "names", 64, condition="z")["a"],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/plain", "labeled.csv", "--condition", "sort"], "'sort'"),
        (["runs/plain", "labeled.csv"], "labeled.csv comes without labels; name the column that holds them with --condition"),
        (["runs/plain", "labeled.csv", "--condition", "c"], "needs labels, but these are numbers"),
        (["runs/plain", "labeled.csv", "--condition", "a"], "column 'a' is one of the data and cannot also be a condition"),
        (["runs/plain", "labeled.csv", "--condition", "kind", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["runs/plain", "swissroll"], "swissroll comes without labels"),
        (["runs/paired", "labeled.csv", "--condition", "kind"], "its source is not independent Gaussian noise"),
        (["runs/none", "digits"], "runs/none is not a run folder"),
    ],
)
def test_what_cannot_have_a_classifier(words, message, home):
    assert message in refused("fit-classifier", *words, at=home)


def test_many_samples_are_the_same_as_a_few(home, tmp_path):
    many = np.load(sample(home, tmp_path, "swissroll", "-n", 600, ending=".npy"))
    np.testing.assert_allclose(many, expected(home, "swissroll", 600), rtol=1e-5, atol=1e-6)
    labels = [str(i % 3) for i in range(300)]
    with np.load(sample(home, tmp_path, "digits", "-n", 300, "--condition", "0,1,2", ending=".npz")) as archive:
        assert archive["condition"].tolist() == labels
        assert np.mean(archive["samples"] == expected(home, "digits", 300, condition=labels)) > 0.999


def test_without_out_the_run_gets_a_new_file(home):
    run = home / "runs/digits"
    before = (run / "samples.png").read_bytes()
    first, second = (done("sample", "runs/digits", "-n", 2, "--steps", 1, at=home) for _ in range(2))
    assert first != second
    seed = re.search(r"\(seed (\d+)\)", first)[1]
    assert (run / f"samples-seed-{seed}.png").is_file()
    assert (run / "samples.png").read_bytes() == before


def test_a_label_with_a_comma(home, tmp_path):
    made = pd.read_csv(sample(home, tmp_path, "names", "-n", 2, "--condition", "x, y", ending=".csv"))
    assert made["label"].tolist() == ["x, y", "x, y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/digits", "--out", "x.jpg"], "x.jpg ends in .jpg, which is not supported; use one of .png"),
        (["runs/digits", "--out", "x.csv"], "a CSV file does not hold images"),
        (["runs/digits", "--sampler", "dimm"], "there is no sampler 'dimm'; use one of A"),
        (["runs/digits", "--sampler", "ddim:order=2"], "sampler (DDIM) has no 'order'"),
        (["runs/digits", "--condition", "eleven"], "'eleven' is not a label of the training data (0, 1, 2"),
        (["runs/digits", "--condition", "1,11", "-n", "1"], "'11' is not a label of the training data"),
        (["runs/table", "--condition", "much"], "'much' is not a number"),
        (["runs/table", "--condition", "1,2,3"], "pass 2 numbers"),
        (["runs/swissroll", "--condition", "1"], "was trained without conditions"),
        (["runs/swissroll", "--guidance-scale", "2"], "needs a model trained with conditions"),
        (["runs/digits", "--guidance", "classifer"], "--guidance must be condition or classifier, got 'classifer'"),
        (["runs/digits", "--guidance-interval", "3"], "--guidance-interval is two noise levels such as 0.2,5, not '3'"),
        (["runs/digits", "--guidance-interval", "a,b"], "is two noise levels such as 0.2,5, not 'a,b'"),
        (["runs/digits", "--guidance-interval", "5,1", "--guidance-scale", "2"], "got (5, 1); write (1, 5)"),
        (["runs/digits", "--guidance-interval", "1,5"], "have no effect at a guidance scale of 1"),
        (["runs/digits", "--negative", "ten", "--guidance-scale", "2"], "'ten' is not a label of the training data"),
        (["runs/digits", "-n", "0"], "-n must be at least 1, got 0"),
        (["runs/digits", "--steps", "0"], "steps"),
        (["runs/digits", "--device", "gpu"], "there is no kind of device called 'gpu'"),
        (["runs"], "runs is not a run folder: it has no model.json; did you mean runs/"),
        (["digits"], "digits is not a run folder: it has no model.json; did you mean runs/digits?"),
    ],
)
def test_errors_come_before_the_work(words, message, home, monkeypatch):
    calls = []
    monkeypatch.setattr(pf.FlowMatching, "_draw", _spy(pf.FlowMatching._draw, calls))
    before = sorted(home.rglob("*"))
    assert message in refused("sample", *words, at=home)
    assert sorted(home.rglob("*")) == before
    assert len(calls) <= ("--steps" in words)


def _spy(function, calls):
    def spied(*arguments, **options):
        calls.append(1)
        return function(*arguments, **options)

    return spied


def test_inspect_shows_the_card(home):
    out = done("inspect", "runs/digits", at=home)
    card = json.loads(done("inspect", "runs/digits", "--json", at=home))
    assert card == json.loads((home / "runs/digits/model.json").read_text())
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines()[1:] if not line.startswith(" "))
    assert shown["model"].startswith("FlowMatching")
    assert shown["data"] == "digits: 1,797 images of 8 x 8, 180 held out"
    assert shown["condition"] == "10 labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert shown["training"] == "3 steps of 32 rows, seed 5"
    assert f"{card['result']['parameters']:,} parameters" in out
    assert shown["held-out loss"] == f"{card['result']['held_out_loss']:.4g} at step {card['result']['held_out_step']}"
    assert f"ratio {card['novelty']['ratio']:.2f}" in " ".join(out.split())
    assert shown["image"] == "runs/digits/samples.png"
    assert "numbers" in done("inspect", "runs/table", at=home)


def test_inspect_of_a_model_saved_from_python(home, tmp_path):
    pf.load(home / "runs/swissroll").save(tmp_path / "a [b] folder")
    out = done("inspect", "a [b] folder", at=tmp_path)
    assert out.startswith("a [b] folder\n")
    assert "image" not in out


def test_inspect_of_damaged_folders(home, tmp_path):
    shutil.copytree(home / "runs/swissroll", tmp_path / "run")
    (tmp_path / "run/model.json").write_text("{")
    assert "run/model.json is damaged" in refused("inspect", "run", at=tmp_path)
    assert "nothing is not a run folder: it has no model.json" in refused("inspect", "nothing", at=tmp_path)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verb", ["", "train", "sample", "fit-classifier", "inspect"])
def test_help_teaches_by_examples_that_can_be_pasted(verb, width, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    out = done(*filter(None, [verb]), "--help", at=tmp_path)
    examples = [line.strip() for line in out.splitlines() if line.startswith("    pushforward ")]
    assert len(examples) >= 2
    assert "\n\n\n" not in out
    assert "<bool>" not in out
    assert max(map(len, out.splitlines())) <= width
    for example in examples:
        # Every verb and option in an example exists.
        words = example.split(" > ")[0].split()[1:]
        said = call(*words, "--help", at=tmp_path)
        assert said.code == 0
        options = [word for word in words if word.startswith("-")]
        assert all(re.search(rf"^  (-\w, )?{option}\b", said.out, re.M) for option in options), (words, said.out)
    assert call(*filter(None, [verb]), "-h", at=tmp_path).out == out


def test_no_arguments_show_the_help(tmp_path):
    for words in ([], ["train"], ["sample"], ["fit-classifier"], ["inspect"]):
        said = call(*words, at=tmp_path)
        assert "pushforward" in said.out + said.err
        assert "Options:" in said.out + said.err


def test_usage_errors_name_the_nearest_word(tmp_path):
    for words, hint in ((["trian", "digits"], "train"), (["train", "digits", "--max-tim", "3s"], "--max-time")):
        said = call(*words, at=tmp_path)
        assert said.code == 2
        assert hint in said.err.splitlines()[-1]
        assert "Traceback" not in said.err


def test_version(tmp_path):
    assert done("--version", at=tmp_path) == f"pushforward {pf.__version__}\n"


def test_a_traceback_where_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("PUSHFORWARD_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        call("inspect", "nothing", at=tmp_path)


def test_an_error_in_a_real_process_has_no_traceback(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "pushforward", "inspect", "nothing"]
    said = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "Error: nothing is not a run folder: it has no model.json\n"


def test_help_is_there_at_once(tmp_path):
    program = """
import os
import sys
sys.argv = ["pushforward", "train", "--help"]
from pushforward.cli import main
try:
    main()
except SystemExit:
    heavy = {"torch", "numpy", "pandas", "sklearn", "matplotlib", "scipy", "accelerate"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else 0)
"""
    child = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "Usage: pushforward train" in child.stdout


def test_options_that_a_family_does_not_take_are_refused():
    def sample(n, *, seed=None):
        return n, seed

    assert given_to(sample, {"seed": 1, "steps": None}) == {"seed": 1}
    with pytest.raises(ValueError, match=r"--guidance-scale is no option of .*other families have it.*takes --seed"):
        given_to(sample, {"seed": None, "guidance": 2.0})


def test_many_samples_go_into_the_parts_of_a_folder_and_a_stopped_call_goes_on(home, tmp_path, monkeypatch):
    monkeypatch.setattr("pushforward.data.files.parts.PART_ROWS", 40)
    words = ("sample", "runs/names", "-n", 100, "--steps", 3, "--condition", "z", "--seed", 4)
    folder = tmp_path / "people"
    assert f"100 samples in {folder} (seed 4)" in done(*words, "--out", f"{folder}/", at=home)
    parts = sorted(folder.glob("*.parquet"))
    assert [path.name for path in parts] == [f"part-0000{number}.parquet" for number in range(3)]
    done(*words, "--out", tmp_path / "whole.parquet", at=home)
    whole = pd.read_parquet(tmp_path / "whole.parquet")
    pd.testing.assert_frame_equal(pd.concat(map(pd.read_parquet, parts), ignore_index=True), whole)
    np.testing.assert_array_equal(pf.open_data(folder, columns="a").values["a"], whole["a"])
    labels = [str(index % 2) for index in range(100)]  # one for each row of all parts
    np.testing.assert_array_equal(pf.open_data(folder, columns="a", condition=labels).condition, labels)

    first, last = (path.read_bytes() for path in (parts[0], parts[2]))
    parts[2].unlink()
    (folder / ".unfinished.parquet").write_bytes(b"half a part")
    stamp = parts[0].stat().st_mtime_ns
    done(*words[:-2], "--out", folder, at=home)  # the folder knows the seed
    assert (parts[0].stat().st_mtime_ns, parts[0].read_bytes(), parts[2].read_bytes()) == (stamp, first, last)
    assert sorted(path.name for path in folder.iterdir()) == [*(path.name for path in parts), "samples.json"]

    said = refused(*words[:3], 90, *words[4:], "--out", folder, at=home)
    assert "holds samples of another call (different: n); choose a new folder" in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("do not touch")
    assert "holds files already; name a new folder" in refused(*words, "--out", tmp_path / "mine", at=home)
