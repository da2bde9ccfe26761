"""What the studio costs: its start, and a training on points in the plane with and without a watcher.

    python benchmarks/studio.py [--steps 600] [--rounds 3]

Seconds of the CPU, not of the clock, so that other work on the machine matters little. The budget is 2 s from the import to the
address, 5 updates per second on one core, and 5 % of a training.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SOURCE = "eight-gaussians"


def imported() -> float:
    """Return the CPU seconds of the import of the studio."""
    words = "import time; import pushforward.studio.app; print(time.process_time())"
    ran = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[-1])


def started(folder: Path) -> float:
    """Return the CPU seconds of a process until it prints the address of the page."""
    command = [sys.executable, "-u", "-m", "pushforward", "studio", "--folder", str(folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        while "token=" not in server.stdout.readline():
            pass
        times = psutil.Process(server.pid).cpu_times()
        server.kill()
    return times.user + times.system


def trained(folder: Path, steps: int, turn: int, *, watched: bool) -> tuple[float, float, float]:
    """Return CPU milliseconds per step, scenes per second of the clock, and CPU milliseconds per scene."""
    from pushforward.models.live import LiveModel
    from pushforward.studio import views
    from pushforward.studio.workspace import Workspace

    run = folder / f"run-{turn}-{watched}"
    words = ["train", SOURCE, "--out", str(run), "--set", f"train_steps={steps}", "--device", "cpu", "--seed", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "pushforward", *words], env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )
    process, metrics = psutil.Process(child.pid), run / "metrics.jsonl"

    def step() -> int:
        return (
            int(json.loads(metrics.read_text().splitlines()[-1])["step"]) if metrics.is_file() and metrics.stat().st_size else 0
        )

    while not step():
        time.sleep(0.05)
    live = LiveModel(run, SOURCE) if watched else None
    view = None if live is None else views.View.of(live.model, Workspace(folder), SOURCE, live)
    first, before, clock, scenes, own = step(), process.cpu_times(), time.perf_counter(), 0, 0.0
    while (last := step()) < 0.8 * steps:
        began = time.process_time()
        if view is not None and view.live is not None and view.live.refresh():
            views.scene(view, 0.5)
            scenes += 1
        own += time.process_time() - began
        time.sleep(0.02)
    after, clock = process.cpu_times(), time.perf_counter() - clock
    child.kill()
    child.wait()
    used = after.user + after.system - before.user - before.system
    return 1000 * used / (last - first), scenes / clock, 1000 * own / max(scenes, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    steps, rounds = options.steps, options.rounds
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "studio").mkdir()
        imported()  # fills the caches of files
        took, start = min(imported() for _ in range(rounds)), min(started(Path(place) / "studio") for _ in range(rounds))
        print(f"import {took:.2f} s of CPU, {start:.2f} s until the address is open (the least of {rounds} each)")
        runs: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
        for turn in range(rounds):
            for watched in runs:
                runs[watched].append(trained(Path(place), steps, turn, watched=watched))
        alone, beside = (min(step for step, _, _ in found) for found in runs.values())
        _, rate, scene = sorted(runs[True], key=lambda found: found[1])[rounds // 2]
        print(f"a step {alone:.2f} ms alone, {beside:.2f} ms watched: {beside / alone - 1:+.1%} (the least of {rounds} each)")
        print(f"{rate:.1f} scenes per second, each {scene:.0f} ms of CPU: {1000 / max(scene, 1e-9):.1f} on one core")


if __name__ == "__main__":
    main()
