"""The parts of an evaluation that look at columns: marginals, correlations, categories, learning from samples."""

from collections.abc import Callable, Iterator

import numpy as np

from pushforward.evaluation.collection import Collection
from pushforward.evaluation.figure import Figure
from pushforward.evaluation.parts.rows import Material
from pushforward.metrics.tables import (
    association_gap,
    category_columns,
    category_coverage,
    correlation_gap,
    total_variation,
    train_on_synthetic,
)
from pushforward.metrics.two_sample import wasserstein_columns

__all__ = ["table_parts"]

_MOST_COLUMNS = 200
_LISTED = 12


def table_parts(material: Material) -> Iterator[tuple[str, Callable[[Material, Collection], None]]]:
    """Yield names and functions of the parts that apply to these columns."""
    reference = _flat(material.floor.x)
    width = reference.shape[1]
    if width > _MOST_COLUMNS:
        yield "columns", _too_wide
        return
    categories, varies = category_columns(reference), (reference[0] != reference).any(axis=0)
    yield "marginals", _marginals
    if (varies & ~categories).sum() > 1:
        yield "correlations", _correlations
    if categories.any():
        yield "categories", _categories
        if (varies & categories).any() and varies.sum() > 1:
            yield "associations", _associations
    if width > 1 and material.train is not None:
        yield "train on samples", _utility


def _too_wide(material: Material, found: Collection) -> None:
    found.skipped["columns"] = f"more than {_MOST_COLUMNS} of them"


def _marginals(material: Material, found: Collection) -> None:
    """Distances of single columns; of many columns those that are farthest from their floor."""
    samples, held, other = _three(material)
    measures, floors = wasserstein_columns(samples, held), wasserstein_columns(other, held)
    far = np.array([one.value / max(floor.value, 1e-300) for one, floor in zip(measures, floors, strict=True)])
    listed = np.sort(np.argsort(-far, kind="stable")[:_LISTED])
    note = "" if len(listed) == len(measures) else f"of the {_LISTED} of {len(measures)} columns farthest from their floor"
    for index in listed:
        name = f"Wasserstein of {material.names[index]}"
        figure = Figure(name, "table", measures[index], "its unit", "lower", "held-out", floors[index], note=note)
        found.figures.append(figure)


def _correlations(material: Material, found: Collection) -> None:
    samples, held, other = _three(material)
    categories = category_columns(other)
    gap, floor = (correlation_gap(rows, held, categories=categories, seed=material.seed) for rows in (samples, other))
    note = "mean difference over pairs of columns"
    found.figures.append(Figure("correlation gap", "table", gap, "", "lower", "held-out", floor, note=note))


def _associations(material: Material, found: Collection) -> None:
    samples, held, other = _three(material)
    categories = category_columns(other)
    gap, floor = (association_gap(rows, held, categories=categories, seed=material.seed) for rows in (samples, other))
    note = "mean difference over pairs with a category"
    found.figures.append(Figure("association gap", "table", gap, "", "lower", "held-out", floor, note=note))


def _categories(material: Material, found: Collection) -> None:
    samples, held, other = _three(material)
    columns = np.flatnonzero(category_columns(other))
    parts = samples[:, columns], held[:, columns], other[:, columns]
    measures, floors = (total_variation(rows, parts[1], seed=material.seed) for rows in (parts[0], parts[2]))
    for index, measure, floor in list(zip(columns, measures, floors, strict=True))[:_LISTED]:
        name = f"wrong categories of {material.names[index]}"
        found.figures.append(Figure(name, "table", measure, "share", "lower", "held-out", floor, note="total variation"))
    for category in category_coverage(samples, other, categories=category_columns(other)):
        name = material.names[category.column]
        for what, share, values in (
            ("lost", category.lost_share, category.lost),
            ("invented", category.invented_share, category.invented),
        ):
            if values:
                listed = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
                chance = f"; by chance too with probability {category.chance:.2g}" if what == "lost" else ""
                figure = Figure(f"categories {what}, {name}", "table", share, "share", "lower", "train", note=listed + chance)
                found.figures.append(figure)


def _utility(material: Material, found: Collection) -> None:
    """Predict the last column of categories, or the last column, from all others."""
    samples, held, other = _three(material)
    categories = category_columns(other)
    varies = (other[0] != other).any(axis=0) & (held[0] != held).any(axis=0)
    target = int(np.flatnonzero(varies & categories if (varies & categories).any() else varies)[-1])
    result = train_on_synthetic(samples, other, held, target, categories=categories, seed=material.seed)
    unit = "accuracy" if result.score == "accuracy" else "R²"
    note = f"predicts {material.names[target]}; the floor is trained on as many training rows"
    figure = Figure(
        "train on samples, test on rows", "table", result.synthetic, unit, "higher", "held-out", result.real, note=note
    )
    found.figures.append(figure)


def _three(material: Material) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples, held-out rows and training rows in data units, (n, D)."""
    assert material.samples is not None
    return _flat(material.samples.x), _flat(material.held.x), _flat(material.floor.x)


def _flat(x: object) -> np.ndarray:
    return np.asarray(x).reshape(len(x), -1)  # type: ignore[arg-type]
