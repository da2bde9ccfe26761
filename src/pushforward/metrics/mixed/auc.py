"""The area under the curve of receiver operating characteristics, with the derivatives that give its error.

References
----------
Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
characteristic curves: a nonparametric approach. 1988.
"""

import numpy as np

from pushforward.metrics.mixed.rows import Floats

__all__ = ["area"]


def area(positive: Floats, negative: Floats) -> tuple[float, Floats, Floats]:
    """Return P(positive > negative) + P(equal) / 2, and its derivative by the mass at each positive and negative score.

    >>> area(np.array([2.0, 3.0]), np.array([1.0, 2.0]))[0]
    0.875
    """
    above, below = _below(negative, positive), 1 - _below(positive, negative)
    return float(above.mean()), above, below


def _below(scores: Floats, of: Floats) -> Floats:
    """Return for each of ``of`` the share of scores below it; ties count half."""
    ordered = np.sort(scores)
    return np.asarray((np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")) / (2 * len(ordered)))
