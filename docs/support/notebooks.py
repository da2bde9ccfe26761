"""Write notebooks from pages whose code runs: the README's tour, tables, images and sound.

    python docs/support/notebooks.py

writes docs/notebooks/. The site and the tests run the code of these pages. The notebooks hold no outputs, and their cells are
numbered, so that writing or opening them again changes nothing. It needs nbformat.
"""

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[2]
PAGES = {
    "tour": "README.md",
    "tables": "docs/guides/tables.md",
    "images": "docs/guides/image-conditions.md",
    "sound": "docs/guides/signals.md",
}
INSTALL = '# On a machine without pushforward, run this first:\n# %pip install "pushforward[text]"'
EMBED = '''import io

from IPython.display import Image, Markdown, display


def embed(image, caption, *, alt=""):
    """Show a figure or a picture with its caption."""
    buffer = io.BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(buffer, format="png", dpi=110)
    else:
        image.save(buffer, "PNG")
    display(Image(buffer.getvalue(), alt=alt or caption), Markdown(caption))'''
_BLOCK = re.compile(r"^```python(?: (exec=[^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()(?!https?:|#)([^)]+)\)")
_SHOWING = re.compile(r"^from showing import .*\n+", re.MULTILINE)


def notebook(page: Path) -> nbformat.NotebookNode:
    """Return the notebook of a page: its text between cells with its code."""
    text = page.read_text(encoding="utf-8")
    cells, end = [new_code_cell(INSTALL)], 0
    if "import embed" in text:
        cells.append(new_code_cell(EMBED))
    for block in _BLOCK.finditer(text):
        cells += _prose(text[end : block.start()], page)
        code = _SHOWING.sub("", block[2]).strip("\n")
        cells += [new_code_cell(code)] if code else []
        end = block.end()
    cells += _prose(text[end:], page)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def _prose(text: str, page: Path) -> list[nbformat.NotebookNode]:
    def moved(match: re.Match[str]) -> str:
        place = (page.parent / match[2]).resolve().relative_to(ROOT)
        inside = place.relative_to("docs").as_posix() if place.is_relative_to("docs") else f"../{place.as_posix()}"
        return f"{match[1]}../{inside})"

    return [new_markdown_cell(_LINK.sub(moved, text.strip("\n")))] if text.strip() else []


def texts() -> dict[Path, str]:
    """Return what each notebook file holds."""
    return {
        ROOT / "docs" / "notebooks" / f"{name}.ipynb": nbformat.writes(notebook(ROOT / page)) + "\n"
        for name, page in PAGES.items()
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
