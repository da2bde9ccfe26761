"""Which model to take, in plain words drawn from the figures of a comparison."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pushforward.evaluation.evaluation import percent, standing

if TYPE_CHECKING:
    from pushforward.evaluation.comparison.result import Comparison

__all__ = ["advice"]

_MUCH = 3.0  # times that are worth a sentence
_LEVEL = 0.5  # places within which two models are level
_UNSTABLE = 1.5
_SURE = 0.01


def advice(comparison: "Comparison") -> list[str]:
    """Return what the figures say, the most important first."""
    if not comparison.names:
        return ["No model could be trained and evaluated; the table says why."]
    parts = (_best, _labels, _density, _cheaper_training, _faster_sampling, _copies, _stability, _codes, _lost)
    return [sentence for part in parts for sentence in part(comparison)]


def _best(comparison: "Comparison") -> Iterator[str]:
    ranked = [name for name in comparison.names if np.isfinite(comparison.rank(name))]
    if not ranked:
        return
    best, about = ranked[0], comparison.about
    shape = " × ".join(str(size) for size in about["shape"])
    rows = f"On {about['training_rows']:,} " + (
        f"images of {shape}" if about["kind"] == "images" else f"rows of {shape} columns"
    )
    if len(ranked) == 1:
        yield f"{rows} only {best} could be ranked."
    else:
        near = [name for name in ranked[1:] if comparison.rank(name) - comparison.rank(best) <= _LEVEL]
        level = f", level with {_listed(near)}" if near else ""
        yield (
            f"{rows} {best} has the best samples: over {len(comparison.judged)} figures its mean place is "
            f"{comparison.rank(best):.1f} of {len(ranked)}{level}."
        )
    told = comparison.figure(best, "C2ST", "held-out")
    if told is not None and told.floor is not None:
        value = comparison.value(best, "C2ST", "held-out")
        if standing(told) == "worse":
            yield (
                f"Still, a classifier tells its samples from held-out rows in {percent(value)} of cases "
                f"(real rows from real rows: {percent(told.floor.value)})."
            )
        else:
            yield f"A classifier cannot tell its samples from held-out rows (right in {percent(value)} of cases)."


def _labels(comparison: "Comparison") -> Iterator[str]:
    """Name the model that follows labels least, if chance does not explain it."""
    followed = {name: comparison.value(name, "labels followed") for name in comparison.names}
    able = [name for name in followed if np.isfinite(followed[name])]
    if not able:
        return
    worst = min(able, key=lambda name: followed[name])
    figure = comparison.figure(worst, "labels followed")
    if figure is not None and figure.floor is not None and standing(figure) == "worse":
        yield (
            f"{worst} follows labels least: a classifier sees the label that was asked for in {percent(followed[worst])} of "
            f"its samples (the right one in {percent(figure.floor.value)} of held-out rows)."
        )


def _density(comparison: "Comparison") -> Iterator[str]:
    values = {name: comparison.value(name, "log-density", "held-out") for name in comparison.names}
    able = sorted((name for name in values if np.isfinite(values[name])), key=lambda name: -values[name])
    if not able:
        return
    best = comparison.figure(able[0], "log-density", "held-out")
    assert best is not None
    text = f"{able[0]} gives held-out rows the highest log-density, {values[able[0]]:.2f} nats per row ({_kind(best.note)})"
    if len(able) > 1:
        second = comparison.figure(able[1], "log-density", "held-out")
        assert second is not None
        close = second.measure.high >= best.measure.low
        text += f", {'about as' if close else 'before'} {able[1]} with {values[able[1]]:.2f} ({_kind(second.note)})"
    yield text + "."


def _cheaper_training(comparison: "Comparison") -> Iterator[str]:
    best = comparison.names[0]
    own = comparison.value(best, "training time")
    for name in comparison.names[1:]:
        factor = own / max(comparison.value(name, "training time"), 1e-3)
        if factor >= _MUCH and np.isfinite(comparison.rank(name)):
            yield f"{name} trains {factor:,.0f} times faster than {best}; {_price(comparison, best, name)}."
            return


def _faster_sampling(comparison: "Comparison") -> Iterator[str]:
    best = comparison.names[0]
    own = comparison.value(best, "time of 1,000 samples")
    for name in comparison.names[1:]:
        factor = own / max(comparison.value(name, "time of 1,000 samples"), 1e-9)
        if factor >= _MUCH and np.isfinite(comparison.rank(name)):
            yield f"{name} draws samples {factor:,.0f} times faster than {best}; {_price(comparison, best, name)}."
            return


def _price(comparison: "Comparison", best: str, other: str) -> str:
    """Say what is lost by taking the other model."""
    mine, its = (comparison.value(name, "C2ST", "held-out") for name in (best, other))
    text = f"its mean place is {comparison.rank(other):.1f}"
    return text + (f", and a classifier is right in {percent(its)} instead of {percent(mine)} of cases" if its > mine else "")


def _copies(comparison: "Comparison") -> Iterator[str]:
    for name in comparison.names:
        near = comparison.figure(name, "near copies", "train")
        if near is not None and near.measure.p_value is not None and near.measure.p_value < _SURE:
            yield (
                f"Beware of {name}: {percent(comparison.value(name, 'near copies', 'train'))} of its samples are near copies "
                "of training rows, more than chance explains."
            )


def _stability(comparison: "Comparison") -> Iterator[str]:
    spreads = {name: comparison.spread(name) for name in comparison.names}
    unsure = [name for name, spread in spreads.items() if spread >= _UNSTABLE]
    for name in unsure:
        yield (
            f"{name} depends on its seed: the sliced Wasserstein distance of its worst training is {spreads[name]:.1f} times "
            "that of its best."
        )
    if not unsure and any(np.isfinite(spread) for spread in spreads.values()):
        yield f"No model depends much on its seed (worst against best training: at most {max(_finite(spreads)):.2f} times)."


def _codes(comparison: "Comparison") -> Iterator[str]:
    lost = {name: comparison.value(name, "variance lost") for name in comparison.names}
    small = {
        name: figure.note.removeprefix("of ")
        for name in comparison.names
        if np.isfinite(lost[name])
        and (figure := comparison.figure(name, "active dimensions")) is not None
        and figure.note.removeprefix("of ").isdigit()
        and int(figure.note.removeprefix("of ")) < np.prod(comparison.about["shape"])
    }
    if small:
        name = min(small, key=lambda one: lost[one])
        numbers = "one number" if small[name] == "1" else f"{small[name]} numbers"
        yield f"For short codes take {name}: from {numbers} rows come back with {percent(lost[name])} of their variance lost."


def _lost(comparison: "Comparison") -> Iterator[str]:
    failed = list(dict.fromkeys(trial.name for trial in comparison.trials if trial.failure))
    if failed:
        yield f"Not all went well: {_listed(failed)} failed, at least with one seed; the table says why."


def _finite(values: dict[str, float]) -> list[float]:
    return [value for value in values.values() if np.isfinite(value)]


def _kind(note: str) -> str:
    return note.partition(",")[0]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
