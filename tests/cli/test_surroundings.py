"""What the terminal, the disk, the launcher and the machine are, and requests that they cannot meet."""

import errno
import io
import os
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from command_line import TINY, call, done, refused

import pushforward as pf
from pushforward.cli import main
from pushforward.evaluation.progress import PartProgress
from pushforward.training.process.world import World
from pushforward.training.record.progress import Progress


def screen(encoding: str, *, terminal: bool = False) -> io.TextIOWrapper:
    """Return a strict stream of an encoding, whose bytes are ``stream.buffer.getvalue()``."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)
    if terminal:
        stream.isatty = lambda: True  # type: ignore[method-assign]
    return stream


def shown(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.full)])
def test_commands_print_in_any_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = (
        ("train", "moons", "--set", "train_steps=3", *TINY),
        ("score", "runs/moons", "moons", "--rows", "3", "--steps", "4"),
    )
    for words in runs:
        out, err = screen(encoding), screen(encoding)
        with mock.patch.multiple(sys, argv=["pushforward", *words], stdout=out, stderr=err), pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        assert shown(err) == ""
        assert ("step 3 of 3" in shown(out)) == (words[0] == "train")


def test_progress_prints_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    out = screen("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with Progress(3, 0, visible=True) as line:
        line.note(loss=0.5)
        line.tick(3)
    with PartProgress(True) as progress:
        progress.begin("speed")
        progress.end("speed", "8×8")
    assert shown(out) == "step 3 of 3 | loss 0.5 | 0 s left\nspeed: failed: 8x8\n"


@pytest.mark.parametrize(
    ("variables", "colored"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": ""}, True),
    ],
)
def test_colors_only_where_they_are_wanted(variables: dict[str, str], colored: bool, tmp_path: Path) -> None:
    for words in (["sample", str(tmp_path)], ["show", "--list"]):
        streams = {"stdout": screen("utf-8", terminal=True), "stderr": screen("utf-8", terminal=True)}
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")} | variables
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.multiple(sys, argv=["pushforward", *words], **streams),
            pytest.raises(SystemExit),
        ):
            main()
        assert ("\x1b[" in "".join(map(shown, streams.values()))) == colored


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    done("train", "moons", "--set", "train_steps=2", "--out", "run", *TINY, at=folder)
    done("train", "moons", "--model", "gmm", "--set", "n_components=2", "--out", "gmm", at=folder)
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "moons", "--model", "gmm", "--set", "n_components=1000000"],
            "n_components=1,000,000 is more than the 9,000",
        ),
        (["train", "moons", "--set", "training.batch_size=1000000000000"], "batch_size=1,000,000,000,000 takes about"),
        (["train", "moons", "--device", "meta"], "device 'meta' cannot be used"),
        (["train", "moons", "--out", "/proc/none/run"], "nothing can be written into /proc/none/run (No such file"),
        (
            ["sample", "run", "-n", "1000000000000"],
            "n=1,000,000,000,000 takes about 32,000 GB of memory, more than this machine",
        ),
        (["sample", "gmm", "-n", "1000000000000"], "n=1,000,000,000,000 takes about"),
        (["sample", "run", "--steps", "100000000"], "steps must be at most 100,000, got 100,000,000"),
        (["sample", "run", "--steps", "100000000", "--sampler", "heun"], "steps must be at most 100,000"),
        (["score", "run", "moons", "--steps", "100000000"], "steps must be at most 100,000"),
        (["score", "run", "moons", "--bound", "--steps", "100000000"], "steps must be at most 100,000"),
        (["bench", "samplers", "--steps", "100000000"], "steps must be at most 100,000"),
    ],
)
def test_what_is_too_much_is_said_at_once(words: list[str], message: str, home: Path) -> None:
    before = sorted(home.rglob("*"))
    began = time.monotonic()
    assert message in refused(*words, at=home)
    assert time.monotonic() - began < 20
    assert sorted(home.rglob("*")) == before


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has room for the card and the first checkpoint; later the command goes on to the weights of one run."""
    words = ("train", "moons", "--set", "train_steps=12", "--set", "training.checkpoint_every=4", *TINY)
    done(*words, "--out", "whole", at=tmp_path)
    flush, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = call(*words, "--out", "run", at=tmp_path)
    assert said.code == 2
    assert said.err.startswith("Error: the disk of run is full; make room, and continue from the last checkpoint with:\n\n")
    assert "    pushforward train moons --out run --resume\n" in said.err
    assert not list((tmp_path / "run").rglob("*.new"))
    done("train", "moons", "--out", "run", "--resume", at=tmp_path)
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_launch_of_several_processes_that_started_one_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are those that ``accelerate launch --num_processes 2`` sets where there is no GPU."""
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match=r"started only this one.*ACCELERATE_USE_CPU=true accelerate launch --multi_gpu"):
        World("cpu")
    monkeypatch.delenv("MASTER_ADDR")
    World("cpu")


def test_limits_hold_in_python() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match="n_components=46 is more than the 45 training rows; set fewer, or omit it"):
        pf.GMM(n_components=46, random_state=0).fit(X)
    model = pf.PPCA(random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"draw them in parts: sample\(1000, seed=s, first=0\)"):
        model.sample(10**13)
    with pytest.raises(ValueError, match="steps must be at most 100,000"):
        pf.DDIM().nfe(10**8)
