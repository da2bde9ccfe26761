"""The rows that an evaluation works on: held-out rows, training rows or their stand-ins, and samples, on one scale.

Distances need columns of comparable scale, whatever the model, so the scaling is fitted to the rows and not taken from the
model: columns of vectors are standardized, pixels are divided by the range of all pixels, and rows of tables become the points
of :mod:`pushforward.metrics.mixed.embedding`. All sets that are compared have the same number of rows, since most distances
depend on it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import Kind, Schema
from pushforward.data.checks import clean_values
from pushforward.data.columns import Table
from pushforward.data.stream import Stored
from pushforward.evaluation.findings import Results
from pushforward.metrics.mixed.embedding import Embedding
from pushforward.probability import noise

__all__ = ["LEAST", "MOST", "Inputs", "RowSet", "Run", "Scaling", "check_samples", "gather_inputs", "take_rows", "with_samples"]

LEAST = 20
MOST = 10_000
_CHUNK = 512


def take_rows(values: Any, rows: NDArray[np.int64] | slice) -> Any:
    """Return rows of an array, a tensor, a DataFrame or a file by their numbers."""
    if isinstance(values, Stored):
        return values[rows] if isinstance(rows, slice) else values.take(rows)
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows of one origin.

    Attributes
    ----------
    x : Tensor (N, *D)
        In data units, in the library's layout; NaN in gaps. Of a table one number per column (N, C), where a gap is a value.
    user : array, tensor or DataFrame, optional
        The same as the user gave it, for the verbs of the model.
    condition : array or None
        One entry per row.
    table : bool
        Whether these are rows of a table.
    """

    x: Tensor
    user: Any = None
    condition: NDArray[Any] | None = None
    table: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def complete(self) -> Tensor:
        """Numbers of the rows without gaps; of a table all, and of sets those without a point that is NaN in part."""
        if self.table:
            return torch.arange(len(self.x))
        if self.x.ndim == 3:
            gap = self.x.isnan()
            return (~(gap.any(2) & ~gap.all(2)).any(1)).nonzero().flatten()
        return (~self.x.flatten(1).isnan().any(1)).nonzero().flatten()

    def take(self, rows: Tensor) -> "RowSet":
        """Return the rows of these numbers."""
        index = rows.numpy()
        user = None if self.user is None else take_rows(self.user, index)
        condition = None if self.condition is None else self.condition[index]
        return RowSet(self.x[rows], user, condition, self.table)

    def some(self, n: int, seed: int, purpose: str = "rows") -> "RowSet":
        """Return at most n rows, chosen by the seed, in their order."""
        return self if len(self) <= n else self.take(self.numbers(n, seed, purpose))

    def numbers(self, n: int, seed: int, purpose: str = "rows") -> Tensor:
        """Return the numbers of the rows that :meth:`some` takes."""
        return noise.permutation(len(self), seed=seed, purpose=purpose)[:n].sort().values


@dataclass(frozen=True, eq=False)
class Scaling:
    """The map z = (x - shift) / scale of flat rows, fitted to reference rows; what is constant keeps its unit."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, x: Tensor, *, columns: bool) -> "Scaling":
        """Standardize columns; where elements share one unit, as pixels do, divide them by the range of all.

        >>> Scaling.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), columns=True)(torch.tensor([[5.0, 6.0]])).tolist()
        [[3.0, 1.0]]
        """
        flat = x.flatten(1).double().numpy()
        if not columns:
            low, high = np.nanmin(flat), np.nanmax(flat)
            return cls(np.asarray(low), np.asarray(high - low if high > low else 1.0))
        scale = np.nanstd(flat, axis=0)
        return cls(np.nanmean(flat, axis=0), np.where(scale > 0, scale, 1.0))

    def __call__(self, x: Tensor) -> NDArray[np.floating[Any]]:
        """Return flat scaled rows (N, D), float32 where the rows are."""
        dtype = np.float32 if x.dtype == torch.float32 else np.float64
        return np.asarray((x.flatten(1).double().numpy() - self.shift) / self.scale, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Inputs:
    """The model and the rows that every part of an evaluation is given.

    Attributes
    ----------
    model : fitted estimator
    schema : Schema
    test : RowSet
        All held-out rows, gaps included.
    held, floor : RowSet
        n complete held-out rows, and n complete other rows: training rows, or, without these, the other half of the held-out
        rows. The noise floor of a figure is the figure between these two.
    train : RowSet or None
        All complete training rows.
    n : int
    scaling : Scaling or Embedding
        The map to points that distances are measured between.
    seed : int
    samples : RowSet or None
        n samples, with the labels that they were drawn with.
    """

    model: Any
    schema: Schema
    test: RowSet
    held: RowSet
    floor: RowSet
    train: RowSet | None
    n: int
    scaling: Callable[[Tensor], NDArray[np.floating[Any]]]
    seed: int
    samples: RowSet | None = None

    def spare(self) -> RowSet:
        """Return the training rows that are not among ``floor``, at most 10,000."""
        assert self.train is not None
        used = self.train.numbers(len(self.floor), self.seed, "train")
        rest = torch.ones(len(self.train), dtype=torch.bool)
        rest[used] = False
        return self.train.take(rest.nonzero().flatten()).some(MOST, self.seed, "spare")

    @property
    def kind(self) -> Kind:
        """The kind of data."""
        return self.schema.rules

    def to_user(self, x: Tensor) -> Any:
        """Return rows in the layout of the user."""
        return self.schema.to_user(x) if self.schema.table is None else self.schema.of_columns(x)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        if self.schema.columns is not None:
            return [str(name) for name in self.schema.columns]
        return [f"column {index}" for index in range(int(np.prod(self.schema.internal_shape)))]


def check_samples(samples: object) -> None:
    """Raise unless ``samples`` is None or a number of rows of which figures say something."""
    if samples is None:
        return
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
        raise TypeError(f"samples must be the number of rows to draw, an integer, got {samples!r}")
    if samples < LEAST:
        raise ValueError(f"samples must be at least {LEAST}, got {samples}; figures of fewer rows say nothing")


Run = Callable[[Inputs, Results], None]
"""A part of an evaluation: it adds figures and arrays to the results."""


def gather_inputs(
    model: Any, X_test: Any, X_train: Any, condition: Any, train_condition: Any, samples: int | None, seed: int
) -> Inputs:
    """Check the arguments of an evaluation and choose its rows.

    Raises
    ------
    TypeError, ValueError
        If the model is not fitted, the rows are not like those it was trained on, or there are too few of them.
    """
    check_is_fitted(model)
    check_samples(samples)
    test = _row_set(model, X_test, condition, "X_test")
    train = None if X_train is None else _row_set(model, X_train, train_condition, "X_train")
    whole = test.take(test.complete)
    if train is None:
        order = noise.permutation(len(whole), seed=seed, purpose="halves")
        held, other = whole.take(order[: len(whole) // 2]), whole.take(order[len(whole) // 2 :])
    else:
        train = train.take(train.complete)
        held, other = whole, train
    n = min(len(held), len(other), MOST if samples is None else int(samples))
    if n < LEAST:
        raise ValueError(_too_few(len(whole), train))
    # The scale must treat samples and held-out rows alike, so it is not fitted to either.
    reference = other
    return Inputs(
        model=model,
        schema=model.space_.schema,
        test=test,
        held=held.some(n, seed, "held-out"),
        floor=other.some(n, seed, "train"),
        train=train,
        n=n,
        scaling=_scaling(model.space_.schema, reference, held, other),
        seed=seed,
    )


def with_samples(inputs: Inputs, note: Callable[[str], None]) -> Inputs:
    """Return the inputs with n samples, drawn in chunks so that progress can be shown."""
    model, n, seed = inputs.model, inputs.n, noise.derive(inputs.seed, "evaluation")
    chunks = []
    for first in range(0, n, _CHUNK):
        if n > _CHUNK:
            note(f"{first:,} of {n:,}")
        drawn = model.sample(min(_CHUNK, n - first), seed=seed, first=first)
        chunks.append(_numbers(model, drawn))
    rows = RowSet(torch.cat(chunks), None, _labels(model, n, seed), inputs.schema.table is not None)
    return replace(inputs, samples=rows)


def _numbers(model: Any, values: Any) -> Tensor:
    """Return rows of a user in data units, of a table one number per column."""
    schema = model.space_.schema
    if schema.table is not None:
        return torch.as_tensor(schema.to_columns(values))
    return torch.as_tensor(schema.to_internal(values, name=type(model).__name__, gaps=model.gaps))


def _scaling(schema: Schema, reference: RowSet, *real: RowSet) -> Callable[[Tensor], NDArray[np.floating[Any]]]:
    if schema.table is None:
        kind = schema.rules
        scaling = Scaling.fit(torch.from_numpy(kind.compared(reference.x.numpy())), columns=kind.has_columns)
        return lambda x: scaling(torch.from_numpy(kind.compared(x.numpy())))
    place = Embedding(torch.cat([rows.x for rows in real]).numpy(), schema.table.domains)
    return lambda x: place(x.numpy())


def _labels(model: Any, n: int, seed: int) -> NDArray[Any] | None:
    """Return the labels that n samples of this seed were drawn with; an entry is None if there was none."""
    encoder = model.space_.conditions
    if encoder is None or not encoder.has_classes:
        return None
    drawn = encoder.draw(n, seed=seed)
    labels = np.empty(n, dtype=object)
    for row, encoded in enumerate(drawn):
        labels[row] = encoder.classes[int(encoded[1:].argmax())] if encoded[0] else None
    return labels


def _row_set(model: Any, values: Any, condition: Any, name: str) -> RowSet:
    table = model.space_.schema.table
    if table is not None:
        values, condition = _understood(table, values, condition, name)
    text = model.space_.schema.text is not None
    values = model.space_.kind.gathered(values, name)
    user = values if table is not None or text else clean_values(values, name=name, gaps=model.gaps)
    x = _numbers(model, user)
    user = x.numpy().astype(np.int64) if text else user  # tokens can be indexed like arrays
    conditions = None
    if condition is not None:
        if model.space_.conditions is None:
            raise ValueError(
                "this model was trained without conditions and cannot follow one; omit condition, or train with "
                "fit(X, condition=labels)"
            )
        conditions = model.space_.conditions.plain(condition)
        if conditions.ndim == 0 or len(conditions) != len(x):
            raise ValueError(f"condition has shape {conditions.shape} for the {len(x)} rows of {name}; give one entry per row")
    return RowSet(x, user, conditions, table is not None)


def _understood(table: Table, values: Any, condition: Any, name: str) -> tuple[Any, Any]:
    """Return the rows of a DataFrame without those that have levels which the model has not seen, which it warns of."""
    if not hasattr(values, "columns") or any(column not in values.columns for column in table.names):
        return values, condition
    known = table.understood(values)
    if known.all():
        return values, condition
    warnings.warn(
        f"{int((~known).sum())} of the {len(known)} rows of {name} have cells that are not like the training data, such as new "
        "levels of a category; they are left out, and their probability is 0",
        stacklevel=4,
    )
    return values[known], condition if condition is None else take_rows(condition, np.flatnonzero(known))


def _too_few(whole: int, train: RowSet | None) -> str:
    if train is None:
        return (
            f"X_test has {whole} rows without gaps, and at least {2 * LEAST} are needed: half of them stand in for training "
            "rows in the noise floors; give more, or pass X_train"
        )
    return (
        f"there are {whole} rows without gaps in X_test and {len(train)} in X_train, and at least {LEAST} of each are needed: "
        "figures of fewer rows say nothing"
    )
