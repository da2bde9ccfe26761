"""What an evaluation says, in a few sentences and in its most telling numbers, drawn from the figures alone."""

from collections.abc import Callable
from dataclasses import dataclass

from pushforward.evaluation.evaluation import Evaluation, Standing, number, percent, standing, written
from pushforward.evaluation.figure import Figure

__all__ = ["Tile", "sentences", "tiles"]

_SURE = 0.01  # p-value below which a copier is named


@dataclass(frozen=True)
class Tile:
    """A number that is shown large, with what it is and what it is to be compared with."""

    title: str
    value: str
    beside: str
    where: Standing


def tiles(evaluation: Evaluation) -> list[Tile]:
    """Return the most telling figures, at most six."""
    find, shown = evaluation.find, []
    for title, figure, write in (
        ("a classifier is right in", find("C2ST", reference="held-out"), percent),
        ("precision", find("precision", reference="held-out"), percent),
        ("recall", find("recall", reference="held-out"), percent),
        ("log-density", find("log-density", reference="held-out"), lambda value: number(value, 1.0)),
        ("near copies", find("near copies"), percent),
        ("variance lost", None if _samples(evaluation) else find("variance lost"), percent),
        ("for 1,000 samples", find("time of 1,000 samples"), lambda value: f"{number(value)} s"),
    ):
        if figure is not None:
            shown.append(Tile(title, write(figure.measure.value), _beside(figure, write), standing(figure)))
    return shown


def sentences(evaluation: Evaluation) -> list[str]:
    """Return what the figures say, one thought each, the most important first."""
    said = [_told_apart, _variety, _labels, _memory, _overfit, _columns, _cost]
    return [sentence for part in said if (sentence := part(evaluation))]


def _samples(evaluation: Evaluation) -> bool:
    """Whether the model draws samples."""
    return "samples" not in evaluation.skipped


def _told_apart(evaluation: Evaluation) -> str:
    figure = evaluation.find("C2ST", reference="held-out")
    if figure is None or figure.floor is None:
        return ""
    right, floor = percent(figure.measure.value), percent(figure.floor.value)
    if standing(figure) == "worse":
        return (
            f"A classifier tells samples from held-out rows in {right} of cases (real rows from real rows: {floor}), so the "
            "law is not learned to the last detail."
        )
    return (
        f"A classifier cannot tell {figure.measure.n:,} samples from held-out rows: it is right in {right} of cases "
        f"(real rows from real rows: {floor})."
    )


def _variety(evaluation: Evaluation) -> str:
    precision = evaluation.find("precision", reference="held-out")
    recall = evaluation.find("recall", reference="held-out")
    if precision is None or recall is None:
        return ""
    poor, narrow = standing(precision) == "worse", standing(recall) == "worse"
    if not poor and not narrow:
        return "Samples lie where rows lie, and rows where samples lie, as far as this many rows can show."
    parts = []
    for bad, figure, text in (
        (poor, precision, "{0} of samples lie among rows (real rows: {1}), so some are off the data"),
        (narrow, recall, "{0} of rows lie among samples (real rows: {1}), so a part of the data is missing"),
    ):
        if bad and figure.floor is not None:
            parts.append(text.format(percent(figure.measure.value), percent(figure.floor.value)))
    return "; ".join(parts).capitalize() + "."


def _labels(evaluation: Evaluation) -> str:
    figure = evaluation.find("labels followed")
    if figure is None or figure.floor is None:
        return ""
    seen = f"a classifier sees the label that was asked for in {percent(figure.measure.value)} of samples"
    beside = f"and the right one in {percent(figure.floor.value)} of held-out rows"
    if standing(figure) == "worse":
        return f"Samples do not always follow their label: {seen}, {beside}."
    return f"Samples follow their label: {seen}, {beside}."


def _memory(evaluation: Evaluation) -> str:
    near, ratio = evaluation.find("near copies"), evaluation.find("distance ratio")
    if near is None or ratio is None:
        return ""
    text = f"the median distance to the nearest training row is {number(ratio.measure.value)} times that of held-out rows"
    p = near.measure.p_value
    if p is not None and p < _SURE:
        return f"{percent(near.measure.value)} of samples are near copies of training rows, more than chance explains; {text}."
    return f"There is no sign of copied training rows: {text}."


def _overfit(evaluation: Evaluation) -> str:
    held, train = (evaluation.find("log-density", reference=reference) for reference in ("held-out", "train"))
    if held is None:
        return ""
    text = f"The log-density of held-out rows is {written(held.measure)[0]} nats on average ({held.note.partition(',')[0]})"
    if train is None:
        return f"{text}."
    gap = train.measure.value - held.measure.value
    if train.measure.low > held.measure.high:
        return f"{text}, {number(gap)} less than that of training rows, which the model fits more closely than fresh ones."
    return f"{text}; those of training rows differ by no more than chance explains."


def _columns(evaluation: Evaluation) -> str:
    worse = [figure for figure in evaluation.figures if figure.group == "table" and standing(figure) == "worse"]
    if not worse:
        return ""
    named = ", ".join(figure.name for figure in worse[:4]) + (f" and {len(worse) - 4} more" if len(worse) > 4 else "")
    return f"Above the floor among the columns: {named}."


def _cost(evaluation: Evaluation) -> str:
    time, trained = evaluation.find("time of 1,000 samples"), evaluation.find("training time")
    if time is None or trained is None:
        return ""
    calls = evaluation.find("network calls")
    many = f", with {number(calls.measure.value)} network calls each" if calls is not None and calls.measure.value > 0 else ""
    return f"1,000 samples take {number(time.measure.value)} s{many}; training took {number(trained.measure.value)} s."


def _beside(figure: Figure, write: Callable[[float], str]) -> str:
    """Say what a large number is to be compared with."""
    if figure.floor is not None:
        return f"noise floor {write(figure.floor.value)}"
    if figure.name == "log-density":
        return f"nats per row, {figure.note.partition(',')[0]}"
    return figure.note
