"""A package of somebody else, installed by pip, whose families the command line trains by name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ended, process
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


def test_their_family_is_trained_sampled_and_loaded_by_its_name(site, tmp_path):
    broken = ended(process("train", "moons", "--model", "broken", at=tmp_path, site=site))
    assert broken.code == 2, broken
    assert re.fullmatch(
        r"Error: broken = 'affine:Missing' of the package their-models cannot be imported: .*no attribute 'Missing'.*\n",
        broken.err,
    ), broken
    train = ["train", "moons", "--model", "affine-flow", "--set", "train_steps=20", "--seed", "0", "--out", "run"]
    for words in (train, ["sample", "run", "-n", "7", "--out", "rows.npy"], ["inspect", "run"]):
        said = ended(process(*words, at=tmp_path, site=site))
        assert (said.code, said.err) == (0, ""), said
    rows = np.load(tmp_path / "rows.npy")
    assert rows.shape == (7, 2)
    assert np.isfinite(rows).all()
    assert "AffineFlow" in said.out


def test_help_lists_all_families_and_imports_none(site, tmp_path):
    help_of_train = """
import sys
from pushforward.cli import main
sys.argv = ["pushforward", "train", "--help"]
try:
    main()
finally:
    print("IMPORTED", *sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(SOURCE), str(site)))}
    command = [sys.executable, "-W", "error", "-c", help_of_train]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    text, _, imported = said.stdout.partition("IMPORTED")
    # Lines break at blanks and behind hyphens.
    shown = " ".join(text.split()).replace("- ", "-")
    for name in ("flow-matching (the default)", "affine-flow", "vqvae", "masked-diffusion", "broken", "ddpm"):
        assert name in shown, said
    families = [name for name in imported.split() if name.startswith("pushforward.models.") and ".files" not in name]
    assert families == []
    assert not {"affine", "torch"} & set(imported.split())
