"""A run in a folder: what it holds, how it resumes, and that several processes make the same one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pushforward as pf
from pushforward.models.files.storage import read_card
from pushforward.models.run import newest_run, run_folder

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
X = np.random.default_rng(0).normal(size=(80, 2))


def _model(**changes):
    settings = pf.TrainingSettings(steps=12, batch_size=16, learning_rate=0.01)
    return pf.FlowMatching(
        **{"network": pf.MLPSpec(width=8, depth=1), "training": settings, "random_state": 0, "device": "cpu"} | changes
    )


def test_the_folder_explains_itself(rendered, tmp_path):
    model = pf.train(X, _model(), out=tmp_path / "run")
    assert model.run_ == tmp_path / "run"
    names = {path.name for path in model.run_.iterdir()}
    assert names == {"model.json", "weights.safetensors", "checkpoint", "metrics.jsonl", "samples", "samples.png"}
    card = read_card(model.run_)
    assert card["status"] == "finished"
    assert card["class"] == "FlowMatching"
    assert card["seed"] == 0
    assert card["data"] == {"source": "array", "rows": 80, "held_out": 8, "fingerprint": pf.open_data(X).fingerprint}
    assert card["resolved"]["training"]["steps"] == 12
    assert set(card["novelty"]) == {"samples", "held_out", "ratio"}
    assert card["machine"]["threads"] >= 1
    lines = [json.loads(line) for line in (model.run_ / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert lines[-1]["step"] == 12
    assert len(list((model.run_ / "samples").glob("step-*.png"))) == 4
    assert (model.run_ / "samples.png").stat().st_size > 5000  # points of samples and data, not a blank
    np.testing.assert_array_equal(pf.load(model.run_).sample(5, seed=0), model.sample(5, seed=0))


def test_a_run_is_never_overwritten_and_a_finished_one_is_returned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = pf.train("moons", _model())
    second = pf.train("moons", _model(random_state=1))
    assert (str(first.run_), str(second.run_)) == ("runs/moons", "runs/moons-2")
    assert newest_run(None, "moons") == Path("runs/moons-2")
    assert run_folder(None, "moons") == Path("runs/moons-3")
    again = pf.train("moons", resume=True)
    np.testing.assert_array_equal(again.sample(3, seed=0), second.sample(3, seed=0))


def test_a_run_stopped_by_an_error_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = pf.train(X, _model(), out=tmp_path / "whole")
    save = pf.plots.save

    def stop(image, path):
        if "step-" in path.name and "8" in path.name:
            raise OSError("disk full")
        return save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.plots.save", stop)
        with pytest.raises(OSError, match="disk full"):
            pf.train(X, _model(), out=tmp_path / "stopped")
    with pytest.raises(
        ValueError, match=r"unfinished run, so there is no model yet; resume it with `pushforward train array --out"
    ):
        pf.load(tmp_path / "stopped")
    with pytest.raises(ValueError, match=r"was trained on other data than array holds now"):
        pf.train(X + 1, out=tmp_path / "stopped", resume=True)
    pf.train(X, out=tmp_path / "stopped", resume=True)
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()
    np.testing.assert_array_equal(pf.load(tmp_path / "stopped").sample(3, seed=0), whole.sample(3, seed=0))


def test_parts_of_ones_own_are_supplied_again_to_resume(tmp_path, monkeypatch):
    """Images in pairs: the source array is in no folder before the end, so resuming asks for it."""
    images = np.random.default_rng(1).integers(0, 9, (40, 6, 6)).astype(np.uint8)
    model = _model(source=images[::-1].copy(), coupling="paired", network=pf.UNetSpec(width=4, levels=1, middle=0, patch=2))
    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.save", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pf.train(images, model, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"your own ndarray as its source.*or to resume pushforward.train"):
        pf.train(images, out=tmp_path / "run", resume=True)
    resumed = pf.train(images, model, out=tmp_path / "run", resume=True)
    again = pf.load(tmp_path / "run").sample(3, seed=0)
    np.testing.assert_array_equal(again, resumed.sample(3, seed=0))


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a run folder: it has no model.json"):
        pf.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no run runs/moons to resume"):
        newest_run(None, "moons")
    pf.train(X, _model(), out=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*run\?"):
        pf.load(tmp_path)
    card = tmp_path / "run" / "model.json"
    card.write_text(card.read_text()[:100])
    with pytest.raises(ValueError, match=r"model.json is damaged"):
        pf.load(tmp_path / "run")
    card.write_text('{"format": 99, "pushforward": "9.9"}')
    with pytest.raises(ValueError, match=r"has format 99.*written by pushforward 9.9"):
        pf.load(tmp_path / "run")


@pytest.mark.slow  # three processes that each start torch, two of them at once
def test_two_processes_make_one_run(tmp_path):
    """Same folder, same fresh seed, and the weights of a single process to rounding."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    child = str(ROOT / "tests" / "support" / "fit_child.py")
    for name, launch, seed in (("two", LAUNCH, []), ("one", [], ["seed"])):
        if seed:
            seed = [str(read_card(tmp_path / "two")["seed"])]
        command = [sys.executable, *launch, child, str(tmp_path / name), *seed]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    one, two = (pf.load(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(two.sample(20, seed=0), one.sample(20, seed=0), atol=1e-3)
