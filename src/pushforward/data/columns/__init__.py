"""Columns of tables: their types, found in the data or set by the user, and their conversion to numbers and back."""

from pushforward.data.columns.column import COLUMN_TYPES, Column, ColumnType, ColumnTypes
from pushforward.data.columns.infer import infer_columns
from pushforward.data.columns.infer_numbers import plain_numbers
from pushforward.data.columns.table import LeftOut, Table

__all__ = ["COLUMN_TYPES", "Column", "ColumnType", "ColumnTypes", "LeftOut", "Table", "infer_columns", "plain_numbers"]
