"""Verbs in processes of their own that kill themselves at the n-th change of a folder: a file opened to write, a rename, ..."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mutations import made_models

import pushforward as pf
from pushforward.evaluation import evaluate_run, run_comparison
from pushforward.models.files import calibrations, storage

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
X = np.random.default_rng(0).normal(size=(60, 2))
LABELS = np.arange(60) % 3


def change(verb: str, folder: str, moment: int) -> None:
    """Do a verb to its end or until a change of the folder; leave the number of changes beside the folder."""
    torch.set_num_threads(1)
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and str(arguments[0]).startswith(folder):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    VERBS.get(verb, lambda place: train(verb, place))(Path(folder))
    Path(f"{folder}-changes").write_text(str(seen))


def train(name: str, folder: Path) -> None:
    """Train a model of a family, or resume its run if there is one."""
    model, data, condition = made_models(pf.TrainingSettings(steps=6, batch_size=8, checkpoint_every=2))[name]
    resume = (folder / storage.CARD).is_file()
    pf.models.train(data, None if resume else model, condition=condition, out=folder, resume=resume)


def fit_classifier(folder: Path) -> None:
    """Add a classifier to a run."""
    model = pf.load(folder)
    model.fit_classifier(X, LABELS, training=pf.TrainingSettings(steps=3, batch_size=8))
    storage.update(model, folder)


def calibrate(folder: Path) -> None:
    """Add a calibration to a run."""
    model, weights = pf.load(folder), storage.read_card(folder)["weights"]["sha256"]
    calibrations.add_calibration(folder, 4, 1.0, model.calibrate(4, noises=32, iterations=5, seed=0), weights)


def evaluate(folder: Path) -> None:
    """Evaluate a run."""
    evaluation = evaluate_run(folder, X, samples=20)
    evaluation.save(folder / "evaluation.json")
    evaluation.report(folder / "report.html")


def compare(folder: Path) -> None:
    """Compare two families."""
    run_comparison(np.concatenate((X, X + 1)), ["ppca", "gmm"], seeds=1, samples=20, out=folder)


VERBS: dict[str, Callable[[Path], None]] = {
    "fit-classifier": fit_classifier,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "compare": compare,
}


def result(verb: str, folder: Path) -> object:
    """Return what a verb left, without times, to compare."""
    if verb in ("evaluate", "compare"):
        files = sorted(folder.rglob("evaluation.json"))
        assert files, "nothing was evaluated"
        facts = [json.loads(file.read_text())["figures"] for file in files]
        return [[figure for figure in figures if figure["group"] != "speed"] for figures in facts]
    model = pf.load(folder)
    weights = {name: value.tolist() for name, value in storage.read_weights(folder, storage.read_card(folder)).items()}
    return weights, sorted(getattr(model, "calibrations_", {}))
