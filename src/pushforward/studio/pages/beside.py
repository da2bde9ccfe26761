"""Finished runs side by side: their figures in one table, and their reports beside each other."""

from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui

from pushforward.studio import parts
from pushforward.studio.runs import FIRST, facts_of, figures_of, side_by_side
from pushforward.studio.shared import Studio
from pushforward.studio.workspace import Refused

__all__ = ["MOST", "address_of", "show_beside"]

MOST = 6
_ROWS = 10  # so that the reports are in sight


def address_of(names: list[str]) -> str:
    """Return the page of runs side by side.

    >>> address_of(["a b", "ü"])
    '/judge?run=a+b&run=%C3%BC'
    """
    return f"/judge?{urlencode([('run', name) for name in names])}"


async def show_beside(studio: Studio, names: list[str]) -> None:
    """Lay out the figures and the reports of runs."""
    if len(names) > MOST:
        raise Refused(f"{len(names)} runs are too many to read side by side. Choose up to {MOST}.")
    folders = [studio.workspace.run(name) for name in dict.fromkeys(names)]
    parts.heading("Runs side by side")
    measured = await parts.waited(lambda: [(facts_of(folder), figures_of(folder)) for folder in folders])
    if measured is None:
        return
    if isinstance(measured, Exception):
        parts.problem(measured)
        return
    runs, figures = [found for found, _ in measured], [rows for _, rows in measured]
    if len({found.source for found in runs}) > 1:
        parts.problem("These runs were trained on different data, so their figures cannot be compared.")
    for found, rows in zip(runs, figures, strict=True):
        if not rows:
            with ui.element("p"):
                ui.label(f"{found.name} has not been measured yet. ").style("display:inline")
                ui.link("Measure it", f"/judge?run={quote(found.name)}")
    if any(figures):
        with parts.card("Figures"):
            parts.note(
                "Features are fitted to the training rows of each run. Where they differ between runs, the figures are in "
                "separate lines; with the same seed and data they are the same.",
                "pf-small",
            )
            _table([found.name for found in runs], side_by_side(figures))
    with ui.element("div").classes("pf-pair"):
        for found in runs:
            if (found.folder / "report.html").is_file():
                with ui.element("div").classes("pf-stack"):
                    parts.heading(found.name, 2)
                    parts.report(f"/file/run/{quote(found.name)}/report", found.name, found.folder / "report.html")
    ui.link("All runs", "/judge")


def _table(names: list[str], rows: list[dict[str, Any]]) -> None:
    words = [("reference", "Against"), ("unit", "Unit")]
    words += [("space", "Features")] if any(row["space"] for row in rows) else []
    columns = [parts.column("name", "Figure")]
    columns += [parts.column(f"v{number}", name[:40], number=True) for number, name in enumerate(names)]
    columns += [parts.column(key, label) for key, label in words]
    parts.table(columns, sorted(rows, key=lambda row: row["name"] not in FIRST), "id", _ROWS)
