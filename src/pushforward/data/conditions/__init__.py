"""Conditions: their types, found in the data or set by the user, and their encoding as one float tensor."""

from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.features import keep_parts
from pushforward.data.conditions.fitting import fit_conditions, restored_conditions
from pushforward.data.conditions.images import (
    MASK,
    Image,
    check_scale_of,
    describe,
    mask_numbers,
    random_mask,
    with_visible,
)
from pushforward.data.conditions.pixels import Visible
from pushforward.data.conditions.values import ConditionKind, Conditions, as_condition_array, column_names, conditions_of

__all__ = [
    "MASK",
    "ConditionEncoder",
    "ConditionKind",
    "Conditions",
    "Image",
    "Visible",
    "as_condition_array",
    "check_scale_of",
    "column_names",
    "conditions_of",
    "describe",
    "fit_conditions",
    "keep_parts",
    "mask_numbers",
    "random_mask",
    "restored_conditions",
    "with_visible",
]
