"""What is known of the layout, dtype and container of the user's rows, and its form in files."""

from dataclasses import asdict, dataclass, replace
from typing import Literal, Self

import torch

from pushforward.data.casting import is_dtype, is_integer, limits_of
from pushforward.data.checks import Facts
from pushforward.data.columns import Column, ColumnType, Table
from pushforward.data.columns.elements import Elements
from pushforward.data.columns.numbers import MOST_DECIMALS, Numbers
from pushforward.data.kinds import Channels, Kind, Limits, kind_named
from pushforward.data.kinds.tables import Tables
from pushforward.data.kinds.tokens import Tokens
from pushforward.data.signal import Signal
from pushforward.data.stream import AnyRows, extremes
from pushforward.data.text import Tokenizer

__all__ = ["Layout"]

_MOST = 2**31 - 1
_AXES = {"flat": 1, "grid": 3, "points": 2, "series": 2}
# Float32 holds all values of these exactly; other dtypes are converted to float64.
_EXACT_IN_FLOAT32 = frozenset(("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16", "float32"))


@dataclass(frozen=True)
class Layout:
    """Layout, dtype and container of rows.

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

    def notes(self) -> list[str]:
        """Return what was found in the data and what becomes of it, line by line, such as the type of each column."""
        if self.table is not None:
            return [f"column {line}" for line in self.table.describe()]
        if self.text is not None:
            return [f"text: {self.text.describe()}"]
        lines = [f"data: {self.describe()}"]
        if self.signal is not None:
            lines += [f"signals: {line}" for line in self.signal.describe(self.internal_shape[1])]
        if self.size is not None:
            lines.append(f"images: the center square of each, resized to {self.size}×{self.size}")
        return lines

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
        """Return the layout as plain data for :func:`json.dumps`."""
        table = None if self.table is None else self.table.to_json()
        elements = None if self.elements is None else self.elements.to_json()
        text = None if self.text is None else self.text.to_json()
        signal = None if self.signal is None else self.signal.to_json()
        parts = {"table": table, "elements": elements, "text": text, "signal": signal}
        return asdict(replace(self, table=None, elements=None, text=None, signal=None)) | parts

    @classmethod
    def from_json(cls, facts: Facts) -> Self:
        """Return the layout from the output of :meth:`to_json`.

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
        layout = cls(**parts)
        layout._check()
        return layout

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
