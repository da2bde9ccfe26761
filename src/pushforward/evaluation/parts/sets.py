"""Figures of sets of points: how samples and rows mix among nearest neighbors, by two distances that know no order."""

from collections.abc import Iterator

from pushforward.evaluation.figure import Better, Figure, Reference
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.rows import Inputs, RowSet, Run
from pushforward.metrics.sets import affordable_sets, set_figures

__all__ = ["set_parts"]

_NOTES = {
    "1-NN accuracy": "samples told from rows by their nearest neighbor, 0.5 is a guess",
    "coverage": "rows that are nearest to some sample",
}


def set_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    """Yield the name and function of the part about sets."""
    yield "nearest neighbors", _neighbors


def _neighbors(inputs: Inputs, results: Results) -> None:
    """Compare samples with held-out sets and with training sets, each with its noise floor."""
    assert inputs.samples is not None
    n = min(inputs.n, affordable_sets(inputs.schema.internal_shape[0]))

    def some(part: RowSet, purpose: str) -> list[object]:
        return [row.numpy() for row in part.some(n, inputs.seed, purpose).x]

    samples, held = some(inputs.samples, "samples"), some(inputs.held, "held-out")
    other = some(inputs.floor, "train")
    references: list[tuple[Reference, list[object]]] = [("held-out", held)]
    if inputs.train is not None:
        references.append(("train", other))
    floors = set_figures(other, held, seed=inputs.seed, test=False)
    for reference, rows in references:
        for (name, space), measure in set_figures(samples, rows, seed=inputs.seed).items():
            better: Better = "lower" if name == "1-NN accuracy" else "higher"
            floor = floors[name, space]
            results.figures.append(Figure(name, "samples", measure, "share", better, reference, floor, space, _NOTES[name]))
