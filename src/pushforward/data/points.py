"""Sets of points of different sizes, in one list.

Inside the library they are one array (N, P, D) with P the largest size, and NaN in the points that a smaller set lacks.
"""

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch

__all__ = ["PointSets", "absent_points"]


class PointSets(list[np.ndarray]):
    """A list of sets, each an array (P_i, D) of points, which can be indexed by arrays of numbers too.

    Parameters
    ----------
    sets : iterable of arrays (P_i, D)
    names : sequence of str, optional
        Names of the D coordinates.

    >>> sets = PointSets([np.zeros((3, 2)), np.ones((1, 2))])
    >>> len(sets), sets.shape, sets[np.array([1])].sizes.tolist()
    (2, (2, 3, 2), [1])
    """

    def __init__(self, sets: Iterable[Any] = (), names: Sequence[str] | None = None) -> None:
        super().__init__(np.asarray(points) for points in sets)
        self.names = None if names is None else tuple(names)

    @classmethod
    def of(cls, values: Any, name: str = "X") -> "PointSets":
        """Return sets from a sequence of arrays, tensors or nested lists, all (P_i, D) with one D.

        Raises
        ------
        ValueError
            If a set is not (P_i, D), has no points, has another D than the first, or holds no numbers.
        """
        if isinstance(values, PointSets):
            sets = values
        else:
            sets = cls(part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part for part in values)
        for index, points in enumerate(sets):
            if points.ndim != 2 or 0 in points.shape or points.dtype.kind not in "biuf":
                raise ValueError(
                    f"{name}: set {index} has shape {points.shape} and dtype {points.dtype}; a set of points is an array (P, "
                    "D) of numbers with at least one point, one line per point."
                )
            if points.shape[1] != sets[0].shape[1]:
                raise ValueError(
                    f"{name}: set {index} has points of {points.shape[1]} coordinates, but set 0 of {sets[0].shape[1]}; keep "
                    "the same coordinates in all."
                )
        if not len(sets):
            raise ValueError(f"{name} has 0 sets; a minimum of 1 is required.")
        return sets

    @property
    def sizes(self) -> np.ndarray:
        """Number of points of each set, (N,)."""
        return np.array([len(points) for points in self], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of :meth:`padded`, with at least one set."""
        return len(self), int(self.sizes.max()), int(self[0].shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that holds the numbers of all sets."""
        return np.result_type(*(points.dtype for points in self))

    def padded(self, points: int | None = None, dtype: Any = np.float64) -> np.ndarray:
        """Return one array (N, P, D) of floats, NaN in absent points; P is ``points`` or the largest size."""
        count, most, width = self.shape
        array = np.full((count, points or most, width), np.nan, dtype=dtype)
        for row, part in zip(array, self, strict=True):
            row[: len(part)] = part
        return array

    @overload  # type: ignore[override]
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | torch.Tensor | None) -> "PointSets": ...
    def __getitem__(self, index: Any) -> Any:
        """Return one set, or the sets of a slice, of an array of numbers, or of a mask."""
        if isinstance(index, int | np.integer):
            return super().__getitem__(int(index))
        numbers = np.arange(len(self))[index]
        return PointSets([super(PointSets, self).__getitem__(int(number)) for number in numbers], self.names)

    def __add__(self, other: Any) -> "PointSets":  # type: ignore[override]
        """Return the sets of both."""
        return PointSets([*self, *other], self.names)


def absent_points(rows: torch.Tensor) -> torch.Tensor:
    """Return which points of sets (N, P, D) are absent, (N, P): those that are NaN in every coordinate."""
    return rows.isnan().all(2)
