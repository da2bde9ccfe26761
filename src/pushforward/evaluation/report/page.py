"""The page of an evaluation: one HTML file with its plots inside, which asks nothing of a network and runs no script."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from pushforward.evaluation.evaluation import Evaluation, number, remarks, standing, verdict, written
from pushforward.evaluation.figure import Figure
from pushforward.evaluation.report.plots import scatter
from pushforward.evaluation.report.words import sentences, tiles
from pushforward.plots import Plot, columns_grid
from pushforward.training.files import write_file
from pushforward.training.progress import clock

__all__ = ["Shown", "data_uri", "fragment", "page", "write_page", "write_report"]

_DPI = 150
_MOST_COLUMNS = 24
_SMALL = (4.6, 3.3)


@dataclass(frozen=True)
class Shown:
    """A plot on the page.

    Attributes
    ----------
    source : str
        A data: URI.
    width, height : int
        In pixels of the file, so that the page does not jump while it loads.
    title, caption : str
    kind : {"chart", "grid"}
        Charts are turned dark with the page; grids hold plots of the data and stay as they are.
    """

    source: str
    width: int
    height: int
    title: str
    caption: str = ""
    kind: Literal["chart", "grid"] = "chart"

    @classmethod
    def of(cls, plot: Plot, title: str, caption: str = "", *, inches: tuple[float, float] | None = None) -> "Shown":
        """Return a matplotlib figure, of another size if ``inches`` are given, or a grid of plots."""
        source, width, height = data_uri(plot, inches)
        return cls(source, width, height, title, caption, "chart" if hasattr(plot, "savefig") else "grid")


def data_uri(plot: Plot, inches: tuple[float, float] | None = None) -> tuple[str, int, int]:
    """Return a plot as a data: URI with its width and height in pixels."""
    from PIL import Image

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


def write_report(evaluation: Evaluation, path: str | Path) -> Path:
    """Write the page of an evaluation and return its path."""
    about = evaluation.about
    facts = _facts(evaluation)
    return write_page(
        "report.html.j2",
        path,
        title=f"{evaluation.model} on {about.get('source', 'data')}",
        evaluation=evaluation,
        facts=facts,
        tiles=tiles(evaluation),
        sentences=sentences(evaluation),
        sections=_sections(evaluation),
        chapters=_chapters(evaluation),
        parts=sorted(((name, clock(s)) for name, s in evaluation.seconds.items() if s >= 1), key=lambda part: part[0]),
        total=clock(about["seconds"]) if "seconds" in about else "",
    )


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Fill in a template of the folder ``page`` and write it; text is escaped. Return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, page(template, **values))
    return path


def page(template: str, **values: Any) -> str:
    """Fill in a template of the folder ``page``; text is escaped."""
    return _environment().get_template(template).render(**values)


def fragment(evaluation: Evaluation) -> str:
    """Return the evaluation as a piece of HTML for a notebook: what it says, and the table."""
    return page("fragment.html.j2", evaluation=evaluation, sentences=sentences(evaluation), sections=_sections(evaluation))


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
        label=verdict(figure),
        fx=f[0] - 0.6,
        fw=round(f[1] - f[0] + 1.2, 2),
        mx=m[0],
        mw=round(max(m[1] - m[0], 0.8), 2),
        dx=round(place(measure.value) - 1.2, 2),
    )


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


def _sections(evaluation: Evaluation) -> list[tuple[str, list[list[Figure]]]]:
    """Return the figures by heading, those of one name together."""
    found = []
    for title, figures in evaluation.sections():
        rows: list[list[Figure]] = []
        for figure in figures:
            if rows and rows[-1][0].name == figure.name:
                rows[-1].append(figure)
            else:
                rows.append([figure])
        found.append((title, rows))
    return found


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was evaluated, as pairs of a name and a value."""
    about = evaluation.about
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
    if about["complete_rows"] < about["test_rows"]:
        facts.insert(3, ("without gaps", f"{about['complete_rows']:,} of these rows"))
    return facts


def _chapters(evaluation: Evaluation) -> dict[str, list[Shown]]:
    """Return the plots of each chapter of the page, in order."""
    names = evaluation.plots()
    chapters: dict[str, list[Shown]] = {
        "samples": [],
        "neighbors": [],
        "columns": [],
        "training": [],
        "latent": [],
        "paths": [],
    }
    if "samples" in names:
        labels = evaluation.arrays.get("class_labels")
        ordered = "" if labels is None else f"one line for each class: {', '.join(labels.tolist())}"
        chapters["samples"] = [
            Shown.of(evaluation.plot("samples"), "Samples", ordered),
            Shown.of(evaluation.plot("rows"), "Held-out rows", ordered),
        ]
    elif "plane" in names:
        caption = "along the two directions in which rows vary most" if "plane_rows" in evaluation.arrays else ""
        chapters["samples"] = [
            Shown.of(scatter(evaluation, "samples"), "Samples", caption),
            Shown.of(scatter(evaluation, "rows"), "Held-out rows", caption),
        ]
    if "neighbors" in names:
        caption = "above the samples that are nearest to a training row, below these rows"
        chapters["neighbors"].append(Shown.of(evaluation.plot("neighbors"), "Nearest training rows", caption))
    if "distances" in names:
        caption = "copies would stand at the left, where no held-out row does"
        chapters["neighbors"].append(Shown.of(evaluation.plot("distances"), "How near is that?", caption))
    if "marginals" in names:
        chapters["columns"] = _marginals(evaluation)
    if "learning" in names:
        chapters["training"].append(Shown.of(evaluation.plot("learning"), "Loss by step", inches=_SMALL))
    if "noise levels" in names:
        caption = "mean squared error at each fifth of the noise levels"
        chapters["training"].append(Shown.of(evaluation.plot("noise levels"), "Held-out loss by noise level", caption))
    if "latent" in names:
        caption = "codes of held-out rows, along the two directions in which they vary most"
        chapters["latent"].append(Shown.of(evaluation.plot("latent"), "Map of the latent space", caption))
    if "paths" in names:
        chapters["paths"].append(Shown.of(evaluation.plot("paths"), "From noise to data", "each line is a sample"))
    return chapters


def _marginals(evaluation: Evaluation) -> list[Shown]:
    """Return one small plot for each column, so that a narrow page can put them below each other."""
    samples, rows, columns = evaluation.arrays["samples"], evaluation.arrays["rows"], evaluation.about["columns"]
    shown = []
    for index in range(min(samples.shape[1], _MOST_COLUMNS)):
        plot = columns_grid(samples[:, [index]], rows[:, [index]], names=[""])
        shown.append(Shown.of(plot, columns[index], inches=(3.2, 2.2)))
    return shown
