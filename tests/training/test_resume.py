"""A run killed at any moment and resumed ends with the weights of an uninterrupted one, bit for bit: real processes."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import train_child
from forked import Forked
from safetensors.torch import load_file
from tiny_task import Tiny, equal_states, rows

from pushforward.training import Task, TrainingSettings, train
from pushforward.training.record.checkpoint import FolderStore

TIMES = {"seconds", "rows_per_second"}


def child(folder: Path, *options: str) -> Forked:
    """Train in a process of its own, to its end."""
    process = Forked(train_child.main, str(folder), *options, at=folder)
    process.communicate(timeout=120)
    return process


def metrics(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def same_run(one: Path, two: Path) -> None:
    """Compare final weights, both kept checkpoints with all their tensors, and the curve."""
    assert equal_states(load_file(one / "final.safetensors"), load_file(two / "final.safetensors"))
    files = sorted(path.relative_to(one) for path in (one / "checkpoint").glob("step-*/*.safetensors"))
    assert len(files) == 2 * 4
    for file in files:
        assert equal_states(load_file(one / file), load_file(two / file)), file
    assert metrics(one) == metrics(two)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = child(folder)
    assert done.returncode == 0, done.said()
    return folder


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--kill-at", "7"], [0]),
        (["--kill-at", "50"], [30, 45]),
        (["--kill-in-write", "step-00000045/optimizer"], [15, 30]),
    ],
    ids=["before the first checkpoint", "between two checkpoints", "while a checkpoint is written"],
)
def test_killed_and_resumed_run_equals_the_uninterrupted_one(
    options: list[str], left: list[int], uninterrupted: Path, tmp_path: Path
) -> None:
    options = [option.replace("step-", ".partial-step-") for option in options]
    killed = child(tmp_path, *options)
    assert killed.returncode == -signal.SIGKILL, killed.said()
    assert sorted(int(path.name[5:]) for path in (tmp_path / "checkpoint").glob("step-*")) == left
    resumed = child(tmp_path)
    assert resumed.returncode == 0, resumed.said()
    same_run(uninterrupted, tmp_path)
    assert not list((tmp_path / "checkpoint").glob(".*"))


@pytest.mark.full  # a hundred kills
@pytest.mark.parametrize("seed", range(25))
def test_a_run_killed_in_each_quarter_equals_the_uninterrupted_one(seed: int, uninterrupted: Path, tmp_path: Path) -> None:
    """Kills at random steps and in any file of any checkpoint; only this kills a run that was resumed."""
    draw = random.Random(seed)
    for quarter in range(4):
        if draw.random() < 0.5:
            moment = ["--kill-at", str(draw.randrange(15 * quarter, 15 * quarter + 15))]
        else:
            file = draw.choice(["weights", "ema", "optimizer", "best", "manifest"])
            moment = ["--kill-in-write", f".partial-step-{15 * quarter + 15:08d}/{file}"]
        killed = child(tmp_path, *moment)
        assert killed.returncode == -signal.SIGKILL, (moment, killed.said())
    resumed = child(tmp_path)
    assert resumed.returncode == 0, resumed.said()
    same_run(uninterrupted, tmp_path)


def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(uninterrupted: Path, tmp_path: Path) -> None:
    process = Forked(train_child.main, str(tmp_path), "--slow", at=tmp_path)
    while process.said()[0] != "running\n":
        assert process.poll() is None, process.said()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    output = output.removeprefix("running\n")
    step = int(output.split()[2])
    assert 5 < step < 60
    assert "resume=True" in output
    assert str(tmp_path) in output
    assert (tmp_path / "checkpoint" / f"step-{step:08d}").is_dir()
    assert child(tmp_path).returncode == 0
    same_run(uninterrupted, tmp_path)


def small_run(folder: Path, task: Tiny | None = None, **changes: object) -> Tiny:
    task = Tiny() if task is None else task
    settings = TrainingSettings(**({"steps": 20, "batch_size": 8, "checkpoint_every": 5} | changes))  # type: ignore[arg-type]
    train(task, rows(30), settings=settings, seed=3, held_out=(rows(10, seed=1), None), folder=folder, resume=True)
    return task


def test_a_finished_run_returns_at_once_with_the_same_weights(tmp_path: Path) -> None:
    first, again = Tiny(), Tiny()
    settings = TrainingSettings(steps=20, batch_size=8, learning_rate=0.02)
    # Held-out rows of the opposite law get worse from the start, so the best average is not the last one.
    held_out = (-5 * rows(10, seed=1), None)
    before = train(first, rows(30), settings=settings, seed=3, held_out=held_out, folder=tmp_path)
    curve = (tmp_path / "metrics.jsonl").read_bytes()
    result = train(again, rows(30), settings=settings, seed=3, held_out=held_out, folder=tmp_path, resume=True)
    assert before.held_out_step is not None
    assert before.held_out_step < 20
    assert result.already_finished
    assert not before.already_finished
    assert (result.held_out_loss, result.held_out_step) == (before.held_out_loss, before.held_out_step)
    assert equal_states(first.state_dict(), again.state_dict())
    assert (tmp_path / "metrics.jsonl").read_bytes() == curve


def damage(path: Path) -> None:
    """Change a number, so that the file can still be read."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".json":
        content = content.replace(b'"best_loss": 0.', b'"best_loss": 7.')
        content = content.replace(b'"best_loss": 1.', b'"best_loss": 7.')
        assert b'"best_loss": 7.' in content
    else:
        content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "manifest.json", "cut", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it(file: str, tmp_path: Path) -> None:
    whole = small_run(tmp_path / "whole")
    folder = tmp_path / "damaged"
    small_run(folder)
    newest = folder / "checkpoint" / "step-00000020"
    if file == "cut":
        manifest = newest / "manifest.json"
        manifest.write_bytes(manifest.read_bytes()[:100])
    elif file == "missing":
        (newest / "ema.safetensors").unlink()
    else:
        damage(newest / file)
    task = Tiny()
    with pytest.warns(RuntimeWarning, match="step-00000020 is damaged.*falling back"):
        small_run(folder, task)
    assert equal_states(whole.state_dict(), task.state_dict())


def test_a_run_whose_checkpoints_are_all_damaged_starts_over_and_keeps_sound_ones(tmp_path: Path) -> None:
    whole = small_run(tmp_path)
    for file in (tmp_path / "checkpoint").glob("*/weights.safetensors"):
        damage(file)
    store = FolderStore(tmp_path / "checkpoint")
    task = Tiny()
    kept = []

    def look(_: Task, step: int) -> None:
        kept.append((step, store.steps()))

    settings = TrainingSettings(steps=20, batch_size=8, checkpoint_every=5)
    with pytest.warns(RuntimeWarning, match="damaged"):
        train(
            task,
            rows(30),
            settings=settings,
            seed=3,
            held_out=(rows(10, seed=1), None),
            folder=tmp_path,
            resume=True,
            on_grid=look,
        )
    assert kept == [(4, [0]), (8, [0, 5]), (12, [5, 10]), (16, [10, 15])]
    assert equal_states(whole.state_dict(), task.state_dict())


def test_resume_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "loss": 99.0}\n')
    small_run(tmp_path)
    assert all(line["loss"] != 99.0 for line in metrics(tmp_path))


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    small_run(tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        train(Tiny(), rows(30), settings=TrainingSettings(steps=20, batch_size=8), seed=3, folder=tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    small_run(tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate=0.001 \(now 0.5\)"):
        small_run(tmp_path, learning_rate=0.5)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    small_run(tmp_path)
    other = Tiny(torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Linear(9, 3)))
    with pytest.raises(ValueError, match="belong to another model"):
        small_run(tmp_path, other)


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    small_run(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json", ".jsonl"}
