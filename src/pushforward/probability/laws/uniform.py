"""Laws with bounded support: the uniform law on a box, and a density on the line given by a table.

Both have ``log_prob``, -inf outside their support, and ``sample``, so they serve as targets and as proposals. Unlike a
probability, a density may exceed 1: it only has to be at least 0 and to integrate to one.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite, vector
from pushforward.probability.draw import open_uniform
from pushforward.probability.expectations import Expectation, box_rule, over_draws, over_panels

__all__ = ["TabulatedDensity", "Uniform"]


@dataclass(frozen=True, eq=False)
class Uniform:
    """The uniform law on the box [low, high] in R^D.

    Parameters
    ----------
    low, high : array (D,)
        Corners, with low < high in every coordinate.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an edge does not have positive length.

    >>> law = Uniform([0.0, 0.0], [0.5, 1.0])
    >>> law.log_prob(torch.tensor([[0.1, 0.2], [0.7, 0.2]])).exp().tolist()
    [2.0, 0.0]
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: ArrayLike, high: ArrayLike) -> None:
        low = as_float_tensor(low)
        if low.ndim != 1:
            raise ValueError(f"low must have the shape (D,), but has {tuple(low.shape)}")
        check_finite("low", low)
        high = vector("high", high, len(low), like=low)
        if not bool((low < high).all()):
            bad = int((~(low < high)).nonzero()[0])
            raise ValueError(
                f"low must be below high, but low[{bad}] is {low[bad].item():g} and high[{bad}] {high[bad].item():g}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return len(self.low)

    @property
    def mean(self) -> Tensor:
        """E[x], (D,): the middle of the box."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (D,): a twelfth of each squared length."""
        return (self.high - self.low) ** 2 / 12

    def expectation(self, f: Callable[[Tensor], Tensor], *, draws: int = 100_000, seed: int = 0) -> Expectation:
        """Return E[f(x)] with its error: by a refined grid in up to three dimensions, above by the mean over ``draws``.

        ``f`` maps points (N, D) to (N, *S).

        >>> Uniform([0.0], [2.0]).expectation(lambda x: x[:, 0] ** 2).value.item()
        1.333...
        """
        if self.dim > 3:
            return over_draws(f, self, draws, seed)
        box = torch.stack((self.low, self.high), 1).double()
        volume = (box[:, 1] - box[:, 0]).log().sum()

        def rule(panels: int) -> tuple[Tensor, Tensor]:
            x, log_weights = box_rule(box, panels)
            return x, (log_weights - volume).exp()

        return over_panels(f, rule, {1: 1024, 2: 32, 3: 4}[self.dim])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, -inf outside the box: x (*, D) to (*,)."""
        _check_columns(x, self.dim)
        inside = ((x >= self.low) & (x <= self.high)).all(-1)
        height = -(self.high - self.low).log().sum()
        return torch.where(inside, height, -math.inf)

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((self.dim,), seed=seed, purpose="uniform", rows=rows, dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)


@dataclass(frozen=True, eq=False)
class TabulatedDensity:
    """The law on the line whose density is linear between the points of a table and 0 outside it.

    Parameters
    ----------
    grid : array (G,)
        Increasing; G is at least 2.
    values : array (G,)
        Density on the grid up to a factor, >= 0. It is stored divided by the area under the curve, which is exact here.

    Raises
    ------
    ValueError
        If the grid does not increase, a value is negative, or all values are 0.

    >>> law = TabulatedDensity([0.0, 1.0], [0.0, 3.0])
    >>> law.values.tolist(), law.cdf(torch.tensor([0.5])).tolist(), law.quantile(torch.tensor([0.25])).tolist()
    ([0.0, 2.0], [0.25], [0.5])
    """

    grid: Tensor
    values: Tensor

    def __init__(self, grid: ArrayLike, values: ArrayLike) -> None:
        grid = as_float_tensor(grid).double()
        if grid.ndim != 1 or len(grid) < 2:
            raise ValueError(f"grid must have the shape (G,) with G >= 2, but has {tuple(grid.shape)}")
        check_finite("grid", grid)
        values = vector("values", values, len(grid), like=grid)
        if not bool((grid.diff() > 0).all()):
            bad = int((~(grid.diff() > 0)).nonzero()[0])
            raise ValueError(
                f"grid must rise, but grid[{bad}] is {grid[bad].item():g} and grid[{bad + 1}] {grid[bad + 1].item():g}"
            )
        if bool((values < 0).any()):
            bad = int(values.argmin())
            raise ValueError(
                f"a density is at least 0 everywhere, but values[{bad}] is {values[bad].item():g} at {grid[bad].item():g}"
            )
        area = torch.trapezoid(values, grid)
        if area == 0:
            raise ValueError("every value is 0, so there is no law; at least one must be positive")
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "values", values / area)

    @property
    def dim(self) -> int:
        """Dimension of the space, 1."""
        return 1

    @property
    def mean(self) -> Tensor:
        """E[x], (1,)."""
        return self.expectation(lambda x: x).value

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (1,)."""
        mean = self.mean
        return self.expectation(lambda x: (x - mean) ** 2).value

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Expectation:
        """Return E[f(x)] with its error, by a refined Gauss-Legendre rule in each cell; ``f`` maps (N, 1) to (N, *S).

        >>> round(TabulatedDensity([0.0, 1.0], [0.0, 2.0]).expectation(lambda x: x[:, 0]).value.item(), 6)
        0.666667
        """

        def rule(panels: int) -> tuple[Tensor, Tensor]:
            unit, log_weights = box_rule(torch.tensor([[0.0, 1.0]], dtype=torch.float64), panels, nodes_per_panel=4)
            width = self.grid.diff()[:, None]
            offset = unit[:, 0] * width
            density = self.values[:-1, None] + self._slopes[:, None] * offset
            return (self.grid[:-1, None] + offset).reshape(-1, 1), (density * width * log_weights.exp()).flatten()

        return over_panels(f, rule, 64)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, -inf outside the table and where it is 0: x (*, 1) to (*,)."""
        _check_columns(x, 1)
        x = x[..., 0].double()
        cell, offset = self._locate(x)
        density = self.values[cell] + self._slopes[cell] * offset
        return torch.where((x >= self.grid[0]) & (x <= self.grid[-1]), density.clamp(min=0).log(), -math.inf)

    def cdf(self, x: ArrayLike) -> Tensor:
        """P(X <= x), elementwise."""
        cell, offset = self._locate(as_float_tensor(x).double().clamp(self.grid[0].item(), self.grid[-1].item()))
        return self._mass[cell] + offset * (self.values[cell] + 0.5 * self._slopes[cell] * offset)

    def quantile(self, u: ArrayLike) -> Tensor:
        """Inverse of :meth:`cdf`, elementwise, for u in [0, 1]."""
        u = as_float_tensor(u).double()
        if not bool(((u >= 0) & (u <= 1)).all()):
            raise ValueError(f"u must lie in [0, 1], but is between {u.min().item():g} and {u.max().item():g}")
        cell = (torch.searchsorted(self._mass, u) - 1).clamp(0, len(self.grid) - 2)
        start, rest = self.values[cell], u - self._mass[cell]
        # The root of start s + slope s^2 / 2 = rest without cancellation; where rest is 0, the quotient may be 0 / 0.
        root = (start**2 + 2 * self._slopes[cell] * rest).clamp(min=0).sqrt()
        offset = torch.where(rest > 0, 2 * rest / (start + root), 0.0)
        return torch.minimum(self.grid[cell] + offset, self.grid[cell + 1])

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names by the inverse CDF, (n, 1)."""
        return self.quantile(open_uniform(n, seed=seed, purpose="tabulated density", first=first))[:, None].to(self.grid.device)

    @functools.cached_property
    def _slopes(self) -> Tensor:
        return self.values.diff() / self.grid.diff()

    @functools.cached_property
    def _mass(self) -> Tensor:
        """P(X <= grid point), (G,)."""
        mass = torch.zeros_like(self.grid)
        mass[1:] = torch.cumulative_trapezoid(self.values, self.grid)
        return mass / mass[-1]

    def _locate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index of the cell that holds x and the distance from its left end."""
        cell = (torch.searchsorted(self.grid, x.contiguous(), right=True) - 1).clamp(0, len(self.grid) - 2)
        return cell, x - self.grid[cell]


def _check_columns(x: Tensor, dim: int) -> None:
    if x.shape[-1] != dim:
        raise ValueError(f"x has {x.shape[-1]} columns, but the law lives in {dim} dimensions")
