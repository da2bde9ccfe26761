import os
import subprocess
import sys
from pathlib import Path

import pytest

from pushforward.training.allocator import keep_freed_memory

SOURCE = Path(__file__).parent.parent.parent / "src"
PROGRAM = """
import resource, sys, torch
from pushforward.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    kept = [torch.ones(1 << 20) for _ in range(20)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
"""


def faults(mode: str) -> int:
    path = os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="another allocator than glibc's")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    # 20 blocks of 4 MiB are 1,024 pages each, unless the system uses huge ones.
    default, kept = faults("default"), faults("keep")
    assert kept < 50
    assert default > 10 * max(kept, 1)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        assert not keep_freed_memory()
    finally:
        keep_freed_memory.cache_clear()
