r"""Precision, recall, density and coverage for each relabeling of samples and rows, from one list of neighbors of each row.

The pooled rows keep their neighbors whatever they are called. The ball of a row holds the rows that stand in its list no
farther than the k-th row of its own set, so a relabeling needs no distance: it walks along the lists and counts. 64
relabelings are the bits of one word, and the counter of a list is k words, "at least i seen".

A list must reach the k-th row of the same set in every relabeling and in truth. 56 neighbors suffice for k = 5 unless samples
crowd about rows, or many rows are equal; then the test takes 200 rows of either and lists of all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pushforward.metrics.arrays import Rows
from pushforward.metrics.neighbors import nearest
from pushforward.metrics.relabel import pair_words, unpacked

__all__ = ["relabeled_density_coverage", "relabeled_precision_recall"]

_MOST, _FEW = 2_000, 200
_ROUNDING = 1 + 1e-6
_ALL = ~np.uint64(0)
_Words = NDArray[np.uint64]
_Indices = NDArray[np.int64]
_Draws = NDArray[np.float64]


def relabeled_precision_recall(P: Rows, Q: Rows, *, k: int, seed: int = 0) -> tuple[_Draws, _Draws]:
    """Return precision and recall of equally many samples P and rows Q (n, D) and of their relabelings, (1 + B,) each.

    >>> rows = np.random.default_rng(0).normal(size=(2, 50, 2))
    >>> relabeled_precision_recall(rows[0], rows[1], k=3)[0].shape
    (2048,)
    """

    def of(lists: "_Lists", inside: _Words, sample: _Words) -> list[_Draws]:
        # Balls of the other set alone count, so that a sample is met by balls of rows and a row by balls of samples.
        met = np.bitwise_or.reduceat(inside.ravel()[lists.order], lists.starts)
        sample = sample[lists.owners]
        return [_counts(met & sample), _counts(met & ~sample)]

    precision, recall = _relabeled(P, Q, k, seed, of)
    return precision, recall


def relabeled_density_coverage(P: Rows, Q: Rows, *, k: int, seed: int = 0) -> tuple[_Draws, _Draws]:
    """Return density, up to a factor, and coverage, as :func:`relabeled_precision_recall`."""

    def of(lists: "_Lists", inside: _Words, sample: _Words) -> list[_Draws]:
        of_rows = inside & ~sample
        return [_sum_of_counts(of_rows), _counts(np.bitwise_or.reduce(of_rows, axis=0))]

    density, coverage = _relabeled(P, Q, k, seed, of)
    return density, coverage


def _relabeled(
    P: Rows, Q: Rows, k: int, seed: int, of: Callable[["_Lists", _Words, _Words], list[_Draws]]
) -> NDArray[np.float64]:
    """Return two figures of all relabelings, (2, 1 + B)."""
    generator = np.random.default_rng([seed, 4])
    orders = [generator.permutation(len(P)) for _ in range(2)]
    figures: list[list[_Draws]] = []
    for most, wanted in ((_MOST, 16 + 8 * k), (_FEW, 2 * _FEW)):
        pooled = np.concatenate([rows[order[:most]] for rows, order in zip((P, Q), orders, strict=True)])
        lists = _Lists.of(pooled, min(wanted, len(pooled) - 1))
        words, figures = pair_words(len(pooled) // 2, seed), []
        for sample in np.ascontiguousarray(words.T):
            inside = lists.inside(sample, k)
            if inside is None:
                break
            figures.append(of(lists, inside, sample))
        else:
            break
    return np.concatenate(figures, axis=1) / len(P)


@dataclass(frozen=True, eq=False)
class _Lists:
    """Neighbors of N rows, nearest first.

    Attributes
    ----------
    index : array (K, N)
        Their numbers.
    first : array (K, N)
        The place in the list of the first neighbor that is as near.
    order, starts, owners : arrays
        The entries of all lists sorted by neighbor, where each neighbor begins, and its number.
    """

    index: _Indices
    first: _Indices
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
        return cls(index, first, order, starts, owners)

    def inside(self, sample: _Words, k: int) -> _Words | None:
        """Return whether each entry (K, N) is of the other set and in the ball of its list's row; None for too short lists."""
        places, total = self.index.shape
        other = sample[self.index] ^ sample
        full = np.empty_like(other)  # the bits: k rows of the same set stand before this place
        seen = np.zeros((k, total), dtype=np.uint64)  # the bits of seen[i]: more than i rows of the same set so far
        for place in range(places):
            full[place] = seen[-1]
            own = ~other[place]
            for i in range(k - 1, 0, -1):
                seen[i] |= seen[i - 1] & own
            seen[0] |= own
        full = np.take_along_axis(full, self.first, axis=0)
        if places < total - 1 and (full[-1] != _ALL).any():
            return None
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
