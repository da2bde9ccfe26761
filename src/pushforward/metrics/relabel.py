r"""Permutation tests: a figure beside those that chance gives when it decides which rows count as samples.

Let samples P (m, D) and reference rows Q (n, D) be independent draws of one law. Pair min(m, n) of both at random, and let a
fair coin decide for each pair whether its rows change places. The figure of the true sets and the figures of B such relabelings
are exchangeable, so

    p_above = (1 + number of relabelings whose figure is at least as large) / (1 + B)

is at most u with probability at most u, for every law, figure and number of rows; p_below likewise. Twice the smaller one is
the p-value of two sides. It needs nothing but exchangeable rows: the figure may be biased or skewed, or taken from a part of
the rows.

Kernels, moments and counts are functions of sums over rows. They swap 64 blocks of pairs, whose sums are taken once, so that a
relabeling costs as much for a million rows as for a hundred. Neighbors and quantiles depend on the label of each row, and swap
single pairs; 64 relabelings are the bits of one word.

References
----------
Erich Lehmann, Joseph Romano. Testing Statistical Hypotheses. 2005, chapter 15.2 (any group of exchanges gives an exact test).
Belinda Phipson, Gordon Smyth. Permutation p-values should never be zero. 2010.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pushforward.metrics.measure import Side

__all__ = ["BlockSwaps", "chance", "pair_words", "two_sided", "unpacked"]

_WORDS = 32  # 2,047 relabelings of single rows
_BLOCKS, _BLOCK_DRAWS = 64, 8_191
_ROUNDING = 1e-9  # of the largest figure: figures that differ by less are equal


@dataclass(frozen=True, eq=False)
class BlockSwaps:
    """Relabelings of m samples and n rows that swap blocks of equally many of either.

    Attributes
    ----------
    block : array (m + n,)
        Number of the block of each row, samples first.
    member : array (K, 1 + B)
        1 where the rows of a block count as samples, else 0; the first column is the truth.
    """

    block: NDArray[np.int64]
    member: NDArray[np.float64]

    @classmethod
    def draw(cls, m: int, n: int, seed: int, draws: int = _BLOCK_DRAWS) -> "BlockSwaps":
        """Draw the relabelings; ``draws`` = 0 gives the truth alone, in two blocks.

        >>> swaps = BlockSwaps.draw(3, 2, seed=0, draws=5)
        >>> (swaps.member[swaps.block].sum(axis=0) == 3).all()
        True
        """
        if not draws:
            return cls(np.repeat([0, 1], [m, n]), np.array([[1.0], [0.0]]))
        generator, pairs = np.random.default_rng([seed, 1]), min(m, n)
        count = min(_BLOCKS, pairs)
        number = np.arange(pairs) * count // pairs
        block = np.full(m + n, 2 * count)  # the rows that have no partner stay where they are
        block[generator.permutation(m)[:pairs]] = number
        block[m + generator.permutation(n)[:pairs]] = count + number
        swap = generator.integers(0, 2, (count, 1 + draws)).astype(np.float64)
        swap[:, 0] = 0
        return cls(block, np.concatenate([1 - swap, swap, np.full((1, 1 + draws), float(m > n))]))

    def hot(self, dtype: type | np.dtype = np.float64) -> NDArray[np.floating]:
        """Return the indicators of the blocks, (m + n, K)."""
        return np.asarray(self.block[:, None] == np.arange(len(self.member)), dtype=dtype)

    def sums(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sums of pooled rows (m + n, F) over each block, (K, F)."""
        return self.hot().T @ rows


def pair_words(n: int, seed: int, words: int = _WORDS) -> NDArray[np.uint64]:
    """Return for n samples and then n rows whether each counts as a sample, (2 n, words): each bit of a word is a relabeling.

    The lowest bit of the first word is the truth. Row i of either set is a pair, so put the rows into random order first.

    >>> unpacked(pair_words(2, seed=0))[:, 0].tolist()
    [1, 1, 0, 0]
    """
    swap = np.random.default_rng([seed, 2]).integers(0, 2**64, (n, words), dtype=np.uint64)
    swap[:, 0] &= ~np.uint64(1)
    return np.concatenate([~swap, swap])


def unpacked(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return the bits of words (..., W) as 0 and 1, (..., 64 W)."""
    return np.unpackbits(np.ascontiguousarray(words, dtype="<u8").view(np.uint8), axis=-1, bitorder="little")


def chance(draws: NDArray[np.floating]) -> tuple[float, Side]:
    """Return the p-value of two sides of the first of exchangeable figures (1 + B,), and the side on which it lies.

    >>> chance(np.array([3.0, 1.0, 2.0, 2.5, 0.0]))
    (0.4, 'above')
    """
    slack = _ROUNDING * float(np.abs(draws).max())
    above, below = float((draws >= draws[0] - slack).mean()), float((draws <= draws[0] + slack).mean())
    return two_sided(above, below)


def two_sided(above: float, below: float) -> tuple[float, Side]:
    """Return twice the smaller of two one-sided p-values, at most 1, and its side."""
    return min(1.0, 2 * min(above, below)), "above" if above <= below else "below"
