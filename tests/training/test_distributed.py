"""Two real processes train the same weights as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import train_child
from forked import Forked
from safetensors.torch import load_file

from pushforward.training.process.world import World

SUPPORT = Path(__file__).parent.parent / "support"
SOURCE = Path(__file__).parent.parent.parent / "src"
# --multi_gpu is what accelerate calls several processes on one machine; on the CPU with ACCELERATE_USE_CPU=true.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def launch(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(SOURCE), str(SUPPORT), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, *LAUNCH, str(SUPPORT / "train_child.py"), str(folder), *options]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.full  # two processes that import everything anew
def test_two_processes_with_unequal_shares_train_the_weights_of_one(tmp_path: Path) -> None:
    options = ("--plain", "--batch-size", "7")
    alone = Forked(train_child.main, str(tmp_path / "one"), *options, at=tmp_path)
    done = launch(tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    alone.communicate(timeout=60)
    for name, count in (("one", "1"), ("two", "2")):
        assert (tmp_path / name / "processes").read_text() == count
    one, two = (load_file(tmp_path / name / "final.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    curves = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("one", "two")
    ]
    assert [line["step"] for line in curves[0]] == [line["step"] for line in curves[1]]
    for key in ("loss", "held_out_loss"):
        values = [[line[key] for line in curve if key in line] for curve in curves]
        assert values[1] == pytest.approx(values[0], rel=1e-4)


@pytest.mark.full  # starts two processes to check one condition
def test_fewer_rows_than_processes_are_refused_before_training(tmp_path: Path) -> None:
    done = launch(tmp_path, "--plain", "--batch-size", "1")
    assert done.returncode != 0
    assert "less than one row for each of 2 processes" in done.stderr
    assert not list(tmp_path.glob("checkpoint/*"))


def test_processes_that_cannot_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="each would train alone"):
        World()
