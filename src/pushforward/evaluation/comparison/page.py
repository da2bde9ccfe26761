"""A comparison as text, as a piece of HTML for notebooks, and as a page."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from pushforward.evaluation.comparison.advice import advice
from pushforward.evaluation.comparison.ranking import Ranking
from pushforward.evaluation.figure import Standing, number
from pushforward.evaluation.report.page import EmbeddedPlot, page, write_page
from pushforward.evaluation.report.plots import scatter
from pushforward.evaluation.report.text import plain_table, rendered
from pushforward.training.record.progress import clock

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


class Cell(NamedTuple):
    """A cell of the table, with its standing to the noise floor."""

    text: str
    standing: Standing = ""


def as_text(ranking: Ranking) -> str:
    """Return the table and the advice as text of at most 118 columns."""
    table = plain_table()
    table.add_column("model", no_wrap=True)
    for title in _titles():
        table.add_column(title, justify="right", no_wrap=True)
    for line in _lines(ranking):
        table.add_row(*(Text(cell.text) for cell in line))
    failures = [Text(f"Failed: {name}: {failure}") for name, failure in _failures(ranking)]
    sentences = [Text(f"- {sentence}") for sentence in advice(ranking)]
    return "\n".join(rendered(_WIDTH, table, *failures, Text(), *sentences))


def fragment(ranking: Ranking) -> str:
    """Return the advice and the table as a piece of HTML for a notebook."""
    return page("comparison_fragment.html.j2", **_values(ranking))


def write_comparison(ranking: Ranking, path: str | Path) -> Path:
    """Write the page of a comparison and return its path."""
    path, about = Path(path), ranking.about
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
        title=f"{len(ranking.names)} models on {about['source']}",
        facts=facts,
        failures=_failures(ranking),
        charts=_charts(ranking),
        grids=_grids(ranking),
        links=_links(ranking, path.parent),
        **_values(ranking),
    )


def _values(ranking: Ranking) -> dict[str, Any]:
    return {
        "sentences": advice(ranking),
        "titles": _titles(),
        "lines": _lines(ranking),
        "judged": len(ranking.judged),
        "source": ranking.about["source"],
    }


def _titles() -> list[str]:
    return ["place", *(title for title, _, _ in _COLUMNS), "spread"]


def _failures(ranking: Ranking) -> list[tuple[str, str]]:
    return [(f"{trial.name}, seed {trial.seed}", trial.failure) for trial in ranking.trials if trial.failure]


def _lines(ranking: Ranking) -> list[list[Cell]]:
    lines: list[list[Cell]] = []
    for name in ranking.names:
        cells = [Cell(name), Cell(_decimal(ranking.rank(name), 1))]
        for title, figure, reference in _COLUMNS:
            first, value = ranking.figure(name, figure, reference), ranking.value(name, figure, reference)
            if first is None or math.isnan(value):
                cells.append(Cell("–"))
            else:
                bound = "≥ " if title == "log p" and first.note.startswith("lower") else ""
                cells.append(Cell(bound + _formatted(title, value), ranking.standing(name, figure, reference)))
        cells.append(Cell(_decimal(ranking.spread(name), 2)))
        lines.append(cells)
    return lines


def _formatted(title: str, value: float) -> str:
    if title == "training":
        return f"{value:.2f} s" if value < 10 else clock(value)
    if title == "log p":
        return _decimal(value, 2)
    return number(value)


def _decimal(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _charts(ranking: Ranking) -> list[EmbeddedPlot]:
    if len(ranking.names) < 2:
        return []
    return [EmbeddedPlot.of(ranking.plot(), "Quality and speed", "on the line: models that no other beats in both")]


def _grids(ranking: Ranking) -> list[EmbeddedPlot]:
    embedded: list[EmbeddedPlot] = []
    for name in ranking.names:
        evaluation = ranking.evaluations(name)[0]
        names = evaluation.plots()
        if "samples" in names:
            rows, samples = evaluation.plot("rows"), evaluation.plot("samples")
        elif "plane" in names:
            rows, samples = scatter(evaluation, "rows"), scatter(evaluation, "samples")
        else:
            continue
        if not embedded:
            embedded.append(EmbeddedPlot.of(rows, "Held-out rows", "of the data"))
        embedded.append(EmbeddedPlot.of(samples, name, f"mean place {_decimal(ranking.rank(name), 1)}"))
    return embedded


def _links(ranking: Ranking, folder: Path) -> list[tuple[str, str]]:
    reports = [
        (f"{trial.name}, seed {trial.seed}", trial.folder / "report.html")
        for trial in ranking.trials
        if trial.evaluation is not None
    ]
    return [(name, Path(os.path.relpath(path, folder)).as_posix()) for name, path in reports if path.is_file()]
