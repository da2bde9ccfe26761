r"""Memorization: whether samples are copies of training rows, by distances to the nearest training row.

Let d(x) be the distance of x to the nearest training row. If a model has learned the law and not its rows, d(sample) and
d(held-out row) have the same law. These tests compare the two sets of distances; they are exact for every data law:

- *Near copies.* A sample is a near copy if its distance is smaller than the k-th smallest of the m held-out distances, k = 1 %
  of m, at least 1. Samples of the same law are near copies with probability k / (m + 1), and their number among n has the
  beta-binomial law (n, k, m + 1 - k), which gives the p-value. This test finds a few copies among many good samples.
- *Closer.* The probability that a sample is nearer to a training row than a held-out row is; ties count half. It is 1/2 for
  equal laws, above 1/2 for samples drawn towards training rows, and below 1/2 for samples that are off the data.

The ratio of the two median distances says the same in one number: 1 for fresh rows, 0 for copies. A ratio above 1 is no merit:
noise is far from all rows. Its p-value is that of Mood's median test: of fresh rows, the number that lie beyond the median of
all distances is hypergeometric. *Exact copies* of training rows are compared with those among held-out rows by Fisher's exact
test. The tests of near and exact copies have one side: fewer of them than chance gives are no finding.

References
----------
Casey Meehan, Kamalika Chaudhuri, Sanjoy Dasgupta. A non-parametric test to detect data-copying in generative models. 2020.
Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
characteristic curves: a nonparametric approach. 1988.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pushforward.metrics.arrays import pair
from pushforward.metrics.measure import Measure, Side, two_sample_error
from pushforward.metrics.neighbors import nearest
from pushforward.metrics.relabel import two_sided
from pushforward.probability import noise

__all__ = ["Memorization", "distance_ratio", "memorization"]

_NEAR = 0.01
_LEAST = 10
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Memorization:
    """Distances of samples to the training rows, compared with those of held-out rows.

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
        Infinite where most held-out rows equal training rows and most samples do not.
    near_copies : Measure
        Share of samples that are nearer than ``threshold``; the interval is Clopper and Pearson's, for this threshold, and the
        p-value that of "no more than fresh rows", exact.
    closer : Measure
        Probability that a sample is nearer than a held-out row, with DeLong's interval and the two-sided p-value of
        Mann and Whitney.
    copies : Measure
        Share of samples that are equal to a training row, with the p-value of "no more than held-out rows".
    held_out_copies : float
        Share of held-out rows that are equal to a training row: duplicates in the data.
    threshold : float
        Distance below which a sample is a near copy.
    expected : float
        Share of near copies expected of fresh rows, k / (m + 1).
    """

    distances: NDArray[np.float64]
    held_out_distances: NDArray[np.float64]
    nearest: NDArray[np.int64]
    ratio: Measure
    near_copies: Measure
    closer: Measure
    copies: Measure
    held_out_copies: float
    threshold: float
    expected: float

    @property
    def suspects(self) -> NDArray[np.int64]:
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
        Rows of the same law that training never saw, at least 10; from 100 on, 1 % of them set the threshold.
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
    for name, compared in (("samples", rows), ("held_out", fresh)):
        if len(compared) < _LEAST:
            raise ValueError(f"{name} has {len(compared)} rows, but at least {_LEAST} are needed; give more rows")
    distances, numbers = nearest(rows, reference)
    of_samples, of_held_out = distances[:, 0], nearest(fresh, reference)[0][:, 0]
    n, m = len(of_samples), len(of_held_out)
    k = max(int(_NEAR * m), 1)
    threshold = float(np.partition(of_held_out, k - 1)[k - 1])
    near = int((of_samples < threshold).sum())
    # P(at least this many of n fresh distances lie below the k-th of m), exact for continuous laws; ties only raise it.
    p_value = float(stats.betabinom.sf(near - 1, n, k, m + 1 - k)) if near else 1.0
    return Memorization(
        distances=of_samples,
        held_out_distances=of_held_out,
        nearest=numbers[:, 0],
        ratio=_ratio(of_samples, of_held_out, seed),
        near_copies=Measure.of_share(near, n).tested(p_value, "above"),
        closer=_closer(of_samples, of_held_out),
        copies=_copies(int((of_samples == 0).sum()), int((of_held_out == 0).sum()), n, m),
        held_out_copies=float((of_held_out == 0).mean()),
        threshold=threshold,
        expected=k / (m + 1),
    )


def distance_ratio(samples: ArrayLike, train: Iterable[ArrayLike], held_out: ArrayLike) -> dict[str, float]:
    """Return median distances to the nearest training row, of samples and of held-out rows, and their ratio.

    For a quick look at any number of rows; :func:`memorization` adds intervals and tests.

    Parameters
    ----------
    samples, held_out : array (n, ...)
        Rows in units that make columns comparable.
    train : iterable of arrays (n, ...)
        The training rows in one or more parts, of which one at a time is in memory.

    Returns
    -------
    dict
        ``samples``, ``held_out`` and ``ratio`` = samples / held_out, which is 1 if both are 0.

    >>> distance_ratio([[0.25]], [[[0.0], [1.0]], [[2.0]]], [[1.5]])
    {'samples': 0.25, 'held_out': 0.5, 'ratio': 0.5}
    """
    near = [np.full(len(np.asarray(rows)), np.inf) for rows in (samples, held_out)]
    for part in train:
        near = [np.minimum(least, nearest(rows, part)[0][:, 0]) for least, rows in zip(near, (samples, held_out), strict=True)]
    medians = [np.median(least) for least in near]
    return {"samples": float(medians[0]), "held_out": float(medians[1]), "ratio": float(_quotient(*medians))}


def _ratio(of_samples: NDArray[np.float64], of_held_out: NDArray[np.float64], seed: int) -> Measure:
    """Return the ratio of the medians, with the percentile interval of resamples of both."""
    generator = np.random.default_rng(noise.derive(seed, "memorization"))

    def medians(distances: NDArray[np.float64]) -> NDArray[np.float64]:
        # The median of a resample is an order statistic of the sample, so only its rank needs to be drawn.
        n = len(distances)
        place = generator.beta((n + 1) / 2, (n + 1) / 2, _RESAMPLES)
        return np.asarray(np.sort(distances)[np.minimum((place * n).astype(int), n - 1)])

    value = _quotient(np.median(of_samples), np.median(of_held_out))
    low, high = np.quantile(_quotient(medians(of_samples), medians(of_held_out)), (0.025, 0.975), method="nearest")
    return Measure(float(value), float(low), float(high), len(of_samples)).tested(*_median_test(of_samples, of_held_out))


def _median_test(of_samples: NDArray[np.float64], of_held_out: NDArray[np.float64]) -> tuple[float, Side]:
    """Return the p-value and the side of Mood's test."""
    pooled = np.concatenate([of_samples, of_held_out])
    beyond = pooled > np.median(pooled)
    far = int(beyond[: len(of_samples)].sum())
    law = stats.hypergeom(len(pooled), int(beyond.sum()), len(of_samples))
    return two_sided(float(law.sf(far - 1)), float(law.cdf(far)))


def _copies(copied: int, of_held_out: int, n: int, m: int) -> Measure:
    p_value = float(stats.hypergeom.sf(copied - 1, n + m, copied + of_held_out, n))
    return Measure.of_share(copied, n).tested(p_value, "above")


def _quotient(above: ArrayLike, below: ArrayLike) -> NDArray[np.float64]:
    """Return above / below, where 0 / 0 is 1: both kinds of rows equal training rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(above, 0) & np.equal(below, 0), 1.0, np.divide(above, below))


def _closer(of_samples: NDArray[np.float64], of_held_out: NDArray[np.float64]) -> Measure:
    """Return P(sample's distance < held-out row's) + P(equal) / 2 with DeLong's interval."""
    farther = 1 - _below(of_held_out, of_samples)  # share of held-out rows that are farther than each sample
    error = two_sample_error(farther, _below(of_samples, of_held_out))
    value, p_value = float(farther.mean()), float(stats.mannwhitneyu(of_samples, of_held_out).pvalue)
    measure = Measure.normal(value, error, len(of_samples), least=0.0, most=1.0)
    return measure.tested(p_value, "above" if value > 0.5 else "below")


def _below(distances: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of ``of`` the share of distances below it; ties count half."""
    ordered = np.sort(distances)
    return np.asarray((np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")) / (2 * len(ordered)))
