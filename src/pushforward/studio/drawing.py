"""Models that draw for the page, and what they drew as pictures, tables, texts, sounds and files."""

import base64
import io
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pushforward.data import Dataset, write_samples
from pushforward.models import GenerativeModel, load
from pushforward.models.files.storage import read_card
from pushforward.plots import Plot
from pushforward.studio.workspace import Workspace

__all__ = ["Drawn", "Models", "data_uri", "file_bytes", "picture_of", "png_of", "table_of"]

T = TypeVar("T")
_MOST_MODELS = 3


@dataclass(frozen=True)
class Drawn:
    """Rows that a model drew, with the code that draws them again."""

    model: Any
    values: Any
    code: str
    labels: list[str] | None = None


class Models:
    """The models of finished runs, the last few of which stay in memory. One draws at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._lock = workspace, threading.Lock()
        self._loaded: OrderedDict[tuple[Path, float], GenerativeModel] = OrderedDict()

    def use(self, folder: Path, work: Callable[[Any], T]) -> T:
        """Return ``work(model)`` for the model of a run."""
        with self._lock, torch.no_grad():
            key = folder, (folder / "weights.safetensors").stat().st_mtime
            if key not in self._loaded:
                self._loaded[key] = load(folder)
            self._loaded.move_to_end(key)
            while len(self._loaded) > _MOST_MODELS:
                self._loaded.popitem(last=False)
            return work(self._loaded[key])

    def data_of(self, folder: Path, model: Any) -> Dataset:
        """Open the data that a run was trained on, as it did."""
        card = read_card(folder)
        source = self._workspace.source(card["data"]["source"])
        opened: Dataset = model.space_.open(source, card.get("chosen") or {}, gaps=True)
        return opened


def _scale(model: Any) -> tuple[float, float]:
    transform = model.space_.transform
    return float(transform.low.min()), float(transform.high.max())


def file_bytes(model: Any, values: Any, ending: str, labels: list[str] | None = None) -> bytes:
    """Return the file that ``pushforward sample --out`` would write; a folder comes as a .zip."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / (f"samples.{ending}" if ending != "zip" else "samples")
        written = write_samples(path, values, model.space_.schema, condition=labels, scale=_scale(model))
        if not written.is_dir():
            return written.read_bytes()
        import zipfile

        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for file in sorted(written.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(written))
        return content.getvalue()


def picture_of(model: Any, values: Any, labels: list[str] | None = None) -> str:
    """Return rows as the picture of their kind, a data URI."""
    return data_uri(file_bytes(model, values, "png", labels), "image/png")


def data_uri(content: bytes, kind: str) -> str:
    """Return a file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_of(plot: Plot, dpi: int = 110) -> bytes:
    """Return a plot as a .png."""
    content = io.BytesIO()
    if hasattr(plot, "savefig"):
        plot.savefig(content, dpi=dpi, facecolor="white", format="png")
    else:
        plot.save(content, format="PNG")
    return content.getvalue()


def table_of(frame: Any, most: int = 200) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the columns and rows of a DataFrame for a table of the page, cells as text; the page shows texts as they are."""
    columns = [
        {"name": f"c{i}", "label": str(name)[:60], "field": f"c{i}", "sortable": True, "align": "left"} for i, name in enumerate(frame.columns)
    ]
    rows = [{f"c{i}": _cell(value) for i, value in enumerate(row)} | {"id": n} for n, row in enumerate(frame.head(most).itertuples(index=False))]
    return columns, rows


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "—" if np.isnan(value) else float(f"{float(value):.6g}")
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return int(value)
    if value is None or str(value) in ("nan", "NaT", "<NA>", "None"):
        return "—"
    return str(value)[:200]


def call_of(folder: str, verb: str, options: Mapping[str, Any]) -> str:
    """Return the Python that does the same.

    >>> print(call_of("runs/moons", "sample", {"n": 4, "seed": 1, "steps": None}))
    import pushforward as pf
    <BLANKLINE>
    model = pf.load('runs/moons')
    x = model.sample(n=4, seed=1)
    """
    given = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
    return f"import pushforward as pf\n\nmodel = pf.load({folder!r})\nx = model.{verb}({given})"
