"""Small pictures of data, drawn once and kept."""

import hashlib
import io
from pathlib import Path

from pushforward.data import Dataset, open_data
from pushforward.data.kinds.kind import Drawing
from pushforward.plots import Plot
from pushforward.studio.workspace import Workspace

__all__ = ["open_chosen", "picture", "png_of", "thumbnail"]

_SINGLY = 24


def open_chosen(workspace: Workspace, source: str) -> Dataset:
    """Open data as it was chosen for them."""
    chosen = workspace.choices(source)
    condition = chosen.get("condition")
    return open_data(
        workspace.source(source),
        gaps=True,
        types=chosen.get("columns") or None,
        condition=False if condition == "none" else condition or None,
    )


def picture(dataset: Dataset) -> Plot:
    """Draw rows of data as their kind draws them."""
    schema = dataset.schema
    kind = schema.rules
    count = _SINGLY if kind.drawn_singly else kind.shown
    rows = schema.to_internal(dataset.values[:count] if schema.table is None else dataset.values.head(count), gaps=True)  # type: ignore[union-attr]
    table = schema.table
    values = schema.view(rows if schema.elements is None else schema.elements.inverse(rows))
    levels, formats = (None, None) if table is None else (table.levels, table.formats)
    return kind.draw(values, Drawing(names=schema.columns, titles=("data", ""), levels=levels, formats=formats))


def png_of(plot: Plot, dpi: int = 110) -> bytes:
    """Return a plot as a .png."""
    content = io.BytesIO()
    if hasattr(plot, "savefig"):
        plot.savefig(content, dpi=dpi, facecolor="white", format="png")
    else:
        plot.save(content, format="PNG")
    return content.getvalue()


def thumbnail(workspace: Workspace, source: str, dpi: int = 60) -> Path:
    """Return the file with a picture of data, by default a small one."""
    opened = workspace.source(source)
    stamp = "" if isinstance(opened, str) else str(opened.stat().st_mtime_ns)
    name = hashlib.sha256(f"{source}|{stamp}|{workspace.choices(source)}|{dpi}".encode()).hexdigest()[:24]
    path = workspace.notes / "thumbnails" / f"{name}.png"
    if not path.is_file():
        content = png_of(picture(open_chosen(workspace, source)), dpi=dpi)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path
