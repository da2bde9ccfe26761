"""``pushforward distill`` from a run to samples, scores and a graph of the map, resumed, and what it refuses."""

import re

import numpy as np
import pytest
from command_line import TINY, done, refused

import pushforward as pf
from pushforward.models.files.storage import read_card

BRIEF = ("--set", "train_steps=12", "--set", "trajectories=64", "--seed", 3, "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run on points with labels, and what was said when it was distilled."""
    folder = tmp_path_factory.mktemp("home")
    done("train", "moons", "--set", "train_steps=12", *TINY, "--out", "runs/two moons", at=folder)
    said = done("distill", "runs/two moons", *BRIEF, "--guidance-scale", 2, at=folder)
    (folder / "said").write_text(said)
    return folder


def test_says_what_is_done_and_what_to_do_next(home):
    said = (home / "said").read_text()
    assert "Distilling runs/two moons into a FlowMap, " in said
    assert " parameters, 12 steps, in runs/two moons-map\n" in said
    assert re.search(r"^Finished 12 steps in .*, held-out loss ", said, re.MULTILINE)
    assert "    pushforward sample 'runs/two moons-map' -n 1000 --steps 1 --seed 1 --out samples.npy\n" in said
    shown = done("inspect", "runs/two moons-map", at=home)
    assert re.search(r"^model +FlowMap ", shown, re.MULTILINE)
    assert re.search(r"^distilled from +runs/two moons$", shown, re.MULTILINE)
    assert re.search(r"^teacher +FlowMatching, MLPSpec\(width=8, depth=3\), 12 steps", shown, re.MULTILINE)


def test_the_run_samples_and_scores_in_few_calls(home, tmp_path):
    run = "runs/two moons-map"
    out = tmp_path / "x.npy"
    done("sample", run, "-n", 7, "--steps", 1, "--guidance-scale", 1.5, "--condition", 1, "--seed", 4, "--out", out, at=home)
    expected = pf.load(home / run).sample(7, condition=[1] * 7, guidance=1.5, steps=1, seed=4)
    np.testing.assert_array_equal(np.load(out), expected)
    said = done("score", run, "moons", "--out", tmp_path / "s.csv", at=home)
    assert "estimate, 4 network calls per row" in said


def test_a_finished_run_is_not_resumed_and_another_gets_a_number(home):
    said = done("distill", "runs/two moons", "--resume", at=home)
    assert said == "runs/two moons-map is finished: there is nothing to resume. To distill anew, omit --resume.\n"
    done("distill", "runs/two moons", *BRIEF, at=home)
    first, second = (read_card(home / f"runs/two moons-map{number}") for number in ("", "-2"))
    assert first["chosen"]["teacher"] == second["chosen"]["teacher"]


def test_refusals(home):
    done("train", "moons", "--model", "gmm", "--set", "n_components=2", "--seed", 0, "--out", "runs/gmm", at=home)
    assert "GMM has no flow to distill" in refused_after("distill", "runs/gmm", at=home)
    assert "has no argument 'step'; it has" in refused("distill", "runs/two moons", "--set", "step=3", at=home)
    assert "--resume continues a run" in refused("distill", "runs/two moons", "--resume", "--max-time", "3s", at=home)
    assert "guidance scales from 1 to 2" in refused(
        "sample", "runs/two moons-map", "--condition", 1, "--guidance-scale", 3, at=home
    )
    assert "diffusers has no pipeline for a FlowMap" in refused("export", "runs/two moons-map", "--to", "diffusers", at=home)


def refused_after(*words, at):
    """Like ``refused``, for a command that has said what it is about."""
    from command_line import call

    said = call(*words, at=at)
    assert said.code == 2, said
    return said.err
