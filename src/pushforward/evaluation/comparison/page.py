"""A comparison for people: the table as text, a piece of HTML for notebooks, and the page."""

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pushforward.evaluation.evaluation import number, standing
from pushforward.evaluation.report.page import Shown, page, write_page
from pushforward.evaluation.report.plots import scatter
from pushforward.training.progress import clock

if TYPE_CHECKING:
    from pushforward.evaluation.comparison.result import Comparison

__all__ = ["as_text", "fragment", "write_comparison"]

_WIDTH = 118
_COLUMNS = (
    ("C2ST", "C2ST", "held-out"),
    ("sliced W", "sliced Wasserstein", "held-out"),
    ("Fréchet", "Fréchet distance", "held-out"),
    ("precision", "precision", "held-out"),
    ("recall", "recall", "held-out"),
    ("log p", "log-density", "held-out"),
    ("near copies", "near copies", "train"),
    ("s / 1,000", "time of 1,000 samples", None),
    ("training", "training time", None),
)


def as_text(comparison: "Comparison") -> str:
    """Return the table and the advice as text of at most 118 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for title in ("place", *(title for title, _, _ in _COLUMNS), "spread"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in _lines(comparison):
        table.add_row(*(Text(cell["text"]) for cell in line["cells"]))
    buffer = io.StringIO()
    console = Console(file=buffer, width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(table)
    for trial in comparison.trials:
        if trial.failure:
            console.print(Text(f"Failed: {trial.name}, seed {trial.seed}: {trial.failure}"))
    console.print()
    for sentence in comparison.advice():
        console.print(Text(f"- {sentence}"))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def fragment(comparison: "Comparison") -> str:
    """Return the advice and the table as a piece of HTML for a notebook."""
    return page("comparison_fragment.html.j2", **_values(comparison))


def write_comparison(comparison: "Comparison", path: str | Path) -> Path:
    """Write the page of a comparison and return its path."""
    path, about = Path(path), comparison.about
    budget = about.get("budget")
    facts = [
        ("data", f"{about['kind']} of {' × '.join(str(size) for size in about['shape'])}"),
        ("trained on", f"{about['training_rows']:,} rows"),
        ("measured on", f"{about['test_rows']:,} rows that no model saw"),
        ("budget", clock(budget) if budget else f"{about['steps']:,} steps" if about.get("steps") else "each its own recipe"),
        ("seeds", str(about["seeds"])),
    ]
    return write_page(
        "comparison.html.j2",
        path,
        title=f"{len(comparison.names)} models on {about['source']}",
        facts=facts,
        failures=[(f"{trial.name}, seed {trial.seed}", trial.failure) for trial in comparison.trials if trial.failure],
        charts=_charts(comparison),
        grids=_grids(comparison),
        links=_links(comparison, path.parent),
        **_values(comparison),
    )


def _values(comparison: "Comparison") -> dict[str, Any]:
    return {
        "sentences": comparison.advice(),
        "titles": ["place", *(title for title, _, _ in _COLUMNS), "spread"],
        "lines": _lines(comparison),
        "judged": len(comparison.judged),
        "source": comparison.about["source"],
    }


def _lines(comparison: "Comparison") -> list[dict[str, Any]]:
    """Return for each model its cells, each with the text and where it stands to its noise floor."""
    lines = []
    for name in comparison.names:
        cells = [{"text": name, "where": ""}, {"text": _decimal(comparison.rank(name), 1), "where": ""}]
        for title, figure, reference in _COLUMNS:
            one, value = comparison.figure(name, figure, reference), comparison.value(name, figure, reference)
            if one is None or math.isnan(value):
                cells.append({"text": "–", "where": ""})
            else:
                kind = "≥ " if title == "log p" and one.note.startswith("lower") else ""
                cells.append({"text": kind + _shown(title, value), "where": standing(one)})
        cells.append({"text": _decimal(comparison.spread(name), 2), "where": ""})
        lines.append({"name": name, "cells": cells})
    return lines


def _shown(title: str, value: float) -> str:
    if title == "training":
        return f"{value:.2f} s" if value < 10 else clock(value)
    if title == "log p":
        return _decimal(value, 2)
    return number(value)


def _decimal(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _charts(comparison: "Comparison") -> list[Shown]:
    """Return the plots over all models."""
    if len(comparison.names) < 2:
        return []
    return [Shown.of(comparison.plot(), "Quality and speed", "on the line: no other model is both faster and better")]


def _grids(comparison: "Comparison") -> list[Shown]:
    """Return what each model makes, after rows of the data."""
    shown: list[Shown] = []
    for name in comparison.names:
        evaluation = comparison.evaluations(name)[0]
        names = evaluation.plots()
        if "samples" in names:
            rows, samples = evaluation.plot("rows"), evaluation.plot("samples")
        elif "plane" in names:
            rows, samples = scatter(evaluation, "rows"), scatter(evaluation, "samples")
        else:
            continue
        if not shown:
            shown.append(Shown.of(rows, "Held-out rows", "of the data"))
        shown.append(Shown.of(samples, name, f"mean place {_decimal(comparison.rank(name), 1)}"))
    return shown


def _links(comparison: "Comparison", folder: Path) -> list[tuple[str, str]]:
    """Return the reports of the runs, relative to the page."""
    reports = [
        (f"{trial.name}, seed {trial.seed}", trial.folder / "report.html")
        for trial in comparison.trials
        if trial.evaluation is not None
    ]
    return [(name, Path(os.path.relpath(path, folder)).as_posix()) for name, path in reports if path.is_file()]
