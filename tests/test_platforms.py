"""What differs between machines: locales and their encodings, homes that cannot be written to, process start methods, names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pushforward as pf
from pushforward.evaluation.comparison.compare import _named

SOURCE = Path(pf.__file__).parents[1]
SPAWNED = """
import multiprocessing
import sys

import pushforward as pf

if __name__ == "__main__":
    model = pf.GMM(n_components=1, random_state=0).fit([[0.0], [1.0], [3.0], [4.0]])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(model.sample, (4,), {"seed": 1})
        fitted = pool.apply(pf.GMM(n_components=1, random_state=0).fit, ([[0.0], [1.0], [3.0], [4.0]],))
    assert (there == model.sample(4, seed=1)).all()
    assert (fitted.sample(4, seed=1) == there).all()
    print("same")
"""


def process(*words, at, **variables):
    """Run Python with these variables of the environment and no others of the user's."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run([sys.executable, *words], cwd=at, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, id="ascii, no home"),
        pytest.param({"LC_ALL": "tr_TR.UTF-8", "HOME": "/proc/none"}, id="Turkish, read-only home", marks=pytest.mark.full),
    ],
)
def test_a_run_with_names_of_any_script_under_odd_locales_and_homes(variables, tmp_path):
    rows = {"Straße": ["Köln", "İzmir"] * 40, "Größe": np.linspace(0.25, 20, 80).round(2)}
    pd.DataFrame(rows).to_csv(tmp_path / "ölçü.csv", index=False, encoding="utf-8")
    tiny = ["--set", "n_states=2", "--set", "n_trees=1", "--set", "shrinkage=1.0"]
    told = process(
        "-m", "pushforward", "train", "ölçü.csv", "--model", "circuit", *tiny, "--out", "run", at=tmp_path, **variables
    )
    assert told.returncode == 0, told.stderr
    assert "Traceback" not in told.stderr
    if "HOME" not in variables:  # without a home that it can write to, matplotlib says on two lines where its cache is
        assert told.stderr == ""
    frame = pf.load(tmp_path / "run").sample(5, seed=0)
    assert list(frame) == list(rows)
    assert set(frame["Straße"]) <= {"Köln", "İzmir"}


@pytest.mark.full  # two processes that import torch
def test_models_go_to_processes_that_are_spawned(tmp_path):
    (tmp_path / "program.py").write_text(SPAWNED)
    told = process("-W", "error", "program.py", at=tmp_path, HOME=str(tmp_path))
    assert (told.stdout.strip(), told.stderr) == ("same", "")


def test_folders_of_compared_models_differ_in_more_than_case():
    """Some file systems keep "GMM" and "gmm" in one folder."""
    models = {"GMM": pf.GMM(), "gmm": pf.GMM(), "Gmm": pf.GMM()}
    assert list(_named(models, pf.open_data("moons"))) == ["GMM", "gmm-2", "Gmm-3"]
