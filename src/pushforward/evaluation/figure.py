"""A measure as it is reported: its name, its noise floor, what it was measured against, and how to say that in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pushforward.metrics.measure import Measure

__all__ = [
    "LEVEL",
    "Better",
    "Figure",
    "Group",
    "Reference",
    "Standing",
    "chance",
    "number",
    "off_floor",
    "percent",
    "remarks",
    "short_note",
    "standing",
    "verdict",
    "written",
]

Group = Literal["samples", "density", "table", "memorization", "latent", "speed"]
Better = Literal["lower", "higher", "floor"]
Reference = Literal["train", "held-out"]
Standing = Literal["at", "worse", "better", ""]

LEVEL = 0.05
_DECIMALS = 6


@dataclass(frozen=True)
class Figure:
    """A measure with its name and its context.

    Attributes
    ----------
    name : str
        Such as "sliced Wasserstein".
    group : Group
        The part of the report that it belongs to.
    measure : Measure
        With the p-value of its test, if it has one, and whether it lies above or below what equal laws give.
    unit : str
        "" for plain numbers.
    better : {"lower", "higher", "floor"} or None
        Which way is better; "floor": the nearer to the noise floor the better (a ratio of distances); None: neither.
    reference : {"train", "held-out"} or None
        The rows that samples were compared with, or whose density was measured.
    floor : Measure, optional
        The same measure between training rows and held-out rows: what a perfect model would reach.
        It is shown beside the measure; the test of the measure decides whether the two differ.
    space : str
        Where it was measured: "" for the rows themselves, else the name of the feature space. Figures of different spaces are
        never compared.
    note : str
        What a reader must know, such as the kind of a density.
    """

    name: str
    group: Group
    measure: Measure
    unit: str = ""
    better: Better | None = None
    reference: Reference | None = None
    floor: Measure | None = None
    space: str = ""
    note: str = ""


def standing(figure: Figure) -> Standing:
    """Return where the test of a figure puts it beside its noise floor, at the 5 % level; "" without a floor or a test.

    Intervals do not count, because those of two figures that differ may overlap.

    >>> floor = Measure(0.1, 0.0, 0.25, 9)
    >>> standing(Figure("MMD", "samples", Measure(0.3, 0.2, 0.4, 9, 0.01, "above"), better="lower", floor=floor))
    'worse'
    """
    measure = figure.measure
    if figure.floor is None or figure.better is None or measure.p_value is None:
        return ""
    if measure.p_value > LEVEL:
        return "at"
    return "better" if (figure.better, measure.side) in (("lower", "below"), ("higher", "above")) else "worse"


def verdict(figure: Figure) -> str:
    """Return the standing of a figure in words, "" without one.

    >>> floor = Measure(0.1, 0.0, 0.25, 9)
    >>> verdict(Figure("MMD", "samples", Measure(0.3, 0.2, 0.4, 9, 0.01, "above"), better="lower", floor=floor))
    'above the floor'
    """
    relation = standing(figure)
    words = {"": "", "at": "at the floor", "better": "better than the floor", "worse": f"{figure.measure.side} the floor"}
    return words[relation]


def off_floor(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures that are worse than their floors when all of them are tested together.

    By Holm's correction (1979) a model with the law of the data has any such figure in at most 5 % of evaluations, however
    many figures there are and however they depend on each other.

    >>> floor = Measure(0.1, 0.0, 0.25, 9)
    >>> values = [Measure(0.3, 0.2, 0.4, 9, p, "above") for p in (0.001, 0.03, 0.04)]
    >>> len(off_floor([Figure("MMD", "samples", value, better="lower", floor=floor) for value in values]))
    1
    """
    tested = sorted((figure for figure in figures if standing(figure)), key=lambda figure: figure.measure.p_value or 0.0)
    found: list[Figure] = []
    for rank, figure in enumerate(tested):
        if (figure.measure.p_value or 0.0) * (len(tested) - rank) > LEVEL:
            break
        found.append(figure)
    return [figure for figure in found if standing(figure) == "worse"]


def number(value: float, width: float = 0.0) -> str:
    """Format a number: three significant digits, or those that are significant beside an interval of this width.

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
    """Format a share in percent.

    >>> percent(0.0123), percent(0.504)
    ('1.2 %', '50 %')
    """
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def written(measure: Measure) -> tuple[str, str]:
    """Format the value of a measure and its interval, which is "" if the value is exact.

    >>> written(Measure(0.5, 0.41, 0.59, 9)), written(Measure(3, 3, 3, 1))
    (('0.50', '0.41 to 0.59'), ('3', ''))
    """
    width = measure.high - measure.low
    if not (math.isfinite(width) and width > 0):
        return number(measure.value), ""
    value, low, high = (number(part, width) for part in (measure.value, measure.low, measure.high))
    return value, f"{low} to {high}"


def remarks(figure: Figure) -> str:
    """Describe a figure in words: its verdict and its p-value, or else its short note."""
    return ", ".join(filter(None, (verdict(figure), chance(figure)))) or short_note(figure)


def chance(figure: Figure) -> str:
    """Return the p-value of a figure in words, "" without a test.

    >>> chance(Figure("MMD", "samples", Measure(0.3, 0.2, 0.4, 9, 0.0004, "above")))
    'p < 0.001'
    """
    p = figure.measure.p_value
    return "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def short_note(figure: Figure) -> str:
    """Return the note of a figure up to its first comma, such as the kind of a density."""
    return figure.note.partition(",")[0]
