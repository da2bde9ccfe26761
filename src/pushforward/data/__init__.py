"""Data: opened as arrays with a schema, scaled by fitted invertible transforms, with conditions encoded as numbers."""

from pushforward.data.checks import ArrayLike, Condition, Data, Facts, Values, clean_values
from pushforward.data.columns import ColumnTypes
from pushforward.data.columns.elements import Coordinates
from pushforward.data.conditions import ConditionEncoder, ConditionKind, fit_conditions, restored_conditions
from pushforward.data.dataset import Dataset
from pushforward.data.files.tables import Names
from pushforward.data.files.write import check_target, write_samples
from pushforward.data.kinds import KINDS, Kind, Limits, register_kind
from pushforward.data.open import open_data
from pushforward.data.schema import Schema
from pushforward.data.space import RowSpace
from pushforward.data.split import split_rows
from pushforward.data.text import Text, Tokenizer
from pushforward.data.transform import Transform

__all__ = [
    "KINDS",
    "ArrayLike",
    "ColumnTypes",
    "Condition",
    "ConditionEncoder",
    "ConditionKind",
    "Coordinates",
    "Data",
    "Dataset",
    "Facts",
    "Kind",
    "Limits",
    "Names",
    "RowSpace",
    "Schema",
    "Text",
    "Tokenizer",
    "Transform",
    "Values",
    "check_target",
    "clean_values",
    "fit_conditions",
    "open_data",
    "register_kind",
    "restored_conditions",
    "split_rows",
    "write_samples",
]
