"""Advice on which model to take, from the figures of a ranking."""

from collections.abc import Iterator

import numpy as np

from pushforward.evaluation.comparison.ranking import Ranking
from pushforward.evaluation.figure import off_floor, percent, short_note

__all__ = ["advice"]

_MUCH = 3.0  # factor of time that is worth a sentence
_LEVEL = 0.5  # difference of mean places within which two models are level
_UNSTABLE = 1.5  # spread from which a model depends on its seed


def advice(ranking: Ranking) -> list[str]:
    """Return what the figures say, the most important first."""
    if not ranking.names:
        return ["No model could be trained and evaluated; the table says why."]
    topics = (_best, _labels, _density, _cheaper_training, _faster_sampling, _copies, _stability, _codes, _failed)
    return [sentence for topic in topics for sentence in topic(ranking)]


def _best(ranking: Ranking) -> Iterator[str]:
    ranked = [name for name in ranking.names if np.isfinite(ranking.rank(name))]
    if not ranked:
        return
    best, about = ranked[0], ranking.about
    rows = f"On {about['training_rows']:,} {about['described']}"
    if len(ranked) == 1:
        yield f"{rows} only {best} could be ranked."
    else:
        near = [name for name in ranked[1:] if ranking.rank(name) - ranking.rank(best) <= _LEVEL]
        level = f", level with {_listed(near)}" if near else ""
        yield (
            f"{rows} {best} has the best samples: over {len(ranking.judged)} figures its mean place is "
            f"{ranking.rank(best):.1f} of {len(ranked)}{level}."
        )
    accuracy = ranking.figure(best, "C2ST", "held-out")
    if accuracy is not None and accuracy.floor is not None:
        value = ranking.value(best, "C2ST", "held-out")
        if ranking.standing(best, "C2ST", "held-out") == "worse":
            yield (
                f"Still, a classifier tells its samples from held-out rows in {percent(value)} of cases "
                f"(real rows from real rows: {percent(accuracy.floor.value)})."
            )
        elif accuracy.measure.p_value is not None:
            yield (
                f"A classifier that tells its samples from held-out rows is right in {percent(value)} of cases, no more than "
                f"chance explains with {accuracy.measure.n:,} of each "
                f"(real rows from real rows: {percent(accuracy.floor.value)})."
            )


def _labels(ranking: Ranking) -> Iterator[str]:
    """Name the model that follows labels least, if that is more than chance."""
    followed = {name: ranking.value(name, "labels followed") for name in ranking.names}
    able = [name for name in followed if np.isfinite(followed[name])]
    if not able:
        return
    worst = min(able, key=lambda name: followed[name])
    figure = ranking.figure(worst, "labels followed")
    if figure is not None and figure.floor is not None and ranking.standing(worst, "labels followed") == "worse":
        yield (
            f"{worst} follows labels least: a classifier sees the label that was asked for in {percent(followed[worst])} of "
            f"its samples (the right one in {percent(figure.floor.value)} of held-out rows)."
        )


def _density(ranking: Ranking) -> Iterator[str]:
    values = {name: ranking.value(name, "log-density", "held-out") for name in ranking.names}
    able = sorted((name for name in values if np.isfinite(values[name])), key=lambda name: -values[name])
    if not able:
        return
    best = ranking.figure(able[0], "log-density", "held-out")
    assert best is not None
    text = f"{able[0]} gives held-out rows the highest log-density, {values[able[0]]:.2f} nats per row ({short_note(best)})"
    if len(able) > 1:
        second = ranking.figure(able[1], "log-density", "held-out")
        assert second is not None
        close = second.measure.high >= best.measure.low
        text += f", {'about as' if close else 'before'} {able[1]} with {values[able[1]]:.2f} ({short_note(second)})"
    yield text + "."


def _cheaper_training(ranking: Ranking) -> Iterator[str]:
    yield from _faster(ranking, "trains", "training time", 1e-3)


def _faster_sampling(ranking: Ranking) -> Iterator[str]:
    yield from _faster(ranking, "draws samples", "time of 1,000 samples", 1e-9)


def _faster(ranking: Ranking, does: str, figure: str, least: float) -> Iterator[str]:
    """Name the best of the models that are much faster than the best of all."""
    best = ranking.names[0]
    own = ranking.value(best, figure)
    for name in ranking.names[1:]:
        factor = own / max(ranking.value(name, figure), least)
        if factor >= _MUCH and np.isfinite(ranking.rank(name)):
            yield f"{name} {does} {factor:,.0f} times faster than {best}; {_price(ranking, best, name)}."
            return


def _price(ranking: Ranking, best: str, other: str) -> str:
    """Return what is lost by taking the other model, in words."""
    mine, its = (ranking.value(name, "C2ST", "held-out") for name in (best, other))
    text = f"its mean place is {ranking.rank(other):.1f}"
    return text + (f", and a classifier is right in {percent(its)} instead of {percent(mine)} of cases" if its > mine else "")


def _copies(ranking: Ranking) -> Iterator[str]:
    for name in ranking.names:
        found = [figure for evaluation in ranking.evaluations(name) for figure in off_floor(evaluation.figures)]
        if any(figure.name == "near copies" for figure in found):
            yield (
                f"Beware of {name}: {percent(ranking.value(name, 'near copies', 'train'))} of its samples are near copies "
                "of training rows, more than chance explains."
            )


def _stability(ranking: Ranking) -> Iterator[str]:
    spreads = {name: ranking.spread(name) for name in ranking.names}
    unstable = [name for name, spread in spreads.items() if spread >= _UNSTABLE]
    for name in unstable:
        yield (
            f"{name} depends on its seed: the sliced Wasserstein distance of its worst training is {spreads[name]:.1f} times "
            "that of its best."
        )
    if not unstable and any(np.isfinite(spread) for spread in spreads.values()):
        yield f"No model depends much on its seed (worst against best training: at most {max(_finite(spreads)):.2f} times)."


def _codes(ranking: Ranking) -> Iterator[str]:
    lost = {name: ranking.value(name, "variance lost") for name in ranking.names}
    small = {
        name: figure.note.removeprefix("of ")
        for name in ranking.names
        if np.isfinite(lost[name])
        and (figure := ranking.figure(name, "active dimensions")) is not None
        and figure.note.removeprefix("of ").isdigit()
        and int(figure.note.removeprefix("of ")) < np.prod(ranking.about["shape"])
    }
    if small:
        name = min(small, key=lambda model: lost[model])
        numbers = "one number" if small[name] == "1" else f"{small[name]} numbers"
        yield f"For short codes take {name}: rows decoded from {numbers} lose {percent(lost[name])} of their variance."


def _failed(ranking: Ranking) -> Iterator[str]:
    failed = list(dict.fromkeys(trial.name for trial in ranking.trials if trial.failure))
    if failed:
        yield f"Failures: {_listed(failed)} failed with at least one seed; the table says why."


def _finite(values: dict[str, float]) -> list[float]:
    return [value for value in values.values() if np.isfinite(value)]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
