"""Hangs of a process on any machine, however busy: CPU time that it used, or sleep with nothing done, never time on the clock.

A process that only waits for a turn on the processor is ready to run, so it neither computes nor sleeps and is left alone.
"""

import contextlib
import faulthandler
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PERIOD = 0.5  # seconds between two looks
_STOP, _END = signal.SIGPROF, signal.SIGUSR1
_TASK = struct.Struct("dq")  # CPU time at which a call began, or -1 between calls; the number of the call


class Pulse:
    """What another process does, by a look now and then."""

    def __init__(self, process: int) -> None:
        self._process, self._cpu, self.idle = process, -1.0, 0.0

    def look(self, seconds: float) -> float:
        """Return its CPU time; :attr:`idle` counts the seconds since the last look if all its threads slept and nothing ran."""
        cpu, states = self._cpu, set()
        with contextlib.suppress(OSError):  # it may have ended
            cpu = _read(f"/proc/{self._process}/stat")[1]
            states = {_read(str(path))[0] for path in Path(f"/proc/{self._process}/task").glob("*/stat")}
        self.idle = self.idle + seconds if cpu == self._cpu and states == {"S"} else 0.0
        self._cpu = cpu
        return cpu


def _read(stat: str) -> tuple[str, float]:
    """Return the state and the CPU time in a file ``stat`` of /proc."""
    words = Path(stat).read_text().rpartition(")")[2].split()
    return words[0], (int(words[11]) + int(words[12])) * _TICK


class Hang(BaseException):
    """A call that computes or sleeps for too long."""


class Watchdog:
    """Ends calls of this process that use more than ``cpu`` seconds of CPU time, or sleep for ``sleep`` seconds.

    First :class:`Hang` is raised in the call. If that has no effect within the same time again, as in code outside Python, the
    process prints where it stands and ends.
    """

    def __init__(self, cpu: float, sleep: float) -> None:
        self._limits = cpu, sleep

    def __enter__(self) -> "Watchdog":
        self._file: IO[bytes] = tempfile.TemporaryFile()
        self._file.write(_TASK.pack(-1, 0))
        self._file.flush()
        self._task = mmap.mmap(self._file.fileno(), _TASK.size)
        self._before = signal.signal(_STOP, self._raise)
        signal.signal(_END, signal.SIG_DFL)
        faulthandler.register(_END, chain=True)  # writes the traceback even while C code holds the interpreter's lock
        words = [str(os.getpid()), str(self._file.fileno()), *map(str, self._limits)]
        self._process = subprocess.Popen([sys.executable, "-I", __file__, *words], pass_fds=[self._file.fileno()])
        return self

    @contextlib.contextmanager
    def call(self, number: int) -> Iterator[None]:
        """Watch what is done inside; the number is told if the process has to end."""
        self._task[:] = _TASK.pack(time.process_time(), number)
        try:
            yield
        finally:
            self._task[:] = _TASK.pack(-1, number)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        faulthandler.unregister(_END)
        signal.signal(_STOP, self._before)
        self._task.close()
        self._file.close()

    def _raise(self, *_: object) -> None:
        if _TASK.unpack(self._task[:])[0] >= 0:  # else the call ended in between
            raise Hang


def main() -> None:
    """Watch the parent process."""
    process, file, cpu_limit, sleep_limit = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    task, pulse, seen = mmap.mmap(file, _TASK.size), Pulse(process), b""
    told: tuple[float, float] | None = None  # the CPU time and the sleep of the call when it was told to stop
    while os.getppid() == process:
        time.sleep(_PERIOD)
        cpu = pulse.look(_PERIOD)
        now = task[:]
        began, number = _TASK.unpack(now)
        if now != seen or began < 0:
            seen, told, pulse.idle = now, None, 0.0
            continue
        used = cpu - began
        if told is None and (used > cpu_limit or pulse.idle > sleep_limit):
            told = used, pulse.idle
            os.kill(process, _STOP)
        elif told is not None and (used - told[0] > cpu_limit or pulse.idle - told[1] > sleep_limit):
            sys.stderr.write(f"call {number} hangs: {used:.0f} s of CPU time, {pulse.idle:.0f} s of sleep\n")
            os.kill(process, _END)
            return


if __name__ == "__main__":
    main()
