"""What an evaluation came to: figures in a table, and the few rows that its plots are drawn from.

An evaluation is data alone. It is written as JSON, its arrays beside it as .npz, and both are read back without running code.
"""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pushforward.evaluation.figure import Figure, Group
from pushforward.metrics.measure import Measure
from pushforward.plots import Plot
from pushforward.training.files import write_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GROUPS", "Evaluation", "number", "percent", "remarks", "standing", "verdict", "written"]

Standing = Literal["at", "worse", "better", ""]

GROUPS: dict[Group, str] = {
    "samples": "Samples against rows",
    "density": "Density",
    "table": "Columns",
    "memorization": "Memorization",
    "latent": "Latent space",
    "speed": "Speed",
}
_FORMAT = 1
_WIDTH = 100
_NAME, _SAYS = 28, 20
_DECIMALS = 6
_COLUMNS = (
    *("name", "value", "low", "high", "floor", "n", "reference", "unit", "space", "note", "group", "floor_low", "floor_high"),
    *("p_value", "verdict"),
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a model is, in figures; :func:`~pushforward.evaluation.evaluate` makes one.

    Attributes
    ----------
    figures : tuple of Figure
        In the order of the report.
    model : str
        Name of the family.
    about : mapping
        What was evaluated: ``source``, ``kind`` and shape of the data, numbers of rows, seed, training.
    failures : mapping
        Parts that could not be computed, with the reason. Nothing else is lost by them.
    skipped : mapping
        Parts that do not apply, with the reason.
    seconds : mapping
        What each part took.
    curve : sequence of mappings
        Learning curve: lines of ``metrics.jsonl``.
    arrays : mapping of arrays
        The rows that plots are drawn from: samples, held-out rows, nearest training rows, latents, paths.

    >>> from pushforward.evaluation import Figure, Measure
    >>> figure = Figure("recall", "samples", Measure(0.2, 0.1, 0.3, 500), better="higher", floor=Measure(0.9, 0.8, 1.0, 500))
    >>> Evaluation((figure,), "VAE").table()[["name", "value", "verdict"]].values.tolist()
    [['recall', 0.2, 'below the floor']]
    """

    figures: tuple[Figure, ...]
    model: str
    about: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, Any]] = ()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def find(self, name: str, *, reference: str | None = None, space: str | None = None) -> Figure | None:
        """Return the first figure of this name, and of this reference and space if they are given; None if there is none."""
        for figure in self.figures:
            if figure.name == name and reference in (None, figure.reference) and space in (None, figure.space):
                return figure
        return None

    def table(self) -> "pd.DataFrame":
        """Return one line per figure.

        The columns are name, value, low and high (of the 95 % interval), floor, n, reference, unit, space, note, group,
        floor_low and floor_high, p_value, and what all that says: verdict.
        """
        import pandas as pd

        return pd.DataFrame([_line(figure) for figure in self.figures], columns=list(_COLUMNS))

    def plot(self, name: str = "figures") -> Plot:
        """Draw a plot of the evaluation, as the report shows it.

        Parameters
        ----------
        name : str
            "figures" (intervals beside their noise floors), or one of :meth:`images`.

        Raises
        ------
        ValueError
            If there is no such plot for this model and data.
        """
        from pushforward.evaluation.report.plots import draw

        return draw(self, name)

    def plots(self) -> tuple[str, ...]:
        """Return the names that :meth:`plot` can draw."""
        from pushforward.evaluation.report.plots import names

        return names(self)

    def report(self, path: str | Path) -> Path:
        """Write everything as one HTML file that needs nothing else, and return its path."""
        from pushforward.evaluation.report.page import write_report

        return write_report(self, path)

    def save(self, path: str | Path) -> Path:
        """Write ``path``, a .json, and beside it the arrays as .npz; :meth:`load` reads both. Return the path."""
        path = _json_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
            write_file(path.with_suffix(".npz"), buffer.getvalue())
        else:
            path.with_suffix(".npz").unlink(missing_ok=True)
        facts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "arrays"}
        facts["figures"] = [dataclasses.asdict(figure) for figure in self.figures]
        text = json.dumps(_to_json({"format": _FORMAT} | facts), indent=1, allow_nan=False)
        write_file(path, text + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Evaluation":
        """Read what :meth:`save` wrote; without the .npz the figures are there and the plots of rows are not.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is no evaluation.
        """
        path = _json_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no evaluation {path}; make one with `pushforward evaluate RUN`")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts.pop("format") != _FORMAT:
                raise ValueError(f"it is not of format {_FORMAT}")
            facts["figures"] = tuple(_figure(figure) for figure in facts["figures"])
            arrays = {}
            if path.with_suffix(".npz").is_file():
                with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
            return cls(**facts, arrays=arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not an evaluation that can be read: {error}") from None

    def __str__(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), width=_WIDTH)
        table.add_column("figure", width=_NAME)
        for title in ("value", "95 % interval", "floor", "n", "against"):
            words = title in ("95 % interval", "against")
            table.add_column(title, justify="left" if words else "right", no_wrap=title != "95 % interval")
        table.add_column("what it says", ratio=1, min_width=_SAYS)
        sections = self.sections()
        for index, (_, figures) in enumerate(sections):
            table.add_row(f"§{index}")
            for figure in figures:
                table.add_row(*(Text(cell) for cell in _cells(figure)))
        buffer = io.StringIO()
        console = Console(file=buffer, width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        console.print(Text(self._headline()))
        console.print(table)
        for title, named in (("Failed", self.failures), ("Left out", self.skipped)):
            for part, reason in named.items():
                console.print(Text(f"{title}: {part}: {reason}"))
        # Headings are longer than the first column, which must stay narrow.
        headings = {f"§{index}": title for index, (title, _) in enumerate(sections)}
        lines = (line.rstrip() for line in buffer.getvalue().splitlines())
        return "\n".join(headings.get(line, line)[:_WIDTH] for line in lines)

    def sections(self) -> list[tuple[str, list[Figure]]]:
        """Return the figures under their headings: what they are of, and the space of features they are taken in."""
        found: dict[str, list[Figure]] = {}
        for group, title in GROUPS.items():
            for figure in self.figures:
                if figure.group == group:
                    found.setdefault(f"{title}, {figure.space}" if figure.space else title, []).append(figure)
        return list(found.items())

    def _repr_html_(self) -> str:
        from pushforward.evaluation.report.page import fragment

        return fragment(self)

    def _headline(self) -> str:
        source = f" on {self.about['source']}" if self.about.get("source") else ""
        counted = [standing(figure) for figure in self.figures]
        judged = sum(map(bool, counted))
        parts = f": {judged - counted.count('worse')} of {judged} figures at their noise floor or better" if judged else ""
        return f"{self.model}{source}{parts}"


def standing(figure: Figure) -> Standing:
    """Return where the interval of a figure lies: "at" its noise floor's, "worse", "better", or "" if there is no floor.

    >>> standing(Figure("MMD", "samples", Measure(0.3, 0.2, 0.4, 9), better="lower", floor=Measure(0.1, 0.0, 0.15, 9)))
    'worse'
    """
    floor, measure = figure.floor, figure.measure
    ends = () if floor is None else (measure.low, measure.high, floor.low, floor.high)
    if floor is None or figure.better is None or not all(map(math.isfinite, ends)):
        return ""
    if measure.low <= floor.high and floor.low <= measure.high:
        return "at"
    above = measure.low > floor.high
    return "worse" if figure.better == "floor" or above == (figure.better == "lower") else "better"


def verdict(figure: Figure) -> str:
    """Say in words where a figure lies, or "" if it has no floor.

    >>> verdict(Figure("MMD", "samples", Measure(0.3, 0.2, 0.4, 9), better="lower", floor=Measure(0.1, 0.0, 0.15, 9)))
    'above the floor'
    """
    where = standing(figure)
    if not where or figure.floor is None:
        return ""
    if where == "at":
        return "at the floor"
    side = "above the floor" if figure.measure.low > figure.floor.high else "below the floor"
    return side if where == "worse" else "better than the floor"


def number(value: float, width: float = 0.0) -> str:
    """Write a number for people: three digits that count, or those that count beside an interval of this width.

    >>> number(0.012345), number(1234567.0), number(float("nan")), number(-2.2468, width=0.18), number(0.00032, width=0.005)
    ('0.0123', '1,234,567', '–', '-2.25', '0.0003')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if math.isfinite(width) and width > 0:
        decimals = max(0, 1 - math.floor(math.log10(width)))
        if decimals <= _DECIMALS:
            return f"{value:,.{decimals}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share for people.

    >>> percent(0.0123), percent(0.504)
    ('1.2 %', '50 %')
    """
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def written(measure: Measure) -> tuple[str, str]:
    """Write the value of a measure and its interval, which is "" where the value is exact.

    >>> written(Measure(0.5, 0.41, 0.59, 9)), written(Measure(3, 3, 3, 1))
    (('0.50', '0.41 to 0.59'), ('3', ''))
    """
    width = measure.high - measure.low
    if not (math.isfinite(width) and width > 0):
        return number(measure.value), ""
    value, low, high = (number(part, width) for part in (measure.value, measure.low, measure.high))
    return value, f"{low} to {high}"


def remarks(figure: Figure) -> str:
    """Join what a figure says in words: its verdict, its p-value, or else how its note begins."""
    p = figure.measure.p_value
    chance = "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    return ", ".join(filter(None, (verdict(figure), chance))) or figure.note.partition(",")[0]


def _cells(figure: Figure) -> tuple[str, ...]:
    """Return the cells of a line of the printed table."""
    value, interval = written(figure.measure)
    floor = "" if figure.floor is None else written(figure.floor)[0]
    name = f"  {figure.name}{f' ({figure.unit})' if figure.unit else ''}"
    return name, value, interval, floor, f"{figure.measure.n:,}", figure.reference or "", remarks(figure)


def _line(figure: Figure) -> list[Any]:
    measure, floor = figure.measure, figure.floor
    nan = float("nan")
    return [
        *(figure.name, measure.value, measure.low, measure.high, nan if floor is None else floor.value, measure.n),
        *(figure.reference, figure.unit, figure.space, figure.note, figure.group),
        *((nan, nan) if floor is None else (floor.low, floor.high)),
        *(nan if measure.p_value is None else measure.p_value, verdict(figure)),
    ]


def _figure(plain: Mapping[str, Any]) -> Figure:
    """Return a figure from plain data."""
    floor = plain["floor"]
    return Figure(**{**plain, "measure": _measure(plain["measure"]), "floor": None if floor is None else _measure(floor)})


def _measure(plain: Mapping[str, Any]) -> Measure:
    numbers = {key: float("nan") if plain[key] is None else float(plain[key]) for key in ("value", "low", "high")}
    p = plain["p_value"]
    return Measure(**numbers, n=int(plain["n"]), p_value=None if p is None else float(p))


def _to_json(value: Any) -> Any:
    """Return plain data that strict JSON can hold: NaN is null, infinities are text."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _json_path(path: str | Path) -> Path:
    """Return the path of the JSON file; a folder means its ``evaluation.json``."""
    path = Path(path)
    if path.is_dir():
        return path / "evaluation.json"
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"an evaluation is written to a .json file, not to {path.name!r}; write {path.stem or 'evaluation'}.json"
        )
    return path
