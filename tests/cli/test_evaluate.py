"""``pushforward evaluate``: what it writes and shows, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from command_line import call, done, refused

from pushforward.evaluation import Evaluation, Measure
from pushforward.evaluation.parts.parts import parts_of


@pytest.fixture(autouse=True)
def _without_classifier(monkeypatch):
    """Takes the slowest metric out: its numbers are tested elsewhere."""
    monkeypatch.setitem(parts_of.__globals__, "c2st", lambda P, Q, *, seed, test: Measure(0.5, 0.4, 0.6, len(P)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run on a table with a condition among its columns."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 2)), columns=["a", "b"])
    frame["kind"] = ["x", "y"] * 200
    frame.to_csv(folder / "table.csv", index=False)
    frame[:60].to_csv(folder / "fresh.csv", index=False)
    done(
        "train",
        "table.csv",
        "--model",
        "gmm",
        "--condition",
        "kind",
        "--set",
        "held_out=0.25",
        "--seed",
        5,
        "--out",
        "run",
        at=folder,
    )
    return folder


def test_it_writes_the_figures_and_the_page(home):
    said = done("evaluate", "run", "--device", "cpu", at=home)
    found = Evaluation.load(home / "run")
    assert not found.failures
    assert (found.about["source"], found.about["run"]) == ("table.csv", "run")
    assert (found.about["training_rows"], found.about["test_rows"], found.about["n"]) == (300, 100, 100)
    assert found.find("log-density", reference="held-out").measure.n == 100
    assert "memorization: 0 s" in said
    assert str(found) in said
    assert "run/report.html" in said
    page = (home / "run" / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") or page.lstrip().startswith("<!DOCTYPE html>")
    assert "GMM" in page
    assert said.rstrip().endswith("run/evaluation.json")


def test_other_rows_are_all_held_out(home):
    words = ("--data", "fresh.csv", "--n", 40, "--seed", 3, "--out", "checks/new", "--device", "cpu")
    done("evaluate", "run", *words, at=home)
    found = Evaluation.load(home / "checks" / "new")
    assert found.about["source"] == "fresh.csv"
    assert (found.about["test_rows"], found.about["n"], found.about["seed"]) == (60, 40, 3)
    assert (home / "checks" / "new" / "report.html").is_file()


def test_what_cannot_be_done_is_said_before_any_work(home, tmp_path):
    assert "names a folder, but run/model.json is a file" in refused("evaluate", "run", "--out", "run/model.json", at=home)
    assert "give these with --data" in refused("evaluate", "run", "--condition", "kind", at=home)
    assert "is not a run folder" in refused("evaluate", "nowhere", at=home)
    assert "samples must be at least 20, got 3" in refused("evaluate", "run", "--n", 3, "--out", tmp_path, at=home)
    assert "there is no kind of device called" in refused("evaluate", "run", "--device", "abacus", at=home)
    assert "--data FILE" in refused("evaluate", home / "run", "--out", tmp_path, at=tmp_path)


def test_the_help_shows_examples(tmp_path):
    said = call("evaluate", "--help", at=tmp_path)
    assert said.code == 0
    assert "pushforward evaluate runs/digits" in said.out
