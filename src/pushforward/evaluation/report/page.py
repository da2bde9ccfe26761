"""The page of an evaluation: one HTML file that holds its plots, loads nothing from a network and runs no script."""

import base64
import io
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup
from PIL import Image

from pushforward.evaluation.figure import Figure, number, remarks, standing, verdict, written
from pushforward.evaluation.findings import Findings
from pushforward.evaluation.report.plots import columns_beside, draw, names, scatter
from pushforward.evaluation.report.summary import sentences, tiles
from pushforward.plots import Plot
from pushforward.training.record.files import write_file
from pushforward.training.record.progress import clock

__all__ = ["EmbeddedPlot", "data_uri", "fragment", "page", "write_page", "write_report"]

_DPI = 150
_MOST_COLUMNS = 24
_SMALL = (4.6, 3.3)


_SINGLE_PLOTS = (
    (
        "neighbors",
        "neighbors",
        "Nearest training rows",
        "top: the samples that are nearest to a training row; below each, that row",
    ),
    ("neighbors", "distances", "How near is that?", "copies would be at the left, where no held-out row is"),
    ("tables", "associations", "How columns go together", "associations of all pairs of columns"),
    ("tables", "gaps", "Which cells are empty", "and which are empty together"),
    ("training", "learning", "Loss by step", ""),
    ("training", "noise levels", "Held-out loss by noise level", "mean squared error at each fifth of the noise levels"),
    ("latent", "latent", "Map of the latent space", "codes of held-out rows, along the two directions in which they vary most"),
    ("paths", "paths", "From noise to data", "each line is a sample"),
)


@dataclass(frozen=True)
class EmbeddedPlot:
    """A plot on the page.

    Attributes
    ----------
    source : str
        A data: URI.
    width, height : int
        In pixels, so that the page does not move while it loads.
    title, caption : str
    kind : {"chart", "grid"}
        In a dark page charts are inverted; grids, which show images of the data, stay as they are.
    """

    source: str
    width: int
    height: int
    title: str
    caption: str = ""
    kind: Literal["chart", "grid"] = "chart"

    @classmethod
    def of(cls, plot: Plot, title: str, caption: str = "", *, inches: tuple[float, float] | None = None) -> "EmbeddedPlot":
        """Embed a plot; one with axes can be given another size in inches."""
        source, width, height = data_uri(plot, inches)
        return cls(source, width, height, title, caption, "chart" if hasattr(plot, "savefig") else "grid")


def data_uri(plot: Plot, inches: tuple[float, float] | None = None) -> tuple[str, int, int]:
    """Return a plot as a data: URI with its width and height in pixels."""
    buffer = io.BytesIO()
    if not isinstance(plot, Image.Image):
        if inches is not None:
            plot.set_size_inches(*inches)
        plot.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    else:
        plot.save(buffer, "PNG", optimize=True)
    content = buffer.getvalue()
    width, height = Image.open(io.BytesIO(content)).size
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height


def write_report(findings: Findings, path: str | Path) -> Path:
    """Write the page of an evaluation and return its path."""
    about = findings.about
    return write_page(
        "report.html.j2",
        path,
        title=f"{findings.model} on {about.get('source', 'data')}",
        evaluation=findings,
        facts=_facts(findings),
        tiles=tiles(findings),
        sentences=sentences(findings),
        sections=_sections(findings),
        chapters=_chapters(findings),
        parts=sorted(((name, clock(s)) for name, s in findings.seconds.items() if s >= 1), key=lambda part: part[0]),
        total=clock(about["seconds"]) if "seconds" in about else "",
    )


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Render a template into a file and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, page(template, **values))
    return path


def page(template: str, **values: Any) -> str:
    """Render a template of the folder ``templates``; values are escaped."""
    return _environment().get_template(template).render(**values)


def fragment(findings: Findings) -> str:
    """Return the sentences and the table of an evaluation as a piece of HTML for a notebook."""
    return page("fragment.html.j2", evaluation=findings, sentences=sentences(findings), sections=_sections(findings))


def bar(figure: Figure) -> Markup:
    """Draw the interval of a figure beside its noise floor as a small SVG."""
    measure, floor = figure.measure, figure.floor
    if floor is None:
        return Markup("")
    ends = [end for end in (measure.low, measure.value, measure.high, floor.low, floor.value, floor.high) if math.isfinite(end)]
    low, high = min(ends), max(ends)

    def place(value: float) -> float:
        inside = min(max(value, low), high) if math.isfinite(value) else high
        return round(4 + 92 * ((inside - low) / (high - low) if high > low else 0.5), 2)

    f = sorted((place(floor.low), place(floor.high)))
    m = sorted((place(measure.low), place(measure.high)))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="track" x="0" y="5.5" width="100" height="3" rx="1.5"/>'
        '<rect class="floor" x="{fx}" y="2" width="{fw}" height="10" rx="1"/>'
        '<rect class="span" x="{mx}" y="5.5" width="{mw}" height="3"/>'
        '<rect class="dot" x="{dx}" y="2.5" width="2.4" height="9" rx="1.2"/></svg>'
    ).format(
        label=verdict(figure) or "beside the floor",
        fx=f[0] - 0.6,
        fw=round(f[1] - f[0] + 1.2, 2),
        mx=m[0],
        mw=round(max(m[1] - m[0], 0.8), 2),
        dx=round(place(measure.value) - 1.2, 2),
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pushforward.evaluation.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"bar": bar, "standing": standing, "written": written, "remarks": remarks, "verdict": verdict}
    environment.filters["number"] = number
    return environment


def _sections(findings: Findings) -> list[tuple[str, list[list[Figure]]]]:
    sections = []
    for title, figures in findings.sections():
        rows: list[list[Figure]] = []
        for figure in figures:
            if rows and rows[-1][0].name == figure.name:
                rows[-1].append(figure)
            else:
                rows.append([figure])
        sections.append((title, rows))
    return sections


def _facts(findings: Findings) -> list[tuple[str, str]]:
    about = findings.about
    if "kind" not in about:
        return []
    shape = " × ".join(str(size) for size in about["shape"])
    facts = [
        ("data", f"{about['kind']} of {shape}"),
        ("trained on", f"{about['training_rows']:,} rows, {clock(about['training_seconds'])}"),
        ("measured on", f"{about['test_rows']:,} held-out rows"),
        ("compared", f"{about['n']:,} of each"),
        ("parameters", f"{about['parameters']:,}"),
        ("seed", str(about["seed"])),
    ]
    if "training_rows_read" in about:
        facts.insert(2, ("read from disk", f"{about['training_rows_read']:,} of the training rows, drawn at random"))
    if about["complete_rows"] < about["test_rows"]:
        facts.insert(-3, ("without gaps", f"{about['complete_rows']:,} of these rows"))
    return facts


def _chapters(findings: Findings) -> dict[str, list[EmbeddedPlot]]:
    available = names(findings)
    chapters: dict[str, list[EmbeddedPlot]] = {
        name: [] for name in ("samples", "neighbors", "columns", "tables", "training", "latent", "paths")
    }
    if "samples" in available:
        labels = findings.arrays.get("class_labels")
        ordered = "" if labels is None else f"one line for each class: {', '.join(labels.tolist())}"
        chapters["samples"] = [
            EmbeddedPlot.of(draw(findings, "samples"), "Samples", ordered),
            EmbeddedPlot.of(draw(findings, "rows"), "Held-out rows", ordered),
        ]
    elif "plane" in available:
        caption = "along the two directions in which rows vary most" if "plane_rows" in findings.arrays else ""
        chapters["samples"] = [
            EmbeddedPlot.of(scatter(findings, "samples"), "Samples", caption),
            EmbeddedPlot.of(scatter(findings, "rows"), "Held-out rows", caption),
        ]
    if "marginals" in available:
        chapters["columns"] = _marginals(findings)
    for chapter, name, title, caption in _SINGLE_PLOTS:
        if name in available:
            inches = _SMALL if name == "learning" else None
            chapters[chapter].append(EmbeddedPlot.of(draw(findings, name), title, caption, inches=inches))
    return chapters


def _marginals(findings: Findings) -> list[EmbeddedPlot]:
    """Return one small plot for each column, so that a narrow page can put them below each other."""
    columns = findings.about["columns"]
    embedded = []
    for index in range(min(len(columns), _MOST_COLUMNS)):
        plot = columns_beside(findings, [index], titled=False)
        embedded.append(EmbeddedPlot.of(plot, columns[index], inches=(3.2, 2.2)))
    return embedded
