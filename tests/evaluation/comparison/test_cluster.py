"""Comparisons on a cluster: a worker that is killed loses nothing, and nothing is done twice."""

import json
import os
import re
import signal
import threading
import time

import joblib
import numpy as np
import pytest

import pushforward as pf
from pushforward.evaluation import run_comparison

X = np.random.default_rng(0).normal(size=(120, 2))
MODELS = {
    "ppca": "ppca",
    "long": pf.FlowMatching(
        network=pf.MLPSpec(width=8, depth=1),
        device="cpu",
        training=pf.TrainingSettings(steps=3000, batch_size=16, log_every=50, checkpoint_every=100),
    ),
}


@pytest.mark.slow  # a cluster of two processes that import torch, train, and evaluate with whole classifiers
@pytest.mark.filterwarnings("ignore")  # those of a cluster that loses a worker
def test_a_killed_worker_of_dask_loses_nothing(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    out, killed = tmp_path / "c", []

    def kill() -> None:
        """Kill the worker that trains, once there is a checkpoint and the other model is done."""
        lock, checkpoints = out / "long/seed-0/.lock", out / "long/seed-0/checkpoint"
        for _ in range(600):
            time.sleep(0.2)
            if (out / "ppca/seed-0/evaluation.json").is_file() and checkpoints.is_dir() and any(checkpoints.glob("step-*")):
                killed.append(int(re.match(r"process (\d+)", lock.read_text())[1]))
                os.kill(killed[0], signal.SIGKILL)
                return

    watcher = threading.Thread(target=kill)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        watcher.start()
        with joblib.parallel_config("dask"):
            found = run_comparison(X, MODELS, seeds=1, samples=20, out=out)
        watcher.join()
    assert killed
    assert killed[0] != os.getpid()
    assert [trial.failure for trial in found.trials] == ["", ""]
    steps = [json.loads(line)["step"] for line in (out / "long/seed-0/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "steps that were done were done again"
    assert max(steps) == 3000
    # Bit for bit the run of a process that nobody killed.
    measured = found.trials[1].evaluation
    monkeypatch.setattr("pushforward.evaluation.comparison.compare.evaluate", lambda *_, **__: measured)
    run_comparison(X, {"long": MODELS["long"]}, seeds=1, samples=20, out=tmp_path / "alone")
    weights = [(folder / "long/seed-0/weights.safetensors").read_bytes() for folder in (out, tmp_path / "alone")]
    assert weights[0] == weights[1]
