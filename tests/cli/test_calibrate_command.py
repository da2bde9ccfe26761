"""``pushforward calibrate`` from a run to samples, what inspect shows of it, and what leaves a run as it was."""

import re
import signal
import time
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from command_line import TINY, call, done, ended, process, refused

import pushforward as pf
from pushforward.models.denoising.calibration import calibrate
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.files.calibrations import CALIBRATIONS

QUICK = ("--set", "train_steps=60", *TINY)
SHORT = {"noises": 256, "iterations": 60}
OPTIONS = ("--steps", 3, "--seed", 7, "--device", "cpu")


def files(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run on points with labels that was calibrated, and one without labels that was not."""
    folder = tmp_path_factory.mktemp("home")
    done("train", "moons", *QUICK, "--out", "runs/two moons", at=folder)
    done("train", "swissroll", *QUICK, at=folder)
    (folder / "before").write_text(repr(files(folder / "runs/two moons")))
    with mock.patch.dict(calibrate.__kwdefaults__, SHORT):
        (folder / "said").write_text(done("calibrate", "runs/two moons", *OPTIONS, at=folder))
    return folder


def test_says_what_was_gained_and_what_to_do_next(home):
    run = home / "runs/two moons"
    (found,) = pf.load(run).calibrations_.values()
    said = (home / "said").read_text()
    assert said.startswith("Drawing samples of runs/two moons with many steps, and fitting 3 steps to them\n")
    assert "step 60 of 60 · loss " in said
    assert re.search(r"^3 steps: fitted in [\d minh]+s \(seed 7\)$", said, re.MULTILINE)
    assert (
        f"Error {found.default_error:.4g} by default, {found.error:.4g} calibrated: gain {found.gain:.3g} (64 noises held out"
        in said
    )
    assert f"Kept in runs/two moons/{CALIBRATIONS}. Next:\n" in said
    assert said.splitlines()[-2] == "    pushforward sample 'runs/two moons' -n 100 --steps 3 --out samples.csv"
    assert found.gain > 1.05
    assert found.seed == 7
    after = files(run)
    before = {name: content for name, content in after.items() if name != CALIBRATIONS}
    assert (home / "before").read_text() == repr(before)


def test_sample_uses_it_and_says_so(home, tmp_path):
    model = pf.load(home / "runs/two moons")
    (found,) = model.calibrations_.values()

    def drawn(*words):
        said = done(
            "sample", "runs/two moons", "-n", 5, "--seed", 4, *words, "--out", tmp_path / "made.npy", "--overwrite", at=home
        )
        return np.load(tmp_path / "made.npy"), said.splitlines()[-1]

    made, line = drawn("--steps", 3)
    assert line == f"5 samples in {tmp_path / 'made.npy'} (seed 4, by the sampler calibrated to 3 steps)"
    np.testing.assert_array_equal(made, model.sample(5, seed=4, steps=3, sampler=found.sampler))
    for words, options in (
        ((), {"steps": 20}),
        (("--steps", 4), {"steps": 4}),
        (("--steps", 3, "--guidance-scale", 2), {"steps": 3, "guidance": 2}),
        (("--steps", 3, "--sampler", "heun"), {"steps": 3, "sampler": pf.Heun()}),
    ):
        made, line = drawn(*words)
        assert line.endswith("made.npy (seed 4)")
        default = pf.default_sampler(options["steps"], options.get("guidance", 1.0))
        np.testing.assert_array_equal(made, model.sample(5, seed=4, **({"sampler": default} | options)))


def test_inspect_shows_which_there_are(home, tmp_path):
    run = home / "runs/two moons"
    model = pf.load(run)
    (found,) = model.calibrations_.values()
    assert f"calibrated      3 steps (gain {found.gain:.3g})\n" in done("inspect", run, at=tmp_path)
    assert "calibrated" not in done("inspect", home / "runs/swissroll", at=tmp_path)
    model.calibrations_ = {(3, 2.0): replace(found, default_error=found.error * 1.5), (2, 1.0): found}
    model.save(tmp_path / "run")
    path = tmp_path / "run" / CALIBRATIONS
    with pytest.raises(ValueError, match="calibrated for 3 steps"):
        pf.load(tmp_path / "run")
    model.calibrations_ = {(3, 2.0): replace(found, default_error=found.error * 1.5), (3, 1.0): found}
    model.save(tmp_path / "run")
    shown = done("inspect", tmp_path / "run", at=tmp_path)
    assert f"3 steps (gain {found.gain:.3g}), 3 steps at guidance scale 2 (gain 1.5)" in shown
    path.write_text("{")
    for words in (("inspect", "run"), ("sample", "run", "--steps", 3), ("calibrate", "run", *OPTIONS)):
        assert f"{CALIBRATIONS} is damaged" in refused(*words, at=tmp_path)


def test_guidance_scales_are_kept_side_by_side(home, tmp_path):
    model = pf.load(home / "runs/two moons")
    model.save(tmp_path / "run")
    found = replace(model.calibrations_[3, 1.0], error=0.25, default_error=0.5)
    with mock.patch.object(DenoisingModel, "calibrate", return_value=found) as verb:
        said = done("calibrate", "run", *OPTIONS, "--guidance-scale", 2, at=tmp_path)
    verb.assert_called_once_with(3, guidance=2.0, seed=7)
    assert "3 steps, guidance scale 2: fitted in" in said
    assert "Error 0.5 by default, 0.25 calibrated: gain 2 (" in said
    assert said.splitlines()[-2] == "    pushforward sample run -n 100 --steps 3 --guidance-scale 2 --out samples.csv"
    assert pf.load(tmp_path / "run").calibrations_ == model.calibrations_ | {(3, 2.0): found}


def test_what_is_no_better_is_not_kept(home):
    run = home / "runs/two moons"
    before = files(run)
    worse = replace(pf.load(run).calibrations_[3, 1.0], error=0.5, default_error=0.25)
    with mock.patch("pushforward.diffusion.calibrate", return_value=worse):
        said = done("calibrate", "runs/two moons", *OPTIONS, at=home)
    assert "Error 0.25 by default, 0.5 calibrated: gain 0.5" in said
    assert said.endswith("That is no better, so it is not kept; runs/two moons is unchanged.\n")
    assert files(run) == before


@pytest.mark.full  # a process of its own; the kills of all verbs are in the quick tests
def test_ctrl_c_leaves_the_run_as_it_was(home):
    run = home / "runs/swissroll"
    before = files(run)
    child = process("calibrate", "runs/swissroll", "--steps", 60, "--device", "cpu", at=home)
    latest = time.monotonic() + 60
    while not child.said()[0].startswith("Drawing samples of runs/swissroll"):
        assert child.poll() is None, child.said()
        assert time.monotonic() < latest
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    said = ended(child)
    assert (said.code, said.err) == (130, "")
    assert said.out.endswith("Stopped; runs/swissroll is unchanged.\n")
    assert files(run) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", 0), "steps must be at least 1, got 0"),
        (("--steps", 1), "at least 2 steps"),
        (("--guidance-scale", 2), "a guidance scale of 2 needs a model trained with conditions"),
        (("--device", "tpu9"), "device"),
    ],
)
def test_errors_say_what_is_wrong(home, words, message):
    said = call("calibrate", "runs/swissroll", *words, at=home)
    assert said.code == 2
    assert said.err.startswith("Error: ")
    assert message in said.err
    assert not (home / "runs/swissroll" / CALIBRATIONS).exists()


def test_a_folder_that_is_no_run_is_refused(home):
    assert "is not a run folder" in refused("calibrate", "nothing", at=home)
    with mock.patch("pushforward.models.load", return_value=pf.probability.Gaussian([0.0], 1.0)):
        assert "holds a Gaussian, which samples without steps" in refused("calibrate", "runs/swissroll", at=home)
