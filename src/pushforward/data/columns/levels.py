"""Columns of categories and booleans."""

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from pushforward.data.checks import enumerate_names
from pushforward.data.columns.column import Column, ColumnType, objects
from pushforward.probability.domain import Domain

__all__ = ["Levels"]


Level: TypeAlias = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Levels(Column):
    """A column of categories or booleans, whose numbers are those of its levels.

    Parameters
    ----------
    levels : tuple
        Words, numbers or booleans that occur in the data.
    categories : tuple, optional
        All categories of a pandas categorical, those without a row included.
    ordered : bool
        Whether these are ordered.
    gap_spellings : tuple of str
        Spellings of a missing cell, in lower case.
    """

    types: ClassVar[tuple[ColumnType, ...]] = ("category", "boolean")

    levels: tuple[Level, ...]
    categories: tuple[Level, ...] | None = None
    ordered: bool = False
    gap_spellings: tuple[str, ...] = ("",)

    @property
    def domain(self) -> Domain:
        """The numbers of the levels."""
        return Domain("category", 0, len(self.levels) - 1)

    @property
    def words(self) -> tuple[str, ...]:
        """The levels as text."""
        return tuple(map(str, self.levels))

    @property
    def gap_words(self) -> frozenset[str]:
        """Spellings of a missing cell, in lower case."""
        return frozenset(self.gap_spellings)

    def _values(self) -> str:
        return enumerate_names(self.levels, 6)

    def _read(self, cells: Any) -> np.ndarray:
        exact = {level: index for index, level in enumerate(self.levels)}
        loose = {str(level).strip(): index for index, level in enumerate(self.levels)}
        return np.array([self._number(cell, exact, loose) for cell in objects(cells)], dtype=np.float64)

    def _number(self, cell: Any, exact: dict[Level, int], loose: dict[str, int]) -> float:
        """Return the number of a cell's level; a word also fits a level that is written like it."""
        try:
            index = exact.get(cell)
        except TypeError:
            return np.nan
        if index is None:
            text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
            index = loose.get(text)
        return np.nan if index is None else index

    def _written(self, values: np.ndarray) -> Any:
        return [self.levels[index] for index in np.rint(values).astype(int)]

    def _typed(self, cells: Any) -> Any:
        import pandas as pd

        if self.categories is None:
            return super()._typed(cells)
        return pd.Series(pd.Categorical(cells, categories=list(self.categories), ordered=self.ordered))

    def expected(self, cell: object) -> str:
        """Return the levels, and the one that is closest."""
        close = difflib.get_close_matches(str(cell), [str(level) for level in self.levels], n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}" if close else ""
        return f"the data have the levels {enumerate_names(self.levels, 12)} there{hint}"

    def _check(self) -> None:
        for levels in (self.levels, self.categories or ()):
            if any(type(level) not in (str, int, float, bool) for level in levels) or len(set(levels)) < len(levels):
                raise ValueError(f"the levels of column {self.name!r} must be different words, numbers or booleans")
        spellings, known = self.gap_spellings, self.categories
        if not self.levels or not all(isinstance(word, str) for word in spellings) or type(self.ordered) is not bool:
            raise ValueError(f"column {self.name!r} needs levels, and words for missing cells")
        if known is not None and not set(self.levels) <= set(known):
            raise ValueError(f"column {self.name!r} has levels that are none of its categories")
