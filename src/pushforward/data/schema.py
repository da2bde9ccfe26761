"""Layout, dtype and container of the user's rows, and their conversion to the library's layout and back.

:mod:`pushforward.data.kinds` defines what depends on the kind of data.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from pushforward.data.casting import cast_array, cast_tensor, is_dtype, is_integer, limits_of, to_tensor
from pushforward.data.checks import (
    ArrayLike,
    Facts,
    Values,
    as_pandas,
    clean_values,
    enumerate_names,
    is_frame,
    missing_column,
)
from pushforward.data.columns import Column, ColumnType, Table
from pushforward.data.columns.elements import Coordinates, Elements
from pushforward.data.columns.numbers import MOST_DECIMALS, Numbers
from pushforward.data.frames import as_frame, as_polars, check_feature_names, decimals_in
from pushforward.data.kinds import Channels, Kind, Limits, kind_named, kind_of
from pushforward.data.kinds.tables import Tables
from pushforward.data.kinds.tokens import Tokens
from pushforward.data.points import PointSets
from pushforward.data.signal import Signal
from pushforward.data.stream import AnyRows, extremes
from pushforward.data.text import Tokenizer, as_texts

__all__ = ["Schema"]

# Float32 holds all values of these exactly; other dtypes are converted to float64.
_MOST = 2**31 - 1
_UNLIMITED = (-math.inf, math.inf)
_AXES = {"flat": 1, "grid": 3, "points": 2, "series": 2}
_EXACT_IN_FLOAT32 = frozenset(("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16", "float32"))


@dataclass(frozen=True)
class Schema:
    """Layout, dtype and container of the training rows.

    Parameters
    ----------
    kind : str
        Name of the kind, see :mod:`pushforward.data.kinds`.
    container : {"numpy", "torch", "pandas"}
        Container of samples.
    row_shape : tuple of int
        Shape of one row in the user's layout.
    dtypes : tuple of str
        One name for arrays and tensors, one per column for a DataFrame.
    channels : {"first", "last"} or None
        Position of the channel axis of images; None for vectors and for images without one.
    columns : tuple of str or int, or None
        Column names of a DataFrame.
    table : Table, optional
        The columns of a table.
    elements : Elements, optional
        The coordinates of the columns, for models of real vectors.
    decimals : tuple of int or None, optional
        Digits behind the decimal point of each column of a DataFrame of vectors, None for as many as fit.
    polars : bool
        Whether DataFrames are those of polars.
    signal : Signal, optional
        What is known of signals besides their samples.
    size : int, optional
        Side of the squares that images were cropped and resized to when their files were read.
    coordinates : tuple of str, optional
        Names of the coordinates of points.
    sizes_differ : bool
        Whether rows are sets of points of different sizes, in a list; ``row_shape`` then has the largest size.
    text : Tokenizer, optional
        The tokens of texts. Rows of texts are their tokens, and samples an array of str.

    >>> schema = Schema.infer(np.zeros((2, 8, 8), dtype=np.uint8))
    >>> schema.kind, schema.internal_shape
    ('images', (1, 8, 8))
    >>> schema.to_user(torch.full((5, 1, 8, 8), 3.0)).shape
    (5, 8, 8)
    """

    kind: str
    container: Literal["numpy", "torch", "pandas"]
    row_shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    channels: Channels = None
    columns: tuple[str | int, ...] | None = None
    table: Table | None = None
    elements: Elements | None = None
    decimals: tuple[int | None, ...] | None = None
    polars: bool = False
    coordinates: tuple[str, ...] | None = None
    sizes_differ: bool = False
    text: Tokenizer | None = None
    signal: Signal | None = None
    size: int | None = None

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

    @property
    def rules(self) -> Kind:
        """The kind of data."""
        return kind_named(self.kind).of(self.signal)

    @property
    def internal_shape(self) -> tuple[int, ...]:
        """Shape of one row inside the library, such as ``(D,)``, ``(C, H, W)`` or ``(P, D)``."""
        if self.elements is not None:
            return (sum(self.elements.sizes),)
        return self.rules.internal_shape(self.row_shape, self.channels)

    def describe(self) -> str:
        """Describe the rows in words, such as "sets of at most 4 points in 3 coordinates (x, y, z)"."""
        said = self.rules.describe(self.internal_shape)
        if self.sizes_differ:
            said = said.replace("sets of ", "sets of at most ", 1)
        return said if self.coordinates is None else f"{said} ({', '.join(self.coordinates)})"

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

    @property
    def internal_dtype(self) -> torch.dtype:
        """float64 for tables; otherwise float32 if it holds all values of the user's dtypes exactly, else float64."""
        exact = self.table is None and set(self.dtypes) <= _EXACT_IN_FLOAT32
        return torch.float32 if exact else torch.float64

    @property
    def integer(self) -> tuple[bool, ...]:
        """Whether the values are integers (or booleans): one entry, or one per column of a DataFrame."""
        if self.elements is not None:
            return (False,) * len(self.internal_shape)
        if self.table is not None:
            return tuple(column.integer for column in self.table.columns)
        return tuple(is_integer(dtype) for dtype in self.dtypes)

    @property
    def named_columns(self) -> tuple[Column, ...]:
        """The columns of a DataFrame or a table; none for other rows."""
        if self.table is not None:
            return self.table.columns
        kinds: list[ColumnType] = ["integer" if whole else "number" for whole in self.integer]
        names = zip(self.columns or (), kinds, self.dtypes, strict=False)
        return tuple(Numbers(name=name, type=kind, dtype=dtype) for name, kind, dtype in names)

    def limits(self, rows: AnyRows) -> Limits | None:
        """Return the limits of integers: those of their dtypes, or for kinds with closed ranges those of all ``rows`` (N, *D).

        None without integers.
        """
        if not any(self.integer):
            return None
        if self.text is not None:
            return torch.zeros(1, dtype=torch.float64), torch.full((1,), self.text.levels - 1.0, dtype=torch.float64)
        if self.rules.closed_ranges:
            return self.rules.ranges(*extremes(rows))
        if self.table is not None:
            # The law of a category ends at its levels; that of a number goes on.
            each = [(0.0, domain.high) if domain.type == "category" else domain.limits for domain in self.table.domains]
        else:
            each = [limits_of(dtype) for dtype in self.dtypes]
        low, high = torch.tensor(each, dtype=torch.float64).unbind(1)
        return low, high

    def to_json(self) -> Facts:
        """Return the schema as plain data for :func:`json.dumps`."""
        table = None if self.table is None else self.table.to_json()
        elements = None if self.elements is None else self.elements.to_json()
        text = None if self.text is None else self.text.to_json()
        signal = None if self.signal is None else self.signal.to_json()
        parts = {"table": table, "elements": elements, "text": text, "signal": signal}
        return asdict(replace(self, table=None, elements=None, text=None, signal=None)) | parts

    @classmethod
    def from_json(cls, facts: Facts) -> "Schema":
        """Return the schema from the output of :meth:`to_json`.

        Raises
        ------
        ValueError
            If the facts do not describe rows.
        """
        parts: Facts = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
        if parts.get("table") is not None:
            parts["table"] = Table.from_json(parts["table"])
        if parts.get("elements") is not None:
            parts["elements"] = Elements.from_json(list(parts["elements"]))
        if parts.get("signal") is not None:
            parts["signal"] = Signal.from_json(parts["signal"])
        if parts.get("text") is not None:
            parts["text"] = Tokenizer.from_json(parts["text"])
        schema = cls(**parts)
        schema._check()
        return schema

    def _check(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        shape, dtypes, columns = self.row_shape, self.dtypes, self.columns
        if self.container not in ("numpy", "torch", "pandas"):
            raise ValueError(f"container must be 'numpy', 'torch' or 'pandas', not {self.container!r}")
        if not (isinstance(shape, tuple) and shape and all(type(size) is int and 0 < size <= _MOST for size in shape)):
            raise ValueError(f"row_shape must hold sizes from 1 to {_MOST:,}, not {shape!r}")
        if type(self.polars) is not bool or (self.polars and self.container != "pandas"):
            raise ValueError("polars says whether DataFrames are those of polars")
        names = self.coordinates
        if type(self.sizes_differ) is not bool or (self.sizes_differ and self.rules.structure != "points"):
            raise ValueError("sizes_differ says whether sets of points have different sizes")
        if names is not None and not (
            self.sizes_differ and isinstance(names, tuple) and len(names) == shape[-1] and all(type(n) is str for n in names)
        ):
            raise ValueError(f"coordinates must name the {shape[-1]} coordinates of points")
        if self.size is not None and (type(self.size) is not int or self.internal_shape[1:] != (self.size, self.size)):
            raise ValueError(f"size is the side of square images, not {self.size!r}")
        if self.channels not in (None, "first", "last"):
            raise ValueError(f"channels must be 'first', 'last' or None, not {self.channels!r}")
        axes = len(shape) if self.channels is None else _AXES[self.rules.structure]
        if axes != len(shape) or len(self.internal_shape) != _AXES[self.rules.structure]:
            raise ValueError(f"rows of shape {shape} with channels {self.channels!r} are not of kind {self.kind!r}")
        if self.table is None and self.elements is not None:
            raise ValueError("only the columns of a table have coordinates")
        if (self.table is None) is (self.kind == Tables.name):
            raise ValueError(f"rows of kind {self.kind!r} {'need' if self.table is None else 'have no'} columns of a table")
        if (self.text is None) is (self.kind == Tokens.name) or (self.text is not None and shape != (self.text.length,)):
            raise ValueError(f"rows of kind {self.kind!r} of shape {shape} do not fit the tokens of texts")
        if self.table is not None:
            self._check_table(self.table)
            return
        count = shape[0] if self.container == "pandas" else 1
        if not (isinstance(dtypes, tuple) and len(dtypes) == count and all(is_dtype(name, self.container) for name in dtypes)):
            raise ValueError(f"dtypes must name {count} dtypes of numbers, not {dtypes!r}")
        if (columns is None) is (self.container == "pandas"):
            raise ValueError("columns are the names of a table's columns, and only of a table's")
        digits = self.decimals
        if digits is not None and not (
            columns is not None
            and isinstance(digits, tuple)
            and len(digits) == count
            and all(number is None or (type(number) is int and 0 <= number <= MOST_DECIMALS) for number in digits)
        ):
            raise ValueError(f"decimals must hold {count} numbers of digits, of a table")
        if columns is not None and not (
            isinstance(columns, tuple)
            and len(columns) == len(set(columns)) == count
            and all(type(name) in (str, int) for name in columns)
        ):
            raise ValueError(f"columns must hold {count} different names")

    def _check_table(self, table: Table) -> None:
        found = (self.container, self.row_shape, self.columns, self.dtypes)
        if found != ("pandas", (len(table.columns),), table.names, tuple(column.dtype for column in table.columns)):
            raise ValueError("the columns of the table do not fit the shape, the names and the dtypes of its rows")
        if self.elements is not None and not self.elements.fit_to(table.domains, table.gaps):
            raise ValueError("the coordinates of the table do not fit its columns")

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
        values = clean_values(as_pandas(self.rules.gathered(values)), gaps=gaps)
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

    def to_columns(self, values: ArrayLike, *, gaps: bool = True) -> Tensor:
        """Return rows of a table as one number per column (N, C), float64, NaN in gaps.

        With ``gaps=False`` these are refused, unless the coordinates of the model have room for them.

        Raises
        ------
        TypeError, ValueError
            If the values are no DataFrame, a column is missing, or a cell is not understood.
        """
        table, values = self.table, as_pandas(values)
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
