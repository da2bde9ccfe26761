"""Cells of tables as conditions: columns of any types (:mod:`pushforward.data.columns`).

A number, a date or a duration is standardized, a category or a boolean has one 0/1 feature per level. The features of a gap are
0, and one 0/1 feature per column marks the observed ones, whether or not entries were missing in training: a model that drops
conditions in training also drops single columns (:func:`~pushforward.data.conditions.features.keep_parts`), and so learns the
law without any part of a condition.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import enumerate_names
from pushforward.data.columns import Table
from pushforward.data.columns.given import named_values, read_given, unknown_name
from pushforward.data.conditions.features import expanded, parts_of, statistics, thinned
from pushforward.data.conditions.reading import positional
from pushforward.data.conditions.values import ConditionKind
from pushforward.data.conditions.vectors import Vectors

__all__ = ["Cells"]


@dataclass(frozen=True, eq=False)
class Cells(Vectors):
    """Encoder of cells of a table."""

    kind: ClassVar[ConditionKind] = "table"

    @classmethod
    def in_columns(cls, cells: np.ndarray, table: Table) -> "Cells":
        """Return the encoder of training cells (N, C); for errors see :func:`~pushforward.data.fit_conditions`."""
        given = {column.name: cells[:, index].tolist() for index, column in enumerate(table.columns)}
        numbers = torch.from_numpy(read_given(table.columns, given))
        mean, scale, constant = statistics(numbers)
        if bool((constant & ~numbers.isnan().any(0)).all()):
            raise ValueError("condition is the same in every row and carries no information; omit it.")
        levels = torch.tensor([domain.type == "category" for domain in table.domains])
        parts = parts_of(table)
        mean, scale = (values[parts] for values in (mean.where(~levels, 0.0), scale.where(~levels, 1.0)))
        return cls(bool(numbers.isnan().all(1).any()), thinned(numbers), mean, scale, table=table)

    @property
    def _table(self) -> Table:
        assert self.table is not None
        return self.table

    @functools.cached_property
    def parts(self) -> Tensor:
        """The number of the column that each feature belongs to, int64 ``(F,)``."""
        return parts_of(self._table)

    @property
    def names(self) -> tuple[str | int, ...]:
        """Names of the columns."""
        return self._table.names

    @property
    def words(self) -> list[str]:
        """The levels of the categories as text."""
        return [level for column in self._table.columns for level in column.words]

    @property
    def example(self) -> str:
        """The training condition with the fewest gaps, such as "sex=Female,age=40"."""
        whole = self.rows[(~self.rows.isnan()).sum(1).argmax()]
        cells = zip(self.names, self._table.cells(whole[None].numpy())[0], strict=True)
        return ",".join(f"{name}={cell}" for name, cell in cells if cell is not None)

    def parse(self, text: str) -> Any:
        """Return values by name, as in "sex=Female,age=40", or the cell of a single column."""
        values = named_values(text, self.names, self.words)
        if values is not None:
            return values
        if len(self.names) > 1 and "=" in text:
            raise unknown_name(text.partition("=")[0].strip(), self.names)
        if len(self.names) > 1:
            raise ValueError(f"condition {text!r} must name its columns, as in {self.example!r}.")
        return text

    def plain(self, values: Any) -> np.ndarray:
        """Return the cells of one condition per row, with None in gaps."""
        return self._table.cells(self._numbers(self.parse(values) if isinstance(values, str) else values).numpy())

    def refuse_parts(self, encoded: Tensor) -> None:
        """Raise a ValueError if encoded conditions (n, K) lack a column that was never missing in training."""
        lacking = ~(encoded[:, 1 + len(self.mean) :] > 0).all(0) & ~torch.tensor(self._table.gaps)
        if bool(lacking.any()):
            name = self.names[int(lacking.int().argmax())]
            raise ValueError(
                f"condition lacks {name!r}, but this model was trained without dropping conditions (condition_dropout=0) and "
                f"has no law without {name!r}; give it, or train with condition_dropout=0.1"
            )

    def _encoded(self, values: Any, n: int) -> Tensor:
        return self._features(self._numbers(self.parse(values) if isinstance(values, str) else values, n).expand(n, -1))

    def _numbers(self, values: Any, n: int | None = None) -> Tensor:
        """Return cells, by name or by position, as numbers (1, C) or (n, C)."""
        given, names = self._given(values), self.names
        if given is None:
            rows = positional(values, len(names))
            if any(len(row) != len(names) for row in rows):
                raise ValueError(
                    f"condition has rows of {len(rows[0])} values; pass one for each of {enumerate_names(names, 30)}, in this "
                    f"order, or name them, as in {self.example!r}."
                )
            given = {name: [row[index] for row in rows] for index, name in enumerate(names)}
        return torch.from_numpy(read_given(self._table.columns, given, n))

    def _wide(self, numbers: Tensor) -> Tensor:
        return expanded(self._table, numbers)
