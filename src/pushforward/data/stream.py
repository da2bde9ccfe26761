"""Rows that stay as the user has them, on disk or in memory, and are converted when they are needed.

:class:`Stored` are the rows of a file or folder as the user laid them out, and :class:`Held` those of an array.
:class:`Stream` are these rows as models see them; it takes the place of a tensor where only some rows are needed at once.
Statistics of either, and of a tensor, are sums over the same parts in the same order (:func:`parts_of`), and so do not depend
on where the rows are.
"""

import abc
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["AnyRows", "Held", "Stored", "Stream", "arrays_of", "extremes", "moments", "parts_of"]

_NUMBERS = 1 << 20  # of the rows of one part


class Stored(abc.ABC):
    """Rows on disk in the user's layout.

    Attributes
    ----------
    shape : tuple of int
        (N, *row).
    dtype : numpy.dtype
    """

    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes, that of the rows included."""
        return len(self.shape)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Read rows in order, (n, *row)."""
        return self.read(np.arange(*part.indices(len(self))))

    @abc.abstractmethod
    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the rows with these numbers, in rising order and each once, as an array (n, *row)."""

    def take(self, index: np.ndarray) -> np.ndarray:
        """Return rows (n, *row) in any order; they are read in the order of their places."""
        numbers, place = np.unique(index, return_inverse=True)
        rows = self.read(numbers)
        return rows if len(numbers) == len(index) and bool((index[:-1] <= index[1:]).all()) else rows[place]


class Held:
    """Rows in memory in the user's layout.

    Parameters
    ----------
    values : array or CPU tensor (N, *row)
    """

    def __init__(self, values: np.ndarray | Tensor) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def take(self, index: np.ndarray) -> np.ndarray | Tensor:
        """Return rows (n, *row) in any order."""
        return self._values[torch.from_numpy(index)] if isinstance(self._values, Tensor) else self._values[index]


def arrays_of(stored: Stored) -> Iterator[np.ndarray]:
    """Yield stored rows in order, about a million numbers at a time, as arrays (n, *row)."""
    for first, last in _bounds(stored.shape):
        yield stored[first:last]


class _Sized(Protocol):
    """What :func:`parts_of` needs of rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, part: slice) -> Tensor: ...


class Stream:
    """Rows (N, *D) that are converted to tensors whenever some of them are taken.

    Parameters
    ----------
    stored : Stored or Held
    convert : callable
        From rows of ``stored`` to a tensor (n, *D).
    shape : tuple of int
        Shape D of a row.
    dtype : torch.dtype
        dtype of the converted rows.
    aside : int64 Tensor
        Numbers of stored rows, in rising order, that are left out.
    device : torch.device
        Where the tensors are.
    """

    def __init__(
        self,
        stored: Stored | Held,
        convert: Callable[[Any], Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        aside: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stored, self._convert, self._row, self.dtype = stored, convert, shape, dtype
        self._aside = torch.empty(0, dtype=torch.int64) if aside is None else aside
        # Of the numbers that are left out, how many rows that stay come before each.
        self._before = self._aside - torch.arange(len(self._aside))
        self.device = torch.device(device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *D)."""
        return (len(self), *self._row)

    @property
    def ndim(self) -> int:
        """Number of axes, that of the rows included."""
        return 1 + len(self._row)

    @property
    def on_disk(self) -> bool:
        """Whether the rows are read from disk."""
        return isinstance(self.stored, Stored)

    def __len__(self) -> int:
        return len(self.stored) - len(self._aside)

    def is_floating_point(self) -> bool:
        """Whether the converted rows are reals."""
        return self.dtype.is_floating_point

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """Read one row (*D), or some rows (n, *D)."""
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        return self._rows(self._number(index.to("cpu")))

    def _number(self, place: Tensor) -> Tensor:
        """Return the numbers of the stored rows at these places among those that are not left out."""
        return place + torch.searchsorted(self._before, place, right=True)

    def _rows(self, numbers: Tensor) -> Tensor:
        return self._convert(self.stored.take(numbers.numpy())).to(self.device)

    def without(self, aside: Tensor) -> "Stream":
        """Return all rows but those with these numbers, in rising order."""
        assert not len(self._aside)
        return Stream(self.stored, self._convert, self._row, self.dtype, aside, self.device)

    def then(self, convert: Callable[[Tensor], Tensor]) -> "Stream":
        """Return these rows after a further map."""
        first = self._convert
        example = convert(self[:1])
        row, dtype = tuple(example.shape[1:]), example.dtype
        return Stream(self.stored, lambda rows: convert(first(rows)), row, dtype, self._aside, self.device)

    def gathered(self) -> Tensor:
        """Return all rows as a tensor (N, *D), converted part by part, so that no other copy of all of them is made."""
        whole = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        first = 0
        for part in parts_of(self):
            whole[first : first + len(part)] = part
            first += len(part)
        return whole

    def to(self, device: torch.device | str) -> "Stream":
        """Return the same rows, on a device once they are read."""
        return Stream(self.stored, self._convert, self._row, self.dtype, self._aside, device)


AnyRows: TypeAlias = Tensor | Stream
"""Rows (N, *D), all converted or converted when they are needed."""


def parts_of(rows: _Sized) -> Iterator[Tensor]:
    """Yield rows in order, about a million numbers at a time."""
    for first, last in _bounds(rows.shape):
        yield rows[first:last]


def _bounds(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    size = max(1, _NUMBERS // max(1, math.prod(shape[1:])))
    for first in range(0, shape[0], size):
        yield first, min(first + size, shape[0])


def extremes(rows: _Sized) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each element, float64; gaps (NaN) are left out."""
    low = torch.full(rows.shape[1:], torch.inf, dtype=torch.float64)
    high = torch.full(rows.shape[1:], -torch.inf, dtype=torch.float64)
    for part in parts_of(rows):
        gap = part.isnan()
        # In place: a new small tensor behind each large one would keep the memory of all of them.
        torch.minimum(low, torch.where(gap, torch.inf, part).amin(0), out=low)
        torch.maximum(high, torch.where(gap, -torch.inf, part).amax(0), out=high)
    return low, high


def moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each element of rows that come in parts (n, *D); they are merged pair by pair.

    References
    ----------
    Tony Chan, Gene Golub, Randall LeVeque. Updating formulae and a pairwise algorithm for computing sample variances. 1979.
    """
    count, mean, variance = 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        n, part_mean, part_variance = len(part), part.mean(0), part.var(0, correction=0)
        if not count:
            count, mean, variance = n, part_mean, part_variance
            continue
        share, difference = n / (count + n), part_mean - mean
        mean = mean + share * difference
        variance = (1 - share) * variance + share * part_variance + share * (1 - share) * difference**2
        count += n
    return mean, variance
