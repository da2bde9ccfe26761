"""The parts of an evaluation: which figures are taken from which rows, and what they are called.

A part is a function of the material that gives figures and arrays to the collection. Each stands alone: one that fails takes
no other with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pushforward.evaluation.collection import Collection
from pushforward.evaluation.features import ClassifierFeatures, Features
from pushforward.evaluation.figure import Figure, Group
from pushforward.evaluation.parts.columns import table_parts
from pushforward.evaluation.parts.density import held_out_density, rank_calibration
from pushforward.evaluation.parts.latent import latent_figures
from pushforward.evaluation.parts.rows import Material, Side
from pushforward.evaluation.parts.shown import keep_paths, keep_rows, plane, shown
from pushforward.evaluation.parts.speed import speed
from pushforward.metrics.coverage import density_coverage, precision_recall
from pushforward.metrics.frechet import frechet_distance, kernel_distance
from pushforward.metrics.measure import Measure
from pushforward.metrics.memorization import memorization
from pushforward.metrics.two_sample import c2st, energy_distance, mmd, sliced_wasserstein

__all__ = ["Collection", "Part", "parts_of"]

Better = Literal["lower", "higher", "floor"]
Rows = NDArray[np.floating[Any]]

_NEIGHBORS, _CODES = 10, 1000
_WORK, _ELEMENTS = 5_000_000, 100  # network calls times elements, with a share that every row costs
_WALK_ROWS = 100  # of models whose codes are found by integration


@dataclass(frozen=True)
class Part:
    """A named part; ``run`` adds what it finds to the collection."""

    name: str
    run: Callable[[Material, Collection], None]


@dataclass(frozen=True)
class _Metric:
    """Names of the figures of a metric of two sets of rows, and where they are taken."""

    names: tuple[str, ...]
    of: Callable[[Rows, Rows, int], Sequence[Measure]]
    better: Better
    notes: tuple[str, ...] = ("",)
    symmetric: bool = True


def parts_of(material: Material, features: Sequence[Features]) -> Iterator[Part]:
    """Yield the parts that apply to this model and these rows, in the order of the report."""
    model = material.model
    if hasattr(model, "sample"):
        for metric in _row_metrics():
            yield Part(metric.names[0], partial(_compare, metric=metric))
        for space in features:
            for metric in _feature_metrics():
                name = f"{metric.names[0]} in {space.name}"
                yield Part(name, partial(_compare, metric=metric, space=space))
            if isinstance(space, ClassifierFeatures) and material.held.condition is not None:
                yield Part("labels followed", partial(_labels_followed, judge=space))
    if hasattr(model, "log_prob"):
        yield Part("log-density", _density)
    if hasattr(model, "sample"):
        if not material.images:
            yield from (Part(name, run) for name, run in table_parts(material))
        yield Part("memorization", _memorization)
    if hasattr(model, "inverse_transform"):
        yield Part("latent space", _latent)
    if hasattr(model, "sample"):
        yield Part("speed", _speed)
        yield Part("rows to look at", keep_rows)
        if hasattr(model, "sampler_"):
            yield Part("paths", keep_paths)


def _row_metrics() -> list[_Metric]:
    """Metrics of the scaled rows themselves."""
    return [
        _Metric(("C2ST",), lambda p, q, seed: [c2st(p, q, seed=seed)], "lower", ("accuracy of a classifier; 0.5 is a guess",)),
        _Metric(("MMD²",), lambda p, q, seed: [mmd(p, q, seed=seed)], "lower"),
        _Metric(("energy distance",), lambda p, q, seed: [energy_distance(p, q, seed=seed)], "lower"),
        _Metric(("sliced Wasserstein",), lambda p, q, seed: [sliced_wasserstein(p, q, seed=seed)], "lower"),
    ]


def _feature_metrics() -> list[_Metric]:
    """Metrics of features; for vectors these are the scaled rows."""
    return [
        _Metric(("Fréchet distance",), lambda p, q, seed: [frechet_distance(p, q)], "lower"),
        _Metric(("kernel distance",), lambda p, q, seed: [kernel_distance(p, q, seed=seed)], "lower"),
        _Metric(
            ("precision", "recall"),
            lambda p, q, seed: precision_recall(p, q, seed=seed),
            "higher",
            ("samples that are among rows", "rows that are among samples"),
            symmetric=False,
        ),
        _Metric(
            ("density", "coverage"),
            lambda p, q, seed: density_coverage(p, q, seed=seed),
            "higher",
            ("rows about a sample, by those about a row", "rows with a sample near"),
            symmetric=False,
        ),
    ]


def _compare(material: Material, found: Collection, metric: _Metric, space: Features | None = None) -> None:
    """Take a metric between samples and held-out rows, and samples and training rows, each beside its noise floor."""
    assert material.samples is not None
    of = material.scaling if space is None else (lambda x: space(x.numpy()))
    samples, held, other = (of(side.x) for side in (material.samples, material.held, material.floor))
    pairs: list[tuple[Literal["held-out", "train"], Rows]] = [("held-out", held)]
    if material.train is not None:
        pairs.append(("train", other))
    floor = metric.of(other, held, material.seed)
    measured = [
        (
            reference,
            metric.of(samples, rows, material.seed),
            floor if reference == "held-out" or metric.symmetric else metric.of(held, rows, material.seed),
        )
        for reference, rows in pairs
    ]
    for index, name in enumerate(metric.names):
        for reference, measures, floors in measured:
            found.figures.append(
                Figure(
                    name=name,
                    group="samples",
                    measure=measures[index],
                    better=metric.better,
                    reference=reference,
                    floor=floors[index],
                    space="" if space is None else space.name,
                    note=metric.notes[index % len(metric.notes)],
                )
            )


def _labels_followed(material: Material, found: Collection, judge: ClassifierFeatures) -> None:
    """Count the samples in which a classifier sees the label that they were drawn with, beside rows and their own labels."""

    def seen(side: Side | None) -> Measure:
        assert side is not None
        assert side.condition is not None
        labelled = np.array([label is not None and label == label for label in side.condition])
        asked = np.array([str(label) for label in side.condition[labelled]])
        return Measure.of_share(int((judge.predict(side.x.numpy()[labelled]) == asked).sum()), len(asked))

    note = "a classifier sees the label that was asked for"
    figure = Figure(
        "labels followed", "samples", seen(material.samples), "share", "higher", "held-out", seen(material.held), note=note
    )
    found.figures.append(figure)


def _density(material: Material, found: Collection) -> None:
    model, seed = material.model, material.seed
    group: Group = "density"
    rows = _affordable(material)
    held = material.test.some(rows, seed, "density")
    result = held_out_density(model, held.user, condition=held.condition, seed=seed)
    found.figures += [
        Figure("log-density", group, result.nats, "nats per row", "higher", "held-out", note=result.note),
        Figure("bits per dimension", group, result.bits_per_dim, "bits", "lower", "held-out", note="the same number"),
    ]
    found.arrays["log_density_held_out"] = result.rows
    if material.train is not None:
        train = material.train.some(len(held), seed, "density")
        known = material.train.condition is not None or held.condition is None
        if known:
            of_train = held_out_density(model, train.user, condition=train.condition, seed=seed)
            found.figures.append(
                Figure("log-density", group, of_train.nats, "nats per row", "higher", "train", note="of rows it was fitted to")
            )
    if material.samples is not None and held.condition is None and model.space_.conditions is None:
        samples = material.samples.some(max(len(held), 20), seed, "density")
        drawn = model.log_prob(material.schema.to_user(samples.x), seed=seed).values
        calibration = rank_calibration(result.rows, drawn)
        note = "0 where rows rank among samples as samples do"
        found.figures.append(Figure("rank calibration", group, calibration, "", "lower", "held-out", note=note))


def _affordable(material: Material) -> int:
    """Return how many rows are scored: fewer where a row costs many network calls."""
    few = material.test.some(2, material.seed, "trial")
    calls = max(int(material.model.log_prob(few.user, condition=few.condition).nfe), 1)
    elements = int(np.prod(material.schema.internal_shape))
    return int(np.clip(_WORK // (calls * (elements + _ELEMENTS)), 50, 2000))


def _memorization(material: Material, found: Collection) -> None:
    assert material.samples is not None
    if material.train is None:
        found.skipped["memorization"] = "it needs the training rows; pass X_train"
        return
    samples, train, held = (material.scaling(side.x) for side in (material.samples, material.train, material.held))
    result = memorization(samples, train, held, seed=material.seed)
    n = len(held)
    ratio_note = "median distance to the nearest training row, by that of held-out rows"
    rows: list[tuple[str, Measure, str, Better, float, str]] = [
        ("distance ratio", result.ratio, "", "floor", 1.0, ratio_note),
        ("near copies", result.near_copies, "share", "lower", result.expected, result.note),
        ("closer than held-out", result.closer, "chance", "floor", 0.5, "0.5 is like fresh rows, 1 are copies"),
        ("exact copies", result.copies, "share", "lower", result.held_out_copies, "equal to a training row"),
    ]
    for name, measure, unit, better, fresh, note in rows:
        floor = Measure(fresh, fresh, fresh, n)
        found.figures.append(Figure(name, "memorization", measure, unit, better, "train", floor, note=note))
    order = np.argsort(result.distances, kind="stable")[:_NEIGHBORS]
    found.arrays |= {
        "neighbor_samples": shown(material, material.samples, order),
        "neighbor_rows": shown(material, material.train, result.nearest[order]),
        "neighbor_distances": result.distances[order],
        "distances_of_samples": result.distances,
        "distances_of_held_out": result.held_out_distances,
    }


def _latent(material: Material, found: Collection) -> None:
    model = material.model
    walks = hasattr(model, "sampler_") or hasattr(model, "solver_steps")
    rows = material.held.some(_WALK_ROWS if walks else _CODES, material.seed, "latent")
    result = latent_figures(model, rows.user, condition=rows.condition, seed=material.seed, pairs=16 if walks else 32)
    own = "pixel values" if material.images else "data units"
    figures: list[tuple[str, Measure | None, str, Better | None, str]] = [
        ("reconstruction error", result.reconstruction, own, "lower", "root mean square"),
        ("variance lost", result.lost, "share", "lower", "in reconstruction"),
        ("active dimensions", result.active, "", None, f"of {result.dims}"),
        ("effective dimensions", result.effective, "", None, f"of {result.dims}"),
        ("interpolation length", result.path_length, "", None, "1 is a straight line"),
        ("interpolation step", result.largest_step, "", None, "1 is even"),
    ]
    reference: Literal["held-out"] | None = "held-out" if hasattr(model, "transform") else None
    for name, measure, unit, better, note in figures:
        if measure is not None:
            found.figures.append(Figure(name, "latent", measure, unit, better, reference, note=note))
    codes = result.codes
    found.arrays["codes"] = plane(codes) if codes.shape[1] != 2 else codes
    if rows.condition is not None and hasattr(model, "transform") and rows.condition.ndim == 1:
        found.arrays["code_labels"] = np.array([str(label) for label in rows.condition])


def _speed(material: Material, found: Collection) -> None:
    n = 64 if material.images else 256
    result = speed(material.model, n, seed=material.seed)
    memory = result["memory"]
    megabytes = replace(memory, value=memory.value / 1e6, low=memory.low / 1e6, high=memory.high / 1e6)
    found.figures += [
        Figure("time of 1,000 samples", "speed", result["seconds"], "s", "lower", note="here and now"),
        Figure("network calls", "speed", result["calls"], "per sample", "lower"),
        Figure("peak memory", "speed", megabytes, "MB", "lower", note=f"for {n} samples"),
    ]
    trained = material.model.training_result_
    seconds = Measure(trained.seconds, trained.seconds, trained.seconds, 1)
    found.figures.append(Figure("training time", "speed", seconds, "s", "lower", note=f"{trained.parameters:,} parameters"))
