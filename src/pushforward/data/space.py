"""Conversion between the rows of a user and the tensors of a model: layout, scaling and conditions, fitted once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward._messages import DIVERGED
from pushforward.data.checks import Condition, Data, Facts, Values, enumerate_names
from pushforward.data.columns.given import cells_by_name, named_values, read_given, unknown_name
from pushforward.data.conditions import ConditionEncoder, restored_conditions
from pushforward.data.dataset import Dataset
from pushforward.data.files.csv import is_csv
from pushforward.data.files.tables import Names
from pushforward.data.kinds import Drawing, Kind
from pushforward.data.open import chosen_condition, open_data
from pushforward.data.schema import Schema
from pushforward.data.sizes import SizeLaw
from pushforward.data.transform import Transform
from pushforward.plots import Plot

__all__ = ["RowSpace"]

_IN_A_LINE = 10


@dataclass(frozen=True, eq=False)
class RowSpace:
    """The layout, scaling and conditions of one data set.

    Parameters
    ----------
    schema : Schema
        Layout, dtype and container of the user's rows.
    transform : Transform
        The map between data units and scaled rows.
    conditions : ConditionEncoder or None
        The encoder of conditions; None for a model without any.
    sizes : SizeLaw, optional
        The law of the sizes of sets of points, if they differ.
    """

    schema: Schema
    transform: Transform
    conditions: ConditionEncoder | None = None
    sizes: SizeLaw | None = None

    @property
    def kind(self) -> Kind:
        """The kind of data."""
        return self.schema.rules

    @property
    def element_columns(self) -> Tensor | None:
        """Number of the column that each element of z belongs to, int64 (d,), if columns of a table became coordinates."""
        elements = self.schema.elements
        return None if elements is None else self.transform.pick(elements.columns)

    @property
    def log_det(self) -> float:
        """Log |dz/dx| of one row in nats, over the elements that vary and are no levels, which have probabilities."""
        elements, transform = self.schema.elements, self.transform
        if elements is None:
            return transform.log_det
        return -float(transform.scale[~transform.constant & ~elements.are_levels].log().sum())

    def to_user(self, z: Tensor, given: Tensor | None = None) -> Values:
        """Return rows z (N, *D) that a model made in the layout, dtype, units and container of the training data.

        Of a table with coordinates, cells that are ``given`` (N, C), not NaN, are returned exactly.

        Raises
        ------
        ValueError
            If a row has NaN or infinite numbers.
        """
        x, elements = self.to_data(z), self.schema.elements
        if given is None or elements is None:
            return self.schema.to_user(x)
        return self.schema.of_columns(torch.where(given.isnan(), elements.inverse(x), given))

    def to_data(self, z: Tensor) -> Tensor:
        """Return rows z (N, *D) that a model made in data units, (N, *internal), after the check of :meth:`to_user`."""
        table = self.schema.table
        sound, absent = z.isfinite(), self.kind.absent(z)
        if absent is not None:
            sound |= absent & ~absent.flatten(1).all(1)[:, None, None]
        if table is not None and self.schema.elements is None:
            # A gap is a value where the data have gaps.
            sound |= z.isnan() & self.transform.pick(torch.tensor(table.gaps)).to(z.device)
        broken = ~sound.flatten(1).all(1)
        if bool(broken.any()):
            raise ValueError(
                f"the model made {int(broken.sum())} of {len(z)} rows with NaN or infinite numbers, the first of them row "
                f"{int(broken.int().argmax())}. {DIVERGED}. If the model makes other rows well, take more steps, weaker "
                "guidance, or codes closer to those of the data"
            )
        return self.transform.inverse(z)

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data for JSON and as tensors for safetensors; :meth:`from_state` restores it exactly."""
        parts = {"transform": self.transform.state()}
        if self.conditions is not None:
            parts["condition"] = self.conditions.state()
        if self.sizes is not None:
            parts["sizes"] = self.sizes.state()
        facts: Facts = {"schema": self.schema.to_json(), "condition": None}
        tensors = {f"{part}.{name}": value for part, (_, values) in parts.items() for name, value in values.items()}
        return facts | {part: plain for part, (plain, _) in parts.items() if plain}, tensors

    @classmethod
    def from_state(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "RowSpace":
        """Return the space from the output of :meth:`state`; ``tensors`` may contain others too.

        Raises
        ------
        ValueError
            If the parts do not fit each other.
        """

        def under(part: str) -> dict[str, Tensor]:
            prefix = f"{part}."
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        conditions = facts["condition"]
        schema, transform = Schema.from_json(facts["schema"]), Transform.from_state(facts["transform"], under("transform"))
        if transform.kind != schema.kind or transform.data_shape != schema.internal_shape:
            raise ValueError(
                f"the rows are {schema.kind} of shape {schema.internal_shape}, but their scaling is that of {transform.kind} "
                f"of shape {transform.data_shape}"
            )
        return cls(
            schema,
            transform,
            None if conditions is None else restored_conditions(conditions, under("condition")),
            SizeLaw.from_state(under("sizes"), schema.internal_shape[0]) if schema.sizes_differ else None,
        )

    def encode(self, condition: Any, n: int, *, null: bool = True) -> Tensor | None:
        """Return one encoded condition per row (n, K), or None for the law without a condition.

        Parameters
        ----------
        condition : label, vector, values by name of column, or one of them per row, or None
        n : int
        null : bool
            Whether the model has laws without a condition and without a part of it. Gaps in the training conditions always
            teach them.

        Raises
        ------
        ValueError
            If the model has no conditions, or the condition is missing and the model has no law without one.
        """
        if condition is not None:
            if self.conditions is None:
                raise ValueError(
                    "this model was trained without conditions; omit condition, or train with fit(X, condition=labels)"
                )
            encoded = self.conditions.encode(condition, n)
            if not null:
                self.conditions.refuse_parts(encoded)
            return encoded
        if self.conditions is not None and not null and not self.conditions.gaps:
            raise ValueError(
                "this model was trained without dropping conditions (condition_dropout=0) and has no law without one; "
                "pass condition=..., or train with condition_dropout=0.1"
            )
        return None

    def split(self, values: Any) -> tuple[Any, Mapping[str | int, Any] | None]:
        """Split values by name into those of conditions and those of columns of the data, each None without any.

        Values without names are a condition. Text such as "sex=Female,age=40" has names.

        Raises
        ------
        ValueError
            If a name is neither that of a condition nor that of a column.
        """
        columns, encoder = self.schema.named_columns, self.conditions
        names, beside = [column.name for column in columns], () if encoder is None else encoder.names
        if isinstance(values, str):
            words = [word for column in columns for word in column.words] + ([] if encoder is None else encoder.words)
            named: Any = named_values(values, [*names, *beside], words)
            if named is None and encoder is None and names:
                raise unknown_name(values.partition("=")[0].strip(), names)
        else:
            named = {name: values[name] for name in values.keys()} if hasattr(values, "keys") else None  # noqa: SIM118
        if not names or named is None or (encoder is not None and not any(name in names for name in named)):
            return values, None
        unknown = [name for name in named if name not in names and name not in beside]
        if unknown:
            raise unknown_name(unknown[0], [*names, *beside])
        rest = {name: value for name, value in named.items() if name not in names}
        return rest or None, {name: value for name, value in named.items() if name in names}

    def partial(self, values: Any, n: int) -> Tensor:
        """Return rows of which some columns of the data are given, for the law of the others.

        Parameters
        ----------
        values : mapping, Series or DataFrame
            Values by name of column, one for all rows or one per row, such as ``{"sex": "Female", "age": [30, 40]}``. A gap is
            not given.
        n : int
            Number of rows.

        Returns
        -------
        Tensor
            float64 (n, C), in data units and in the order of the columns, NaN where not given.

        Raises
        ------
        ValueError
            If a name or a level is unknown, a value is not of its column's type, an integer is beyond the range of training, a
            value is not that of a constant column, or there is neither one value nor ``n``.
        """
        columns = self.schema.named_columns
        numbers = torch.from_numpy(read_given(columns, cells_by_name(values, [column.name for column in columns]), n))
        x = numbers.expand(n, -1).clone()
        low, high = self._ranges()
        beyond = (x < low) | (x > high)
        if bool(beyond.any()):
            index = int(beyond.any(0).int().argmax())
            row, column = int(beyond[:, index].int().argmax()), columns[index]
            raise ValueError(
                f"condition {column.name!r} is {column.decode(x[row : row + 1, index].numpy()).iloc[0]}, but its values in "
                f"training are {column.describe().partition(', ')[2]}"
            )
        return x

    def _ranges(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value of columns that can be given; infinite for reals that vary."""
        transform, elements, table = self.transform, self.schema.elements, self.schema.table
        low, high, integer = transform.low, transform.high, transform.integer
        constant, value = transform.constant, transform.value
        if elements is not None and table is not None:
            low, high = torch.tensor([(domain.low, domain.high) for domain in table.domains]).double().unbind(1)
            integer = torch.tensor([domain.type != "real" for domain in table.domains])
            constant = torch.stack([part.all() for part in torch.split(constant, elements.sizes)])
            value = elements.inverse(value[None])[0]
        low, high = low.where(integer, -torch.inf), high.where(integer, torch.inf)
        return value.where(constant, low), value.where(constant, high)

    def refuse_impossible(self, log_density: Tensor, x: Tensor) -> None:
        """Raise a ValueError if the columns that are given in a row of x (n, C) have density 0.

        ``log_density`` (n,) is that of these columns, and x is NaN in all others.
        """
        impossible = log_density.isneginf() | log_density.isnan()
        if bool(impossible.any()):
            row = int(impossible.int().argmax())
            columns = zip(self.schema.named_columns, x[row].tolist(), strict=True)
            given = {column.name: value for column, value in columns if not math.isnan(value)}
            raise ValueError(
                f"no row can have the given values of {enumerate_names(list(given))}, the first such in row {row}: their "
                "density is 0 under the model. Give values within the range of the training data, or fewer of them"
            )

    def of_rows(self, z: Tensor) -> "RowSpace":
        """Return the same space for scaled rows z (N, *D), which may be sets of another number of points."""
        if z.ndim != 3 or self.kind.structure != "points" or z.shape[1] == self.schema.internal_shape[0]:
            return self
        count = z.shape[1]
        return replace(self, schema=self.schema.of_points(count), transform=self.transform.of_points(count))

    def with_conditions(self, conditions: ConditionEncoder | None) -> "RowSpace":
        """Return the same space with other conditions."""
        return replace(self, conditions=conditions)

    def open(
        self,
        source: Data,
        chosen: Mapping[str, Any],
        *,
        condition: Condition = None,
        conditional: bool | None = None,
        gaps: bool = False,
        stream: bool | None = False,
    ) -> Dataset:
        """Open data like the training data.

        Parameters
        ----------
        source : anything that :func:`~pushforward.data.open_data` takes
        chosen : mapping
            The ``columns`` and the ``condition`` or ``condition_images`` that were named in training, if any.
        condition : optional
            As for :func:`~pushforward.data.open_data`; None is the one of ``chosen``.
        conditional : bool, optional
            Whether to read conditions; by default if the space has any.
        gaps : bool
            Whether NaN is allowed.
        stream : bool or None
            Whether rows may stay on disk, as for :func:`~pushforward.data.open_data`.
        """
        ending = Path(source).suffix.lower() if isinstance(source, str | Path) else ""
        tabular = hasattr(source, "columns") or ending == ".parquet" or (ending != "" and is_csv(Path(str(source))))
        columns: Names = None
        if self.schema.columns is not None and tabular:
            columns = list(self.schema.columns)
        elif ending == ".npz" or (tabular and self.schema.text is not None):
            columns = chosen.get("columns")
        if not (self.conditions is not None if conditional is None else conditional):
            condition = False
        elif condition is None:
            condition = chosen_condition(chosen)
        elif self.conditions is not None:
            condition = self.conditions.by_name(condition)
        kind, types = self.schema.kind, self.schema.table
        beside = None if self.conditions is None else self.conditions.table
        opened = open_data(
            source,
            columns=columns,
            condition=condition,
            kind=kind,
            gaps=gaps,
            types=types,
            condition_types=beside,
            text=self.schema.text,
            stream=stream,
            size=self.schema.size if isinstance(source, str | Path) and Path(source).exists() else None,
            **self.schema.rules.reopening(self.schema.internal_shape),
        )
        self.schema.refuse_other_rate(opened.schema)
        return opened

    def draw(
        self,
        z: Tensor,
        beside: Tensor,
        *,
        columns: int | None = None,
        labels: Sequence[Any] | None = None,
        titles: tuple[str, str] = ("samples", "data"),
    ) -> Plot:
        """Plot scaled rows z (n, *D), for some kinds ``beside`` scaled rows of the data."""
        low, high = float(self.transform.low.min()), float(self.transform.high.max())
        shown, names, table = self._view(beside[: self.kind.shown]), self.schema.columns, self.schema.table
        levels, formats = (None, None) if table is None else (table.levels, table.formats)
        drawing = Drawing(shown, names, labels, columns, (low, high), titles, levels, formats)
        return self.kind.draw(self._view(z), drawing)

    def draw_pairs(self, z: Tensor, rows: Tensor) -> Plot:
        """Plot scaled reconstructions z (n, *D) of rows, each below its row or all beside the rows."""
        columns = min(_IN_A_LINE, len(rows))
        pairs = self.kind.pairs(rows, z, columns)
        if pairs is None:
            return self.draw(z, rows, titles=("reconstructions", "data"))
        return self.draw(pairs, rows, columns=columns)

    def to_columns(self, z: Tensor) -> Tensor:
        """Return scaled rows z (N, *D) in data units, those of a table as one number per column (N, C), NaN in gaps."""
        x, elements = self.transform.inverse(z), self.schema.elements
        return x if elements is None else elements.inverse(x)

    def _view(self, z: Tensor) -> np.ndarray:
        return self.schema.view(self.to_columns(z))
