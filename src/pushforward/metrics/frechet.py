r"""Distances between laws in a feature space: Fréchet's, of means and covariances, and a kernel's, of more than these.

The Fréchet distance is the squared 2-Wasserstein distance of the Gaussians with the means and covariances of either set,

    F = |a - b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2),

in squared units of the features. **It is biased**: above 0 for equal laws, by about (1/n + 1/m) v (D + D (D + 1) / 4) for D
features of equal variance v, so it falls as rows are added. Compare it only at equal n, and with its noise floor. The kernel
distance has no such bias. Neither means anything outside its space: never compare distances from two spaces.

Both have a permutation test (see :mod:`~pushforward.metrics.relabel`). That of the Fréchet distance takes its second order
about the pooled covariance C with eigenvalues l: in the eigenbasis of C, with D = A - B,

    F = |a - b|^2 + 1/2 sum_ij D_ij^2 / (l_i + l_j) + higher orders,

which is a function of sums over rows and needs no matrix root for each relabeling. The test is exact for this figure too.

References
----------
Martin Heusel, Hubert Ramsauer, Thomas Unterthiner, Bernhard Nessler, Sepp Hochreiter. GANs trained by a two time-scale update
rule converge to a local Nash equilibrium. 2017. https://arxiv.org/abs/1706.08500
Mikołaj Bińkowski, Danica Sutherland, Michael Arbel, Arthur Gretton. Demystifying MMD GANs. 2018. https://arxiv.org/abs/1801.01401
Min Jin Chong, David Forsyth. Effectively unbiased FID and inception score. 2020. https://arxiv.org/abs/1911.07023
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.arrays import pair, subset
from pushforward.metrics.discrepancy import discrepancy
from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.relabel import BlockSwaps, chance
from pushforward.probability import Gaussian

__all__ = ["frechet_distance", "kernel_distance"]

_MOST = 5_000
_FLOOR = 1e-10
_Float = NDArray[np.float64]


def frechet_distance(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True) -> Measure:
    """Return the Fréchet distance of samples P and reference rows Q, in squared units, of all rows in float64.

    The 95 % interval is normal with the standard error of the delta method (the derivative by the mass at a row x is
    |x - T(x)|^2 and lower terms, T the optimal map of the Gaussians). It is that of the biased figure at this number of rows.

    A covariance without full rank is widened by 1e-10 of the mean variance in each direction in which either set varies.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    seed : int
        Of the relabelings of the test.
    test : bool
        Whether to test.

    Errors are those of :func:`~pushforward.metrics.arrays.pair`.

    >>> rows = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(frechet_distance(rows + [3.0, 4.0], rows).value, 6)
    25.0
    """
    samples, rows = (part.astype(np.float64) for part in pair(P, Q))
    basis = _span(samples, rows)
    if not basis.shape[1]:
        equal = Measure.exact(0.0, min(len(samples), len(rows)))
        return equal.tested(1.0, "above") if test else equal
    center = rows.mean(axis=0)
    samples, rows = (samples - center) @ basis, (rows - center) @ basis
    scale = (samples.var(axis=0).mean() + rows.var(axis=0).mean()) / 2 or 1.0
    ridge = _FLOOR * scale * np.eye(basis.shape[1])
    A, B = np.atleast_2d(np.cov(samples.T)) + ridge, np.atleast_2d(np.cov(rows.T)) + ridge
    a, b = samples.mean(axis=0), rows.mean(axis=0)
    of_samples, of_rows = (Gaussian(torch.from_numpy(mean), torch.from_numpy(cov)) for mean, cov in ((a, A), (b, B)))
    value = float(of_samples.wasserstein(of_rows) ** 2)
    of_p = _potential(samples - a, a - b, _map(A, B))
    of_q = _potential(rows - b, b - a, _map(B, A))
    measure = Measure.normal(value, two_sample_error(of_p, of_q), min(len(samples), len(rows)), least=0.0)
    return measure.tested(*chance(_relabeled(samples, rows, seed))[0]) if test else measure


def kernel_distance(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True) -> Measure:
    """Return the kernel distance of samples P and reference rows Q: the squared discrepancy under (a . b / D + 1)^3, unbiased.

    Taken on at most 5,000 rows of either, chosen by ``seed``; 0 on average for equal laws, and it may be negative. The 95 %
    interval is that of the jackknife (see :mod:`~pushforward.metrics.discrepancy`). It depends on the origin and the
    scale of the features, which belong to the space.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    seed : int
        Of the rows and of the relabelings of the test.
    test : bool
        Whether to test.

    Raises
    ------
    ValueError
        If either has fewer than 3 rows, or as :func:`~pushforward.metrics.arrays.pair`.

    >>> rows = np.random.default_rng(0).normal(size=(2, 500, 1))
    >>> result = kernel_distance(rows[0], rows[1])
    >>> result.low < 0 < result.high
    True
    """
    generator = np.random.default_rng(seed)
    samples, rows = (subset(part.astype(np.float64), _MOST, generator) for part in pair(P, Q, least=3))
    width = samples.shape[1]
    return discrepancy(samples, rows, lambda x, y: (x @ y.T / width + 1) ** 3, test=test, seed=seed)


def _relabeled(P: _Float, Q: _Float, seed: int) -> Iterator[_Float]:
    """Yield the second order of the Fréchet distance for the relabelings, (1, C)."""
    m, n = len(P), len(Q)
    swaps, pooled = BlockSwaps.draw(m, n, seed), np.concatenate([P, Q])
    pooled = pooled - pooled.mean(axis=0)
    values, vectors = np.linalg.eigh(pooled.T @ pooled / len(pooled))
    kept = values > _FLOOR * values[-1]
    values, rows = values[kept], pooled @ vectors[:, kept]
    weight = 1 / np.sqrt(2 * (values[:, None] + values))
    members = [rows[swaps.block == k] for k in range(len(swaps.member))]
    sums = np.stack([np.concatenate([part.sum(axis=0), (weight * (part.T @ part)).ravel()]) for part in members])
    # The difference of the means over samples and rows is a weighted sum over blocks, so its square is a quadratic form.
    products = sums @ sums.T
    for member in swaps.chunks():
        weights = member * (1 / m + 1 / n) - 1 / n
        yield (weights * (products @ weights)).sum(axis=0)[None]


def _span(P: _Float, Q: _Float) -> _Float:
    """Orthonormal directions (D, R) in which P or Q vary, or differ in their means."""
    a, b = P.mean(axis=0), Q.mean(axis=0)
    scatter = (P - a).T @ (P - a) / len(P) + (Q - b).T @ (Q - b) / len(Q) + np.outer(a - b, a - b)
    values, vectors = np.linalg.eigh(scatter)
    directions: _Float = vectors[:, values > 1e-12 * values[-1]] if values[-1] > 0 else vectors[:, :0]
    return directions


def _map(A: _Float, B: _Float) -> _Float:
    """Return the matrix M of the optimal map of N(0, A) to N(0, B): A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2."""
    values, vectors = np.linalg.eigh(A)
    roots = np.sqrt(np.maximum(values, 0))
    root = vectors * roots @ vectors.T
    inner_values, inner = np.linalg.eigh(root @ B @ root)
    middle = inner * np.sqrt(np.maximum(inner_values, 0)) @ inner.T
    inverse = vectors / roots @ vectors.T
    optimal: _Float = inverse @ middle @ inverse
    return optimal


def _potential(centered: _Float, shift: _Float, M: _Float) -> _Float:
    """Return the derivative of F by the mass at each row (n,): (x - a)^T (I - M) (x - a) + 2 (a - b)^T (x - a)."""
    potential: _Float = np.einsum("nd,nd->n", centered - centered @ M, centered) + 2 * centered @ shift
    return potential
