"""The command line, called inside this process or as a process of its own."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from forked import Forked

from pushforward.cli import main

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


def process(*words: object, at: Path, site: Path | None = None) -> Forked:
    """Start ``pushforward WORDS`` as a process of its own on one thread in the folder ``at``; warnings are errors.

    ``site`` is a folder of packages that only this process has.
    """
    return Forked(_main, site, *words, at=at)


def _main(site: Path | None, *words: object) -> None:
    if site is not None:
        sys.path.insert(0, str(site))
    sys.argv = ["pushforward", *map(str, words)]
    main()


def ended(child: Forked) -> Said:
    """Wait for a process to end."""
    out, err = child.communicate(timeout=120)
    assert child.returncode is not None
    return Said(child.returncode, out, err)
