"""Layout, dtype and container of the user's rows, and their conversion to the library's layout and back.

:mod:`pushforward.data.kinds` defines what depends on the kind of data.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from pushforward.data.casting import cast_array, cast_tensor, is_integer, to_tensor
from pushforward.data.checks import (
    ArrayLike,
    Facts,
    Values,
    clean_values,
    enumerate_names,
    is_frame,
    missing_column,
)
from pushforward.data.columns import Table
from pushforward.data.columns.elements import Coordinates, Elements
from pushforward.data.frames import as_frame, as_polars, check_feature_names, decimals_in
from pushforward.data.kinds import kind_named, kind_of
from pushforward.data.kinds.tables import Tables
from pushforward.data.kinds.tokens import Tokens
from pushforward.data.layout import Layout
from pushforward.data.lists import as_plain_frame
from pushforward.data.points import PointSets
from pushforward.data.text import Tokenizer, as_texts

__all__ = ["Schema"]


@dataclass(frozen=True)
class Schema(Layout):
    """The layout of the training rows, found in them, and the conversion of rows to that of the library and back.

    >>> schema = Schema.infer(np.zeros((2, 8, 8), dtype=np.uint8))
    >>> schema.kind, schema.internal_shape
    ('images', (1, 8, 8))
    >>> schema.to_user(torch.full((5, 1, 8, 8), 3.0)).shape
    (5, 8, 8)
    """

    @classmethod
    def of_texts(cls, text: Tokenizer) -> "Schema":
        """Return the schema of texts with these tokens."""
        return cls(Tokens.name, "numpy", (text.length,), ("int16",), text=text)

    @classmethod
    def infer(cls, values: Values, kind: str | None = None, table: Table | None = None) -> "Schema":
        """Return the schema of clean data (see :func:`~pushforward.data.clean_values`); ``kind`` overrides the rule.

        The values of a ``table`` are a DataFrame with its columns.

        Raises
        ------
        ValueError
            If shape and dtype are ambiguous, or do not fit ``kind``.
        """
        if table is not None:
            dtypes = tuple(column.dtype for column in table.columns)
            return cls(Tables.name, "pandas", (len(dtypes),), dtypes, columns=table.names, table=table)
        if isinstance(values, PointSets):
            rules = kind_named(kind or "sets")
            if rules.structure != "points":
                raise ValueError(f"the data are sets of points of different sizes, kind='sets', not {rules.name}; omit kind.")
            return cls(rules.name, "numpy", values.shape[1:], (str(values.dtype),), None, None, **_of_sets(values))
        requested = None if kind is None else kind_named(kind)
        shape = tuple(int(size) for size in values.shape)
        if is_frame(values):
            frame = cast(Any, values)
            columns = tuple(int(name) if isinstance(name, int | np.integer) else str(name) for name in frame.columns)
            rules = requested or kind_named("vectors")
            dtypes, decimals = (
                tuple(map(str, frame.dtypes)),
                tuple(decimals_in(frame.iloc[:, index]) for index in range(shape[1])),
            )
            channels = rules.channels(shape, "pandas")
            return cls(rules.name, "pandas", shape[1:], dtypes, channels, columns, decimals=decimals)
        dtype = str(values.dtype).removeprefix("torch.")
        container: Literal["numpy", "torch"] = "torch" if isinstance(values, Tensor) else "numpy"
        rules = requested or kind_of(shape, dtype, is_integer(dtype))
        return cls(rules.name, container, shape[1:], (dtype,), rules.channels(shape, container))

    def by_elements(self, x: Tensor, coordinates: Coordinates) -> "Schema":
        """Return the schema of a table with coordinates fitted to its rows x (N, C); see :class:`Elements`."""
        assert self.table is not None
        return replace(self, elements=Elements.fit(x, self.table.domains, self.table.gaps, coordinates=coordinates))

    def codes(self, length: int | None = None) -> "Schema":
        """Return the schema of latents, in floats: vectors of this length, or by default the layout of the rows."""
        container: Literal["numpy", "torch"] = "torch" if self.container == "torch" else "numpy"
        dtypes = (str(self.internal_dtype).removeprefix("torch."),)
        if length is not None:
            return Schema("vectors", container, (length,), dtypes)
        rest = {"columns": None, "table": None, "elements": None, "decimals": None, "text": None}
        return replace(self, container=container, dtypes=dtypes, **rest)  # type: ignore[arg-type]

    def of_points(self, count: int) -> "Schema":
        """Return the schema of sets of ``count`` points."""
        return replace(self, row_shape=(count, *self.row_shape[1:]))

    def to_internal(self, values: ArrayLike, *, name: str = "the model", gaps: bool = False) -> Tensor:
        """Return rows in the library's layout, after checking that they fit this schema.

        Parameters
        ----------
        values : array, tensor or DataFrame
            Rows in any container, in the layout of that container.
        name : str
            The class of the model, for messages.
        gaps : bool
            Whether NaN is allowed.

        Returns
        -------
        Tensor
            ``(N, *D)`` of :attr:`internal_dtype`, in data units; always a copy.

        Raises
        ------
        ValueError
            If the number or names of columns or the shape of a row differ from those of the training data.
        """
        if self.table is not None:
            numbers = self.to_columns(values, gaps=gaps)
            return numbers if self.elements is None else self.elements.forward(numbers)
        texts = as_texts(values) if self.text is not None else None
        if self.text is not None and texts is not None:
            return torch.from_numpy(self.text.encode(texts)[0]).to(self.internal_dtype)
        values = clean_values(as_plain_frame(self.rules.gathered(values)), gaps=gaps)
        if isinstance(values, PointSets):
            return self._of_sets(values, name)
        if self.columns is not None and is_frame(values):
            check_feature_names(list(cast(Any, values).columns), self.columns)
        self._check_shape(values, name)
        channels = self.rules.channels(tuple(values.shape), "torch" if isinstance(values, Tensor) else "numpy")
        rows = self.rules.inward(to_tensor(values, self.internal_dtype), channels)
        missing = self.internal_shape[0] - rows.shape[1]
        if self.rules.structure == "points" and missing:
            rows = torch.nn.functional.pad(rows, (0, 0, 0, missing), value=torch.nan)
        return rows

    def refuse_other_rate(self, other: "Schema") -> None:
        """Raise a ValueError if other signals have another sample rate."""
        rates = [schema.signal.rate for schema in (other, self) if schema.signal is not None and schema.signal.rate is not None]
        if len(set(rates)) > 1:
            raise ValueError(
                f"these signals have {rates[0]:,} samples per second, but the model was trained on {rates[1]:,}; convert them "
                f"first, e.g. open_data(..., rate={rates[1]})"
            )

    def to_layout(self, rows: Tensor) -> Tensor:
        """Return rows ``(N, *D)`` as tensors ``(N, *row)`` in the user's layout; differentiable."""
        return self.rules.outward(rows, self.row_shape, self.channels)

    def to_user(self, rows: Tensor) -> Values:
        """Return rows ``(N, *D)`` in the layout, dtype and container of the training data.

        Numbers are clipped to the finite range of their dtype, integers also rounded to the nearest.

        Raises
        ------
        ValueError
            If an integer column has NaN or infinite values.
        """
        rows = rows.detach().cpu()
        if tuple(rows.shape[1:]) != self.internal_shape:
            raise ValueError(f"rows have shape {tuple(rows.shape[1:])}, but this schema expects {self.internal_shape}.")
        if self.table is not None:
            return self.of_columns(rows.double() if self.elements is None else self.elements.inverse(rows))
        if self.text is not None:
            return cast(Values, self.text.decode(rows.numpy()))
        rows = self.to_layout(rows)
        absent = self.rules.absent(rows)
        if absent is not None and (self.sizes_differ or bool(absent.any())):
            dtype = np.dtype(self.dtypes[0]) if self.container == "numpy" else np.dtype(str(rows.numpy().dtype))
            sets = zip(rows.numpy(), ~absent[..., 0].numpy(), strict=True)
            return PointSets((cast_array(points[present], dtype) for points, present in sets), self.coordinates)
        if self.container == "torch":
            return cast_tensor(rows, cast(torch.dtype, getattr(torch, self.dtypes[0]))).contiguous()
        if self.container == "numpy":
            return np.ascontiguousarray(cast_array(rows.numpy(), np.dtype(self.dtypes[0])))
        assert self.columns is not None
        return self._as_came(as_frame(rows.numpy(), self.columns, self.dtypes, self.decimals))

    def view(self, x: Tensor) -> np.ndarray:
        """Return rows x (N, *D) in data units, those of a table as one number per column, as their kind draws them."""
        if self.text is not None:
            return self.text.decode(x.numpy())
        return self.rules.view(x.numpy(), "first")

    def to_columns(self, values: ArrayLike, *, gaps: bool = True) -> Tensor:
        """Return rows of a table as one number per column (N, C), float64, NaN in gaps.

        With ``gaps=False`` these are refused, unless the coordinates of the model have room for them.

        Raises
        ------
        TypeError, ValueError
            If the values are no DataFrame, a column is missing, or a cell is not understood.
        """
        table, values = self.table, as_plain_frame(values)
        assert table is not None
        if not is_frame(values):
            raise TypeError(
                f"the model was trained on a table with the columns {enumerate_names(table.names, 20)}; pass a DataFrame with "
                f"them, not {type(values).__name__}"
            )
        frame = cast(Any, values)
        missing = [name for name in table.names if name not in frame.columns]
        if missing:
            raise missing_column(missing[0], list(frame.columns), "X")
        numbers = table.encode(frame)
        if not gaps:
            table.refuse_gaps(numbers, "X", [self.elements is not None and column.gaps for column in table.columns])
        return torch.from_numpy(numbers)

    def of_columns(self, numbers: Tensor) -> Values:
        """Return rows of a table from one number per column (N, C)."""
        assert self.table is not None
        return self._as_came(self.table.decode(numbers.numpy()))

    def _as_came(self, frame: Any) -> Values:
        return cast(Values, as_polars(frame) if self.polars else frame)

    def _of_sets(self, sets: PointSets, name: str) -> Tensor:
        self._check_shape(sets, name)
        return torch.from_numpy(sets.padded(self.row_shape[0])).to(self.internal_dtype)

    def _check_shape(self, values: Values, name: str) -> None:
        shape = Schema.infer(values, self.kind).internal_shape
        if shape == self.internal_shape:
            return
        if self.rules.structure == "points" and shape[0] <= self.row_shape[0] and shape[1:] == self.row_shape[1:]:
            return
        if self.rules.has_columns:
            raise ValueError(f"X has {shape[0]} features, but {name} is expecting {self.internal_shape[0]} features as input.")
        rows, training_rows = self.rules.describe(shape), self.rules.describe(self.internal_shape)
        raise ValueError(f"X holds {rows}, but {name} was trained on {training_rows}; resize or convert them first.")


def _of_sets(sets: PointSets) -> Facts:
    return {"coordinates": sets.names, "sizes_differ": True}
