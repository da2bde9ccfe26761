r"""The unbiased squared kernel discrepancy of two laws, with its interval and a permutation test.

For a symmetric kernel k, samples p_1..p_m and reference rows q_1..q_n,

    U = mean_{i != j} k(p_i, p_j) + mean_{i != j} k(q_i, q_j) - 2 mean_{i, j} k(p_i, q_j),

whose mean is 0 for equal laws: it may be negative. With k(a, b) = exp(-|a - b|^2 / (2 s^2)) it is the squared maximum mean
discrepancy, with k(a, b) = -|a - b| the energy distance, with k(a, b) = (a . b / D + 1)^3 the kernel distance of features.

The 95 % interval is U +- 1.96 standard errors by the jackknife over the rows of both sets. On average this standard error is at
least the true one (Efron and Stein), for equal laws about sqrt(2) times as large. There U is skewed: with 60 rows the interval
held the truth in 92 % of draws. The p-value is that of the permutation test (see :mod:`~pushforward.metrics.relabel`), whose
relabelings swap blocks of rows: the sums of k between blocks are taken once, and give U for all relabelings.

References
----------
Arthur Gretton, Karsten Borgwardt, Malte Rasch, Bernhard Schölkopf, Alexander Smola. A kernel two-sample test. JMLR 2012.
Bradley Efron, Charles Stein. The jackknife estimate of variance. Annals of Statistics, 1981.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pushforward.metrics.arrays import Rows
from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import BlockSwaps, chance

__all__ = ["Kernel", "discrepancy"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Rows (b, D) and (N, D) to the kernel of each pair, (b, N)."""

_NUMBERS = 1 << 24


def discrepancy(P: Rows, Q: Rows, kernel: Kernel, *, test: bool = True, seed: int = 0) -> Measure:
    """Return the unbiased squared discrepancy with its interval and, if ``test``, the p-value of equal laws.

    Parameters
    ----------
    P, Q : array (m, D), (n, D)
        At least 3 rows each.
    kernel : callable
        Must treat all rows alike: no number that it takes from the data may depend on which rows are samples.
    test : bool
    seed : int
        Of the relabelings.

    >>> result = discrepancy(np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [2.0]]), lambda a, b: a @ b.T)
    >>> round(result.value, 6)  # (mean p - mean q)^2 = 0, less the variances over n
    -0.666667
    """
    m, n = len(P), len(Q)
    swaps = BlockSwaps.draw(m, n, seed) if test else BlockSwaps.draw(m, n, seed, draws=0)
    to_blocks, diagonal = _sums(torch.from_numpy(np.concatenate([P, Q])), kernel, swaps)
    to_samples, to_all = to_blocks[:, swaps.member[:, 0]].sum(axis=1), to_blocks.sum(axis=1)
    to_rows = to_all - to_samples
    own = np.concatenate([to_samples[:m], to_rows[m:]]) - diagonal
    value, error = _jackknife(own[:m], own[m:], to_rows[:m], to_samples[m:])
    measure = Measure.normal(value, error, min(m, n))
    return measure.tested(*chance(_values(swaps, m, to_blocks, diagonal))[0]) if test else measure


def _sums(pooled: Tensor, kernel: Kernel, swaps: BlockSwaps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sums of the kernel of each row with the rows of each block (N, K), and the kernel of it with itself (N,)."""
    total, order = len(pooled), np.argsort(swaps.block, kind="stable")
    block, starts = np.unique(swaps.block[order], return_index=True)
    by_block = pooled[torch.from_numpy(order)]
    to_blocks, diagonal = np.zeros((total, len(swaps.member))), np.empty(total)
    size = max(1, _NUMBERS // total)
    for start in range(0, total, size):
        rows = order[start : start + size]
        between = kernel(by_block[start : start + size], by_block)
        diagonal[rows] = between.diagonal(start).double().numpy()
        to_blocks[rows[:, None], block] = np.add.reduceat(between.numpy(), starts, axis=1)
    return to_blocks, diagonal


def _values(
    swaps: BlockSwaps, m: int, to_blocks: NDArray[np.float64], diagonal: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield U for the relabelings, (1, C)."""
    n = len(diagonal) - m
    sums, of_diagonal = swaps.sums(to_blocks), swaps.sums(diagonal[:, None])[:, 0]
    for member in swaps.chunks():
        own = of_diagonal @ member
        within = (member * (sums @ member)).sum(axis=0)
        cross = sums.sum(axis=1) @ member - within
        rest = sums.sum() - within - 2 * cross
        of_samples, of_rows = (within - own) / (m * (m - 1)), (rest - (diagonal.sum() - own)) / (n * (n - 1))
        yield (of_samples + of_rows - 2 * cross / (m * n))[None]


def _jackknife(pp: np.ndarray, qq: np.ndarray, pq: np.ndarray, qp: np.ndarray) -> tuple[float, float]:
    """Return U and its standard error from each row's sums of the kernel over its own set, itself left out, and the other."""
    m, n = len(pp), len(qq)
    P, Q, C = pp.sum(), qq.sum(), pq.sum()
    value = P / (m * (m - 1)) + Q / (n * (n - 1)) - 2 * C / (m * n)
    without_p = (P - 2 * pp) / ((m - 1) * (m - 2)) - 2 * (C - pq) / ((m - 1) * n)
    without_q = (Q - 2 * qq) / ((n - 1) * (n - 2)) - 2 * (C - qp) / (m * (n - 1))
    variance = (m - 1) * without_p.var() + (n - 1) * without_q.var()
    return float(value), float(np.sqrt(variance))
