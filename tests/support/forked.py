"""Processes of their own that start in milliseconds: forked from a server that has imported torch and the library.

They are real processes: they have their own streams and folder, take signals, and can be killed.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from blank import blank_figures, of_run

SUPPORT = Path(__file__).parent
SOURCE = SUPPORT.parents[1] / "src"
_CONTEXT = multiprocessing.get_context("forkserver")
_IMPORTED = ["torch._dynamo", "pushforward.cli.app", "pushforward.models.run", "pushforward.models.denoising.flow_matching"]
_IMPORTED += ["blank", "pushforward.evaluation", "pushforward.plots", "accelerate", "pandas", "tiny_task"]


class Forked:
    """A process that calls a function of a module, in the folder ``at``, on one thread; warnings are errors.

    Methods and attributes are those of :class:`subprocess.Popen`.
    """

    def __init__(self, function: Callable[..., object], *arguments: object, at: Path) -> None:
        self._all: tuple[str, str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._streams = [Path(self._folder.name) / name for name in ("out", "err")]
        for stream in self._streams:
            stream.touch()
        path = os.pathsep.join((str(SOURCE), str(SUPPORT), os.environ.get("PYTHONPATH", "")))
        with mock.patch.dict(os.environ, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
            _CONTEXT.set_forkserver_preload(_IMPORTED)
            forkserver.ensure_running()
        self._process = _CONTEXT.Process(target=_enter, args=(at, self._streams, function, arguments))
        self._process.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def said(self) -> tuple[str, str]:
        """Return what it has written to stdout and to stderr so far."""
        if self._all is not None:
            return self._all
        out, err = (stream.read_text() for stream in self._streams)
        return out, err

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it has not ended in time"
        self._all = self.said()
        self._folder.cleanup()
        return self._all


def _enter(at: Path, streams: list[Path], function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    os.chdir(at)
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("error")
    with contextlib.contextmanager(blank_figures)(of_run):  # plots would take most of the time
        function(*arguments)
