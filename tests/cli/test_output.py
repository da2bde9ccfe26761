"""No verb replaces a file that exists unless it is told to, and none a file of a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import TINY, call, done, refused
from PIL import Image

import pushforward as pf
from pushforward.models.files.protected import run_of


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table and one on images, with rows and an image to fill."""
    folder = tmp_path_factory.mktemp("home")
    done("train", "moons", "--set", "train_steps=3", "--out", "run", *TINY, at=folder)
    done("train", "digits", "--set", "train_steps=1", "--set", "network.levels=1", "--out", "images", *TINY, at=folder)
    pd.DataFrame({"0": [0.5, np.nan], "1": [np.nan, 0.1]}).to_csv(folder / "gaps.csv", index=False)
    for name, value in (("seven.png", 3), ("mask.png", 255)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(folder / name)
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRITING = {
    "sample": (["sample", "run", "-n", 2, "--seed", 1, "--out"], "x.csv"),
    "impute": (["impute", "run", "gaps.csv", "--steps", 2, "--out"], "x.csv"),
    "inpaint": (["inpaint", "images", "seven.png", "--mask", "mask.png", "--steps", 2, "--out"], "x.png"),
    "score": (["score", "run", "moons", "--rows", 2, "--steps", 2, "--out"], "x.csv"),
    "export": (["export", "run", "--to", "safetensors", "--out"], "x.safetensors"),
    "show": (["show", "score-field", "--out"], "x.png"),
}


@pytest.mark.parametrize("verb", WRITING)
def test_a_file_that_exists_is_replaced_only_with_overwrite(verb: str, home: Path, tmp_path: Path) -> None:
    words, name = WRITING[verb]
    target = tmp_path / name
    target.write_text("precious")
    message = refused(*words, target, at=home)
    assert f"{target} exists already; write --overwrite to replace it, or name another with --out" in message
    assert target.read_text() == "precious"
    done(*words, target, "--overwrite", at=home)
    assert b"precious" not in target.read_bytes()


@pytest.mark.parametrize("verb", WRITING)
def test_a_file_of_a_run_is_never_replaced(verb: str, home: Path, tmp_path: Path) -> None:
    """Named as itself, through a link to it, through a link to its folder, or in other letters."""
    words, _ = WRITING[verb]
    before = content(home)
    ending = Path(WRITING[verb][1]).suffix
    (tmp_path / f"link{ending}").symlink_to(home / "run/weights.safetensors")
    (tmp_path / "folder").symlink_to(home / "run")
    targets = [tmp_path / f"link{ending}", tmp_path / f"folder/samples/new{ending}", home / f"run/checkpoint/x/new{ending}"]
    targets += [home / "run/weights.safetensors", home / "run/Model.json"] if verb == "export" else []
    targets += [home / "run/samples.png"] if ending == ".png" else []
    for target in targets:
        message = refused(*words, target, "--overwrite", at=home)
        assert f"is part of the run {home / 'run'}, which is never overwritten" in message
    assert content(home) == before


def test_the_input_of_impute_is_not_its_output(home: Path) -> None:
    before = (home / "gaps.csv").read_bytes()
    assert "gaps.csv exists already" in refused("impute", "run", "gaps.csv", "--out", "gaps.csv", at=home)
    (home / "gaps-filled-2.csv").touch()
    assert "gaps-filled-2.csv exists already" in refused("impute", "run", "gaps.csv", "-n", 2, at=home)
    assert (home / "gaps.csv").read_bytes() == before
    assert not (home / "gaps-filled-1.csv").exists()


def test_verbs_that_write_folders(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("precious")
    assert "report.html exists already" in refused("evaluate", "run", "--out", tmp_path, at=home)
    (tmp_path / "table.csv").write_text("precious")
    assert "table.csv exists already" in refused("bench", "samplers", "--out", tmp_path, at=home)
    monkeypatch.setattr(pf.gallery, "names", lambda: ["score-field", "brownian"])
    (tmp_path / "brownian.png").write_text("precious")
    assert "brownian.png exists already" in refused("show", "--all", "--out", tmp_path, at=home)
    assert "holds files already" in refused("export", "images", "--to", "diffusers", "--out", tmp_path, "--overwrite", at=home)
    assert "is a folder; name a file" in refused("export", "run", "--to", "onnx", "--out", tmp_path, "--overwrite", at=home)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brownian.png", "report.html", "table.csv"]


@pytest.mark.parametrize(
    "words", [[*words, f"/proc/none/{name}"] for words, name in WRITING.values()] + [["evaluate", "run", "--out", "/proc/none"]]
)
def test_a_place_that_cannot_be_written_to_is_found_first(words: list[object], home: Path) -> None:
    """The folder of processes takes no files, not even from root."""
    said = call(*words, at=home)
    assert said.code == 2
    assert said.err.startswith("Error: nothing can be written into /proc/none (No such file or directory); choose another")
    assert said.out == ""


def test_export_from_python_spares_the_files_of_a_run(home: Path) -> None:
    model = pf.load(home / "run")
    with pytest.raises(ValueError, match=r"weights.safetensors is part of the run .*run, which is never overwritten"):
        pf.interop.export(model, home / "run/weights.safetensors", "safetensors")
    np.testing.assert_array_equal(pf.load(home / "run").sample(2, seed=0), model.sample(2, seed=0))


@pytest.mark.parametrize("family", ["flow-matching", "latent", "cnf"])
def test_all_that_training_writes_belongs_to_the_run(family: str, home: Path, tmp_path: Path) -> None:
    """But not what lies beside it or what other verbs write there."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    small: dict[str, Any] = {"train_steps": 2, "random_state": 0, "device": "cpu"}
    if family == "flow-matching":
        shutil.copytree(home / "run", tmp_path / "run")
    elif family == "latent":
        coder = pf.Autoencoder(latent_dim=2, network=pf.CoderSpec(width=8, depth=1), **small)
        pf.train(X, pf.Latent(coder, pf.GMM(n_components=1)), out=tmp_path / "run")
    else:
        pf.train(X, pf.CNF(network=pf.MLPSpec(width=8, depth=1), matching_steps=2, **small), out=tmp_path / "run")
    written = list((tmp_path / "run").rglob("*"))
    assert len(written) > 10
    assert {run_of(path) for path in written} <= {tmp_path / "run", tmp_path / "run/coder", tmp_path / "run/prior"}
    assert {run_of(tmp_path / name) for name in ("run", "x.csv", "model.json", "run/samples-seed-1.csv", "run/new/x.csv")} == {
        None
    }
