"""The border between the rows of a user and the tensors of a model: layout, scaling and conditions, fitted once."""

from dataclasses import dataclass, replace

from pushforward.data.condition import ConditionEncoder
from pushforward.data.schema import Schema
from pushforward.data.transform import Transform

__all__ = ["RowSpace"]


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

    def with_conditions(self, conditions: ConditionEncoder | None) -> "RowSpace":
        """Return the same space with other conditions."""
        return replace(self, conditions=conditions)
