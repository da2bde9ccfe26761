r"""The unbiased squared kernel discrepancy of two laws, with its interval and a permutation test.

For a symmetric kernel k, samples p_1..p_m and reference rows q_1..q_n,

    U = mean_{i != j} k(p_i, p_j) + mean_{i != j} k(q_i, q_j) - 2 mean_{i, j} k(p_i, q_j),

whose mean is 0 for equal laws: it may be negative. With k(a, b) = exp(-|a - b|^2 / (2 s^2)) it is the squared maximum mean
discrepancy, with k(a, b) = -|a - b| the energy distance, with k(a, b) = (a . b / D + 1)^3 the kernel distance of features.

The 95 % interval is U +- 1.96 standard errors by the jackknife over the rows of both sets. On average this standard error is at
least the true one (Efron and Stein), for equal laws about sqrt(2) times as large. There U is skewed: with 60 rows the interval
held the truth in 92 % of draws. The p-value is that of the permutation test, which draws anew which rows count as samples:
p = (1 + number of permutations with U at least as large) / (1 + permutations), which is exact.

Sums of k are taken in blocks of rows, for all permutations in one matrix product.

References
----------
Arthur Gretton, Karsten Borgwardt, Malte Rasch, Bernhard Schölkopf, Alexander Smola. A kernel two-sample test. JMLR 2012.
Bradley Efron, Charles Stein. The jackknife estimate of variance. Annals of Statistics, 1981.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pushforward.metrics.arrays import Rows
from pushforward.metrics.measure import Measure

__all__ = ["Kernel", "discrepancy"]

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Rows (b, D) and (N, D) to the kernel of each pair, (b, N)."""

_NUMBERS = 1 << 24


def discrepancy(P: Rows, Q: Rows, kernel: Kernel, *, permutations: int = 0, seed: int = 0) -> Measure:
    """Return the unbiased squared discrepancy with its interval and, if there are permutations, the p-value of equal laws.

    Parameters
    ----------
    P, Q : array (m, D), (n, D)
        At least 3 rows each.
    kernel : callable
        Must treat all rows alike: no number that it takes from the data may depend on which rows are samples.
    permutations : int
    seed : int
        Of the permutations.

    >>> result = discrepancy(np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [2.0]]), lambda a, b: a @ b.T)
    >>> round(result.value, 6)  # (mean p - mean q)^2 = 0, less the variances over n
    -0.666667
    """
    pooled = torch.from_numpy(np.concatenate([P, Q]))
    m, total = len(P), len(P) + len(Q)
    member = _members(m, total, permutations, seed)
    to_samples, to_all, diagonal = _sums(pooled, kernel, member)
    first = torch.arange(total) < m
    own = torch.where(first, to_samples[:, 0], to_all - to_samples[:, 0]) - diagonal
    other = torch.where(first, to_all - to_samples[:, 0], to_samples[:, 0])
    value, error = _jackknife(own[:m].numpy(), own[m:].numpy(), other[:m].numpy(), other[m:].numpy())
    p_value = None
    if permutations:
        draws = _values(member, to_samples, to_all, diagonal)
        p_value = (1 + int((draws[1:] >= draws[0] - 1e-12 * draws[0].abs()).sum())) / (1 + permutations)
    return Measure.normal(value, error, min(m, total - m), p_value=p_value)


def _members(m: int, total: int, permutations: int, seed: int) -> Tensor:
    """Return indicators (total, 1 + permutations) of the m rows that count as samples; the first column is the truth."""
    generator = np.random.default_rng(seed)
    member = np.zeros((total, 1 + permutations))
    member[:m, 0] = 1
    for column in range(1, 1 + permutations):
        member[generator.choice(total, m, replace=False), column] = 1
    return torch.from_numpy(member)


def _sums(pooled: Tensor, kernel: Kernel, member: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums of the kernel of each row with the members (N, 1 + B) and with all rows (N,), and with itself (N,)."""
    total = len(pooled)
    to_samples, to_all, diagonal = torch.empty_like(member), member.new_empty(total), member.new_empty(total)
    weights = member.to(pooled.dtype)
    size = max(1, _NUMBERS // total)
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        block = kernel(pooled[rows], pooled)
        to_samples[rows] = (block @ weights).double()
        to_all[rows] = block.sum(1, dtype=torch.float64)
        diagonal[rows] = block.diagonal(start).double()
    return to_samples, to_all, diagonal


def _values(member: Tensor, to_samples: Tensor, to_all: Tensor, diagonal: Tensor) -> Tensor:
    """Return U for each choice of members, (1 + B,)."""
    m, total = member[:, 0].sum(), len(member)
    n = total - m
    within = (member * to_samples).sum(0)
    cross = (member * to_all[:, None]).sum(0) - within
    rest = to_all.sum() - within - 2 * cross
    own = member.T @ diagonal
    return (within - own) / (m * (m - 1)) + (rest - (diagonal.sum() - own)) / (n * (n - 1)) - 2 * cross / (m * n)


def _jackknife(pp: np.ndarray, qq: np.ndarray, pq: np.ndarray, qp: np.ndarray) -> tuple[float, float]:
    """Return U and its standard error from each row's sums of the kernel over its own set, itself left out, and the other."""
    m, n = len(pp), len(qq)
    P, Q, C = pp.sum(), qq.sum(), pq.sum()
    value = P / (m * (m - 1)) + Q / (n * (n - 1)) - 2 * C / (m * n)
    without_p = (P - 2 * pp) / ((m - 1) * (m - 2)) - 2 * (C - pq) / ((m - 1) * n)
    without_q = (Q - 2 * qq) / ((n - 1) * (n - 2)) - 2 * (C - qp) / (m * (n - 1))
    variance = (m - 1) * without_p.var() + (n - 1) * without_q.var()
    return float(value), float(np.sqrt(variance))
