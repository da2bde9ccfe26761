r"""Precision, recall, density and coverage for each relabeling of samples and rows, from one list of neighbors of each row.

The pooled rows keep their neighbors whatever their labels are. The ball of a row holds the rows that stand in its list no
farther than the k-th row of its own set, so a relabeling needs no distance: it walks along the lists and counts. 64
relabelings are the bits of one word, and the counter of a list is k words, "at least i seen".

The lists hold 8 + 5 k neighbors. In a fair relabeling half of them are of the same set, so that one list in 30,000 ends before
its ball does. Where samples crowd around rows, the ball ends with the list. The tested figure then differs from the reported
one, but it is the same function of every relabeling, so the test stays exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pushforward.metrics.arrays import Rows
from pushforward.metrics.neighbors import nearest
from pushforward.metrics.relabel import pair_words, unpacked

__all__ = ["relabeled_density_coverage", "relabeled_precision_recall"]

_MOST = 2_000
_ROUNDING = 1 + 1e-6
_Words = NDArray[np.uint64]
_Indices = NDArray[np.int64]
_Draws = NDArray[np.float64]
_Of = Callable[["_Lists", NDArray[np.uint64], NDArray[np.uint64]], list[_Draws]]


def relabeled_precision_recall(P: Rows, Q: Rows, *, k: int, seed: int = 0) -> Iterator[_Draws]:
    """Yield precision and recall of equally many samples P and rows Q (n, D) and of their relabelings, (2, 64) at once.

    >>> rows = np.random.default_rng(0).normal(size=(2, 50, 2))
    >>> [chunk.shape for chunk in relabeled_precision_recall(rows[0], rows[1], k=3)][:2]
    [(2, 64), (2, 64)]
    """

    def of(lists: "_Lists", inside: _Words, sample: _Words) -> list[_Draws]:
        # Balls of the other set alone count, so that a sample is met by balls of rows and a row by balls of samples.
        met = np.bitwise_or.reduceat(inside.ravel()[lists.order], lists.starts)
        sample = sample[lists.owners]
        return [_counts(met & sample), _counts(met & ~sample)]

    return _relabeled(P, Q, k, seed, of)


def relabeled_density_coverage(P: Rows, Q: Rows, *, k: int, seed: int = 0) -> Iterator[_Draws]:
    """Yield density, up to a factor, and coverage, as :func:`relabeled_precision_recall`."""

    def of(lists: "_Lists", inside: _Words, sample: _Words) -> list[_Draws]:
        of_rows = inside & ~sample
        return [_sum_of_counts(of_rows), _counts(np.bitwise_or.reduce(of_rows, axis=0))]

    return _relabeled(P, Q, k, seed, of)


def _relabeled(P: Rows, Q: Rows, k: int, seed: int, of: _Of) -> Iterator[_Draws]:
    """Yield two figures of the relabelings, (2, 64) at once."""
    generator = np.random.default_rng([seed, 4])
    pooled = np.concatenate([rows[generator.permutation(len(rows))[:_MOST]] for rows in (P, Q)])
    # Equally near rows stand in the lists by their numbers, which must not tell the sets apart.
    order = generator.permutation(len(pooled))
    lists = _Lists.of(pooled[order], min(8 + 5 * k, len(pooled) - 1))
    for word in pair_words(len(pooled) // 2, seed).T:
        sample = word[order]
        yield np.stack(of(lists, lists.inside(sample, k), sample)) * (2 / len(pooled))


@dataclass(frozen=True, eq=False)
class _Lists:
    """Neighbors of N rows, nearest first.

    Attributes
    ----------
    index : array (K, N)
        Their numbers.
    first : array (K, N)
        The place in the list of the first neighbor that is as near.
    tied : bool
        Whether any two neighbors of a list are equally near.
    order, starts, owners : arrays
        The entries of all lists sorted by neighbor, where each neighbor begins, and its number.
    """

    index: _Indices
    first: _Indices
    tied: bool
    order: _Indices
    starts: _Indices
    owners: _Indices

    @classmethod
    def of(cls, rows: Rows, count: int) -> "_Lists":
        found = nearest(rows, rows, k=count, exclude_self=True)
        distances, index = np.ascontiguousarray(found[0].T), np.ascontiguousarray(found[1].T)
        first = np.zeros_like(index)
        for place in range(1, count):
            begins = np.take_along_axis(distances, first[place - 1][None], axis=0)[0]
            first[place] = np.where(distances[place] <= begins * _ROUNDING, first[place - 1], place)
        order = np.argsort(index.ravel(), kind="stable")
        owners, starts = np.unique(index.ravel()[order], return_index=True)
        tied = bool((first != np.arange(count)[:, None]).any())
        return cls(index, first, tied, order, starts, owners)

    def inside(self, sample: _Words, k: int) -> _Words:
        """Return whether each entry (K, N) is of the other set and in the ball of its list's row."""
        other = sample[self.index] ^ sample
        full = np.empty_like(other)  # the bits: k rows of the same set stand before this place
        seen = np.zeros((k, other.shape[1]), dtype=np.uint64)  # the bits of seen[i]: more than i rows of the same set so far
        for place in range(len(other)):
            full[place] = seen[-1]
            own = ~other[place]
            for i in range(k - 1, 0, -1):
                seen[i] |= seen[i - 1] & own
            seen[0] |= own
        if self.tied:
            full = np.take_along_axis(full, self.first, axis=0)
        return np.asarray(other & ~full)


def _sum_of_counts(words: _Words) -> _Draws:
    """Return for each bit the number of entries of words (K, N) that have it, (64,)."""
    planes: list[_Words] = []  # binary digits of the counts of each column, the lowest first
    for carry in words:
        for place, plane in enumerate(planes):
            planes[place], carry = plane ^ carry, plane & carry
        if carry.any():
            planes.append(carry)
    return np.asarray(np.sum([_counts(plane) * 2.0**place for place, plane in enumerate(planes)], axis=0))


def _counts(words: _Words) -> _Draws:
    """Return for each bit the number of words that have it, (64,)."""
    bits = unpacked(words[:, None])
    parts = [bits[start : start + 255].sum(axis=0, dtype=np.uint8) for start in range(0, len(bits), 255)]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64))
