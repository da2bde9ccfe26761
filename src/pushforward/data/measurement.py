"""Conversion of measurements in the units and layout of the data to measurements of a model's scaled rows.

Scaled rows are z with x = shift + scale z, so A x is the measurement (A scale) z + A shift. Signals with a coding are a smooth
function of z instead, and so is their measurement; posterior methods use its derivative at each state.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import ArrayLike
from pushforward.data.schema import Schema
from pushforward.data.transform import Transform
from pushforward.diffusion import Linear, LinearOperator, Mask, Matrix, Observation
from pushforward.diffusion.posterior.operators import pullback
from pushforward.probability import Gaussian, noise

__all__ = ["CodedOperator", "Noise", "Operator", "ScaledOperator", "known_elements", "measurement"]

Operator: TypeAlias = ArrayLike | LinearOperator | Callable[[Tensor], Tensor]
"""A of a measurement: a matrix on flattened rows, an operator, or a linear function of tensors (B, *row)."""
Noise: TypeAlias = float | ArrayLike | Gaussian
"""Noise of a measurement: its standard deviation, one or one per entry, or its law."""


@dataclass(frozen=True, eq=False)
class ScaledOperator(LinearOperator):
    """An operator on rows in data units as one on scaled rows z: A scale, without the constant elements."""

    operator: LinearOperator
    transform: Transform

    def __call__(self, z: Tensor) -> Tensor:
        """Return A (scale z)."""
        transform = self.transform
        scale = torch.where(transform.constant, 0.0, transform.scale).to(z)
        return self.operator(transform.spread(transform.pick(scale) * z))


@dataclass(frozen=True, eq=False)
class CodedOperator(LinearOperator):
    """An operator on rows in data units as a function of scaled rows z with a coding; linear if taken ``around`` rows."""

    operator: LinearOperator
    transform: Transform
    center: Tensor | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """Return A x(z), or its derivative at the center along z."""
        if self.center is None:
            return self._measured(z)
        # The transpose of the transposed derivative; torch's forward mode would compile its rules on first use.
        value, pull = pullback(self._measured, self.center.to(z))
        return pullback(pull, torch.zeros_like(value))[1](z)

    def around(self, x: Tensor) -> "CodedOperator":
        """Return the derivative at scaled rows x (B, *D)."""
        return replace(self, center=x)

    def adjoint(self, y: Tensor, like: Tensor) -> Tensor:
        """Return the transposed derivative at the center times y."""
        value, pull = pullback(self._measured, torch.zeros_like(like) if self.center is None else self.center.to(like))
        return pull(y.reshape(value.shape).to(value))

    def _measured(self, z: Tensor) -> Tensor:
        return self.operator(self.transform.in_units(z))


@dataclass(frozen=True, eq=False)
class _UserOperator(LinearOperator):
    """A matrix on flattened rows in the user's layout, as an operator on internal rows."""

    matrix: Matrix
    schema: Schema

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x."""
        return self.matrix(self.schema.to_layout(x))


def known_elements(transform: Transform, x: Tensor, known: Tensor, seed: int) -> Callable[[Tensor], Observation]:
    """Return a function from the numbers 0 to N - 1 of rows x (N, *D), in data units, to observations of the known elements."""
    if transform.coding is not None:
        exact = torch.zeros(x[0].numel(), dtype=torch.float64)
        seen = (x * known).double().flatten(1)
        return lambda rows: Observation(CodedOperator(Mask(known[rows]), transform), seen[rows], exact)
    z = transform.forward(x, dtype=torch.float32)
    width = transform.dequantization.float()
    observed = transform.pick(known | transform.constant)
    std = torch.zeros(z[0].numel(), dtype=torch.float64)

    def observation(rows: Tensor) -> Observation:
        u = noise.uniform(transform.shape, seed=seed, purpose="dequantization", rows=rows)
        values = (z[rows] + width * u) * observed[rows]
        return Observation(Mask(observed[rows]), values.flatten(1), std)

    return observation


def measurement(schema: Schema, A: Operator, y: ArrayLike) -> tuple[LinearOperator, Any, torch.dtype]:
    """Return A as an operator on internal rows, y in the order of its output, and the dtype of its inputs."""
    shape, kind = schema.internal_shape, schema.rules

    def inward(values: Any) -> Tensor:
        return kind.measured(torch.as_tensor(np.asarray(values)), schema.channels)

    if isinstance(A, Mask):
        observed = kind.whole_mask(inward(A.seen), shape)
        if tuple(observed.shape) != shape and tuple(A.seen.shape) != tuple(schema.row_shape):
            raise ValueError(f"the mask has shape {tuple(A.seen.shape)}, but a row has shape {tuple(schema.row_shape)}")
        observed, values = observed.reshape(shape), inward(y)
        if values.numel() == observed.numel():
            values = torch.where(observed, values.reshape(shape).double(), 0.0)
        return Mask(observed), values, torch.float64
    if isinstance(A, LinearOperator) and not isinstance(A, Matrix | Linear):
        return A, inward(y), torch.float64
    if callable(A):
        return Linear(lambda x: A(schema.to_layout(x))), y, torch.float32
    return _UserOperator(A if isinstance(A, Matrix) else Matrix(A), schema), y, torch.float64
