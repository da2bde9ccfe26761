"""Conditions: their types, found in the data or set by the user, and their encoding as one float tensor."""

from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.features import keep_parts
from pushforward.data.conditions.images import (
    MASK,
    Image,
    check_scale_of,
    describe,
    mask_numbers,
    random_mask,
    with_visible,
)
from pushforward.data.conditions.values import ConditionKind, Conditions, as_condition_array, column_names, conditions_of

__all__ = [
    "MASK",
    "ConditionEncoder",
    "ConditionKind",
    "Conditions",
    "Image",
    "as_condition_array",
    "check_scale_of",
    "column_names",
    "conditions_of",
    "describe",
    "keep_parts",
    "mask_numbers",
    "random_mask",
    "with_visible",
]
