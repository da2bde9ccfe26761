r"""Limit theorems: the law of large numbers, the central limit theorem, and the random walk that becomes a Wiener path.

For independent draws X_i with mean mu and variance s^2,

    law of large numbers     (X_1 + ... + X_n) / n -> mu,     with standard error s / sqrt(n),
    central limit theorem    (X_1 + ... + X_n - n mu) / (s sqrt(n)) -> N(0, 1) in law,
    Donsker's theorem        the path k/n -> (X_1 + ... + X_k) / sqrt(n), for mu = 0 and s = 1, -> a Wiener path in law.

References
----------
Patrick Billingsley. Convergence of probability measures. Wiley, 1999.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor

__all__ = ["RunningMean", "random_walk", "running_mean", "standardized_sums"]


@dataclass(frozen=True, eq=False)
class RunningMean:
    """Mean of the first 1, 2, ..., n values and its standard error, both (n, *)."""

    mean: Tensor
    standard_error: Tensor

    def band(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Return low and high ends (n, *) that hold the true mean with probability ``level`` by the central limit theorem.

        This holds for each n separately, for n large enough that the sample variance is near the true one.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, but is {level:g}")
        width = math.sqrt(2) * torch.erfinv(torch.tensor(level, dtype=torch.float64)).item() * self.standard_error
        return self.mean - width, self.mean + width


def running_mean(values: ArrayLike) -> RunningMean:
    """Average the first 1, 2, ..., n of independent ``values`` (n, *), with the standard error s / sqrt(n) of each mean.

    s is the sample standard deviation of those same values (divisor n - 1). The error of a single value is unknown: inf.

    >>> result = running_mean([1.0, 2.0, 3.0])
    >>> result.mean.tolist(), result.standard_error.tolist()
    ([1.0, 1.5, 2.0], [inf, 0.5, 0.577...])
    """
    values = as_float_tensor(values)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"values must have the shape (n, *) with n >= 1, but has {tuple(values.shape)}")
    n = torch.arange(1, len(values) + 1).to(values).reshape(-1, *[1] * (values.ndim - 1))
    # Around the overall mean the sums of squares cancel least.
    center = values.mean(0)
    shifted = values - center
    mean = shifted.cumsum(0) / n
    squares = (shifted.square().cumsum(0) - n * mean.square()).clamp(min=0)
    error = (squares / (n - 1).clamp(min=1) / n).sqrt()
    error[0] = math.inf
    return RunningMean(center + mean, error)


def standardized_sums(
    draw: Callable[[Tensor], Tensor], n: int, count: int, *, mean: float, std: float, first: int = 0
) -> Tensor:
    """Return ``count`` sums of ``n`` independent draws each, (S - n mean) / (std sqrt(n)), (count,).

    Their law tends to N(0, 1) as n grows; the largest distance of the CDFs falls like 1 / sqrt(n) for a skewed law
    (Berry-Esseen), faster for a symmetric one with a density.

    Parameters
    ----------
    draw : callable
        Maps row numbers (m,) to the draws of those rows, (m,).
    n : int
        Draws in each sum.
    count : int
        Number of sums; sum i is that of rows n i to n i + n - 1.
    mean, std : float
        True mean and standard deviation of one draw, not their estimates.
    first : int
        Number of the first sum.

    Raises
    ------
    ValueError
        If ``n`` or ``count`` is not positive, ``std`` is not positive, or ``draw`` does not return one number per row.

    >>> def coin(rows):
    ...     return (noise.uniform((), seed=0, purpose="coin", rows=rows) < 0.5).double()
    >>> z = standardized_sums(coin, 100, 5000, mean=0.5, std=0.5)
    >>> abs(z.mean().item()) < 0.05, abs(z.std().item() - 1) < 0.05
    (True, True)
    """
    for name, number in (("n", n), ("count", count)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, but is {number}")
    if not std > 0:
        raise ValueError(f"std must be positive, but is {std:g}: a constant has no standardized sum")
    sums = []
    block = max(1, 1_000_000 // n)  # sums at once: memory stays bounded whatever count is
    for start in range(first, first + count, block):
        stop = min(start + block, first + count)
        rows = torch.arange(start * n, stop * n)
        values = draw(rows)
        if values.shape != rows.shape:
            raise ValueError(f"draw must return one number per row, {tuple(rows.shape)}, but returned {tuple(values.shape)}")
        sums.append((values.double() - mean).reshape(-1, n).sum(1))
    return torch.cat(sums) / (std * math.sqrt(n))


def random_walk(steps: int, n: int, *, seed: int, first: int = 0) -> Tensor:
    """Draw ``n`` walks of fair +-1 steps on the times 0, 1/steps, ..., 1, scaled by 1 / sqrt(steps): (steps + 1, n), from 0.

    The variance at time t is t and the covariance of two times s, t is min(s, t), as for a Wiener path, for every number of
    steps; the law of the whole path converges to Wiener's.

    >>> walk = random_walk(100, 3, seed=0)
    >>> walk.shape, (10 * walk.diff(dim=0)).round().unique().tolist()
    (torch.Size([101, 3]), [-1.0, 1.0])
    """
    for name, number in (("steps", steps), ("n", n)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, but is {number}")
    u = noise.uniform((steps,), seed=seed, purpose="random walk", rows=torch.arange(first, first + n), dtype=torch.float64)
    # Sums of whole numbers are exact; scaling last keeps every position a multiple of one step.
    position = torch.where(u < 0.5, -1.0, 1.0).double().cumsum(1) / math.sqrt(steps)
    return torch.cat([torch.zeros(1, n, dtype=torch.float64), position.T])
