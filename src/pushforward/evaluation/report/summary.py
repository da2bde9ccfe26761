"""The summary of an evaluation: a few sentences and its most important numbers, both from the figures alone."""

from collections.abc import Callable
from dataclasses import dataclass

from pushforward.evaluation.figure import Figure, Standing, chance, number, off_floor, percent, short_note, standing, written
from pushforward.evaluation.findings import Findings
from pushforward.evaluation.report.power import could_have_seen

__all__ = ["Tile", "sentences", "tiles"]


@dataclass(frozen=True)
class Tile:
    """A number that is shown large, with its title and what to compare it with."""

    title: str
    value: str
    compared_with: str
    standing: Standing


def tiles(findings: Findings) -> list[Tile]:
    """Return the most important figures, at most six."""
    find, chosen = findings.find, []
    for title, figure, write in (
        ("a classifier is right in", find("C2ST", reference="held-out"), percent),
        ("precision", find("precision", reference="held-out"), percent),
        ("recall", find("recall", reference="held-out"), percent),
        ("log-density", find("log-density", reference="held-out"), lambda value: number(value, 1.0)),
        ("near copies", find("near copies"), percent),
        ("variance lost", None if _has_samples(findings) else find("variance lost"), percent),
        ("for 1,000 samples", find("time of 1,000 samples"), lambda value: f"{number(value)} s"),
    ):
        if figure is not None:
            chosen.append(Tile(title, write(figure.measure.value), _compared_with(figure, write), standing(figure)))
    return chosen


def sentences(findings: Findings) -> list[str]:
    """Return what the figures say, one topic per sentence, the most important first."""
    topics = [_count, _power, _classifier, _variety, _labels, _memorization, _overfitting, _columns, _cost]
    return [sentence for topic in topics if (sentence := topic(findings))]


def _count(findings: Findings) -> str:
    tested, off = [figure for figure in findings.figures if standing(figure)], off_floor(findings.figures)
    if not tested:
        return ""
    if not off:
        return f"None of {len(tested)} figures is worse than its noise floor, at the 5 % level for all tests together."
    listed = list(dict.fromkeys(figure.name for figure in off))
    named = ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
    worse = f"{len(off)} of {len(tested)} figures are worse than their noise floors"
    return f"{worse}, at the 5 % level for all tests together: {named}."


def _power(findings: Findings) -> str:
    tested = [figure for figure in findings.figures if standing(figure)]
    rows = [figure.measure.n for figure in tested if figure.group == "samples"]
    return could_have_seen(min(rows), {figure.name for figure in tested}) if rows else ""


def _has_samples(findings: Findings) -> bool:
    return "samples" not in findings.skipped


def _classifier(findings: Findings) -> str:
    figure = findings.find("C2ST", reference="held-out")
    if figure is None or figure.floor is None:
        return ""
    right, floor = percent(figure.measure.value), percent(figure.floor.value)
    if standing(figure) == "worse":
        return (
            f"A classifier tells samples from held-out rows in {right} of cases (real rows from real rows: {floor}; "
            f"{chance(figure)}), so the law is not learned in every detail."
        )
    text = f"A classifier that tells {figure.measure.n:,} samples from as many held-out rows is right in {right} of cases"
    explained = {
        "at": f", as chance explains ({chance(figure)})",
        "better": f", less often than chance explains ({chance(figure)})",
    }
    return f"{text}{explained.get(standing(figure), '')}; real rows from real rows: {floor}."


def _variety(findings: Findings) -> str:
    precision = findings.find("precision", reference="held-out")
    recall = findings.find("recall", reference="held-out")
    if precision is None or recall is None:
        return ""
    poor, narrow = standing(precision) == "worse", standing(recall) == "worse"
    if not poor and not narrow:
        return "Samples lie where rows lie, and rows where samples lie, as far as this number of rows can show."
    parts = []
    for bad, figure, text in (
        (poor, precision, "{0} of samples lie among rows (real rows: {1}), so some are off the data"),
        (narrow, recall, "{0} of rows lie among samples (real rows: {1}), so a part of the data is missing"),
    ):
        if bad and figure.floor is not None:
            parts.append(text.format(percent(figure.measure.value), percent(figure.floor.value)))
    return "; ".join(parts).capitalize() + "."


def _labels(findings: Findings) -> str:
    figure = findings.find("labels followed")
    if figure is None or figure.floor is None:
        return ""
    seen = f"a classifier sees the label that was asked for in {percent(figure.measure.value)} of samples"
    beside = f"and the right one in {percent(figure.floor.value)} of held-out rows"
    if standing(figure) == "worse":
        return f"Samples do not always follow their label: {seen}, {beside}."
    return f"Samples follow their label: {seen}, {beside}."


def _memorization(findings: Findings) -> str:
    near, ratio = findings.find("near copies"), findings.find("distance ratio")
    if near is None or ratio is None:
        return ""
    text = f"the median distance to the nearest training row is {number(ratio.measure.value)} times that of held-out rows"
    if standing(near) == "worse" and near.floor is not None:
        return (
            f"{percent(near.measure.value)} of samples are near copies of training rows, of fresh rows "
            f"{percent(near.floor.value)} would be ({chance(near)}); {text}."
        )
    return f"There are no more near copies of training rows than chance explains: {text}."


def _overfitting(findings: Findings) -> str:
    held, train = (findings.find("log-density", reference=reference) for reference in ("held-out", "train"))
    if held is None:
        return ""
    text = f"The log-density of held-out rows is {written(held.measure)[0]} nats on average ({short_note(held)})"
    if train is None:
        return f"{text}."
    gap = train.measure.value - held.measure.value
    if train.measure.low > held.measure.high:
        return f"{text}, {number(gap)} less than that of training rows: the model fits these more closely than new rows."
    return f"{text}; that of training rows differs by no more than chance explains."


def _columns(findings: Findings) -> str:
    worse = [figure for figure in findings.figures if figure.group == "table" and standing(figure) == "worse"]
    if not worse:
        return ""
    named = ", ".join(figure.name for figure in worse[:4]) + (f" and {len(worse) - 4} more" if len(worse) > 4 else "")
    return f"Above the floor among the columns: {named}."


def _cost(findings: Findings) -> str:
    time, trained = findings.find("time of 1,000 samples"), findings.find("training time")
    if time is None or trained is None:
        return ""
    calls = findings.find("network calls")
    many = f", with {number(calls.measure.value)} network calls each" if calls is not None and calls.measure.value > 0 else ""
    return f"1,000 samples take {number(time.measure.value)} s{many}; training took {number(trained.measure.value)} s."


def _compared_with(figure: Figure, write: Callable[[float], str]) -> str:
    if figure.floor is not None:
        return f"noise floor {write(figure.floor.value)}"
    if figure.name == "log-density":
        return f"nats per row, {short_note(figure)}"
    return figure.note
