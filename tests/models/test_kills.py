"""Every verb that writes, killed at any change of its folder and given again, leaves what an uninterrupted one leaves."""

import random
import shutil
import signal

import killed
import pytest
from forked import Forked
from mutations import made_models

import pushforward as pf

BRIEF = pf.TrainingSettings(steps=6, batch_size=8, checkpoint_every=2)
FAMILIES = [name for name in made_models(BRIEF) if name not in ("guided", "run")]
KILLS = dict.fromkeys(killed.VERBS, 8) | dict.fromkeys(FAMILIES, 5)  # 107
QUICK = {("fit-classifier", 0)}


def _done(verb, folder, moment=0):
    child = Forked(killed.change, verb, str(folder), moment, at=folder.parent)
    child.communicate(timeout=300)
    return child


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run whose model takes a classifier and has a calibration."""
    folder = tmp_path_factory.mktemp("base") / "run"
    network = pf.MLPSpec(width=8, depth=1)
    model = pf.FlowMatching(network=network, training=BRIEF, random_state=0, device="cpu").fit(
        killed.X, condition=killed.LABELS
    )
    model.calibrations_ = {(3, 1.0): model.calibrate(3, noises=32, iterations=5, seed=0)}
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """Return what an uninterrupted verb leaves, and its number of changes."""
    known = {}

    def of(verb):
        if verb not in known:
            folder = tmp_path_factory.mktemp("whole").resolve() / "run"
            if verb in ("fit-classifier", "calibrate", "evaluate"):
                shutil.copytree(base, folder)
            child = _done(verb, folder)
            assert child.returncode == 0, child.said()
            known[verb] = killed.result(verb, folder), int(folder.with_name("run-changes").read_text())
        return known[verb]

    return of


@pytest.mark.parametrize(
    ("verb", "seed"),
    [
        pytest.param(verb, seed, marks=[] if (verb, seed) in QUICK else [pytest.mark.full])
        for verb, count in KILLS.items()
        for seed in range(count)
    ],
)
def test_a_killed_verb_that_is_given_again_leaves_the_same(verb, seed, whole, base, tmp_path):
    expected, changes = whole(verb)
    folder = tmp_path.resolve() / "run"
    added_to_a_model = verb in ("fit-classifier", "calibrate", "evaluate")
    if added_to_a_model:
        shutil.copytree(base, folder)
    moment = random.Random(seed).randint(1, changes)
    child = _done(verb, folder, moment)
    assert child.returncode == -signal.SIGKILL, child.said()
    if added_to_a_model:
        assert (pf.load(folder).sample(3, seed=0) == pf.load(base).sample(3, seed=0)).all()
        assert (3, 1.0) in pf.load(folder).calibrations_
    elif verb != "compare" and not (folder / "model.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # killed before the run began
    again = _done(verb, folder)
    assert again.returncode == 0, (moment, again.said())
    assert killed.result(verb, folder) == expected, moment
