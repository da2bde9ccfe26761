r"""The pattern of gaps: how often each column has one, and which columns have them together.

The pattern of a row is the set of its columns with a gap. The total variation over patterns, 1/2 sum_s |P(s) - Q(s)|, is 0
only if gaps are as frequent and go together as in the reference rows. It is above 0 for two finite sets of equal law: the
interval, by the delta method, is for this number of rows, and the p-value is that of a permutation test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pushforward.metrics.measure import Measure, two_sample_error
from pushforward.metrics.mixed.relabeled import Cells, chance_of_mean
from pushforward.metrics.mixed.rows import Floats, mixed_pair
from pushforward.metrics.mixed.shapes import variation
from pushforward.probability.domain import Domain

__all__ = ["GapPatterns", "gap_patterns"]


@dataclass(frozen=True, eq=False)
class GapPatterns:
    """Gaps of samples and of reference rows.

    Attributes
    ----------
    sampled, real : tuple of Measure
        Share of rows with a gap, by column.
    sampled_pairs, real_pairs : array (C, C)
        Share of rows with a gap in both columns; on the diagonal, in one.
    variation : Measure
        Total variation over the patterns of whole rows, in [0, 1].
    invented : Measure
        Share of samples with a pattern that no reference row has.
    """

    sampled: tuple[Measure, ...]
    real: tuple[Measure, ...]
    sampled_pairs: Floats
    real_pairs: Floats
    variation: Measure
    invented: Measure


def gap_patterns(P: ArrayLike, Q: ArrayLike, domains: Sequence[Domain], *, seed: int = 0, test: bool = True) -> GapPatterns:
    """Compare the gaps of samples P (n, C) with those of reference rows Q (m, C).

    ``seed`` is that of the relabelings; ``test`` says whether to test the total variation.

    >>> gap = float("nan")
    >>> found = gap_patterns([[gap, 1], [0, gap]], [[gap, gap], [0, 1]], (Domain("real"), Domain("real")))
    >>> [rate.value for rate in found.sampled], found.real_pairs.tolist(), found.variation.value
    ([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], 1.0)
    """
    P, Q = mixed_pair(P, Q, domains)
    gaps = [np.isnan(rows) for rows in (P, Q)]
    patterns = np.unique(np.packbits(np.concatenate(gaps), axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    p, q = patterns[: len(P)], patterns[len(P) :]
    distance, of_p, of_q = variation(p, q)
    rates = [tuple(Measure.of_share(int(count), len(part)) for count in part.sum(axis=0)) for part in gaps]
    pairs = [part.T.astype(np.float64) @ part / len(part) for part in gaps]
    total = Measure.normal(distance, two_sample_error(of_p, of_q), len(P), least=0.0, most=1.0)
    if test:
        p_value, side = chance_of_mean([Cells(patterns)], len(P), seed)  # of one minus the distance
        total = total.tested(p_value, "below" if side == "above" else "above")
    return GapPatterns(
        *(rates[0], rates[1], pairs[0], pairs[1]),
        variation=total,
        invented=Measure.of_share(int((~np.isin(p, q)).sum()), len(P)),
    )
