"""Tables: rows with columns of different types, such as numbers, categories and dates, and with gaps.

:mod:`pushforward.data.columns` converts their cells to numbers and back. A DataFrame or file is a table unless all of its
columns are numbers without gaps, without values that many rows repeat, and away from bounds such as 0: these are vectors, like
arrays.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.data.kinds.kind import Drawing
from pushforward.data.kinds.registry import register_kind
from pushforward.data.kinds.vectors import Vectors
from pushforward.data.stream import AnyRows, parts_of

__all__ = ["Tables"]

_BINARY_SCALE = 0.5


@register_kind
class Tables(Vectors):
    """Rows of a table, ``(N, C)``, one number per column."""

    name: ClassVar[str] = "tables"
    default_model: ClassVar[str] = "circuit"
    compared_models: ClassVar[tuple[str, ...]] = (
        "circuit",
        "gmm",
        "vae",
        "gan",
        "normalizing-flow",
        "masked-diffusion",
        "flow-matching",
    )
    measures: ClassVar[tuple[str, ...]] = ("distances", "mixed columns")

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Return False: only a DataFrame is a table."""
        return False

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Return "": no array is a table."""
        return ""

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Draw bars for each category and a histogram for each other column, beside those of the data if they are given."""
        assert drawing.names is not None
        assert drawing.levels is not None
        return plots.columns_compared(
            rows,
            drawing.beside,
            names=drawing.names,
            levels=drawing.levels,
            formats=drawing.formats,
            titles=drawing.titles,
        )

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each column, for 0/1 coordinates of categories one scale for all.

        With a scale of its own a rare level would count as much as all others.
        """
        shift, scale = super().scaling(x, low, high, integer)
        binary = torch.stack([((part == 0) | (part == 1)).all(0) for part in parts_of(x)]).all(0) & ~integer
        return shift, torch.where(binary, _BINARY_SCALE, scale)
