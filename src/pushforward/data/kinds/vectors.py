"""Vectors: each row is a list of numbers, and each number a column with its own unit.

Arrays with two dimensions and tables of numbers are vectors. With ``kind="vectors"`` rows with more dimensions are flattened,
and samples get their shape. Columns are standardized: shift is the mean and scale the standard deviation of each.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.data.kinds.kind import Channels, Drawing, Kind
from pushforward.data.kinds.registry import register_kind
from pushforward.data.stream import AnyRows, moments, parts_of

__all__ = ["Vectors"]


@register_kind
class Vectors(Kind):
    """Rows of numbers, ``(N, D)``."""

    name: ClassVar[str] = "vectors"
    noun: ClassVar[str] = "rows"
    in_parts: ClassVar[bool] = True
    stays_on_disk: ClassVar[bool] = True
    takes_frames: ClassVar[bool] = True
    compared_models: ClassVar[tuple[str, ...]] = (*Kind.compared_models, "masked-diffusion")
    measures: ClassVar[tuple[str, ...]] = ("distances", "features", "columns", "memorization")

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Whether there are two dimensions."""
        return len(shape) == 2

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Suggest flattening for any array."""
        return "to learn each row as one flat vector"

    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return None: vectors have no channels."""
        return None

    def internal_shape(self, row: tuple[int, ...], channels: Channels) -> tuple[int, ...]:
        """Return (D,)."""
        return (math.prod(row),)

    def inward(self, rows: Tensor, channels: Channels) -> Tensor:
        """Flatten each row."""
        return rows.reshape(len(rows), -1)

    def outward(self, rows: Tensor, row: tuple[int, ...], channels: Channels) -> Tensor:
        """Restore the shape of each row."""
        return rows.reshape(len(rows), *row)

    def describe(self, shape: tuple[int, ...]) -> str:
        """Return for example "rows of 3 columns"."""
        return f"rows of {shape[0]} columns"

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each column of x + u, guarded against overflow of the squares."""
        width = high - low
        unit = torch.where(width > 0, width, 1.0)
        relative_mean, variance = moments((part.double() - low) / unit for part in parts_of(x))
        mean = low + unit * relative_mean
        half, twelfth = torch.where(integer, 0.5, 0.0), torch.where(integer, 1 / 12, 0.0)
        return mean + half, unit * (variance + twelfth / unit / unit).sqrt()

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Draw points of the plane as a scatter plot, more columns as histograms."""
        rows = rows.astype(float)
        if rows.shape[1] == 2:
            return plots.scatter_grid(rows, drawing.beside, names=drawing.names, titles=drawing.titles)
        return plots.columns_grid(rows, drawing.beside, names=drawing.names)
