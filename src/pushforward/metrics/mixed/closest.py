r"""The closest record: whether samples keep nearer to training rows than fresh rows would.

Distances are those of the :class:`~pushforward.metrics.mixed.embedding.Embedding` of all real rows. A sample is *nearer to
training* if its nearest training row is nearer than its nearest held-out row; ties count half. For a law that knows its N
training rows no better than the m held-out ones, all N + m rows are exchangeable, so that the share is N / (N + m): 1/2 for two
halves. Copying moves it up. Samples with the same closest record go together: the interval counts them as one cluster.

References
----------
Zilong Zhao, Aditya Kunar, Robert Birke, Lydia Chen. CTAB-GAN: effective table data synthesizing. ACML 2021. Distance to the
closest record.
Hengrui Zhang and others. Mixed-type tabular data synthesis with score-based diffusion in latent space. ICLR 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure
from pushforward.metrics.memorization import Memorization, memorization
from pushforward.metrics.mixed.embedding import Embedding
from pushforward.metrics.mixed.rows import as_mixed
from pushforward.metrics.neighbors import nearest
from pushforward.probability.domain import Domain

__all__ = ["Closeness", "closest_records"]


@dataclass(frozen=True, eq=False)
class Closeness:
    """Distances of samples to their closest records.

    Attributes
    ----------
    nearer : Measure
        Share of samples nearer to a training row than to any held-out row, ties counted half.
    expected : float
        That share for a law that knows training rows no better than held-out ones.
    memorization : Memorization
        Exact and near copies of training rows, and the distances, compared with those of held-out rows.
    """

    nearer: Measure
    expected: float
    memorization: Memorization


def closest_records(
    P: ArrayLike, train: ArrayLike, held_out: ArrayLike, domains: Sequence[Domain], *, seed: int = 0
) -> Closeness:
    """Compare the distances of samples to training rows with those to held-out rows.

    Parameters
    ----------
    P, train, held_out : array (n, C), (N, C), (m, C)
        Samples, all rows that the model was trained on, and rows that training never saw, at least 10 of each. The floor is
        the same figure of a third set of real rows in place of P.
    domains : sequence of Domain
    seed : int
        Of the resamples of :func:`~pushforward.metrics.memorization.memorization`.

    >>> rng = np.random.default_rng(0)
    >>> train, held_out, fresh = (rng.normal(size=(200, 2)) for _ in range(3))
    >>> domains = (Domain("real"), Domain("real"))
    >>> good, bad = (closest_records(P, train, held_out, domains) for P in (fresh, train[:100]))
    >>> good.nearer.low < good.expected < good.nearer.high, bad.nearer.value, bad.memorization.copies.value
    (True, 1.0, 1.0)
    """
    P, train, held_out = (
        as_mixed(rows, domains, name, least=10)
        for rows, name in ((P, "samples"), (train, "training rows"), (held_out, "held-out rows"))
    )
    place = Embedding(np.concatenate([train, held_out]), domains)
    points, known, unknown = place(P), place(train), place(held_out)
    compared = memorization(points, known, unknown, seed=seed)
    distances, numbers = (found[:, 0] for found in nearest(points, unknown))
    nearer = (np.sign(distances - compared.distances) + 1) / 2
    closest = np.where(compared.distances <= distances, compared.nearest, len(train) + numbers)
    value = float(nearer.mean())
    error = float((np.bincount(closest, nearer - value) ** 2).sum()) ** 0.5 / len(nearer)
    share = Measure.normal(value, error, len(nearer), least=0.0, most=1.0)
    return Closeness(share, len(train) / (len(train) + len(held_out)), compared)
