"""Two-sample metrics: distances between laws that need only samples, and a classifier test.

================================  ==============  =====================================  =======================================
figure                            equal laws      unit                                   95 % interval
================================  ==============  =====================================  =======================================
``c2st``                          0.5             share of right answers                 normal, corrected for shared folds
``mmd``                           0 on average    none: kernels lie in [0, 1]            jackknife
``energy_distance``               0 on average    that of the rows                       jackknife
``sliced_wasserstein``            above 0         that of the rows                       delta method
``wasserstein_columns``           above 0         that of the column                     delta method
================================  ==============  =====================================  =======================================

Each has a test of equal laws, exact at every number of rows: that of :mod:`~pushforward.metrics.classifier` for ``c2st``, a
permutation test (:mod:`~pushforward.metrics.relabel`) for the others. ``test=False`` leaves it out.

The Wasserstein distances of two finite sets are above 0 even for equal laws, and fall as rows are added; the interval is for
the distance at this number of rows. Compare with the same distance between two sets of real rows: the noise floor.

References
----------
David Lopez-Paz, Maxime Oquab. Revisiting classifier two-sample tests. ICLR 2017. https://arxiv.org/abs/1610.06545
Arthur Gretton, Karsten Borgwardt, Malte Rasch, Bernhard Schölkopf, Alexander Smola. A kernel two-sample test. JMLR 2012.
Gábor Székely, Maria Rizzo. Energy statistics: a class of statistics based on distances. 2013.
Nicolas Bonneel, Julien Rabin, Gabriel Peyré, Hanspeter Pfister. Sliced and Radon Wasserstein barycenters of measures. 2015.
Eustasio del Barrio, Jean-Michel Loubes. Central limit theorems for empirical transportation cost in general dimension. 2019.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pushforward.metrics.arrays import Rows, pair, subset
from pushforward.metrics.classifier import cross_validated_accuracy
from pushforward.metrics.discrepancy import discrepancy
from pushforward.metrics.measure import NORMAL_95, Measure, two_sample_error
from pushforward.metrics.relabel import BlockSwaps, chance, pair_words, unpacked

__all__ = ["c2st", "energy_distance", "mmd", "sliced_wasserstein", "wasserstein_columns"]

_MOST = 3_000
_MOST_JUDGED, _MOST_NUMBERS = 5_000, 2_000_000
_MOST_TESTED, _TESTED_NUMBERS, _LEAST_PROJECTIONS = 2_000, 4_000, 4  # rows, rows times directions that relabelings sort
_POINTS = 256  # values of a column between which relabelings compare distribution functions
_Float = NDArray[np.float64]


def c2st(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, folds: int = 5, test: bool = True) -> Measure:
    """Return the accuracy of a classifier that tells samples P from reference rows Q: 0.5 if it cannot, 1 if it always can.

    Taken on equally many of both, chosen by ``seed``: at most 5,000, and fewer of more than 400 columns (2,551 of 784). See
    :mod:`~pushforward.metrics.classifier` for the classifier, the interval and the p-value of equal laws, which is exact
    despite cross-validation.

    Samples that are copies of reference rows give *less* than 0.5: if one row of a pair is in the training folds, its twin in
    the test fold gets the wrong label. Compare samples with held-out rows.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    seed : int
        Of folds, rows and classifier.
    folds : int
        At least 2.
    test : bool
        Whether to test.

    Raises
    ------
    ValueError
        If either has fewer than 2 rows per fold, or as :func:`~pushforward.metrics.arrays.pair`.

    >>> rows = np.random.default_rng(0).normal(size=(2, 200, 2))
    >>> c2st(rows[0] + [2.0, 0.0], rows[1]).value > 0.8  # 0.84 for the best classifier
    True
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, but is {folds}")
    P, Q = pair(P, Q, least=2 * folds)
    generator = np.random.default_rng(seed)
    n = min(len(P), len(Q), _MOST_JUDGED, max(1_000, _MOST_NUMBERS // P.shape[1]))
    return cross_validated_accuracy(subset(P, n, generator), subset(Q, n, generator), folds=folds, seed=seed, test=test)


def mmd(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True) -> Measure:
    """Return the squared maximum mean discrepancy without bias, under a Gaussian kernel, with a permutation p-value.

    The kernel is exp(-|a - b|^2 / (2 s^2)) with s the median distance of two of all rows (of 1,000 of them). Taken on at most
    3,000 rows of either, chosen by ``seed``. Not rooted, so that it is 0 on average for equal laws; it may be negative.

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

    >>> rows = np.random.default_rng(0).normal(size=(2, 100, 2))
    >>> mmd(rows[0], rows[1]).p_value > 0.05, mmd(rows[0] + 1, rows[1]).p_value < 0.001
    (True, True)
    """
    P, Q, generator = _at_most(P, Q, seed)
    pooled = torch.from_numpy(subset(np.concatenate([P, Q]), 1_000, generator))
    squares = torch.pdist(pooled) ** 2
    scale = squares.median() if bool(squares.median() > 0) else squares.mean()
    if not bool(scale > 0):
        equal = Measure.exact(0.0, min(len(P), len(Q)))
        return equal.tested(1.0, "above") if test else equal

    def gaussian(a: Tensor, b: Tensor) -> Tensor:
        return _squared_distances(a, b).div_(-2 * scale).exp_()

    return discrepancy(P, Q, gaussian, test=test, seed=seed)


def energy_distance(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True) -> Measure:
    """Return the energy distance 2 E|p - q| - E|p - p'| - E|q - q'| without bias, with a permutation p-value.

    0 only for equal laws; in the units of the rows. Taken on at most 3,000 rows of either, chosen by ``seed``. Not
    rooted, so that it is 0 on average for equal laws; it may be negative.

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

    >>> rows = np.random.default_rng(0).normal(size=(2, 2000, 1))
    >>> result = energy_distance(rows[0] + 1, rows[1])  # 0.5316 for N(1, 1) and N(0, 1)
    >>> result.low < 0.5316 < result.high
    True
    """
    P, Q, _ = _at_most(P, Q, seed)
    return discrepancy(P, Q, lambda a, b: _squared_distances(a, b).sqrt_().neg_(), test=test, seed=seed)


def sliced_wasserstein(P: ArrayLike, Q: ArrayLike, *, seed: int = 0, projections: int = 200, test: bool = True) -> Measure:
    """Return the sliced 2-Wasserstein distance: the root of the mean of W_2^2 of the rows along many directions.

    All rows are used. Directions come in orthogonal sets of D, so that a shift by d gives exactly |d| / sqrt(D) if D is at most
    ``projections``. The interval is for these directions, which ``seed`` fixes. The test takes at most 2,000 rows of either,
    and the first directions, 4,000 over the number of rows and at least 4. 50,000 rows of 784 against as many take seconds.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    seed : int
        Of the directions and of the relabelings of the test.
    projections : int
        Least number of directions: of these if D is at least as many, otherwise whole orthogonal sets.
    test : bool
        Whether to test.

    Errors are those of :func:`~pushforward.metrics.arrays.pair`.

    >>> rows = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(sliced_wasserstein(rows + [3.0, 4.0], rows).value, 6) == round(5 / 2**0.5, 6)
    True
    """
    if projections < 1:
        raise ValueError(f"projections must be at least 1, but is {projections}")
    P, Q = pair(P, Q)
    directions = _directions(P.shape[1], projections, np.random.default_rng(seed)).astype(P.dtype)
    of_p, of_q = np.zeros(len(P)), np.zeros(len(Q))
    total, chunk = 0.0, max(1, (1 << 24) // (len(P) + len(Q)))
    for part in np.split(directions, range(chunk, len(directions), chunk)):
        squared, potential_p, potential_q = _transport(P @ part.T, Q @ part.T)
        total += float(squared.sum())
        of_p += potential_p.sum(axis=1)
        of_q += potential_q.sum(axis=1)
    value = total / len(directions)
    half = NORMAL_95 * two_sample_error(of_p / len(directions), of_q / len(directions))
    low, high = max(0.0, value - half), value + half
    measure = Measure(value**0.5, low**0.5, high**0.5, min(len(P), len(Q)))
    return measure.tested(*chance(_relabeled_transport(P, Q, directions, seed))[0]) if test else measure


def wasserstein_columns(
    P: ArrayLike, Q: ArrayLike, *, seed: int = 0, test: bool = True, jointly: bool = False
) -> list[Measure]:
    """Return the 1-Wasserstein distance of each column, in its units: the area between the two distribution functions.

    All rows are used.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    seed : int
        Of the relabelings. Their distances take the distribution functions at 256 values of the column, or at all if they are
        fewer.
    test : bool
        Whether to test.
    jointly : bool
        Whether the p-values are corrected for the number of columns, for those who look at the largest distances alone: each is
        that of the largest distance among all columns, each in units of its own spread.

    Errors are those of :func:`~pushforward.metrics.arrays.pair`.

    >>> [column.value for column in wasserstein_columns([[0.0, 1.0], [1.0, 2.0]], [[0.0, 4.0], [1.0, 5.0]])]
    [0.0, 3.0]
    """
    P, Q = (rows.astype(np.float64) for rows in pair(P, Q))
    measures = [_column(p, q) for p, q in zip(P.T, Q.T, strict=True)]
    if not test:
        return measures
    draws = _relabeled_columns(np.concatenate([P, Q]), BlockSwaps.draw(len(P), len(Q), seed), len(P))
    results = chance(_standardized(draws) if jointly else draws, jointly=jointly)
    return [measure.tested(*result) for measure, result in zip(measures, results, strict=True)]


def _at_most(P: ArrayLike, Q: ArrayLike, seed: int) -> tuple[Rows, Rows, np.random.Generator]:
    P, Q = pair(P, Q, least=3)
    generator = np.random.default_rng(seed)
    P, Q = subset(P, _MOST, generator), subset(Q, _MOST, generator)
    center = Q.mean(axis=0)
    return P - center, Q - center, generator


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    squares: Tensor = torch.addmm((b**2).sum(1), a, b.T, alpha=-2).add_((a**2).sum(1, keepdim=True)).clamp_(min=0)
    return squares


def _directions(dim: int, least: int, generator: np.random.Generator) -> _Float:
    """Return unit vectors (L, dim) in orthogonal sets of ``dim``; a single set is cut to ``least``."""
    if dim == 1:
        return np.ones((1, 1))
    sets = -(-least // dim)
    width = min(dim, least) if sets == 1 else dim
    return np.concatenate([np.linalg.qr(generator.normal(size=(dim, width)))[0].T for _ in range(sets)])


def _transport(p: Rows, q: Rows) -> tuple[_Float, _Float, _Float]:
    r"""Return W_2^2 of each column of p (n, L) and q (m, L), (L,), and its derivative by the mass at each point of p and of q.

    The derivative is the potential of Kantorovich, phi(x) with phi'(x) = 2 (x - T(x)) and T the map of the quantiles.
    """
    order_p, order_q = p.argsort(axis=0), q.argsort(axis=0)
    sorted_p = np.take_along_axis(p, order_p, axis=0).astype(np.float64)
    sorted_q = np.take_along_axis(q, order_q, axis=0).astype(np.float64)
    n, m = len(p), len(q)
    # Between two levels of this grid both quantile functions are constant. Whole numbers, so that equal levels are equal.
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(levels, prepend=0) / (n * m)
    i, j = (levels - 1) // m, (levels - 1) // n
    squared = weights @ (sorted_p[i] - sorted_q[j]) ** 2
    ends_p, ends_q = np.searchsorted(levels, np.arange(n) * m + 1), np.searchsorted(levels, np.arange(m) * n + 1)
    to_q = np.add.reduceat(weights[:, None] * sorted_q[j], ends_p, axis=0) * n
    to_p = np.add.reduceat(weights[:, None] * sorted_p[i], ends_q, axis=0) * m
    return squared, _potential(sorted_p, to_q, order_p), _potential(sorted_q, to_p, order_q)


def _potential(x: _Float, image: _Float, order: NDArray[np.intp]) -> _Float:
    slope = x - image
    steps = np.diff(x, axis=0) * (slope[1:] + slope[:-1])
    rising = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(steps, axis=0)])
    potential = np.empty_like(rising)
    np.put_along_axis(potential, order, rising, axis=0)
    return potential


def _column(p: _Float, q: _Float) -> Measure:
    points = np.union1d(p, q)
    below_p, below_q = (np.searchsorted(np.sort(rows), points, side="right") / len(rows) for rows in (p, q))
    gap = below_p - below_q
    widths = np.diff(points)
    value = float(np.abs(gap[:-1]) @ widths)
    # Moving mass from one point to another changes the area by the integral of the sign of the gap between them.
    potential = np.concatenate([[0.0], np.cumsum(np.sign(gap[:-1]) * widths)])
    error = two_sample_error(potential[np.searchsorted(points, p)], potential[np.searchsorted(points, q)])
    return Measure.normal(value, error, min(len(p), len(q)), least=0.0)


def _relabeled_columns(pooled: _Float, swaps: BlockSwaps, m: int) -> Iterator[_Float]:
    """Yield the area between the distribution functions of each pooled column for the relabelings, (D, C)."""
    columns = []
    for column in pooled.T:
        points = np.unique(column)
        points = points[np.linspace(0, len(points) - 1, min(len(points), _POINTS)).round().astype(int)]
        columns.append((swaps.sums(column[:, None] <= points[:-1]), np.diff(points)))
    for member in swaps.chunks():
        areas = []
        for below, widths in columns:
            of_p = member.T @ below
            areas.append(np.abs(of_p / m - (below.sum(axis=0) - of_p) / (len(pooled) - m)) @ widths)
        yield np.stack(areas)


def _standardized(chunks: Iterator[_Float]) -> Iterator[_Float]:
    """Yield figures in units of their own spread, which those of the first relabelings give; these are not yielded."""
    first = next(chunks)
    others = first[:, 1:]
    center, spread = others.mean(axis=1, keepdims=True), others.std(axis=1, keepdims=True)
    for chunk in itertools.chain([first[:, :1]], chunks):
        yield (chunk - center) / np.where(spread > 0, spread, 1.0)


def _relabeled_transport(P: Rows, Q: Rows, directions: Rows, seed: int) -> Iterator[_Float]:
    """Yield the sum of W_2^2 along the first directions for relabelings of equally many rows, (1, C)."""
    generator = np.random.default_rng([seed, 3])
    n = min(len(P), len(Q), _MOST_TESTED)
    P, Q = (rows[generator.permutation(len(rows))[:n]] for rows in (P, Q))
    directions = directions[: max(_LEAST_PROJECTIONS, _TESTED_NUMBERS // n)]
    projected = [
        (np.ascontiguousarray(p), np.ascontiguousarray(q)) for p, q in zip(directions @ P.T, directions @ Q.T, strict=True)
    ]
    for words in np.split(pair_words(n, seed)[:n], range(4, 32, 4), axis=1):
        stays = np.ascontiguousarray(unpacked(words).T).view(bool)
        total = np.zeros(len(stays))
        for p, q in projected:
            ordered = [np.sort(np.where(stays, *ends), axis=1) for ends in ((p, q), (q, p))]
            total += ((ordered[0] - ordered[1]) ** 2).sum(axis=1)
        yield total[None]
