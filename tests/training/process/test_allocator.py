import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pushforward.training.process.allocator import keep_freed_memory

SOURCE = Path(__file__).parents[3] / "src"
PROGRAM = """
import ctypes, sys, torch
from pushforward.training.process.allocator import keep_freed_memory

class Statistics(ctypes.Structure):  # struct mallinfo2 of glibc
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Statistics
for keep in (False, True):
    assert not keep or keep_freed_memory()
    for _ in range(3):
        blocks = [torch.ones(1 << 20) for _ in range(20)]
        del blocks
    sys.stdout.write(f"{mallinfo().fordblks >> 20} ")
"""
HAS_STATISTICS = hasattr(ctypes.CDLL(None), "mallinfo2")


def kept_mebibytes() -> list[int]:
    """Return how much freed memory a process holds after three steps of 20 blocks of 4 MiB, by default and told to keep it."""
    path = os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    # Blocks of this size are returned to the system at once; else it depends on what lies behind them.
    plain["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=plain | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(not (keep_freed_memory() and HAS_STATISTICS), reason="another allocator than glibc 2.33 or later")
def test_freed_memory_stays_in_the_process() -> None:
    by_default, told = kept_mebibytes()
    assert by_default < 60
    assert told >= 80


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        assert not keep_freed_memory()
    finally:
        keep_freed_memory.cache_clear()
