"""Sources, the laws that sampling starts from: standard normal noise, or a law or an array in the units of the data."""

import inspect
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pushforward.data import Schema, Transform
from pushforward.probability import noise

__all__ = ["ArraySource", "GaussianSource", "LawSource", "SamplingLaw", "Source", "make_source", "with_points"]


class Source(Protocol):
    """A law that sampling starts from: rows of noise, scaled like the data."""

    def draw(self, rows: Tensor, steps: Tensor | int, seed: int, purpose: str) -> Tensor:
        """Return noise (*steps, B, *D) for rows (B,), which depends on (seed, purpose, row, step) alone."""


@dataclass(frozen=True)
class GaussianSource:
    """Standard normal noise for rows of ``shape``."""

    shape: tuple[int, ...]

    def draw(self, rows: Tensor, steps: Tensor | int, seed: int, purpose: str) -> Tensor:
        """Return standard normal noise."""
        step = steps[:, None] if isinstance(steps, Tensor) else steps
        return noise.normal(self.shape, seed=seed, purpose=purpose, rows=rows, step=step, device=rows.device)


def with_points(z: Tensor, count: int, *, rows: Tensor, seed: int) -> Tensor:
    """Return noise z (B, P, D) with ``count`` points: the first of z, and new ones that depend on (seed, row, point) alone."""
    more = count - z.shape[1]
    if more <= 0:
        return z[:, :count]
    steps = torch.arange(more, device=z.device)[:, None]
    new = noise.normal((z.shape[2],), seed=seed, purpose="more points", rows=rows, step=steps, device=z.device)
    return torch.cat((z, new.transpose(0, 1).to(z.dtype)), 1)


@runtime_checkable
class SamplingLaw(Protocol):
    """Any law with ``sample(n, *, seed)``; row i should not depend on n."""

    def sample(self, n: int, *, seed: int) -> Tensor:
        """Return n rows (n, D)."""


@dataclass(frozen=True, eq=False)
class LawSource:
    """Rows drawn from a law in data units, then scaled like the data."""

    law: SamplingLaw
    shape: tuple[int, ...]
    transform: Transform

    def draw(self, rows: Tensor, steps: Tensor | int, seed: int, purpose: str) -> Tensor:
        """Return rows of the law, which depend on (seed, purpose, row, step) alone."""
        if isinstance(steps, Tensor):
            return torch.stack([self.draw(rows, int(step), seed, purpose) for step in steps.tolist()])
        start, stop = int(rows.min()), int(rows.max()) + 1
        key = noise.derive(seed, purpose, steps)
        if "first" in inspect.signature(self.law.sample).parameters:
            x = self.law.sample(stop - start, seed=key, first=start)  # type: ignore[call-arg]
        else:
            x = self.law.sample(stop, seed=key)[start:]
        x = torch.as_tensor(x).reshape(stop - start, *self.shape)
        return self.transform.forward(x, dtype=torch.float32).to(rows.device)[rows - start]


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Rows drawn with replacement from scaled ``rows`` (N, *D)."""

    rows: Tensor

    def draw(self, rows: Tensor, steps: Tensor | int, seed: int, purpose: str) -> Tensor:
        """Return rows of the array, which depend on (seed, purpose, row, step) alone."""
        step = steps[:, None] if isinstance(steps, Tensor) else steps
        u = noise.uniform((), seed=seed, purpose=purpose, rows=rows, step=step, dtype=torch.float64, device=rows.device)
        return self.rows.to(rows.device)[(u * len(self.rows)).long()]


def make_source(source: object, schema: Schema, transform: Transform) -> Source:
    """Return the source for a model's ``source`` argument.

    Raises
    ------
    TypeError, ValueError
        If it is not None, a law with ``sample`` or rows like the training data; or the law has another dimension.
    """
    if source is None:
        return GaussianSource(transform.shape)
    if isinstance(source, SamplingLaw) and not hasattr(source, "columns"):
        law_source = LawSource(source, schema.internal_shape, transform)
        try:
            law_source.draw(torch.arange(2), 0, 0, "check")
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(
                f"source {source!r} cannot be drawn from as rows of shape {schema.internal_shape}: {error}"
            ) from None
        return law_source
    if not hasattr(source, "__len__"):
        raise TypeError(f"source must be None (Gaussian noise), a law with sample(n, seed=...), or an array, got {source!r}")
    return ArraySource(transform.forward(schema.to_internal(source, name="source"), dtype=torch.float32))
