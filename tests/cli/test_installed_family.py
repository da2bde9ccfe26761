"""A package of somebody else, installed by pip, whose families the command line trains by name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked import SOURCE

GUIDE = Path(__file__).parents[2] / "docs/guides/add-a-family.md"
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "their-models"
version = "0.1"

[project.entry-points."pushforward.models"]
affine-flow = "affine:AffineFlow"
broken = "affine:Missing"

[tool.setuptools]
py-modules = ["affine"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which the family of the guide is installed as a package."""
    folder, site = tmp_path_factory.mktemp("their-models"), tmp_path_factory.mktemp("site")
    (folder / "pyproject.toml").write_text(PROJECT)
    text = GUIDE.read_text(encoding="utf-8")
    (folder / "affine.py").write_text(re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, folder], check=True)
    return site


CALL = """
import sys
from pushforward.cli import main

def call(*words):
    sys.argv = ["pushforward", *words]
    try:
        main()
    except SystemExit as end:
        return end.code
"""


def python(code, *, site, at):
    path = os.pathsep.join([str(SOURCE), str(site), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CALL + code]
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)


def test_their_family_is_trained_sampled_and_loaded_by_its_name(site, tmp_path):
    train = """
assert call("train", "moons", "--model", "broken") == 2
assert not call("train", "moons", "--model", "affine-flow", "--set", "train_steps=20", "--seed", "0", "--out", "run")
"""
    said = python(train, site=site, at=tmp_path)
    assert said.returncode == 0, said
    assert re.fullmatch(
        r"Error: broken = 'affine:Missing' of the package their-models cannot be imported: .*no attribute 'Missing'.*\n",
        said.stderr,
    ), said
    load = """
assert not call("sample", "run", "-n", "7", "--seed", "1", "--out", "rows.npy")
import numpy as np, pushforward as pf
model = pf.load("run")
assert type(model).__module__ == "affine"
assert np.array_equal(np.load("rows.npy"), model.sample(7, seed=1))
"""
    said = python(load, site=site, at=tmp_path)
    assert (said.returncode, said.stderr) == (0, ""), said


def test_help_lists_all_families_and_imports_none(site, tmp_path):
    said = python("call('train', '--help'); print('IMPORTED', *sys.modules)", site=site, at=tmp_path)
    text, _, imported = said.stdout.partition("IMPORTED")
    for name in ("flow-matching (the default)", "affine-flow", "vqvae", "masked-diffusion", "broken", "ddpm"):
        assert name in " ".join(text.split()), said
    families = [name for name in imported.split() if name.startswith("pushforward.models.") and ".files" not in name]
    assert families == []
    assert not {"affine", "torch"} & set(imported.split())
