"""The parts of an evaluation about texts: laws of short strings, copies from training, and repetition."""

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from pushforward.evaluation.figure import Figure
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.rows import Inputs, Run
from pushforward.metrics.measure import Measure
from pushforward.metrics.text import distinct_share, longest_copies, ngram_divergence

__all__ = ["text_parts"]

_LENGTHS = (1, 2, 4)
_DISTINCT = 4
_MOST_LETTERS = 200_000  # of training texts in which copies are looked for


def text_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    """Yield the names and functions of the parts that apply to these texts."""
    length = inputs.schema.row_shape[0]
    for n in _LENGTHS:
        if length >= n:
            yield f"{n}-grams", partial(_divergence, n=n)
    if length >= _DISTINCT:
        yield "distinct strings", _distinct
    if inputs.train is not None:
        yield "copies", _copies


def _divergence(inputs: Inputs, results: Results, *, n: int) -> None:
    samples, held, other = _three(inputs)
    found, floor = (ngram_divergence(texts, held, n) for texts in (samples, other))
    note = f"of the laws of strings of {n} characters, from 0 to 1" if n > 1 else "of the laws of characters, from 0 to 1"
    results.figures.append(Figure(f"divergence of {n}-grams", "samples", found, "bits", "lower", "held-out", floor, note=note))


def _distinct(inputs: Inputs, results: Results) -> None:
    samples, held, _ = _three(inputs)
    found, floor = (distinct_share(texts, _DISTINCT) for texts in (samples, held))
    note = f"different strings of {_DISTINCT} characters by all; less is repetition"
    results.figures.append(Figure("distinct share", "samples", found, "share", "floor", "held-out", floor, note=note))


def _copies(inputs: Inputs, results: Results) -> None:
    samples, held, _ = _three(inputs)
    assert inputs.train is not None
    rows = max(_MOST_LETTERS // inputs.schema.row_shape[0], 1)
    training = _decoded(inputs, inputs.train.some(rows, inputs.seed, "copies").x)
    found, floor = (Measure.of_mean(longest_copies(texts, training).astype(float)) for texts in (samples, held))
    note = "characters of the longest string of a text that is also in a training text"
    results.figures.append(Figure("longest copy", "memorization", found, "characters", "floor", "train", floor, note=note))


def _three(inputs: Inputs) -> tuple[list[str], list[str], list[str]]:
    """Return samples, held-out texts and training texts."""
    assert inputs.samples is not None
    samples, held, other = (_decoded(inputs, part.x) for part in (inputs.samples, inputs.held, inputs.floor))
    return samples, held, other


def _decoded(inputs: Inputs, x: Tensor) -> list[str]:
    assert inputs.schema.text is not None
    return [str(text) for text in inputs.schema.text.decode(x.numpy())]
