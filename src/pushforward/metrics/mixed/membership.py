r"""Membership attacks: whether a row can be said to have been among the training rows.

An attacker scores rows and calls those above a threshold members. The advantage is the share of members that are called so
minus the share of others: 0 for guessing, 1 for certainty. The threshold is the best one of half of the rows and is judged on
the other half, both ways round, so that the advantage is 0 on average if the scores of members and others have one law.

Two scores: minus the distance to the nearest sample, which needs samples alone, and the log-density, which needs the model.

References
----------
Samuel Yeom, Irene Giacomelli, Matt Fredrikson, Somesh Jha. Privacy risk in machine learning: analyzing the connection to
overfitting. 2018.
Dingfan Chen, Ning Yu, Yang Zhang, Mario Fritz. GAN-Leaks: a taxonomy of membership inference attacks against generative models.
2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.mixed.auc import area
from pushforward.metrics.mixed.embedding import Embedding
from pushforward.metrics.mixed.rows import Floats, as_mixed
from pushforward.metrics.neighbors import nearest
from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["Attack", "distance_attack", "membership_attack"]

_LEAST = 20


@dataclass(frozen=True)
class Attack:
    """What an attack gains.

    Attributes
    ----------
    advantage : Measure
        Share of members called members minus share of others called so; 0 for guessing.
    auc : Measure
        Probability that a member scores above another row; 0.5 for guessing.
    """

    advantage: Measure
    auc: Measure


def membership_attack(members: ArrayLike, others: ArrayLike, *, seed: int = 0) -> Attack:
    """Return what an attack gains by scores of members (n,) and of other rows (m,), at least 20 each.

    Parameters
    ----------
    members, others : array (n,), (m,)
        Scores, such as log-densities, of training rows and of rows that training never saw: higher for a likelier member. Minus
        infinity is a score, NaN is not.
    seed : int
        Of the halves.

    Raises
    ------
    ValueError
        If there are fewer than 20 members or other rows, or a score is NaN.

    >>> rng = np.random.default_rng(1)
    >>> found = membership_attack(rng.normal(size=4000) + 1, rng.normal(size=4000)).advantage  # 2 Phi(1/2) - 1 = 0.383
    >>> found.low < 0.383 < found.high
    True
    """
    scores = [np.asarray(values, dtype=np.float64) for values in (members, others)]
    for name, values in zip(("members", "others"), scores, strict=True):
        if values.ndim != 1 or len(values) < _LEAST or np.isnan(values).any():
            raise ValueError(
                f"{name} must be at least {_LEAST} scores without NaN, one per row, but have the shape {values.shape}"
            )
    generator = np.random.default_rng(noise.derive(seed, "membership"))
    inside, outside = (generator.permutation(values) for values in scores)
    halves = [(inside[k::2], outside[k::2]) for k in (0, 1)]
    advantage, of_in, of_out = 0.0, [], []
    for chosen, judged in (halves, halves[::-1]):
        threshold = _best_threshold(*chosen)
        called_in, called_out = ((values >= threshold).astype(np.float64) for values in judged)
        advantage += float(called_in.mean() - called_out.mean()) / 2
        of_in.append(called_in)
        of_out.append(called_out)
    error = two_sample_error(np.concatenate(of_in), np.concatenate(of_out))
    value, above, below = area(inside, outside)
    n = len(inside)
    return Attack(
        Measure.normal(advantage, error, n, least=-1.0, most=1.0),
        Measure.normal(value, two_sample_error(above, below), n, least=0.0, most=1.0),
    )


def distance_attack(P: ArrayLike, train: ArrayLike, held_out: ArrayLike, domains: Sequence[Domain], *, seed: int = 0) -> Attack:
    """Return what an attack gains that calls rows near to a sample members.

    Parameters
    ----------
    P, train, held_out : array (n, C), (N, C), (m, C)
        Samples, training rows, and rows that training never saw; of the last two at least 20.
    domains : sequence of Domain
    seed : int
        Of the halves.

    >>> rng = np.random.default_rng(0)
    >>> train, held_out = rng.normal(size=(2, 100, 2))
    >>> distance_attack(train, train, held_out, (Domain("real"), Domain("real"))).advantage.value
    1.0
    """
    train, held_out = as_mixed(train, domains, "training rows"), as_mixed(held_out, domains, "held-out rows")
    place = Embedding(np.concatenate([train, held_out]), domains)
    points = place(as_mixed(P, domains, "samples"))
    members, others = (-nearest(place(rows), points)[0][:, 0] for rows in (train, held_out))
    return membership_attack(members, others, seed=seed)


def _best_threshold(inside: Floats, outside: Floats) -> float:
    """Return the threshold with the largest advantage: rows at or above it are called members."""
    points = np.unique(np.concatenate([inside, outside]))
    called_in, called_out = (
        1 - np.searchsorted(np.sort(values), points, side="left") / len(values) for values in (inside, outside)
    )
    return float(points[np.argmax(called_in - called_out)])
