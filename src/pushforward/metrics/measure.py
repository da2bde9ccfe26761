"""One measured number with its 95 % interval: what every metric returns."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["NORMAL_95", "Measure", "Side", "bootstrap_mean", "two_sample_error"]

Side = Literal["above", "below", ""]

NORMAL_95 = 1.959964
_RESAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A number with the ends of its 95 % interval (equal to the value where it is exact) and the number of rows behind it.

    Attributes
    ----------
    value, low, high : float
    n : int
    p_value : float, optional
        Of the hypothesis that the two laws are equal, for figures that have a test.
    side : {"above", "below", ""}
        Whether the figure lies above or below what equal laws give; "" without a test.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float | None = None
    side: Side = ""

    def tested(self, p_value: float, side: Side) -> "Measure":
        """Return the same number with the result of its test."""
        return replace(self, p_value=p_value, side=side)

    @classmethod
    def exact(cls, value: float, n: int) -> "Measure":
        """Return a number without uncertainty: both ends of the interval are the value."""
        return cls(value, value, value, n)

    @classmethod
    def normal(
        cls,
        value: float,
        error: float,
        n: int,
        *,
        least: float = -math.inf,
        most: float = math.inf,
    ) -> "Measure":
        """Return a number with the normal interval of 1.96 standard errors, cut to [least, most].

        >>> Measure.normal(0.5, 1.0, 9, least=0.0).low
        0.0
        """
        half = NORMAL_95 * error
        return cls(value, max(least, value - half), min(most, value + half), n)

    @classmethod
    def of_mean(cls, draws: NDArray[np.floating[Any]]) -> "Measure":
        """Average independent draws (n,), n at least 2, with the normal interval of 1.96 standard errors.

        >>> Measure.of_mean(np.array([1.0, 2.0, 3.0])).value
        2.0
        """
        return cls.normal(float(draws.mean()), float(draws.std(ddof=1)) / len(draws) ** 0.5, len(draws))

    @classmethod
    def of_share(cls, count: int, n: int) -> "Measure":
        """Take ``count`` of n independent answers as a share, with the exact interval of Clopper and Pearson (1934).

        >>> Measure.of_share(0, 10).high < 0.31
        True
        """
        interval = stats.binomtest(count, n).proportion_ci(0.95, "exact")
        return cls(count / n, float(interval.low), float(interval.high), n)


def bootstrap_mean(draws: NDArray[np.floating[Any]], *, seed: int = 0) -> Measure:
    """Average independent draws (n,) with the 95 % interval of 1,000 resamples (Efron, Bootstrap Methods, 1979)."""
    generator = np.random.default_rng(seed)
    means = draws[generator.integers(0, len(draws), (_RESAMPLES, len(draws)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Measure(float(draws.mean()), float(low), float(high), len(draws))


def two_sample_error(of_p: NDArray[np.floating[Any]], of_q: NDArray[np.floating[Any]]) -> float:
    """Return the standard error of a figure of two independent samples by the delta method.

    ``of_p`` (n,) and ``of_q`` (m,) are the derivatives of the figure by the mass at each row.
    """
    return float(np.sqrt(of_p.var(ddof=1) / len(of_p) + of_q.var(ddof=1) / len(of_q)))
