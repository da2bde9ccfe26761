"""Real processes: killed or interrupted, then resumed by the command that was printed."""

import json
import os
import shlex
import shutil
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, Said, call, done, ended, process, refused
from forked import Forked

import pushforward as pf
from pushforward.training.record.claim import FolderInUse, claimed

STEPS = 300
LONG = ("--set", f"train_steps={STEPS}", "--set", "training.checkpoint_every=25", *TINY)


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


def card(run: Path) -> dict:
    return json.loads((run / "model.json").read_text())


def begun(folder: Path, checkpoint: int, *words: str) -> Forked:
    """Start a run and wait until it has written a checkpoint."""
    child = process(*words, at=folder)
    latest = time.monotonic() + 100
    while not (folder / f"runs/table/checkpoint/step-{checkpoint:08d}").exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < latest
        time.sleep(0.005)
    return child


def table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{x:.6f},{y:.6f},{'ab'[i % 2]},{i}" for i, (x, y) in enumerate(rng.normal(size=(300, 2)))]
    path = folder / "table.csv"
    path.write_text("\n".join(["x,y,kind,number", *rows]) + "\n")
    return path


def test_stopped_and_then_killed_a_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Ctrl-C prints a command; pasted, it goes on; killed, the run goes on again to the weights of one left alone."""
    alone, folder = tmp_path / "alone", tmp_path / "disturbed"
    for place in (alone, folder):
        place.mkdir()
        table(place)
    said = ended(process("train", "table.csv", "--column", "x,y", "--condition", "kind", *LONG, at=alone))
    assert (said.code, said.err) == (0, "")

    child = begun(folder, 25, "train", "table.csv", "--column", "x,y", "--condition", "kind", *LONG)
    child.send_signal(signal.SIGINT)
    said = ended(child)
    assert (said.code, said.err) == (130, "")
    run = folder / "runs/table"
    assert card(run)["status"] == "training"
    (line,) = [line for line in said.out.splitlines() if line.startswith("    pushforward")]
    assert line.strip() == "pushforward train table.csv --out runs/table --resume"
    step = int(said.out.split("Stopped after step ")[1].split(f" of {STEPS}")[0])
    assert 25 <= step < STEPS
    assert f"step-{step:08d}" in [path.name for path in (run / "checkpoint").iterdir()]
    curve = (run / "metrics.jsonl").read_text()
    assert curve

    child = begun(folder, 25 * (step // 25 + 2), *shlex.split(line)[1:])
    child.kill()
    assert ended(child).code == -signal.SIGKILL
    assert card(run)["status"] == "training"
    assert not (run / "weights.safetensors").exists()

    said = ended(process("train", "table.csv", "--resume", at=folder))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("Continuing runs/table\n")
    assert (run / "metrics.jsonl").read_text().startswith(curve), "it started over"
    assert weights(run) == weights(alone / "runs/table")
    assert card(run)["status"] == "finished"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A run that was interrupted after its last step, while it was compared with the data."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("interrupted")
    table(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.measure_novelty", interrupt)
        return folder, call("train", "table.csv", "--column", "x,y", "--set", "train_steps=12", *TINY, at=folder)


@pytest.fixture
def stopped(interrupted: tuple[Path, Said], tmp_path: Path) -> tuple[Path, Said]:
    """A copy of that run, which a test may change."""
    folder, said = interrupted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, said


def test_ctrl_c_after_the_last_step_loses_nothing(stopped: tuple[Path, Said]) -> None:
    folder, said = stopped
    assert said.code == 130
    command = "pushforward train table.csv --out runs/table --resume"
    assert command in said.out
    assert "not finished, 12 steps done" in done("inspect", "runs/table", at=folder)
    assert command in done("inspect", "runs/table", at=folder)
    assert f"resume it with `{command}`" in refused("sample", "runs/table", at=folder)
    done(*shlex.split(command)[1:], at=folder)
    assert card(folder / "runs/table")["result"]["already_finished"]
    done("sample", "runs/table", "-n", 2, at=folder)


def test_resume_of_other_data_is_refused(stopped: tuple[Path, Said]) -> None:
    folder, _ = stopped
    before = card(folder / "runs/table")
    assert "was trained on other data than table.csv holds now" in refused(
        "train", "table.csv", "--column", "x,number", "--resume", at=folder
    )
    text = (folder / "table.csv").read_text()
    (folder / "table.csv").write_text(text.replace(text.split("\n")[1].split(",")[0], "0.5", 1))
    assert "was trained on other data" in refused("train", "table.csv", "--resume", at=folder)
    assert card(folder / "runs/table") == before


def test_resume_takes_no_new_settings(stopped: tuple[Path, Said]) -> None:
    folder, _ = stopped
    message = refused("train", "table.csv", "--resume", "--seed", 1, "--set", "network.width=3", "--dry-run", at=folder)
    assert "omit --seed, --set network, --dry-run, or start a new run" in message


def test_a_tracker_is_given_again(stopped: tuple[Path, Said]) -> None:
    folder, _ = stopped
    facts = card(folder / "runs/table")
    facts["resolved"]["training"]["tracker"] = "comet"
    (folder / "runs/table/model.json").write_text(json.dumps(facts))
    said = call("train", "table.csv", "--resume", "--set", "training.tracker=comet", at=folder)
    assert "tracker='comet' is not one that accelerate knows" in said.err
    message = refused("train", "table.csv", "--resume", "--set", "prior.training.tracker=comet", at=folder)
    assert "has no prior.training.tracker; it has training.tracker" in message
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        said = call("train", "table.csv", "--resume", at=folder)
    assert said.code == 0
    assert "names the tracker 'comet', but a folder never starts one" in said.err
    assert "add --set training.tracker=comet" in said.err


def test_a_run_in_use_is_neither_resumed_nor_changed(stopped: tuple[Path, Said]) -> None:
    folder, _ = stopped
    run = folder / "runs/table"
    content = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with claimed(run):
        message = refused("train", "table.csv", "--resume", at=folder)
        assert f"runs/table is in use by process {os.getpid()} on " in message
        refused("calibrate", "runs/table", at=folder)
        refused("fit-classifier", "runs/table", "table.csv", "--condition", "kind", at=folder)
        with pytest.raises(FolderInUse):
            pf.train(folder / "table.csv", out=run, resume=True)
    assert content == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_runs_that_start_at_once_each_get_a_folder(tmp_path: Path) -> None:
    """Every folder holds one finished run of a seed of its own."""
    short = ("--set", "network.width=8", "--set", "train_steps=3", "--device", "cpu")
    children = [process("train", "moons", *short, "--seed", seed, at=tmp_path) for seed in range(3)]
    for child in children:
        assert ended(child).err == ""
    folders = [tmp_path / "runs" / name for name in ("moons", "moons-2", "moons-3")]
    assert sorted((tmp_path / "runs").iterdir()) == folders
    assert sorted(card(run)["seed"] for run in folders) == [0, 1, 2]
    assert {card(run)["status"] for run in folders} == {"finished"}
    assert len({weights(run) for run in folders}) == 3
    assert not [run for run in folders if (run / ".lock").exists()]


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    refused("train", "moons", "--max-time", "0.001s", *TINY, at=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_resume_without_a_run_is_refused(tmp_path: Path) -> None:
    assert "there is no run runs/moons to resume" in refused("train", "moons", "--resume", at=tmp_path)
    assert "nowhere is not a run folder" in refused("train", "moons", "--resume", "--out", "nowhere", at=tmp_path)


def test_a_second_run_gets_a_number_and_resume_takes_the_newest(tmp_path: Path) -> None:
    short = ("--set", "train_steps=2", "--set", "held_out=0", *TINY)
    for _ in range(2):
        done("train", "moons", *short, at=tmp_path)
    first = weights(tmp_path / "runs/moons")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["moons", "moons-2"]
    assert weights(tmp_path / "runs/moons-2") == first
    assert "runs/moons-2 is finished: there is nothing to resume" in done("train", "moons", "--resume", at=tmp_path)
    assert "runs/moons is finished" in done("train", "moons", "--resume", "--out", "runs/moons", at=tmp_path)
    (tmp_path / "runs/moons").rename(tmp_path / "runs/moons-7")
    (tmp_path / "runs/moons-7/model.json").write_text(json.dumps(card(tmp_path / "runs/moons-7") | {"status": "training"}))
    assert "Continuing runs/moons-7" in done("train", "moons", "--resume", at=tmp_path)
    assert weights(tmp_path / "runs/moons-7") == first
