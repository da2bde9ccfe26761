"""From data of any kind to scaled rows: the arguments that say how, and the split into training rows and held-out rows."""

import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import training
from pushforward.data import (
    ColumnTypes,
    Dataset,
    Facts,
    Limits,
    RowSpace,
    Schema,
    Text,
    Transform,
    fit_conditions,
    split_rows,
)
from pushforward.data.conditions import Visible, check_scale_of
from pushforward.data.points import absent_points
from pushforward.data.sizes import SizeLaw
from pushforward.data.stream import AnyRows, Stream
from pushforward.models.base.estimator import Estimator
from pushforward.models.base.takes import Takes
from pushforward.models.files.params import Count, Share
from pushforward.probability import noise

__all__ = ["Prepared", "Preparing", "seed_of"]

_MOST_HELD_OUT = 2000
_MOST_CONVERTED = 1 << 26  # numbers of all rows that are converted before training


@dataclass(frozen=True, eq=False)
class Prepared:
    """Scaled rows, ready to train on.

    Attributes
    ----------
    x : Tensor or Stream (N, *D)
        Training rows, of the model's ``row_dtype``; converted when needed only for a family that ``streams``.
    condition : Tensor (N, K) or None
    held_out : (Tensor, Tensor or None) or None
        Rows and conditions that are not trained on.
    rows, held_out_rows : int64 tensors
        Their row numbers in the data set.
    began : float
        The clock (:func:`time.perf_counter`) from which a time budget counts.
    """

    x: AnyRows
    condition: Tensor | None
    held_out: tuple[Tensor, Tensor | None] | None
    rows: Tensor
    held_out_rows: Tensor
    began: float = field(default_factory=time.perf_counter, kw_only=True)

    @property
    def whole(self) -> Tensor:
        """The training rows of a family that needs all of them at once."""
        assert isinstance(self.x, Tensor)  # the family does not stream
        return self.x


class Preparing(Takes, Estimator):
    """The part of an estimator between the user's data and scaled rows.

    Parameters
    ----------
    held_out : float
        Share of rows, at most 2,000 of them, that are held out to measure the loss.
    kind : str, optional
        Name of the kind of data (:mod:`pushforward.data.kinds`), where shape and dtype are ambiguous.
    columns : mapping, optional
        Types of columns of a table by name, such as ``{"zip": "category"}``: number, integer, category, boolean, date, time,
        datetime, duration, or with limits, ``"number from 0 to 1"`` or ``"integer from 0"``. All others are found in the data.
    text : Text, optional
        How texts become rows of tokens: characters, bytes or byte pairs, in blocks of which length.
    rate, length : int, optional
        Of signals: samples per second, to which sounds of other rates are converted, and samples per signal; longer ones are
        cropped and shorter ones followed by silence.
    series : (str, str), optional
        Columns of a table in long form with the number and the time of each series.
    size : int, optional
        Of images in a folder or a Parquet file: each becomes its center square, resized to this side.
    stream : bool, optional
        Whether the rows of a ``.npy`` file or the images of a folder stay on disk, to be read for each batch; by default if
        they would fill half of the memory. The result is the same.
    random_state : int, RandomState or None
        Seed of all random numbers in ``fit``; None draws a fresh one. The seed is stored as ``seed_``.
    verbose : bool
        Whether to show progress.

    Attributes
    ----------
    space_ : RowSpace
        Layout, scaling and conditions of the data.
    seed_ : int
    data_ : dict
        Source of the data, numbers of rows, and fingerprint.
    """

    row_dtype: ClassVar[torch.dtype] = torch.float32
    """Dtype of the training rows."""

    held_out: Share = 0.1
    kind: str | None = None
    columns: ColumnTypes | None = None
    rate: Count | None = None
    length: Count | None = None
    series: tuple[str, str] | None = None
    size: Count | None = None
    text: Text | None = None
    stream: bool | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: bool = False

    space_: RowSpace = field(init=False)
    seed_: int = field(init=False)
    data_: Facts = field(init=False)

    @property
    def _opening(self) -> Facts:
        """The arguments that say how data are opened."""
        named = {name: getattr(self, name) for name in ("kind", "text", "rate", "length", "series", "size")}
        stream = self.stream if self.streams or self.stream else False
        return named | {"types": self.columns, "stream": stream}

    def _prepare(self, dataset: Dataset) -> Prepared:
        """Split, scale and encode the data; store schema, transform, encoder and seed."""
        began = time.perf_counter()
        self._check_data(dataset)
        self.seed_ = seed_of(self.random_state)
        rows, aside = self._split(dataset)
        schema, internal = self._coordinates(dataset, rows)
        labels = dataset.condition
        columns, table = dataset.condition_columns, dataset.condition_table
        encoder = None if labels is None else fit_conditions(labels, columns=columns, table=table)
        if encoder is not None and encoder.image is not None:
            check_scale_of(encoder.image, schema.internal_shape)
        if dataset.masked:
            channels, height, width = schema.internal_shape
            encoder = Visible.part_of((channels, height, width))
        limits = schema.limits(internal)
        if isinstance(internal, Stream):
            scaling = self._scaling(internal.without(aside), schema, limits)
            x: AnyRows = internal.then(partial(scaling.forward, dtype=self.row_dtype))
        else:
            scaling = self._scaling(internal[rows], schema, limits)
            x = scaling.forward(internal, dtype=self.row_dtype)
        del internal  # as large as the data
        condition = None if encoder is None or labels is None else encoder.encode(labels, len(x))
        sizes = None
        if schema.sizes_differ:
            present = (~absent_points(x[:])).sum(1)
            sizes = SizeLaw.fit(present[rows], None if condition is None else condition[rows], encoder)
        self.space_ = RowSpace(schema, scaling, encoder, sizes)
        self._name_features()
        self.data_ = {
            "source": dataset.source,
            "rows": len(dataset),
            "held_out": len(aside),
            "fingerprint": dataset.fingerprint,
        }
        held_out = (x[aside], None if condition is None else condition[aside]) if len(aside) else None
        kept = x.without(aside) if isinstance(x, Stream) else x[rows]
        if isinstance(kept, Stream) and not self._converts_when_needed(kept):
            kept = kept.gathered()
        return Prepared(kept, None if condition is None else condition[rows], held_out, rows, aside, began=began)

    def _converts_when_needed(self, x: Stream) -> bool:
        """Whether training takes scaled rows when it needs them: always from disk, otherwise if they would take much memory."""
        return x.on_disk or (self.streams and math.prod(x.shape) > _MOST_CONVERTED)

    def _coordinates(self, dataset: Dataset, rows: Tensor) -> tuple[Schema, AnyRows]:
        """Return the schema and all rows as the family models them, with coordinates fitted to the training ``rows``."""
        schema = dataset.schema
        if schema.table is None or self.columnwise:
            return schema, dataset.rows(gaps=self.gaps)
        cells = dataset.to_internal(gaps=True)
        schema = schema.by_elements(cells[rows], self.coordinates)
        assert schema.elements is not None
        numbers = torch.arange(len(cells))
        u = noise.uniform(cells.shape[1:], seed=self.seed_, purpose="intervals", rows=numbers, dtype=torch.float64)
        return schema, schema.elements.forward(cells, u)

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
        coding = None if isinstance(x, Stream) else schema.rules.coding(x)
        transform = Transform.fit(x, integer=schema.integer, kind=schema.kind, limits=limits, coding=coding)
        if schema.elements is None:
            return transform
        # A level that is in no training row is rare, not impossible.
        constant = transform.constant & ~schema.elements.are_levels
        return replace(transform, constant=constant, value=transform.value.where(constant, 0.0))

    def _split(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """Return the row numbers for training and the held-out ones, at most 2,000."""
        n, aside = len(dataset), dataset.held_out
        if aside is not None:
            return torch.arange(n)[~torch.isin(torch.arange(n), aside)], aside
        return split_rows(n, min(self.held_out, _MOST_HELD_OUT / n), noise.derive(self.seed_, "held-out"))

    def _name_features(self) -> None:
        """Set scikit-learn's attributes for the columns of the training data."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
        if self.space_.kind.has_columns:
            self.n_features_in_ = math.prod(self.space_.schema.row_shape)
        columns = self.space_.schema.columns
        if columns is not None and all(isinstance(column, str) for column in columns):
            self.feature_names_in_ = np.array(columns, dtype=object)


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Return the seed for any of scikit-learn's three forms of ``random_state``."""
    if random_state is None:
        return training.agreed(noise.fresh_seed)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(1 << 31))
    return int(random_state)
