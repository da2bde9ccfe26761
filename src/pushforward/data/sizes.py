"""The law of the sizes of sets: those of the training sets, given the label if there are labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Facts
from pushforward.data.conditions import ConditionEncoder
from pushforward.probability import noise

__all__ = ["SizeLaw", "checked_sizes"]

_MOST = 1_000_000


@dataclass(frozen=True, eq=False)
class SizeLaw:
    """The sizes of the training sets, each with equal probability among those of its label.

    Attributes
    ----------
    sizes : int64 Tensor (N,)
    labels : int64 Tensor (N,)
        Number of the class of each, -1 without a label.

    >>> SizeLaw(torch.tensor([3, 5]), torch.tensor([0, 1])).draw(None, 100, seed=0).unique().tolist()
    [3, 5]
    """

    sizes: Tensor
    labels: Tensor

    @classmethod
    def fit(cls, sizes: Tensor, condition: Tensor | None, encoder: ConditionEncoder | None) -> "SizeLaw":
        """Fit to the sizes (N,) of sets and their encoded conditions (N, K)."""
        return cls(sizes.clone(), _labels(condition, len(sizes), encoder))

    def draw(
        self, condition: Tensor | None, n: int, *, encoder: ConditionEncoder | None = None, seed: int, first: int = 0
    ) -> Tensor:
        """Return n sizes; that of row i depends on (seed, first + i) and its label alone."""
        u = noise.uniform((), seed=seed, purpose="size", rows=torch.arange(first, first + n), dtype=torch.float64)
        labels = _labels(condition, n, encoder)
        sizes = torch.empty(n, dtype=torch.int64)
        for label in sorted(set(labels.tolist())):
            pool = self.sizes[self.labels == label]
            pool = pool if label >= 0 and len(pool) else self.sizes
            rows = labels == label
            sizes[rows] = pool[(u[rows] * len(pool)).long()]
        return sizes

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data and tensors."""
        return {}, {"sizes": self.sizes, "labels": self.labels}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], most: int) -> "SizeLaw":
        """Return the law from the tensors of :meth:`state`; ValueError if they are no sizes up to ``most``."""
        sizes, labels = tensors["sizes"], tensors["labels"]
        sound = sizes.shape == labels.shape and sizes.ndim == 1 and sizes.dtype == labels.dtype == torch.int64
        if not sound or not len(sizes) or int(sizes.min()) < 1 or int(sizes.max()) > most:
            raise ValueError(f"sizes must be the numbers of points of sets, from 1 to {most}, each with a label")
        return cls(sizes, labels)


def _labels(condition: Tensor | None, n: int, encoder: ConditionEncoder | None) -> Tensor:
    """Return the number of the class of each row, -1 without one."""
    if condition is None or encoder is None or not encoder.has_classes:
        return torch.full((n,), -1, dtype=torch.int64)
    return torch.where(condition[:, 0] > 0, condition[:, 1:].argmax(1), -1)


def checked_sizes(size: int | Sequence[int] | np.ndarray, n: int) -> Tensor:
    """Return n sizes from one or one per row.

    Raises
    ------
    TypeError, ValueError
        If they are not integers of at least 1, or not one or n.
    """
    sizes = np.asarray(size)
    if sizes.dtype.kind not in "iu":
        raise TypeError(f"size must be a number of points, or one for each of the {n} sets, got {size!r}")
    if sizes.ndim > 1 or (sizes.ndim == 1 and len(sizes) != n):
        raise ValueError(f"size has shape {sizes.shape}; give one number of points, or one for each of the {n} sets")
    if sizes.size and not 1 <= int(sizes.min()) <= int(sizes.max()) <= _MOST:
        raise ValueError(f"size must be from 1 to {_MOST:,}, got {size!r}")
    return torch.from_numpy(np.broadcast_to(sizes, (n,)).astype(np.int64))
