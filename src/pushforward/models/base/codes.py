"""Conversion between rows of data and codes, for families with an encoder and a decoder.

The network of such a family, under ``core``, defines ``encode(x, condition)``, the codes (B, K) of scaled rows, and
``decode(z, condition)``, the means of the decoder in scaled units. An integer is encoded at the middle of its interval and
decoded by rounding down, so an error below half a unit restores it.
"""

import abc
import copy
import math
from collections.abc import Callable
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import Tags, TransformerTags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition, Schema, Values
from pushforward.models.base.model import GenerativeModel
from pushforward.models.base.transformer import Transformer
from pushforward.networks import CoderSpec
from pushforward.probability.counts import check_count
from pushforward.training import TrainingSettings

__all__ = [
    "CodeModel",
    "DecoderModel",
    "RandomCodes",
    "arc",
    "as_rows",
    "default_coder",
    "default_latent_dim",
    "default_training",
]

_MANY = 1000
_LEAST_ANGLE = 1e-4
_SMALL, _LARGE = 16, 32  # longer side of images


class DecoderModel(GenerativeModel):
    """``inverse_transform`` for models with a decoder, which is the method ``decodes`` of their network."""

    decodes: ClassVar[str] = "decode"
    core: ClassVar[str]
    latent_dim_: int = field(init=False)

    def inverse_transform(self, Z: ArrayLike, *, condition: Condition = None, batch_size: int = 256) -> Values:
        """Return the rows of data that the decoder makes of codes: the middle of their law, without its noise.

        Parameters
        ----------
        Z : array or tensor (N, K)
            Codes.
        condition : label, vector, or one of them per row, optional
            The condition that the decoder gets with the code. None is "no condition" for a conditional model.
        batch_size : int
            Rows that go through the network at once.

        Returns
        -------
        array, tensor or DataFrame
            Rows in the layout, dtype and units of the training data.

        Raises
        ------
        ValueError
            If Z is not a code per row, or the model always saw its condition and none is given.
        """
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        z = self._code_schema.to_internal(Z, name=type(self).__name__).to(self._coder_dtype)
        condition = self._encode(condition, len(z), self._coder_dtype)
        return self.space_.to_user(self._through(self.decodes, z, condition, batch_size))

    @property
    def _code_length(self) -> int:
        return self.latent_dim_

    @property
    def _code_schema(self) -> Schema:
        """Layout of codes: floating-point vectors in the container type of the data."""
        return self.space_.schema.codes(self._code_length)

    @property
    def _coder_dtype(self) -> torch.dtype:
        """Float64 for vectors, where it is cheap, so that codes do not depend on the batch."""
        return self.space_.kind.density_dtype

    def _through(self, method: str, rows: Tensor, condition: Tensor | None, batch_size: int, *more: Tensor) -> Any:
        """Apply a method of the network to the rows, and to further tensors with one row each, in batches; on the CPU."""
        trained: nn.Module = getattr(self, self.core)
        device = next(trained.parameters()).device
        network = copy.deepcopy(trained).to(self._coder_dtype).eval()
        apply, results = getattr(network, method), []
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for begin in range(0, len(rows), batch_size):
                part = slice(begin, begin + batch_size)
                c = None if condition is None else condition[part].to(device)
                results.append(apply(rows[part].to(device), c, *(other[part].to(device) for other in more)))
        if isinstance(results[0], Tensor):
            return torch.cat(results).cpu()
        return tuple(torch.cat(parts).cpu() for parts in zip(*results, strict=True))


class CodeModel(Transformer, DecoderModel):
    """``transform`` and ``inverse_transform`` for models with an encoder and a decoder."""

    def fit_transform(self, X: ArrayLike, y: object = None, *, condition: Condition = None) -> Values:
        """Train on the rows of X and return their codes: :meth:`fit`, then :meth:`transform`."""
        return self.fit(X, y, condition=condition).transform(X, condition=condition)

    def transform(self, X: ArrayLike, *, condition: Condition = None, batch_size: int = 256) -> Values:
        """Return the codes of the rows of X.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            The condition that the encoder gets with the row. None is "no condition" for a conditional model.
        batch_size : int
            Rows that go through the network at once.

        Returns
        -------
        array or tensor (N, K)
            One code per row, in floating point; the mean of the code where it is random.

        Raises
        ------
        ValueError
            If X does not fit the training data, or the model always saw its condition and none is given.
        """
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        rows = self._rows_of(X, condition, self._coder_dtype)
        z = self._through("encode", rows.middle, rows.condition, batch_size)
        return self._code_schema.to_user(z)

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn that this is also a transformer."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
        return tags


class RandomCodes(abc.ABC):
    """A coder with a random encoder q(z | x) and a random decoder p(x | z), without a condition.

    :class:`~pushforward.models.latent.Latent` replaces the prior that the coder was trained with by another law of codes.
    """

    @abc.abstractmethod
    def _code_sampler(self, learned: object, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Return a function that draws from q(z | x) for scaled rows x (B, *D), given standard normal eps (B, K).

        The function returns the codes (B, K) and log p(x | z) / q(z | x), (B,). ``learned`` is the trained network.
        """

    @abc.abstractmethod
    def _draw_given(self, z: Tensor, rows: Tensor, seed: int) -> Tensor:
        """Draw scaled rows (B, *D) from p(x | z), on the CPU; the noise of row i depends on (seed, rows[i]) alone."""


def default_latent_dim(shape: tuple[int, ...]) -> int:
    """Return the default length of codes for rows of ``shape``.

    >>> default_latent_dim((2,)), default_latent_dim((1, 28, 28)), default_latent_dim((3, 32, 32))
    (2, 16, 64)
    """
    elements = math.prod(shape)
    return min(elements, 16 if elements < _MANY else 64)


def default_coder(shape: tuple[int, ...]) -> CoderSpec:
    """Return the default size of the networks for rows of ``shape``.

    On MNIST, dense networks complete more steps than convolutions in the same time on a CPU, and their samples match their
    labels better. Smaller images cost little either way.

    >>> default_coder((1, 28, 28)).dense, default_coder((1, 8, 8)).dense, default_coder((3, 32, 32)).dense
    (True, False, False)
    """
    if len(shape) == 1:
        return CoderSpec(width=128 if shape[0] <= 8 else 256, depth=2)
    if max(shape[1:]) < _SMALL:
        return CoderSpec(width=32, depth=1)
    return CoderSpec(width=512, depth=1, dense=True) if max(shape[1:]) < _LARGE else CoderSpec(width=24, depth=1)


def default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return the settings that performed best on 8x8 digits, MNIST and points in the plane, on one CPU core."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=10.0)
    if len(shape) == 1:
        return replace(common, steps=3000, batch_size=256, learning_rate=2e-3, ema=0.1)
    if max(shape[1:]) < _SMALL:
        return replace(common, steps=1200, batch_size=64, learning_rate=2e-3, ema=0.1)
    if max(shape[1:]) < _LARGE:
        return replace(common, steps=6000, batch_size=64, learning_rate=1e-3, ema=0.05)
    return replace(common, steps=4000, batch_size=64, learning_rate=2e-3, ema=0.05)


def as_rows(schema: Schema, row: Any) -> Any:
    """Return one row, with or without its leading axis, as rows (1, ...); rows stay as they are."""
    if hasattr(row, "to_frame"):  # a Series
        return row.to_frame().T
    if hasattr(row, "columns"):
        return row
    whole = row if isinstance(row, Tensor) else np.asarray(row)
    return whole[None] if whole.ndim == len(schema.row_shape) else whole


def arc(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Return points (n, K) at fractions s (n,) of the arc from a to b (K,).

    Draws of N(0, I) lie near a sphere of radius sqrt(K), which a straight line leaves. With the angle omega between a and b the
    points are (sin((1 - s) omega) a + sin(s omega) b) / sin(omega).
    """
    lengths, s = a.norm() * b.norm(), s[:, None]
    omega = torch.acos((a @ b / lengths).clamp(-1, 1))
    if lengths == 0 or omega < _LEAST_ANGLE or omega > math.pi - _LEAST_ANGLE:  # the arc is a line, or not unique
        return (1 - s) * a + s * b
    return (torch.sin((1 - s) * omega) * a + torch.sin(s * omega) * b) / torch.sin(omega)
