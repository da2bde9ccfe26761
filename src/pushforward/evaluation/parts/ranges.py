"""The part of an evaluation about single values: those outside the seen range, and those exactly on the most frequent value."""

from collections.abc import Sequence

from pushforward.evaluation.figure import Figure, Reference, number
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.rows import Inputs
from pushforward.metrics.ranges import most_frequent, outside_range

__all__ = ["ranges"]

_LISTED = 12


def ranges(inputs: Inputs, results: Results, columns: Sequence[int]) -> None:
    """Compare samples with held-out rows by their values in columns of numbers; the range is that of the training rows."""
    assert inputs.samples is not None
    seen = inputs.floor if inputs.train is None else inputs.train
    samples, held, before = (part.x.flatten(1).double().numpy() for part in (inputs.samples, inputs.held, seen))
    reference: Reference = "held-out" if inputs.train is None else "train"
    outside = outside_range(samples, held, before, columns)
    note = "rows with a number below the least or above the largest of its column"
    if outside.samples.value > 0:
        column = int(outside.columns.argmax())
        note += f"; most often {inputs.names[column]}"
    results.figures.append(
        Figure("outside the range", "table", outside.samples, "share", "lower", reference, outside.rows, note=note)
    )
    # The columns to list are chosen by the training rows alone, so that their tests need no correction for the choice.
    for spike in most_frequent(samples, held, before, columns)[:_LISTED]:
        name, note = f"most frequent {inputs.names[spike.column]}", f"rows that hold exactly {number(spike.value)}"
        results.figures.append(Figure(name, "table", spike.samples, "share", "floor", reference, spike.rows, note=note))
