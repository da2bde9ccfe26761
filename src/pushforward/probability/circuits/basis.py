r"""Shared building blocks of the law of one column: its conditional laws are mixtures of the same few elements.

An element is a law on the values of the column, with respect to the measure of :class:`~pushforward.probability.domain.Domain`:

    gap       the atom at NaN, if the column has gaps
    point     the atom at one value: a level, an integer, or an atom of a real column
    hat       a triangular density with peak at knot t_i, and zero outside (t_{i-1}, t_{i+1}): a linear B-spline
    tail      a generalized Pareto density beyond the first or the last knot (:mod:`pushforward.probability.tails`)

A mixture of hats is a piecewise linear density. For a column of integers, hats and tails are densities of a real y, and the
integer is floor(y): an element has the mass of [k, k + 1) at k. Knots are then integers, so that the mass of a hat is its
density at k + 1/2.

References
----------
Carl de Boor. A practical guide to splines. Springer, 1978.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.domain import Domain
from pushforward.probability.tails import Tail, fit_tails, quantile_knots

__all__ = ["Basis", "Cells"]

_POINTS = 256  # distinct integers up to which each is a point
_SHARE = 0.005  # of the rows, from which an integer is a point where there are more of them
_INTEGERS_PER_KNOT = 4


@dataclass(frozen=True, eq=False)
class Cells:
    """Values of the elements of a basis at n cells, sparse.

    Attributes
    ----------
    index : int64 Tensor (n, k)
        Numbers of elements.
    value : float64 Tensor (n, k)
        Their density or probability at the cell; 0 for all other elements.
    """

    index: Tensor
    value: Tensor


@dataclass(frozen=True, eq=False)
class Basis:
    """The elements of one column, in the order gap, points, hats, lower tail, upper tail.

    Parameters
    ----------
    domain : Domain
    gap : bool
        Whether there is an element for gaps.
    points : float64 Tensor (A,)
        Increasing values with an element each; the levels, for a category.
    knots : float64 Tensor (K,)
        Increasing knots of the hats; none, or at least two.
    tails : float64 Tensor (2, 2)
        Scale and shape of the tail below the first knot, and of that above the last one; scale 0 where there is none.

    >>> basis = Basis.fit(torch.tensor([0.0, 1.0, 1.0, torch.nan]), Domain("category", 0, 2))
    >>> basis.size, basis.cells(torch.tensor([1.0, torch.nan])).index.tolist()
    (4, [[2], [0]])
    """

    domain: Domain
    gap: bool
    points: Tensor
    knots: Tensor
    tails: Tensor

    def __post_init__(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        if self.points.ndim != 1 or self.knots.ndim != 1 or self.tails.shape != (2, 2):
            raise ValueError("a basis has points (A,), knots (K,) and tails (2, 2)")
        for name in ("points", "knots", "tails"):
            part = getattr(self, name)
            if part.dtype != torch.float64 or not bool(part.isfinite().all()):
                raise ValueError(f"{name} must be finite and float64")
        if len(self.knots) == 1 or any(bool((part.diff() <= 0).any()) for part in (self.points, self.knots)):
            raise ValueError("points and knots must increase, and there is no knot or at least two")
        if bool((self.tails < 0).any()) or (not len(self.knots) and bool(self.tails.any())):
            raise ValueError("scales and shapes of tails must be at least 0, and only a basis with knots has tails")
        if not self.size:
            raise ValueError("a basis needs an element")

    @classmethod
    def fit(cls, x: Tensor, domain: Domain, *, gap: bool = False) -> "Basis":
        """Return a basis for the values of a column (N,), NaN in gaps; with ``gap`` it has gaps even if none is among these.

        Each level, atom or integer is a point; of more than 256 different integers, those with a share of 0.5 % of the rows.
        Other values are covered by hats with knots at their quantiles, and by tails.
        """
        seen, gap = x[~x.isnan()].double(), gap or bool(x.isnan().any())
        none = torch.empty(0, dtype=torch.float64)
        if domain.type == "category":
            return cls(domain, gap, torch.arange(domain.levels, dtype=torch.float64), none, torch.zeros(2, 2).double())
        if domain.type == "real":
            points = torch.tensor(sorted(domain.atoms), dtype=torch.float64)
            rest = seen[~torch.isin(seen, points)]
            rest = rest if len(rest) else seen  # so that no real is impossible
        else:
            points, counts = torch.unique(seen, return_counts=True)
            if len(points) > _POINTS:
                points = points[counts >= _SHARE * len(seen)]
            rest = seen
        if not len(rest):
            points = points if len(points) or gap else torch.tensor([max(domain.low, min(domain.high, 0.0))]).double()
            return cls(domain, gap, points, none, torch.zeros(2, 2).double())
        knots = quantile_knots(rest, domain, integers_per_knot=_INTEGERS_PER_KNOT)
        return cls(domain, gap, points, knots, fit_tails(rest, knots, domain))

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.gap) + len(self.points) + len(self.knots) + int((self.tails[:, 0] > 0).sum())

    def cells(self, x: Tensor) -> Cells:
        """Evaluate the elements at values (n,)."""
        x, missing, first = x.double(), x.isnan(), int(self.gap)
        at = torch.searchsorted(self.points, x.nan_to_num()).clamp(max=max(len(self.points) - 1, 0))
        hit = (self.points[at] == x) if len(self.points) else torch.zeros_like(missing)
        index = torch.where(missing, 0, first + at).clamp(max=self.size - 1)[:, None]
        value = (hit | (missing & self.gap)).double()[:, None]
        if not len(self.knots):
            return Cells(index, value)
        smooth = self._smooth(x.nan_to_num(self.knots[0].item()))
        covered = x.isinf() | (missing if self.domain.type == "integer" else missing | hit)
        smooth = Cells(smooth.index, torch.where(covered[:, None], 0.0, smooth.value))
        return Cells(torch.cat([index, smooth.index], 1), torch.cat([value, smooth.value], 1))

    def _smooth(self, x: Tensor) -> Cells:
        """Evaluate hats and tails: the two hats around x or, in the first column, a tail."""
        knots = self.knots
        whole = self.domain.type == "integer"
        y = x + 0.5 if whole else x
        right = torch.searchsorted(knots, y, right=True).clamp(1, len(knots) - 1)
        start, end = knots[right - 1], knots[right]
        share = (y - start) / (end - start)
        peak = 2 / (torch.cat([knots[1:], knots[-1:]]) - torch.cat([knots[:1], knots[:-1]]))
        index = torch.stack([right - 1, right], 1) + int(self.gap) + len(self.points)
        inside = (y >= knots[0]) & (y <= knots[-1])
        if whole:
            inside &= x == x.floor()
        value = torch.stack([(1 - share) * peak[right - 1], share * peak[right]], 1) * inside[:, None]
        for side, number in self._tail_elements():
            density = self._tail(side).density(x)
            beyond = density > 0
            index[:, 0] = torch.where(beyond, number, index[:, 0])
            value[:, 0] = torch.where(beyond, density, value[:, 0])
        return Cells(index, value)

    def draw(self, element: Tensor, u: Tensor) -> Tensor:
        """Return values (n,) drawn from the elements with these numbers (n,), by uniform numbers u (n,) in [0, 1)."""
        points, hats = int(self.gap), int(self.gap) + len(self.points)
        x = torch.full_like(u, torch.nan)
        chosen = (element >= points) & (element < hats)
        x[chosen] = self.points[element[chosen] - points]
        chosen = (element >= hats) & (element < hats + len(self.knots))
        x[chosen] = self._hat(element[chosen] - hats, u[chosen])
        for side, number in self._tail_elements():
            chosen = element == number
            x[chosen] = self._tail(side).draw(u[chosen])
        return x

    def _hat(self, i: Tensor, u: Tensor) -> Tensor:
        """Return draws from hats by the inverse of their CDF."""
        padded = torch.cat([self.knots[:1], self.knots, self.knots[-1:]])
        a, b, c = padded[i], padded[i + 1], padded[i + 2]
        rising = u * (c - a) < b - a
        x = torch.where(rising, a + (u * (b - a) * (c - a)).sqrt(), c - ((1 - u) * (c - b) * (c - a)).sqrt())
        x = torch.minimum(torch.maximum(x, a), c)
        return torch.minimum(x.floor(), self.knots[-1] - 1) if self.domain.type == "integer" else x

    def _tail(self, side: int) -> Tail:
        return Tail.beyond(self.knots, self.tails, self.domain, side)

    def _tail_elements(self) -> list[tuple[int, int]]:
        """Return side (0 below, 1 above) and number of each tail element."""
        sides = [side for side in (0, 1) if self.tails[side, 0] > 0]
        return [(side, self.size - len(sides) + i) for i, side in enumerate(sides)]
