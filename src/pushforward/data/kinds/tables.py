"""Tables: rows with columns of different types, such as numbers, categories and dates, and with gaps.

:mod:`pushforward.data.columns` converts their cells to numbers and back. A DataFrame or file is a table unless all of its
columns are numbers without gaps: these are vectors.
"""

from typing import ClassVar

from pushforward.data.kinds.registry import register_kind
from pushforward.data.kinds.vectors import Vectors

__all__ = ["Tables"]


@register_kind
class Tables(Vectors):
    """Rows of a table, ``(N, C)``, one number per column."""

    name: ClassVar[str] = "tables"
    default_model: ClassVar[str] = "circuit"

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Return False: only a DataFrame is a table."""
        return False

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Return "": no array is a table."""
        return ""
