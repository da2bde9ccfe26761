"""The notebooks are those of the pages, hold no outputs, and run in Jupyter."""

import ast
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "support"))
notebooks = pytest.importorskip("notebooks")


@pytest.mark.parametrize(("path", "text"), notebooks.texts().items(), ids=lambda value: getattr(value, "stem", ""))
def test_a_notebook_is_that_of_its_page_and_opens_without_a_change(path, text):
    assert path.read_text(encoding="utf-8") == text, "write them again: python docs/support/notebooks.py"
    read = nbformat.reads(text, as_version=4)
    nbformat.validate(read)
    assert nbformat.writes(read) + "\n" == text
    codes = [cell for cell in read.cells if cell.cell_type == "code"]
    assert len(codes) >= 4
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)
    whole = ast.parse("\n".join(cell.source for cell in codes))
    assert "showing" not in {node.module for node in ast.walk(whole) if isinstance(node, ast.ImportFrom)}
    for cell in read.cells:
        if cell.cell_type == "markdown":
            for link in notebooks._LINK.findall(cell.source):
                assert (path.parent / link[1].partition("#")[0]).exists(), link[1]


@pytest.mark.full
@pytest.mark.parametrize("path", notebooks.texts(), ids=lambda path: path.stem)
def test_a_notebook_runs_in_jupyter(path, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert shown
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in shown), shown
