"""Conditions: their types, found in the data or set by the user, and their encoding as one float tensor."""

from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.features import keep_parts
from pushforward.data.conditions.values import ConditionKind, Conditions, as_condition_array, column_names, conditions_of

__all__ = [
    "ConditionEncoder",
    "ConditionKind",
    "Conditions",
    "as_condition_array",
    "column_names",
    "conditions_of",
    "keep_parts",
]
