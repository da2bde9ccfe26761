"""The border between the rows of a user and the tensors of a model: layout, scaling and conditions, fitted once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from pushforward.data.condition import ConditionEncoder
from pushforward.data.kinds import Kind
from pushforward.data.schema import Schema
from pushforward.data.transform import Transform
from pushforward.plots import Plot

__all__ = ["RowSpace"]

_IN_A_LINE = 10


@dataclass(frozen=True, eq=False)
class RowSpace:
    """The space of the rows of one data set, on both sides: as the user has them and as models see them.

    Parameters
    ----------
    schema : Schema
        Layout, dtype and container of the user's rows.
    transform : Transform
        The map between data units and what models see.
    conditions : ConditionEncoder or None
        How conditions become numbers; None for a model without any.
    """

    schema: Schema
    transform: Transform
    conditions: ConditionEncoder | None = None

    @property
    def kind(self) -> Kind:
        """The kind of data, with all that depends on it."""
        return self.schema.rules

    def with_conditions(self, conditions: ConditionEncoder | None) -> "RowSpace":
        """Return the same space with other conditions."""
        return replace(self, conditions=conditions)

    def draw(
        self,
        z: Tensor,
        beside: Tensor,
        *,
        columns: int | None = None,
        labels: Sequence[Any] | None = None,
        titles: tuple[str, str] = ("samples", "data"),
    ) -> Plot:
        """Draw scaled rows z (n, *D), where the kind does so ``beside`` scaled rows of the data."""
        low, high = float(self.transform.low.min()), float(self.transform.high.max())
        return self.kind.draw(
            self._view(z),
            beside=self._view(beside[: self.kind.shown]),
            names=self.schema.columns,
            labels=labels,
            columns=columns,
            scale=(low, high),
            titles=titles,
        )

    def draw_pairs(self, z: Tensor, rows: Tensor) -> Plot:
        """Draw scaled reconstructions z (n, *D) of rows, each below its own row or all beside the rows."""
        columns = min(_IN_A_LINE, len(rows))
        pairs = self.kind.pairs(rows, z, columns)
        if pairs is None:
            return self.draw(z, rows, titles=("reconstructions", "data"))
        return self.draw(pairs, rows, columns=columns)

    def _view(self, z: Tensor) -> np.ndarray:
        return self.kind.view(np.asarray(self.transform.inverse(z)), "first")
