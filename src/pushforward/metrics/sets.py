r"""Distances between sets of points, and how two collections of sets mix among their nearest neighbors.

    Chamfer    mean over x of min over y of |x - y|^2, plus mean over y of min over x of |x - y|^2
    matching   the least mean |x - y| over all ways to match the points of two sets one to one (earth mover's distance)

Neither depends on the order of points. To match sets of different sizes, the points of the smaller one are repeated as evenly
as possible.

From samples P and reference sets Q, equally many,

    1-NN accuracy   share of all sets whose nearest other set is of the same collection: 0.5 for equal laws, 1 if samples differ
                    from all reference sets, and less than 0.5 if samples copy them
    coverage        share of reference sets that are nearest to some sample

The interval of the accuracy is 1.96 standard deviations over random labels of the pooled sets, and its p-value that of the
permutation test (Henze 1988), exact for equal laws at any number of sets.

References
----------
Norbert Henze. A multivariate two-sample test based on the number of nearest neighbor type coincidences. 1988.
David Lopez-Paz, Maxime Oquab. Revisiting classifier two-sample tests. ICLR 2017. https://arxiv.org/abs/1610.06545
Panos Achlioptas, Olga Diamanti, Ioannis Mitliagkas, Leonidas Guibas. Learning representations and generative models for 3D
point clouds. ICML 2018. https://arxiv.org/abs/1707.02392
Guandao Yang et al. PointFlow: 3D point cloud generation with continuous normalizing flows. ICCV 2019.
https://arxiv.org/abs/1906.12320
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import two_sided

__all__ = ["affordable_sets", "chamfer", "matching", "pairwise", "set_figures"]

_Float = NDArray[np.float64]
_DISTANCES_IN_SPACE = 3
_RELABELINGS = 2000
_WORK, _PER_PAIR = 1.2e10, 2e5  # cubed numbers of points, summed over pairs of sets, in seconds; and the cost of a pair itself


def chamfer(x: _Float, y: _Float) -> float:
    """Return the Chamfer distance of two sets (P, D) and (Q, D).

    >>> chamfer(np.array([[0.0], [1.0]]), np.array([[0.0]]))
    0.5
    """
    squares = cdist(x, y, "sqeuclidean")
    return float(squares.min(1).mean() + squares.min(0).mean())


def matching(x: _Float, y: _Float) -> float:
    """Return the mean distance of the optimal matching of two sets (P, D) and (Q, D).

    >>> matching(np.array([[0.0], [1.0]]), np.array([[1.0], [0.5]]))
    0.25
    """
    distances = cdist(x, y)
    if len(x) != len(y):
        most = max(len(x), len(y))
        first, second = (np.arange(most) * len(points) // most for points in (x, y))
        distances = distances[np.ix_(first, second)]
    return float(distances[linear_sum_assignment(distances)].mean())


def pairwise(sets: Sequence[_Float], distance: Callable[[_Float, _Float], float]) -> _Float:
    """Return the distances of all sets from each other, (N, N), with infinity on the diagonal."""
    table = np.full((len(sets), len(sets)), np.inf)
    for i, x in enumerate(sets):
        for j in range(i):
            table[i, j] = table[j, i] = distance(x, sets[j])
    return table


def affordable_sets(points: int) -> int:
    """Return how many samples and reference sets of this many points can be compared in seconds, at least 20."""
    return int(max(20, np.sqrt(_WORK / (2 * (float(points) ** 3 + _PER_PAIR)))))


def set_figures(P: Sequence[Any], Q: Sequence[Any], *, seed: int = 0, test: bool = True) -> dict[tuple[str, str], Measure]:
    """Return the figures of samples P against reference sets Q by (name, distance).

    Parameters
    ----------
    P, Q : arrays (n, P, D), or sequences of n arrays (P_i, D)
        Points that are NaN in all coordinates are left out. Coordinates of points in at most three dimensions are compared as
        they are; of more, as with normals and colors, each is divided by its standard deviation over Q.
    seed : int
        Of the relabelings.
    test : bool
        Whether to test.

    Raises
    ------
    ValueError
        If there are not equally many of both, or fewer than 3.

    >>> sets = np.random.default_rng(0).normal(size=(2, 30, 8, 2))
    >>> figures = set_figures(sets[0] + 3, sets[1])
    >>> figures["1-NN accuracy", "Chamfer"].value
    1.0
    """
    if len(P) != len(Q) or len(P) < 3:
        raise ValueError(f"compare equally many samples and reference sets, at least 3, not {len(P)} and {len(Q)}")
    sets = [_present(points) for points in [*P, *Q]]
    if sets[0].shape[1] > _DISTANCES_IN_SPACE:
        scale = np.concatenate(sets[len(P) :]).std(axis=0)
        sets = [points / np.where(scale > 0, scale, 1.0) for points in sets]
    figures = {}
    for name, distance in (("Chamfer", chamfer), ("matching", matching)):
        table = pairwise(sets, distance)
        figures["1-NN accuracy", name] = _accuracy(table, seed, test=test)
        covered = np.unique(table[: len(P), len(P) :].argmin(1))
        figures["coverage", name] = Measure.of_share(len(covered), len(Q))
    return figures


def _present(points: Any) -> _Float:
    array = np.asarray(points, dtype=np.float64)
    return array[~np.isnan(array).all(1)]


def _accuracy(table: _Float, seed: int, *, test: bool) -> Measure:
    """Return the share of sets whose nearest other set has the same label, of the first and the second half of all."""
    n = len(table) // 2
    labels, nearest = np.arange(2 * n) < n, table.argmin(1)
    value = float((labels[nearest] == labels).mean())
    generator = np.random.default_rng(seed)
    shuffled = generator.permuted(np.tile(labels, (_RELABELINGS, 1)), axis=1)
    draws = (shuffled[:, nearest] == shuffled).mean(1)
    measure = Measure.normal(value, float(draws.std()), n, least=0.0, most=1.0)
    if not test:
        return measure
    # Equal values count on both sides, and the labels at hand are one of the relabelings.
    above, below = (
        (1 + (draws >= value - 1e-12).sum()) / (1 + _RELABELINGS),
        (1 + (draws <= value + 1e-12).sum()) / (1 + _RELABELINGS),
    )
    return measure.tested(*two_sided(float(above), float(below)))
