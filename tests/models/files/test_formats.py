"""Runs that versions before have stored: this one opens them, with the samples that were promised, or says what to install."""

import json
import re
import shutil

import numpy as np
import pytest
import stored_runs

import pushforward as pf

STORED = sorted(card.parent for card in stored_runs.FIXTURES.glob("*/*/model.json"))
DATA = {name: X for name, (_, X, _) in stored_runs.models().items()}


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_stored_run_opens_and_draws_what_it_drew(folder):
    version = json.loads((folder / "model.json").read_text())["pushforward"]
    try:
        model = pf.load(folder)
    except pf.RunError as error:
        assert f"pip install pushforward=={version}" in str(error)  # noqa: PT017
        return
    then, now = np.load(folder / "samples.npy"), stored_runs.drawn(model, DATA[folder.name])
    assert (now.shape, now.dtype.kind) == (then.shape, then.dtype.kind)
    if not _same_series(version):
        return
    if json.loads((folder.parent / "machine.json").read_text()) == stored_runs.machine():
        assert now.tobytes() == then.tobytes()
    elif then.dtype.kind == "f":
        np.testing.assert_allclose(now, then, rtol=1e-3, atol=1e-4)


def _same_series(version):
    """Whether samples are promised to be the same: the versions differ in the last number alone."""
    return version.rpartition(".")[0] == pf.__version__.rpartition(".")[0]


def test_the_runs_of_this_version_are_of_all_families_and_small():
    ours = [folder for folder in STORED if folder.parent.name == pf.__version__]
    assert {folder.name for folder in ours} == set(DATA)
    cards = [json.loads((folder / "model.json").read_text()) for folder in ours]
    assert {card["class"] for card in cards} == set(pf.models.MODELS)
    assert sum(path.stat().st_size for path in stored_runs.FIXTURES.rglob("*") if path.is_file()) < 400_000


@pytest.mark.parametrize(
    ("wrote", "cure"),
    [
        ("0.3.1rc2", "python -m pip install pushforward==0.3.1rc2, or train"),
        ("x; rm -rf /", "use the version that wrote it, or train"),
    ],
)
def test_another_format_is_refused_with_the_version_to_install(tmp_path, wrote, cure):
    shutil.copytree(STORED[0], tmp_path / "run")
    path = tmp_path / "run" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99, "pushforward": wrote}))
    with pytest.raises(pf.RunError, match=re.escape(cure)):
        pf.load(tmp_path / "run")
