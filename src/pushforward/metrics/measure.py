"""One measured number with its 95 % interval: what every metric returns."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Measure", "bootstrap_mean"]

_NORMAL_95 = 1.959964
_RESAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A number with the ends of its 95 % interval (equal to it where it is exact) and the number of rows behind it.

    Attributes
    ----------
    value, low, high : float
    n : int
    p_value : float, optional
        Of the hypothesis that the two laws are equal, for tests that have one.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float | None = None

    @classmethod
    def of_mean(cls, draws: np.ndarray) -> "Measure":
        """Average independent draws (n,), n at least 2, with the normal interval of 1.96 standard errors.

        >>> Measure.of_mean(np.array([1.0, 2.0, 3.0])).value
        2.0
        """
        mean = float(draws.mean())
        half = _NORMAL_95 * float(draws.std(ddof=1)) / len(draws) ** 0.5
        return cls(mean, mean - half, mean + half, len(draws))

    @classmethod
    def of_share(cls, count: int, n: int, p_value: float | None = None) -> "Measure":
        """Take ``count`` of n independent answers as a share, with the exact interval of Clopper and Pearson (1934).

        >>> Measure.of_share(0, 10).high < 0.31
        True
        """
        interval = stats.binomtest(count, n).proportion_ci(0.95, "exact")
        return cls(count / n, float(interval.low), float(interval.high), n, p_value)


def bootstrap_mean(draws: np.ndarray, *, seed: int = 0) -> Measure:
    """Average independent draws (n,) with the 95 % interval of 1,000 resamples (Efron, Bootstrap Methods, 1979)."""
    generator = np.random.default_rng(seed)
    means = draws[generator.integers(0, len(draws), (_RESAMPLES, len(draws)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Measure(float(draws.mean()), float(low), float(high), len(draws))
