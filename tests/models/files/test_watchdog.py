"""The watchdog of the fuzzer ends what computes or waits for too long, and nothing that only waits for its turn."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from watchdog import Hang, Pulse, Watchdog

LIMIT = 0.5  # seconds, of CPU time and of sleep


def _loop(_):
    while True:
        pass


def _read_pipe(folder):
    (folder / "pipe").open().close()


def _lock_twice(_):
    """Wait in C, whatever signals come, with the interpreter's lock held."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)


def _watched(call, folder):
    with Watchdog(LIMIT, LIMIT) as watchdog, watchdog.call(7):
        call(folder)


@pytest.mark.parametrize("call", [_loop, _read_pipe])
def test_what_hangs_is_ended(call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    began = time.process_time()
    with pytest.raises(Hang):
        _watched(call, tmp_path)
    assert time.process_time() - began < 2


def test_a_process_that_takes_no_exception_says_where_it_stands_and_ends(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_watched, args=(_lock_twice, tmp_path))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGUSR1


def test_a_process_that_gets_no_turn_is_left_alone():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    with contextlib.ExitStack() as stack:
        stack.callback(child.wait)
        stack.callback(child.kill)
        pulse = Pulse(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        for _ in range(5):
            time.sleep(0.05)
            pulse.look(1.0)
        assert pulse.idle == 0


def test_a_process_that_sleeps_is_seen():
    with subprocess.Popen(["sleep", "60"]) as child:
        pulse = Pulse(child.pid)
        for _ in range(5):
            time.sleep(0.05)
            pulse.look(1.0)
        child.kill()
        assert pulse.idle >= 3
