"""Memory and speed of training on rows that stay on disk, beside the same training from memory.

    python benchmarks/larger_than_memory.py [--megabytes 1000] [--steps 300] [--folder DIR]

Writes images of 32 x 32 x 3 bytes at random, and trains a flow of one small layer on them, so that reading is a large part of a
step. Each training is a process of its own, whose anonymous memory (RssAnon: mapped pages of files do not count) is sampled ten
times a second. The idle process has imported the library and trained for a step on a few rows.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_CODE = """
import json, sys, time
import numpy as np
import torch
import pushforward as pf

path, stream, steps = sys.argv[1], sys.argv[2] == "True", int(sys.argv[3])
torch.set_num_threads(1)
network = pf.MLPSpec(width=32, depth=1)

def model(steps, **given):
    settings = pf.TrainingSettings(steps=steps, batch_size=64, evaluations=1)
    return pf.FlowMatching(network=network, training=settings, random_state=0, kind="vectors", **given)

model(1).fit(np.random.default_rng(0).integers(0, 255, size=(100, 3072), dtype=np.uint8))
print("ready", flush=True)
sys.stdin.readline()
fitted = model(steps, stream=stream).fit(path)
weights = sum(float(value.double().sum()) for value in fitted._state()[1].values())
print(json.dumps({"seconds": fitted.training_result_.seconds, "weights": weights}), flush=True)
"""


def anonymous(pid: int) -> float:
    """Return the anonymous memory of a process in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def trained(path: Path, stream: bool, steps: int) -> dict[str, float]:
    """Return the seconds of training, the sum of the weights, and the megabytes above the idle process."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(path), str(stream), str(steps)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()
    idle = most = anonymous(child.pid)
    child.stdin.write("\n")
    child.stdin.flush()
    while child.poll() is None:
        try:
            most = max(most, anonymous(child.pid))
        except (FileNotFoundError, StopIteration):
            break
        time.sleep(0.1)
    answer = child.stdout.readline()
    found = json.loads(answer) if answer else {"seconds": math.nan, "weights": math.nan}  # the system has ended the process
    return found | {"added": most - idle}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path, rows = Path(folder) / "rows.npy", given.megabytes * 1_000_000 // 3072
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(rows, 3072))
        generator = np.random.default_rng(0)
        for first in range(0, rows, 10_000):
            array[first : first + 10_000] = generator.integers(0, 256, size=(min(10_000, rows - first), 3072), dtype=np.uint8)
        array.flush()
        del array
        print(f"{rows:,} rows, {given.megabytes:,} MB; {given.steps} steps of 64 rows")
        print("| rows | seconds of training | MB above the idle process | share of the data | sum of the weights |")
        print("|---|---|---|---|---|")
        for stream in (True, False, True, False):
            found = trained(path, stream, given.steps)
            print(
                f"| {'on disk' if stream else 'in memory'} | {found['seconds']:.2f} | {found['added']:.0f} | "
                f"{found['added'] / given.megabytes:.2f} | {found['weights']:.12g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
