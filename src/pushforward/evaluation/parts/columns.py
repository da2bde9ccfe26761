"""The parts of an evaluation about columns: marginals, correlations, categories, and predictors trained on samples."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pushforward.evaluation.figure import Figure
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.ranges import ranges
from pushforward.evaluation.parts.rows import Inputs, Run
from pushforward.evaluation.parts.usefulness import usefulness
from pushforward.metrics.associations import association_gap, correlation_gap, total_variation
from pushforward.metrics.categories import category_columns, category_coverage, with_levels
from pushforward.metrics.measure import Measure
from pushforward.metrics.two_sample import wasserstein_columns

__all__ = ["table_parts"]

_MOST_COLUMNS = 200
_LISTED = 12


def table_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    """Yield the names and functions of the parts that apply to these columns."""
    reference = _flat(inputs.floor.x)
    width = reference.shape[1]
    if width > _MOST_COLUMNS:
        yield "columns", _too_wide
        return
    categories, varies = category_columns(reference), (reference[0] != reference).any(axis=0)
    yield "marginals", _marginals
    if not categories.all():
        yield "ranges", partial(ranges, columns=np.flatnonzero(varies & ~categories).tolist())
    if (varies & ~categories).sum() > 1:
        yield "correlations", partial(_gap, name="correlation gap", metric=correlation_gap, pairs="pairs of columns")
    if categories.any():
        yield "categories", _categories
        if (varies & categories).any() and varies.sum() > 1:
            yield "associations", partial(_gap, name="association gap", metric=association_gap, pairs="pairs with a category")
    if width > 1 and inputs.train is not None:
        yield "train on samples", _train_on_samples


def _too_wide(inputs: Inputs, results: Results) -> None:
    results.skipped["columns"] = f"more than {_MOST_COLUMNS} of them"


def _marginals(inputs: Inputs, results: Results) -> None:
    """Measure distances of single columns; of many columns list those that are farthest from their floor."""
    samples, held, other = _three(inputs)
    # The columns to list are chosen by their distances, so their p-values must account for the choice.
    measures = wasserstein_columns(samples, held, seed=inputs.seed, jointly=samples.shape[1] > _LISTED)
    floors = wasserstein_columns(other, held, test=False)
    ratios = np.array([measure.value / max(floor.value, 1e-300) for measure, floor in zip(measures, floors, strict=True)])
    listed = np.sort(np.argsort(-ratios, kind="stable")[:_LISTED])
    note = "" if len(listed) == len(measures) else f"of the {_LISTED} of {len(measures)} columns farthest from their floor"
    for index in listed:
        name = f"Wasserstein of {inputs.names[index]}"
        figure = Figure(name, "table", measures[index], "its unit", "lower", "held-out", floors[index], note=note)
        results.figures.append(figure)


def _gap(inputs: Inputs, results: Results, *, name: str, metric: Callable[..., Measure], pairs: str) -> None:
    samples, held, other = _three(inputs)
    categories = category_columns(other)
    gap, floor = (
        metric(rows, held, categories=categories, seed=inputs.seed, test=rows is samples) for rows in (samples, other)
    )
    note = f"mean difference over {pairs}"
    results.figures.append(Figure(name, "table", gap, "", "lower", "held-out", floor, note=note))


def _categories(inputs: Inputs, results: Results) -> None:
    samples, held, other = _three(inputs)
    columns = np.flatnonzero(category_columns(other))
    measures, floors = (
        total_variation(rows[:, columns], held[:, columns], seed=inputs.seed, test=rows is samples) for rows in (samples, other)
    )
    for index, measure, floor in list(zip(columns, measures, floors, strict=True))[:_LISTED]:
        name = f"wrong categories of {inputs.names[index]}"
        results.figures.append(Figure(name, "table", measure, "share", "lower", "held-out", floor, note="total variation"))
    for category in category_coverage(samples, other, categories=category_columns(other)):
        name = inputs.names[category.column]
        for what, share, values in (
            ("lost", category.lost_share, category.lost),
            ("invented", category.invented_share, category.invented),
        ):
            if values:
                listed = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
                chance = f"; by chance too with probability {category.chance:.2g}" if what == "lost" else ""
                figure = Figure(f"categories {what}, {name}", "table", share, "share", "lower", "train", note=listed + chance)
                results.figures.append(figure)


def _train_on_samples(inputs: Inputs, results: Results) -> None:
    samples, held, other = _three(inputs)
    categories = category_columns(other)
    varies = (other[0] != other).any(axis=0) & (held[0] != held).any(axis=0)
    target = int(np.flatnonzero(varies & categories if (varies & categories).any() else varies)[-1])
    domains, (samples, other, held) = with_levels(samples, (other, held), categories)
    results.figures.append(usefulness(samples, other, held, domains, target, inputs))


def _three(inputs: Inputs) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return samples, held-out rows and training rows in data units, (n, D)."""
    assert inputs.samples is not None
    return _flat(inputs.samples.x), _flat(inputs.held.x), _flat(inputs.floor.x)


def _flat(x: Tensor) -> NDArray[Any]:
    return x.flatten(1).numpy()
