"""The page of licenses lists each file of the package that is no Python, and nothing else."""

import re
from pathlib import Path

import pushforward as pf

PACKAGE = Path(pf.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs/licenses.md").read_text(encoding="utf-8")


def test_each_bundled_file_is_listed_with_its_origin_and_license():
    table = re.search(r"^\| file in the package \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0].strip().splitlines()[2:]
    rows = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table]
    found = {name: {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob(name)} for name, *_ in rows}
    assert all(found.values()), "the page lists a file that is not there"
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    python = {name for name in files if name.endswith((".py", ".pyi")) or "__pycache__" in name}
    assert set().union(*found.values()) == files - python
    assert all(license_ for *_, license_ in rows)


def test_scripts_that_made_files_exist():
    root = Path(__file__).parents[1]
    for script in re.findall(r"`(benchmarks/\w+\.py)`", PAGE):
        assert (root / script).is_file(), script
