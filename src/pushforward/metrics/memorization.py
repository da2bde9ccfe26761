r"""Are the samples copies of training rows? Distances to the nearest training row, of samples and of rows never trained on.

Let d(x) be the distance of x to the nearest training row. For a model that has learned the law, and not its rows, d(sample) and
d(held-out row) have one law, whatever it is: how far that is depends on the data, and the held-out rows measure it. Two rules
compare the two sets of distances, and both are exact under "one law" for every law:

- *Near copies.* A sample is a near copy if it is nearer to its training row than the k-th nearest of m held-out rows is to its
  own, k = 1 % of m, at least 1. Of samples of the same law the share k / (m + 1) is expected, and the number of near copies
  among n has the beta-binomial law (n, k, m + 1 - k), which gives the p-value. Few copies among many good samples show here.
- *Closer.* The chance that a sample is nearer to a training row than a held-out row is; equal ones count half. 1/2 for one law,
  above it for a model that pulls towards its training rows, below it for one whose samples are off the data.

The ratio of the two median distances says the same in one number that is easy to remember: 1 is like fresh data, 0 are copies.
A ratio above 1 is no merit: noise is far from all rows.

References
----------
Casey Meehan, Kamalika Chaudhuri, Sanjoy Dasgupta. A non-parametric test to detect data-copying in generative models. 2020.
Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
characteristic curves: a nonparametric approach. 1988.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pushforward.metrics.arrays import pair
from pushforward.metrics.measure import Measure
from pushforward.metrics.neighbours import nearest
from pushforward.probability import noise

__all__ = ["Memorization", "memorization"]

_NEAR = 0.01
_LEAST = 10
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Memorization:
    """How near samples are to the training rows, beside how near held-out rows are to them.

    Attributes
    ----------
    distances : array (n,)
        Of each sample to its nearest training row.
    held_out_distances : array (m,)
        Of each held-out row to its nearest training row.
    nearest : int array (n,)
        Row number of the nearest training row of each sample.
    ratio : Measure
        Median of ``distances`` over median of ``held_out_distances``; the interval is of 1,000 bootstrap resamples of both.
        Infinite where most held-out rows stand among the training rows and most samples do not.
    near_copies : Measure
        Share of samples that are nearer than ``threshold``; the interval is Clopper and Pearson's, for this threshold, and the
        p-value the exact one of "no more than fresh rows".
    closer : Measure
        Chance that a sample is nearer than a held-out row, with DeLong's interval and Mann and Whitney's one-sided p-value.
    copies : Measure
        Share of samples that are equal to a training row.
    held_out_copies : float
        Share of held-out rows that are: the data's own doubles.
    threshold : float
        Distance below which a sample is a near copy.
    expected : float
        Share of near copies that fresh rows would have, k / (m + 1).
    """

    distances: np.ndarray
    held_out_distances: np.ndarray
    nearest: np.ndarray
    ratio: Measure
    near_copies: Measure
    closer: Measure
    copies: Measure
    held_out_copies: float
    threshold: float
    expected: float

    @property
    def suspects(self) -> np.ndarray:
        """Numbers of the near copies among the samples, nearest first."""
        order = np.argsort(self.distances, kind="stable")
        return order[self.distances[order] < self.threshold]

    @property
    def note(self) -> str:
        """What a near copy is, in words."""
        held_out, share = len(self.held_out_distances), 100 * self.expected
        return (
            f"nearer to a training row than {100 - share:.3g} % of {held_out:,} held-out rows; of fresh rows {share:.2g} % are"
        )


def memorization(samples: ArrayLike, train: ArrayLike, held_out: ArrayLike, *, seed: int = 0) -> Memorization:
    """Compare the distances of samples and of held-out rows to their nearest training rows.

    Parameters
    ----------
    samples : array (n, ...)
        Samples of the model, at least 10.
    train : array (N, ...)
        All rows that the model was trained on.
    held_out : array (m, ...)
        Rows of the same law that training never saw, at least 10; 100 and more make the rule for near copies one of 1 %.
    seed : int
        Of the resamples.

    Returns
    -------
    Memorization
        Distances are Euclidean in the units given, so scale columns first, or give features. Exact search in blocks.

    Raises
    ------
    ValueError
        If there are too few rows, rows are not finite, or their widths differ.

    >>> rng = np.random.default_rng(0)
    >>> train, held_out, fresh = (rng.normal(size=(n, 2)) for n in (500, 200, 200))
    >>> copier = train[:200] + 1e-3 * rng.normal(size=(200, 2))
    >>> good, bad = memorization(fresh, train, held_out), memorization(copier, train, held_out)
    >>> good.ratio.low < 1 < good.ratio.high, round(bad.ratio.value, 2), bad.near_copies.value > 0.9
    (True, 0.02, True)
    """
    rows, reference = pair(samples, train, least=1)
    fresh, _ = pair(held_out, train, least=1)
    for name, given in (("samples", rows), ("held_out", fresh)):
        if len(given) < _LEAST:
            raise ValueError(f"{name} has {len(given)} rows, but distances are compared from {_LEAST} on; give more of them")
    found, numbers = (part[:, 0] for part in nearest(rows, reference))
    theirs = nearest(fresh, reference)[0][:, 0]
    n, m = len(found), len(theirs)
    k = max(int(_NEAR * m), 1)
    threshold = float(np.partition(theirs, k - 1)[k - 1])
    near = int((found < threshold).sum())
    # P(at least this many of n fresh distances lie below the k-th of m), exact for continuous laws; ties only raise it.
    p_value = float(stats.betabinom.sf(near - 1, n, k, m + 1 - k)) if near else 1.0
    return Memorization(
        distances=found,
        held_out_distances=theirs,
        nearest=numbers,
        ratio=_ratio(found, theirs, seed),
        near_copies=Measure.of_share(near, n, p_value),
        closer=_closer(found, theirs),
        copies=Measure.of_share(int((found == 0).sum()), n),
        held_out_copies=float((theirs == 0).mean()),
        threshold=threshold,
        expected=k / (m + 1),
    )


def _ratio(found: np.ndarray, theirs: np.ndarray, seed: int) -> Measure:
    """Return the ratio of the medians, with the percentile interval of resamples of both."""
    generator = np.random.default_rng(noise.derive(seed, "memorization"))

    def medians(distances: np.ndarray) -> np.ndarray:
        # The median of a resample is an order statistic of the sample, whose place is all that must be drawn.
        n = len(distances)
        place = generator.beta((n + 1) / 2, (n + 1) / 2, _RESAMPLES)
        return np.asarray(np.sort(distances)[np.minimum((place * n).astype(int), n - 1)])

    value = _quotient(np.median(found), np.median(theirs))
    low, high = np.quantile(_quotient(medians(found), medians(theirs)), (0.025, 0.975), method="nearest")
    return Measure(float(value), float(low), float(high), len(found))


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, where 0 / 0 is 1: both stand on training rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((above == 0) & (below == 0), 1.0, np.divide(above, below))


def _closer(found: np.ndarray, theirs: np.ndarray) -> Measure:
    """Return P(sample's distance < held-out row's) + P(equal) / 2 with DeLong's interval."""
    n, m = len(found), len(theirs)
    of_samples = 1 - _below(theirs, found)  # share of held-out rows that are farther than each sample
    of_held_out = _below(found, theirs)
    value = float(of_samples.mean())
    half = 1.959964 * float(np.sqrt(of_samples.var(ddof=1) / n + of_held_out.var(ddof=1) / m))
    p_value = float(stats.mannwhitneyu(found, theirs, alternative="less").pvalue)
    return Measure(value, max(value - half, 0.0), min(value + half, 1.0), n, p_value)


def _below(distances: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return for each of ``of`` the share of distances below it; equal ones count half."""
    ordered = np.sort(distances)
    return np.asarray((np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")) / (2 * len(ordered)))
