"""The parts of an evaluation: which figures are measured on which rows, and their names.

A part is a function that takes the inputs and adds figures and arrays to the results. Parts are independent: if one fails, the
others still run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pushforward.evaluation.features import ClassifierFeatures, FeatureSpace
from pushforward.evaluation.figure import Better, Figure, Reference
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.columns import table_parts
from pushforward.evaluation.parts.density import affordable_rows, held_out_density, rank_calibration
from pushforward.evaluation.parts.latent import latent_figures
from pushforward.evaluation.parts.mixed import mixed_parts
from pushforward.evaluation.parts.rows import Inputs, RowSet, Run
from pushforward.evaluation.parts.series import series_parts
from pushforward.evaluation.parts.sets import set_parts
from pushforward.evaluation.parts.shown import add_paths, add_rows, plane, plot_layout
from pushforward.evaluation.parts.speed import speed
from pushforward.evaluation.parts.texts import text_parts
from pushforward.metrics.arrays import Rows
from pushforward.metrics.coverage import density_coverage, precision_recall
from pushforward.metrics.frechet import frechet_distance, kernel_distance
from pushforward.metrics.measure import Measure
from pushforward.metrics.memorization import memorization
from pushforward.metrics.relabel import compared_shares
from pushforward.metrics.text import bits_per_character
from pushforward.metrics.two_sample import c2st, energy_distance, mmd, sliced_wasserstein

__all__ = ["Part", "parts_of"]

_NEIGHBORS, _CODES = 10, 1000
_INTEGRATED_ROWS = 100  # for models whose codes are found by integration


Measures = Callable[[Inputs], Iterator[tuple[str, Run]]]


@dataclass(frozen=True)
class Part:
    """A named part; ``run`` adds its figures and arrays to the results."""

    name: str
    run: Run


@dataclass(frozen=True)
class _Metric:
    """A metric of two sets of rows, with the names, notes and direction of its figures; it takes ``seed`` and ``test``."""

    names: tuple[str, ...]
    of: Callable[..., Sequence[Measure]]
    better: Better
    notes: tuple[str, ...] = ("",)
    symmetric: bool = True


def parts_of(inputs: Inputs, features: Sequence[FeatureSpace]) -> Iterator[Part]:
    """Yield the parts that apply to this model and these rows, in the order of the report."""
    model, draws = inputs.model, hasattr(inputs.model, "sample")
    if draws:
        measures: dict[str, Measures] = {**_MEASURES, "features": partial(_feature_parts, features=features)}
        for name in inputs.kind.measures:
            yield from (Part(*part) for part in measures[name](inputs))
    if hasattr(model, "log_prob"):
        yield Part("log-density", _density)
    if hasattr(model, "inverse_transform") and inputs.kind.has_distances:
        yield Part("latent space", _latent)
    if draws:
        yield Part("speed", _speed)
        yield Part("rows to look at", add_rows)
        if hasattr(model, "sampler_"):
            yield Part("paths", add_paths)


def _distance_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    for metric in _row_metrics():
        yield metric.names[0], partial(_compare, metric=metric)


def _feature_parts(inputs: Inputs, features: Sequence[FeatureSpace]) -> Iterator[tuple[str, Run]]:
    for space in features:
        for metric in _feature_metrics():
            yield f"{metric.names[0]} in {space.name}", partial(_compare, metric=metric, space=space)
        labelled = inputs.held.condition is not None and inputs.model.space_.conditions.has_classes
        if isinstance(space, ClassifierFeatures) and labelled:
            yield "labels followed", partial(_labels_followed, classifier=space)


def _row_metrics() -> list[_Metric]:
    return [
        _Metric(("C2ST",), lambda p, q, **how: [c2st(p, q, **how)], "lower", ("accuracy of a classifier; 0.5 is a guess",)),
        _Metric(("MMD²",), lambda p, q, **how: [mmd(p, q, **how)], "lower"),
        _Metric(("energy distance",), lambda p, q, **how: [energy_distance(p, q, **how)], "lower"),
        _Metric(("sliced Wasserstein",), lambda p, q, **how: [sliced_wasserstein(p, q, **how)], "lower"),
    ]


def _feature_metrics() -> list[_Metric]:
    return [
        _Metric(("Fréchet distance",), lambda p, q, **how: [frechet_distance(p, q, **how)], "lower"),
        _Metric(("kernel distance",), lambda p, q, **how: [kernel_distance(p, q, **how)], "lower"),
        _Metric(
            ("precision", "recall"),
            precision_recall,
            "higher",
            ("samples that are among rows", "rows that are among samples"),
            symmetric=False,
        ),
        _Metric(
            ("density", "coverage"),
            density_coverage,
            "higher",
            ("rows about a sample, by those about a row", "rows with a sample near"),
            symmetric=False,
        ),
    ]


def _compare(inputs: Inputs, results: Results, metric: _Metric, space: FeatureSpace | None = None) -> None:
    """Compare samples with held-out rows and with training rows, each with its noise floor.

    The test of either asks whether the samples and those rows are draws of one law, so it shares no row with the floor.
    """
    assert inputs.samples is not None
    of = inputs.scaling if space is None else (lambda x: space(inputs.kind.compared(x.numpy())))
    samples, held, other = (of(part.x) for part in (inputs.samples, inputs.held, inputs.floor))
    references: list[tuple[Reference, Rows]] = [("held-out", held)]
    if inputs.train is not None:
        references.append(("train", other))
    seed = inputs.seed
    floor = metric.of(other, held, seed=seed, test=False)
    measured = [
        (
            reference,
            metric.of(samples, rows, seed=seed, test=True),
            floor if reference == "held-out" or metric.symmetric else metric.of(held, rows, seed=seed, test=False),
        )
        for reference, rows in references
    ]
    for index, name in enumerate(metric.names):
        for reference, measures, floors in measured:
            results.figures.append(
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


def _labels_followed(inputs: Inputs, results: Results, classifier: ClassifierFeatures) -> None:
    """Measure how often a classifier predicts the label that a sample was drawn with; the floor is its accuracy on rows.

    The test is Fisher's: whether an answer is right does not depend on whether its row is a sample.
    """

    def agrees(part: RowSet | None) -> NDArray[np.bool_]:
        assert part is not None
        assert part.condition is not None
        labelled = np.array([label is not None and label == label for label in part.condition])
        labels = np.array([str(label) for label in part.condition[labelled]])
        agree: NDArray[np.bool_] = classifier.predict(inputs.kind.compared(part.x.numpy()[labelled])) == labels
        return agree

    measure, floor = compared_shares(agrees(inputs.samples), agrees(inputs.held))
    note = "a classifier sees the label that was asked for"
    results.figures.append(Figure("labels followed", "samples", measure, "share", "higher", "held-out", floor, note=note))


def _density(inputs: Inputs, results: Results) -> None:
    model, seed = inputs.model, inputs.seed
    held = inputs.test.some(affordable_rows(inputs), seed, "density")
    result = held_out_density(model, held.user, condition=held.condition, seed=seed)
    text = inputs.schema.text
    results.figures.append(
        Figure("log-density", "density", result.nats, "nats per row", "higher", "held-out", note=result.note)
    )
    if text is not None:
        bits = bits_per_character(result.rows, text.lengths(held.x.numpy()))
        results.figures.append(Figure("bits per character", "density", bits, "bits", "lower", "held-out", note=result.note))
    elif result.bits_per_dim is not None:
        bits, note = result.bits_per_dim, "the same number"
        results.figures.append(Figure("bits per dimension", "density", bits, "bits", "lower", "held-out", note=note))
    results.arrays["log_density_held_out"] = result.rows
    if inputs.train is not None:
        train = inputs.train.some(len(held), seed, "density")
        if inputs.train.condition is not None or held.condition is None:
            nats = held_out_density(model, train.user, condition=train.condition, seed=seed).nats
            note = "of rows it was fitted to"
            results.figures.append(Figure("log-density", "density", nats, "nats per row", "higher", "train", note=note))
    if inputs.samples is not None and held.condition is None and model.space_.conditions is None:
        samples = inputs.samples.some(max(len(held), 20), seed, "density")
        drawn = model.log_prob(inputs.to_user(samples.x), seed=seed).values
        calibration = rank_calibration(result.rows, drawn)
        note = "0 where rows rank among samples as samples do"
        results.figures.append(Figure("rank calibration", "density", calibration, "", "lower", "held-out", note=note))


def _memorization(inputs: Inputs, results: Results) -> None:
    assert inputs.samples is not None
    if inputs.train is None:
        results.skipped["memorization"] = "it needs the training rows; pass X_train"
        return
    samples, train, held = (inputs.scaling(part.x) for part in (inputs.samples, inputs.train, inputs.held))
    result = memorization(samples, train, held, seed=inputs.seed)
    n = len(held)
    ratio_note = "median distance to the nearest training row, by that of held-out rows"
    rows: list[tuple[str, Measure, str, Better, float, str]] = [
        ("distance ratio", result.ratio, "", "floor", 1.0, ratio_note),
        ("near copies", result.near_copies, "share", "lower", result.expected, result.note),
        ("closer than held-out", result.closer, "chance", "floor", 0.5, "0.5 is like fresh rows, 1 are copies"),
        ("exact copies", result.copies, "share", "lower", result.held_out_copies, "equal to a training row"),
    ]
    for name, measure, unit, better, fresh, note in rows:
        results.figures.append(Figure(name, "memorization", measure, unit, better, "train", Measure.exact(fresh, n), note=note))
    order = np.argsort(result.distances, kind="stable")[:_NEIGHBORS]
    results.arrays |= {
        "neighbor_samples": plot_layout(inputs, inputs.samples, order),
        "neighbor_rows": plot_layout(inputs, inputs.train, result.nearest[order]),
        "neighbor_distances": result.distances[order],
        "distances_of_samples": result.distances,
        "distances_of_held_out": result.held_out_distances,
    }


def _latent(inputs: Inputs, results: Results) -> None:
    model = inputs.model
    integrates = hasattr(model, "sampler_") or hasattr(model, "solver_steps")
    rows = inputs.held.some(_INTEGRATED_ROWS if integrates else _CODES, inputs.seed, "latent")
    result = latent_figures(model, rows.user, condition=rows.condition, seed=inputs.seed, pairs=16 if integrates else 32)
    units = inputs.kind.unit
    figures: list[tuple[str, Measure | None, str, Better | None, str]] = [
        ("reconstruction error", result.reconstruction, units, "lower", "root mean square"),
        ("variance lost", result.lost, "share", "lower", "in reconstruction"),
        ("active dimensions", result.active, "", None, f"of {result.dims}"),
        ("effective dimensions", result.effective, "", None, f"of {result.dims}"),
        ("interpolation length", result.path_length, "", None, "1 is a straight line"),
        ("interpolation step", result.largest_step, "", None, "1 is even"),
    ]
    reference: Reference | None = "held-out" if hasattr(model, "transform") else None
    for name, measure, unit, better, note in figures:
        if measure is not None:
            results.figures.append(Figure(name, "latent", measure, unit, better, reference, note=note))
    codes = result.codes
    results.arrays["codes"] = plane(codes) if codes.shape[1] != 2 else codes
    if rows.condition is not None and hasattr(model, "transform") and rows.condition.ndim == 1:
        results.arrays["code_labels"] = np.array([str(label) for label in rows.condition])


def _speed(inputs: Inputs, results: Results) -> None:
    n = min(inputs.kind.shown, 256)
    result = speed(inputs.model, n, seed=inputs.seed)
    megabytes = Measure.exact(result["memory"].value / 1e6, result["memory"].n)
    results.figures += [
        Figure("time of 1,000 samples", "speed", result["seconds"], "s", "lower", note="on this machine"),
        Figure("network calls", "speed", result["calls"], "per sample", "lower"),
        Figure("peak memory", "speed", megabytes, "MB", "lower", note=f"for {n} samples"),
    ]
    trained = inputs.model.training_result_
    seconds = Measure.exact(trained.seconds, 1)
    results.figures.append(Figure("training time", "speed", seconds, "s", "lower", note=f"{trained.parameters:,} parameters"))


_MEASURES: dict[str, Measures] = {
    "distances": _distance_parts,
    "columns": table_parts,
    "mixed columns": mixed_parts,
    "series": series_parts,
    "texts": text_parts,
    "sets": set_parts,
    "memorization": lambda inputs: iter([("memorization", _memorization)]),
}
