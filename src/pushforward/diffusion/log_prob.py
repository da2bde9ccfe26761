"""Log-probabilities of rows with their errors: what ``log_prob`` of every family returns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

__all__ = ["Kind", "LogProb", "standard_error"]

Kind = Literal["exact", "estimate", "lower bound"]


@dataclass(frozen=True, eq=False)
class LogProb:
    """Log-probabilities of rows, with their errors.

    Attributes
    ----------
    values : array (N,)
        In ``unit``.
    kind : {"exact", "estimate", "lower bound"}
        "exact": the log-probability up to the numerical error. "estimate": also random, with the standard error below.
        "lower bound": a lower bound, on average over its random numbers.
    standard_error : array (N,)
        Due to the random numbers of each value; 0 if there are none, NaN if there is a single draw.
    numerical_error : array (N,)
        Change of the value when the integration takes half as many steps, plus its change when the part below t_min is larger.
    prior_mismatch : array (N,)
        Where alpha(1) > 0: a bound, on average, on the difference between the noised data and the noise that sampling
        starts from. NaN where it is unknown, because the noise of a model is coupled to its data.
    nfe : int
        Network calls per row, the largest number over the rows. Each also has one backward pass per element or per probe.
    dims : int
        Number of elements of a row that the density counts; 0 if rows have different numbers, as sets of different sizes.
    constants : int
        Number of constant elements, which are left out.
    unit : {"nats", "bits per dimension"}

    >>> result = LogProb(np.array([-2.0]), "exact", *3 * [np.zeros(1)], nfe=1, dims=2)
    >>> result.in_bits_per_dim().values.round(4)
    array([1.4427])
    """

    values: np.ndarray
    kind: Kind
    standard_error: np.ndarray
    numerical_error: np.ndarray
    prior_mismatch: np.ndarray
    nfe: int
    dims: int
    constants: int = 0
    unit: Literal["nats", "bits per dimension"] = "nats"

    @property
    def is_exact(self) -> bool:
        """Whether the values are exact up to the numerical error."""
        return self.kind.startswith("exact")

    @property
    def is_bound(self) -> bool:
        """Whether the values are lower bounds."""
        return self.kind.startswith("lower")

    def in_bits_per_dim(self) -> "LogProb":
        """Return the result with ``values`` = -log2 p / dims, and errors in that unit."""
        if self.unit != "nats":
            return self
        if not self.dims:
            raise ValueError("rows of different sizes have no common number of dimensions; use nats")
        scale = 1 / (self.dims * math.log(2))
        arrays: dict[str, Any] = {name: getattr(self, name) * scale for name in _ARRAYS}
        return replace(self, **arrays | {"values": -arrays["values"]}, unit="bits per dimension")

    def shifted(self, nats: float | np.ndarray) -> "LogProb":
        """Return the result with ``nats``, a number or one per row, added to the values."""
        return replace(self, values=self.values + nats)

    @classmethod
    def concatenate(cls, parts: "Sequence[LogProb]") -> "LogProb":
        """Join batches of rows."""
        arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        dims = parts[0].dims if len({part.dims for part in parts}) == 1 else 0
        return replace(parts[0], **arrays, nfe=max(part.nfe for part in parts), dims=dims)

    @classmethod
    def average(cls, draws: "Sequence[LogProb]", kind: Kind) -> "LogProb":
        """Average independent results for the same rows; their scatter is the standard error."""
        arrays: dict[str, Any] = {name: np.mean([getattr(draw, name) for draw in draws], axis=0) for name in _ARRAYS}
        values = np.stack([draw.values for draw in draws])
        arrays["standard_error"] = standard_error(values)
        return replace(draws[0], **arrays, kind=kind, nfe=sum(draw.nfe for draw in draws))


_ARRAYS = tuple(field.name for field in fields(LogProb) if field.type is np.ndarray)


def standard_error(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean of independent draws (K, ...): NaN for a single one, 0 if all are -inf."""
    count = len(values)
    if count == 1:
        return np.full(values.shape[1:], np.nan)
    impossible = np.isneginf(values).all(axis=0)
    return np.asarray(np.where(impossible, 0.0, values).std(axis=0, ddof=1) / math.sqrt(count))
