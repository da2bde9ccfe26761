r"""Quality and variety apart: precision and recall, density and coverage of samples.

The region of a set of rows is the union of the balls around each row that reach to its k-th nearest neighbor in the set.

    precision   share of samples in the region of the reference rows           recall    share of reference rows in the region
                                                                                         of the samples
    density     mean number of balls of reference rows that a sample is in,    coverage  share of reference rows with a sample
                divided by k: 1 for equal laws                                           in their ball

Density and coverage put balls around reference rows alone, so an outlier among the samples does not make a region of its own.
A model that drops a mode loses recall and coverage, not precision; a model half of whose samples are noise loses precision and
density. All four depend on the number of rows: compare them only at the same n.

The 95 % intervals: given one of the two sets, the rows of the other are independent hits and misses, with Wilson's interval
of a share (the normal one for the density). The first set is random too and adds about as much variance, so the variance is
doubled; for repeated draws of Gaussians the standard deviation was 1.1 to 1.5 times that without doubling.

Each has a permutation test (:mod:`~pushforward.metrics.ball_relabel`). For equal laws coverage is
1 - prod_{i<=k} (n - i) / (2 n - i) on average, close to 1 - 2^-k, in every dimension.

References
----------
Tuomas Kynkäänniemi, Tero Karras, Samuli Laine, Jaakko Lehtinen, Timo Aila. Improved precision and recall metric for assessing
generative models. 2019. https://arxiv.org/abs/1904.06991
Muhammad Ferjad Naeem, Seong Joon Oh, Youngjung Uh, Yunjey Choi, Jaejun Yoo. Reliable fidelity and diversity metrics for
generative models. 2020. https://arxiv.org/abs/2002.09797
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.arrays import Rows, pair, subset
from pushforward.metrics.ball_relabel import relabeled_density_coverage, relabeled_precision_recall
from pushforward.metrics.measure import NORMAL_95, Measure
from pushforward.metrics.neighbors import nearest
from pushforward.metrics.relabel import chance

__all__ = ["density_coverage", "precision_recall"]

_MOST = 10_000
_NUMBERS = 1 << 24


def precision_recall(P: ArrayLike, Q: ArrayLike, *, k: int = 3, seed: int = 0, test: bool = True) -> tuple[Measure, Measure]:
    """Return precision and recall of samples P against reference rows Q, both in [0, 1].

    Taken on equally many of both, at most 10,000, chosen by ``seed``; their tests on at most 2,000 of either.

    Parameters
    ----------
    P, Q : array (n, ...) and (m, ...)
    k : int
        Neighbors that set the radius of a ball.
    seed : int
    test : bool
        Whether to test.

    Raises
    ------
    ValueError
        If either has k rows or fewer, or as :func:`~pushforward.metrics.arrays.pair`.

    >>> rows = np.random.default_rng(0).normal(size=(2, 500, 2))
    >>> left = rows[0][rows[0][:, 0] < 0]  # a model that covers half of the law
    >>> precision, recall = precision_recall(left, rows[1])
    >>> precision.value > 0.9, recall.value < 0.6
    (True, True)
    """
    P, Q = _equal(P, Q, k, seed)
    of_samples, of_rows = _radii(P, k), _radii(Q, k)
    precise, recalled = np.zeros(len(P), dtype=bool), np.zeros(len(Q), dtype=bool)
    for rows, squares in _blocks(P, Q):
        precise[rows] = (squares <= of_rows).any(1)
        recalled |= (squares <= of_samples[rows, None]).any(0).numpy()
    measures = _share(precise), _share(recalled)
    return _tested(measures, relabeled_precision_recall(P, Q, k=k, seed=seed)) if test else measures


def density_coverage(P: ArrayLike, Q: ArrayLike, *, k: int = 5, seed: int = 0, test: bool = True) -> tuple[Measure, Measure]:
    """Return density (0 or more, 1 for equal laws) and coverage (in [0, 1]) of samples P against reference rows Q.

    Parameters and errors are those of :func:`precision_recall`.

    >>> rows = np.random.default_rng(0).normal(size=(2, 500, 2))
    >>> density, coverage = density_coverage(rows[0], rows[1])
    >>> density.low < 1 < density.high, round(coverage.value, 2)
    (True, 0.97)
    """
    P, Q = _equal(P, Q, k, seed)
    of_rows = _radii(Q, k)
    balls, covered = np.zeros(len(P)), np.zeros(len(Q), dtype=bool)
    for rows, squares in _blocks(P, Q):
        inside = squares <= of_rows
        balls[rows] = inside.sum(1)
        covered |= inside.any(0).numpy()
    error = float(balls.std(ddof=1)) / k * (2 / len(P)) ** 0.5
    measures = Measure.normal(float(balls.mean()) / k, error, len(P), least=0.0), _share(covered)
    return _tested(measures, relabeled_density_coverage(P, Q, k=k, seed=seed)) if test else measures


def _tested(measures: tuple[Measure, Measure], draws: Iterator[NDArray[np.float64]]) -> tuple[Measure, Measure]:
    first, second = (measure.tested(*result) for measure, result in zip(measures, chance(draws), strict=True))
    return first, second


def _equal(P: ArrayLike, Q: ArrayLike, k: int, seed: int) -> tuple[Rows, Rows]:
    if k < 1:
        raise ValueError(f"k must be at least 1, but is {k}")
    P, Q = pair(P, Q, least=k + 1)
    generator, most = np.random.default_rng(seed), min(len(P), len(Q), _MOST)
    return subset(P, most, generator), subset(Q, most, generator)


def _radii(rows: Rows, k: int) -> torch.Tensor:
    """Return the squared distance of each row to its k-th nearest other row, (n,)."""
    # Slightly larger, so that rounding leaves no row on the edge outside.
    return torch.from_numpy((nearest(rows, rows, k=k, exclude_self=True)[0][:, -1] * (1 + 1e-6)) ** 2)


def _blocks(P: Rows, Q: Rows) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield slices of P with the squared distances of their rows to all of Q, less what rounding may add to them.

    |p|^2 + |q|^2 - 2 p . q has an error of at most about D u (|p| + |q|)^2 <= 2 D u (|p|^2 + |q|^2), u the unit of rounding.
    Less this, no row on the edge of a ball is outside, such as a copy of its center where the radius is 0.
    """
    center = Q.mean(axis=0, dtype=np.float64)
    left, right = torch.from_numpy(P - center), torch.from_numpy(Q - center)
    less = 1 - 2 * (left.shape[1] + 4) * torch.finfo(left.dtype).eps
    of_left, of_right = (less * (part**2).sum(1) for part in (left, right))
    size = max(1, _NUMBERS // len(Q))
    for start in range(0, len(P), size):
        rows = slice(start, start + size)
        yield rows, torch.addmm(of_right, left[rows], right.T, alpha=-2).add_(of_left[rows, None])


def _share(hits: NDArray[np.bool_]) -> Measure:
    """Return the share of hits with Wilson's interval at half the number of rows, which doubles the variance."""
    n, share = len(hits), float(hits.mean())
    z2 = NORMAL_95**2 / (n / 2)
    middle = (share + z2 / 2) / (1 + z2)
    half = float(np.sqrt(z2 * share * (1 - share) + z2**2 / 4)) / (1 + z2)
    return Measure(share, middle - half, middle + half, n)
