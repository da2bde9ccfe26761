"""The public names: the stubs, the rooms, and the tables of the pages that list them."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

import pushforward as pf
from pushforward import diffusion, models
from pushforward.models.files import registry

ROOT = Path(__file__).parents[1]
SOURCE = Path(pf.__file__).parent


def stub(package):
    """Names by the module that a package's stub says they come from; submodules under an empty name."""
    text = Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1
            assert all(alias.name == alias.asname for alias in node.names), "a stub exports a name only as `name as name`"
            found.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("package", [pf, models])
def test_every_name_of_a_stub_is_what_its_module_exports(package):
    names = stub(package)
    assert set(package.__all__) == set().union(*names.values())
    for module, exported in names.items():
        home = importlib.import_module(".".join(filter(None, [package.__name__, module])))
        for name in exported:
            value = getattr(package, name)
            assert value is (getattr(home, name) if module else sys.modules[f"{package.__name__}.{name}"])
            assert not module or name in home.__all__
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError):
        _ = package.nothing


def concrete(base):
    """Classes that diffusion exports under a base, without those that stand for many."""
    exported = {name: getattr(diffusion, name) for name in diffusion.__all__}
    classes = {name: value for name, value in exported.items() if isinstance(value, type) and issubclass(value, base)}
    return {name for name, value in classes.items() if not any(value in other.__mro__[1:] for other in classes.values())}


def test_all_schedules_samplers_and_grids_are_at_the_top_and_in_the_readme():
    table = re.search(r"^\| schedules \| samplers \| time grids \|\n.*\n(.*)", (ROOT / "README.md").read_text(), re.MULTILINE)
    bases = (diffusion.Schedule, diffusion.Sampler, diffusion.Grid)
    for cell, base in zip(table[1].strip("| ").split(" | "), bases, strict=True):
        assert set(re.findall(r"`(\w+)`", cell)) == concrete(base)
        assert concrete(base) - set(pf.__all__) <= {"CalibratedSampler"}  # made by `calibrate` alone


def test_all_families_are_at_the_top_and_in_the_pages():
    readme = (ROOT / "README.md").read_text()
    listed = set(re.findall(r"`(\w+)`", re.search(r"\*\*All families\.\*\*(.*?)^- ", readme, re.M | re.S)[1]))
    assert listed == set(registry.MODELS)
    assert set(registry.MODELS) <= set(pf.__all__) & set(models.__all__)
    page = (ROOT / "docs/families/index.md").read_text()
    rows = re.search(r"^\| family \|.*?\n\n", page, re.MULTILINE | re.DOTALL)[0].strip().splitlines()[2:]
    pages = {name for row in rows for name in re.findall(r"\((\S+)\.md\)", row.split("|")[1])}
    assert pages == set(registry.family_names())
    assert pages | {"index"} == {path.stem for path in (ROOT / "docs/families").glob("*.md")}
