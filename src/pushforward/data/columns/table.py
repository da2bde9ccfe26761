"""The columns of a table together."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import Facts
from pushforward.data.columns.column import COLUMN_TYPES, Column
from pushforward.data.columns.levels import Levels
from pushforward.data.columns.moments import Moments
from pushforward.data.columns.numbers import NumberFormat, Numbers
from pushforward.probability.domain import Domain

__all__ = ["LeftOut", "Table", "column_from_json"]


@dataclass(frozen=True)
class LeftOut:
    """A column that is not learned, and why, as in "it counts the rows"."""

    name: str | int
    reason: str


@dataclass(frozen=True)
class Table:
    """The columns of a table that are learned, and those that are not.

    Parameters
    ----------
    columns : tuple of Column
    left_out : tuple of LeftOut
    """

    columns: tuple[Column, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def names(self) -> tuple[str | int, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What the numbers of the columns can be."""
        return tuple(column.domain for column in self.columns)

    @property
    def gaps(self) -> tuple[bool, ...]:
        """Which columns have gaps in the data."""
        return tuple(column.gaps for column in self.columns)

    @property
    def levels(self) -> tuple[tuple[str, ...] | None, ...]:
        """The levels of each category as text, None for other columns."""
        return tuple(column.words if column.domain.type == "category" else None for column in self.columns)

    @property
    def formats(self) -> tuple[Callable[[float], str] | None, ...]:
        """The functions from numbers to text of columns that are not plain numbers, such as dates; None for others."""
        return tuple(column.text_of if isinstance(column, Moments) else None for column in self.columns)

    def encode(self, frame: Any) -> np.ndarray:
        """Return the cells of a DataFrame with these columns as float64 (N, C), NaN in gaps; ValueError names a bad cell."""
        return np.stack([column.encode(frame[column.name]) for column in self.columns], axis=1)

    def understood(self, frame: Any) -> np.ndarray:
        """Return which rows of a DataFrame have no cell that is not understood, such as a new level, bool (N,)."""
        unread = np.stack([column.read(frame[column.name])[1] for column in self.columns])
        return np.asarray(~unread.any(axis=0))

    def decode(self, values: np.ndarray) -> Any:
        """Return numbers (N, C) as a DataFrame."""
        import pandas as pd

        cells = {column.name: column.decode(values[:, index]) for index, column in enumerate(self.columns)}
        return pd.DataFrame(cells, index=range(len(values)))

    def cells(self, values: np.ndarray) -> np.ndarray:
        """Return numbers (N, C) as cells, objects (N, C) with None in gaps, also where the data have none."""
        cells = np.empty(values.shape, dtype=object)
        for index, column in enumerate(self.columns):
            known = ~np.isnan(values[:, index])
            if known.any():
                cells[known, index] = column.decode(values[known, index]).to_numpy(dtype=object)
        return cells

    def describe(self) -> list[str]:
        """Return one line per column, such as "age: integer, 17 to 90"."""
        lines = [f"{column.name}: {column.describe()}" for column in self.columns]
        return lines + [f"{out.name}: left out, because it {out.reason}" for out in self.left_out]

    def refuse_gaps(self, values: np.ndarray, name: str, allowed: Sequence[bool]) -> None:
        """Raise a ValueError that names the first gap, if there is one in a column where they are not ``allowed``."""
        gap = np.isnan(values) & ~np.array(allowed)
        if gap.any():
            row, column = np.argwhere(gap)[0]
            raise ValueError(
                f"{name} contains {int(gap.sum()):,} NaN or empty cells, the first at row {row}, column "
                f"{self.columns[column].name!r} (counted from 0). Drop those rows, fill the cells first, or choose a family "
                "that takes gaps, such as Circuit()."
            )

    def to_json(self) -> Facts:
        """Return the table as plain data; :meth:`from_json` restores it."""
        return {"columns": [column.to_json() for column in self.columns], "left_out": [asdict(out) for out in self.left_out]}

    @classmethod
    def from_json(cls, facts: Facts) -> "Table":
        """Return the table from the output of :meth:`to_json`; ValueError if the facts do not describe one."""
        columns = tuple(map(column_from_json, facts["columns"]))
        if not columns or len({column.name for column in columns}) < len(columns):
            raise ValueError("a table needs columns with different names")
        left_out = tuple(LeftOut(**out) for out in facts["left_out"])
        return cls(columns, left_out)

    def warn_of_left_out(self) -> None:
        """Name the columns that are left out in a warning, if there are any."""
        if not self.left_out:
            return
        named = "; ".join(f"{out.name!r} {out.reason}" for out in self.left_out)
        columns = Argument("columns", {self.left_out[0].name: "category"})
        text = f"not learned, and not in samples: {named}. To learn a column, set its type, such as {columns}"
        warnings.warn(naming(UserWarning(text), columns), stacklevel=4)


def column_from_json(facts: Facts) -> Column:
    """Return a column from the output of :meth:`Column.to_json`; ValueError if the facts do not describe one."""
    kind = next((kind for kind in (Numbers, Levels, Moments) if facts.get("type") in kind.types), None)
    if kind is None or set(facts) != {field.name for field in fields(kind)}:
        raise ValueError(f"a column has one of the types {', '.join(COLUMN_TYPES)} and its facts, not {facts!r:.200}")
    parts: Facts = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    if parts.get("format") is not None and kind is Numbers:
        parts["format"] = NumberFormat(**parts["format"])
    column: Column = kind(**parts)
    column.check()
    return column
