"""The command line, called inside this process or as a process of its own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pushforward.cli import main

SOURCE = Path(__file__).parent.parent.parent / "src"
TINY = ("--set", "network.width=8", "--set", "training.batch_size=32", "--device", "cpu", "--seed", "5")


@dataclass(frozen=True)
class Said:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def call(*words: object, at: Path) -> Said:
    """Run ``pushforward WORDS`` inside this process, in the folder ``at``."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["pushforward", *map(str, words)]
    code = 0
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(at), mock.patch.object(sys, "argv", argv), streams[0], streams[1]:
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def done(*words: object, at: Path) -> str:
    """Run ``pushforward WORDS``, which must succeed without a word on stderr, and return what it printed."""
    said = call(*words, at=at)
    assert (said.code, said.err) == (0, ""), said
    return said.out


def refused(*words: object, at: Path) -> str:
    """Run ``pushforward WORDS``, which must end with code 2, one message on stderr and nothing else, and return the message."""
    said = call(*words, at=at)
    assert (said.code, said.out) == (2, ""), said
    assert said.err.startswith("Error: "), said.err
    assert len(said.err.splitlines()) == 1, said.err
    return said.err


def process(*words: object, at: Path) -> subprocess.Popen[str]:
    """Start ``python -m pushforward WORDS`` on one thread in the folder ``at``; warnings are errors."""
    path = os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pushforward", *map(str, words)],
        cwd=at,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )


def _heed_ctrl_c() -> None:
    """Let Ctrl-C stop a process although the tests themselves may run in the background, where it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(child: subprocess.Popen[str]) -> Said:
    """Wait for a process to end."""
    out, err = child.communicate(timeout=120)
    return Said(child.returncode, out, err)
