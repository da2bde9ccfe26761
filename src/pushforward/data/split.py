"""Split rows into training and held-out rows."""

import torch
from torch import Tensor

from pushforward.probability import noise

__all__ = ["rows_aside", "split_rows"]


def split_rows(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows 0 .. n - 1 at random into training and held-out rows.

    Parameters
    ----------
    n : int
        Number of rows, at least 1.
    fraction : float
        Share to hold out, in [0, 1). Above 0, at least one row is held out if there are two; at least one row is for training.
    seed : int
        The split depends on ``(n, fraction, seed)`` alone.

    Returns
    -------
    train, held_out : Tensor
        Row numbers, int64, in rising order.

    >>> train, held_out = split_rows(10, 0.2, seed=0)
    >>> len(train), len(held_out)
    (8, 2)
    """
    aside = rows_aside(n, fraction, seed)
    kept = torch.ones(n, dtype=torch.bool)
    kept[aside] = False
    return kept.nonzero()[:, 0], aside


def rows_aside(n: int, fraction: float, seed: int) -> Tensor:
    """Return the numbers of the held-out rows alone, as :func:`split_rows` does, without a list of all rows."""
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must lie in [0, 1), not {fraction}; 0 holds nothing out.")
    count = min(max(round(n * fraction), 1 if fraction > 0 else 0), n - 1)
    return noise.Permutation(n, seed=seed, purpose="split")(torch.arange(count)).sort().values
