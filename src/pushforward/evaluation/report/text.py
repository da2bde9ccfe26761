"""An evaluation as plain text of at most 100 columns."""

import io

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pushforward.evaluation.figure import Figure, remarks, written
from pushforward.evaluation.findings import Findings

__all__ = ["as_text", "plain_table", "rendered"]

_WIDTH = 100
_NAME, _REMARKS = 28, 20


def as_text(findings: Findings) -> str:
    """Return the headline, the table of figures, and the parts that failed or were skipped."""
    table = plain_table(width=_WIDTH)
    table.add_column("figure", width=_NAME)
    for title in ("value", "95 % interval", "floor", "n", "against"):
        words = title in ("95 % interval", "against")
        table.add_column(title, justify="left" if words else "right", no_wrap=title != "95 % interval")
    table.add_column("what it says", ratio=1, min_width=_REMARKS)
    sections = findings.sections()
    for index, (_, figures) in enumerate(sections):
        table.add_row(f"§{index}")
        for figure in figures:
            table.add_row(*(Text(cell) for cell in _cells(figure)))
    reasons = [
        Text(f"{title}: {part}: {reason}")
        for title, parts in (("Failed", findings.failures), ("Left out", findings.skipped))
        for part, reason in parts.items()
    ]
    lines = rendered(_WIDTH, Text(findings.headline()), table, *reasons)
    # Headings are longer than the first column, which must stay narrow, so they are put in afterwards.
    headings = {f"§{index}": title for index, (title, _) in enumerate(sections)}
    return "\n".join(headings.get(line, line)[:_WIDTH] for line in lines)


def plain_table(width: int | None = None) -> Table:
    """Return an empty table with a line below its head and no other frame."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), width=width)


def rendered(width: int, *parts: Table | Text) -> list[str]:
    """Return the lines of tables and texts without colors or trailing spaces."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def _cells(figure: Figure) -> tuple[str, ...]:
    value, interval = written(figure.measure)
    floor = "" if figure.floor is None else written(figure.floor)[0]
    name = f"  {figure.name}{f' ({figure.unit})' if figure.unit else ''}"
    said = remarks(figure).replace(", p ", ",\np ")  # a line cannot hold both, and must not break after "p ="
    return name, value, interval, floor, f"{figure.measure.n:,}", figure.reference or "", said
