"""Log-densities of rows in nats and in the units of the data, with their errors.

The density includes the scaling of the data: log p(x) = log p(z) + log |dz/dx|. A family defines log p(z); this module handles
integers, constant elements, conditions, batches and units for all families.
"""

import abc
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition
from pushforward.data.rows import Rows, SpreadRows
from pushforward.diffusion.log_prob import Kind, LogProb
from pushforward.models.base.available import available_if, in_data_units
from pushforward.models.base.model import GenerativeModel
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["DensityModel", "RowDensity", "RowDensityModel"]

T = TypeVar("T")


class RowDensity(Protocol):
    """The log-density of scaled rows under a trained network."""

    def __call__(
        self, learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
    ) -> LogProb:
        """Return log p(z | condition) in nats per row of z (B, *D); its random numbers depend on (seed, first + i)."""


class DensityModel(GenerativeModel):
    """``score_samples`` and ``score``; a family defines ``log_prob``.

    An integer beyond the range of the training data has probability 0, with a warning, where the range is closed, as for images
    and booleans; otherwise it has a share of the probability of the end of the range
    (:mod:`pushforward.data.transform`).
    """

    core: ClassVar[str]

    @abc.abstractmethod
    def log_prob(self, X: ArrayLike, *, condition: Condition = None) -> LogProb:
        """Return the log-density of each row in nats, in data units, with its kind, errors and cost."""

    @available_if(in_data_units)
    def score_samples(self, X: ArrayLike, *, condition: Condition = None) -> np.ndarray:
        """Return the log-density of each row in nats, in data units, (N,); :meth:`log_prob` also gives its errors."""
        return self.log_prob(X, condition=condition).values

    @available_if(in_data_units)
    def score(self, X: ArrayLike, y: object = None, *, condition: Condition = None) -> float:
        """Return the mean log-density of the rows in nats, in data units; ``y`` is ignored."""
        return float(self.score_samples(X, condition=condition).mean())

    def _score(
        self, X: ArrayLike, condition: Condition, density: RowDensity, *, draws: int, seed: int, first: int, batch_size: int
    ) -> LogProb:
        """Return log p(x) in data units from log p(z)."""
        check_is_fitted(self)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = self._rows(X, condition)

        def score_draw(draw: int) -> LogProb:
            def score_part(part: slice, learned: object, device: torch.device) -> LogProb:
                start, spread = first + part.start, noise.derive(seed, "dequantization", draw)
                scores = density(
                    learned,
                    rows.dequantized(part, spread, start).to(device),
                    condition=None if rows.condition is None else rows.condition[part].to(device),
                    varies=rows.varies,
                    seed=noise.derive(seed, "flow", draw),
                    first=start,
                )
                return scores.shifted(np.asarray(rows.log_volume(part, spread, start)))

            return LogProb.concatenate(self._in_batches(score_part, len(rows.z), batch_size))

        scores = score_draw(0)
        if rows.random:
            kind: Kind = "lower bound" if rows.integer or scores.is_bound else "estimate"
            scores = LogProb.average([scores, *(score_draw(draw) for draw in range(1, draws))], kind)
        scores = scores.shifted(rows.log_shares.numpy() + self.space_.log_det)
        return replace(scores, constants=self.space_.transform.constants)

    def _rows(self, X: ArrayLike, condition: Condition) -> Rows:
        if self.space_.schema.elements is not None:
            cells = self.space_.schema.to_columns(X, gaps=self.gaps)
            encoded = self._encode(condition, len(cells), self._density_dtype)
            return SpreadRows.spread(self.space_, cells, encoded, dtype=self._density_dtype)
        return self._rows_of(X, condition, self._density_dtype, within_range=True)

    def _in_batches(self, score: Callable[[slice, Any, torch.device], T], rows: int, batch_size: int) -> list[T]:
        """Return ``score(part, learned, device)`` for each batch; a network is copied to ``_density_dtype`` first."""
        learned, device = getattr(self, self.core), torch.device("cpu")
        if isinstance(learned, nn.Module):
            learned = copy.deepcopy(learned).to(self._density_dtype)
            device = next((parameter.device for parameter in learned.parameters()), device)
            learned.eval()
        with torch.autocast(device.type, enabled=False):
            return [score(slice(begin, min(begin + batch_size, rows)), learned, device) for begin in range(0, rows, batch_size)]

    @property
    def _density_dtype(self) -> torch.dtype:
        """Dtype of scaled rows: float64 for vectors, where it is cheap."""
        own = isinstance(getattr(self, "network_", None), nn.Module)
        return self.space_.kind.density_dtype if not own else torch.float32


class RowDensityModel(DensityModel):
    """``log_prob`` by the density of scaled rows; a family defines ``_log_prob``, a :class:`RowDensity`."""

    @available_if(in_data_units)
    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return the log-density of each row in nats, in data units, with its kind, errors and cost.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Gives log p(x | condition). Without it a conditional model uses what it learned with its condition dropped.
        draws : int
            For integers, draws of u in [0, 1) whose log-densities of x + u are averaged: a lower bound of the
            log-probability. Not used for real numbers, except where the density itself needs random numbers.
        seed, first : int
            Name the random numbers: those of row i of X depend on (seed, first + i) alone.
        batch_size : int
            Rows that go through the network at once.
        bits_per_dim : bool
            Whether the result is in bits per dimension, -log2 p / dims, instead of nats.

        Raises
        ------
        ValueError
            If X does not fit the training data, or the model has learned no law without a condition and none is given.
        """
        scores = self._score(X, condition, self._log_prob, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return scores.in_bits_per_dim() if bits_per_dim else scores

    @abc.abstractmethod
    def _log_prob(
        self, learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
    ) -> LogProb:
        """Return the log-density of scaled rows; see :class:`RowDensity`."""
