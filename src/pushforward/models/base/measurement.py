"""Measurements in the units and the layout of the data, as measurements of the scaled rows inside a model.

Rows are z with x = shift + scale z, so A x is the measurement (A scale) z + A shift.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pushforward.data import Schema, Transform
from pushforward.diffusion import Linear, LinearOperator, Mask, Matrix, Observation
from pushforward.probability import noise

__all__ = ["Layout", "Scaled", "known_of", "origin"]


@dataclass(frozen=True, eq=False)
class Scaled(LinearOperator):
    """An operator on rows in data units, as one on scaled rows z: A scale, without the elements that are constant."""

    operator: LinearOperator
    transform: Transform

    def __call__(self, z: Tensor) -> Tensor:
        """Return A (scale z)."""
        scale = torch.where(self.transform.constant, 0.0, self.transform.scale).to(z)
        if self.transform.kind == "images":
            return self.operator(scale * z)
        varies = (~self.transform.constant).nonzero()[:, 0].to(z.device)
        x = torch.zeros(len(z), len(scale), dtype=z.dtype, device=z.device)
        return self.operator(x.index_copy(1, varies, scale[varies] * z))


def origin(transform: Transform) -> Tensor:
    """Return the row in data units that stands at z = 0, constants included, float64."""
    return torch.where(transform.constant, transform.value, transform.shift)


def known_of(transform: Transform, x: Tensor, known: Tensor, seed: int) -> Callable[[Tensor], Observation]:
    """Return what is known of rows x (N, ...) in data units, as a function of their sample numbers 0 to N - 1."""
    z = transform.forward(x, dtype=torch.float32)
    width = transform.dequantization.float()
    seen = known[:, ~transform.constant] if transform.kind == "vectors" else known | transform.constant
    std = torch.zeros(z[0].numel(), dtype=torch.float64)

    def given(rows: Tensor) -> Observation:
        u = noise.uniform(transform.shape, seed=seed, purpose="dequantization", rows=rows)
        values = (z[rows] + width * u) * seen[rows]
        return Observation(Mask(seen[rows]), values.flatten(1), std)

    return given


@dataclass(frozen=True)
class Layout:
    """The way from the library's own layout of rows to the user's."""

    schema: Schema

    def to_user(self, x: Tensor) -> Tensor:
        """Return rows (B, *internal) as tensors (B, *row) in the user's layout."""
        if self.schema.channels == "last":
            x = x.movedim(1, -1)
        return x.reshape(len(x), *self.schema.row_shape)

    def image(self, values: Any) -> Tensor:
        """Return an array in the layout of an image of the user, of any size, with the channels first."""
        image: Tensor = torch.as_tensor(np.asarray(values))
        if self.schema.channels == "last" and image.ndim == 3:
            return image.movedim(-1, 0)
        return image

    def measurement(self, A: Any, y: Any) -> tuple[LinearOperator, Any, torch.dtype]:
        """Return A as an operator on internal rows, y in the order of what it gives, and the dtype that A is tried in."""
        if isinstance(A, Mask):
            shape, seen = self.schema.internal_shape, self.image(A.seen)
            if seen.numel() * shape[0] == int(np.prod(shape)) and self.schema.kind == "images":
                seen = seen.reshape(1, *shape[1:]).expand(shape)
            elif tuple(A.seen.shape) != tuple(self.schema.row_shape):
                raise ValueError(f"the mask has the shape {tuple(A.seen.shape)}, but a row {tuple(self.schema.row_shape)}")
            seen = seen.reshape(shape)
            values = self.image(y)
            if values.numel() == seen.numel():
                values = torch.where(seen, values.reshape(shape).double(), 0.0)
            return Mask(seen), values, torch.float64
        if isinstance(A, LinearOperator) and not isinstance(A, Matrix | Linear):
            return A, self.image(y), torch.float64
        if callable(A):
            return Linear(lambda x: A(self.to_user(x))), y, torch.float32
        matrix = A if isinstance(A, Matrix) else Matrix(A)
        return _InLayout(matrix, self), y, torch.float64


@dataclass(frozen=True, eq=False)
class _InLayout(LinearOperator):
    """A matrix on flattened rows of the user's layout, as an operator on internal rows."""

    matrix: Matrix
    layout: Layout

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x."""
        return self.matrix(self.layout.to_user(x))
