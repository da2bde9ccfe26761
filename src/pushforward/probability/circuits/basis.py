r"""Shared building blocks of the law of one column: its conditional laws are mixtures of the same few elements.

An element is a law on the values of the column, with respect to the measure of :class:`~pushforward.probability.domain.Domain`:

    gap       the atom at NaN, if the column has gaps
    point     the atom at one value: a level, an integer, or an atom of a real column
    hat       a triangular density with peak at knot t_i, and zero outside (t_{i-1}, t_{i+1}): a linear B-spline
    tail      a generalized Pareto density of the distance d beyond the first or the last knot,
              P(distance > d) = (1 + shape d / scale)^(-1 / shape), exp(-d / scale) if shape = 0

A mixture of hats is a piecewise linear density. Tails are truncated and normalized at the bounds of the domain. For a column of
integers, hats and tails are densities of a real y, and the integer is floor(y): an element has the mass of [k, k + 1) at k.
Knots are then integers, so that the mass of a hat is its density at k + 1/2.

References
----------
Carl de Boor. A practical guide to splines. Springer, 1978.
J. R. M. Hosking, J. R. Wallis. Parameter and quantile estimation for the generalized Pareto distribution. Technometrics, 1987.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.domain import Domain

__all__ = ["Basis", "Cells"]

_POINTS = 256  # distinct integers up to which each is a point
_SHARE = 0.005  # of the rows, from which an integer is a point where there are more of them
_KNOTS = 64
_INTEGERS_PER_KNOT = 4
_PRIOR_EXCEEDANCES = 20  # at shape 0


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
        knots = _knots(rest, domain)
        return cls(domain, gap, points, knots, _tails(rest, knots, domain))

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
            density = self._tail_density(side, x)
            beyond = density > 0
            index[:, 0] = torch.where(beyond, number, index[:, 0])
            value[:, 0] = torch.where(beyond, density, value[:, 0])
        return Cells(index, value)

    def _tail_density(self, side: int, x: Tensor) -> Tensor:
        """Return the density of a tail, or its mass of [x, x + 1) for integers; 0 at all other values."""
        scale, shape = self.tails[side]
        room = self._room(side)
        all_of_it = _below(room, scale, shape)
        if self.domain.type == "real":
            d = self.knots[0] - x if side == 0 else x - self.knots[-1]
            beyond = d.clamp(min=0)
            log_density = -_stretched(beyond, scale, shape) - torch.log1p(shape * beyond / scale) - scale.log()
            return torch.where((d > 0) & (d <= room), log_density.exp() / all_of_it, 0.0)
        far = self.knots[0] - x if side == 0 else x + 1 - self.knots[-1]
        near = (far - 1).clamp(min=0)
        # exp(-a) - exp(-b) without cancellation
        a, b = _stretched(near, scale, shape), _stretched(near + 1, scale, shape)
        mass = -(-a).exp() * torch.expm1(a - b) / all_of_it
        return torch.where((far >= 1) & (far <= room) & (x == x.floor()), mass, 0.0)

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
            x[chosen] = self._tail(side, u[chosen])
        return x

    def _hat(self, i: Tensor, u: Tensor) -> Tensor:
        """Return draws from hats by the inverse of their CDF."""
        padded = torch.cat([self.knots[:1], self.knots, self.knots[-1:]])
        a, b, c = padded[i], padded[i + 1], padded[i + 2]
        rising = u * (c - a) < b - a
        x = torch.where(rising, a + (u * (b - a) * (c - a)).sqrt(), c - ((1 - u) * (c - b) * (c - a)).sqrt())
        x = torch.minimum(torch.maximum(x, a), c)
        return torch.minimum(x.floor(), self.knots[-1] - 1) if self.domain.type == "integer" else x

    def _tail(self, side: int, u: Tensor) -> Tensor:
        """Return draws from a tail by the inverse of its CDF."""
        scale, shape = self.tails[side]
        end, room = self.knots[0] if side == 0 else self.knots[-1], self._room(side)
        log_over = torch.log1p(-u * _below(room, scale, shape))
        distance = torch.minimum(-scale * log_over if shape == 0 else scale * torch.expm1(-shape * log_over) / shape, room)
        if self.domain.type == "real":
            return end - distance if side == 0 else end + distance
        whole = torch.minimum(distance.ceil().clamp(min=1), room)
        return end - whole if side == 0 else end + whole - 1

    def _room(self, side: int) -> Tensor:
        """Return the distance from the outermost knot to the bound of the domain."""
        if side == 0:
            return self.knots[0] - self.domain.low
        return self.domain.high + (self.domain.type == "integer") - self.knots[-1]

    def _tail_elements(self) -> list[tuple[int, int]]:
        """Return side (0 below, 1 above) and number of each tail element."""
        sides = [side for side in (0, 1) if self.tails[side, 0] > 0]
        return [(side, self.size - len(sides) + i) for i, side in enumerate(sides)]


def _stretched(d: Tensor, scale: Tensor, shape: Tensor) -> Tensor:
    """Return -log P(distance > d) of a generalized Pareto law."""
    return d / scale if shape == 0 else torch.log1p(shape * d / scale) / shape


def _below(d: Tensor, scale: Tensor, shape: Tensor) -> Tensor:
    """Return P(distance <= d) of a generalized Pareto law."""
    return -torch.expm1(-_stretched(d, scale, shape))


def _knots(x: Tensor, domain: Domain) -> Tensor:
    """Return knots at the quantiles of values (N,), moved to the bounds of the domain if these are near."""
    whole = domain.type == "integer"
    x = x.sort().values
    count = max(2, min(_KNOTS, round(2 * len(x) ** (1 / 3))))
    if whole:
        count = max(2, min(count, int((x[-1] - x[0]) / _INTEGERS_PER_KNOT) + 1))
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    knots = torch.quantile(x, levels) if len(x) < 1 << 24 else x[(levels * len(x)).long()]
    if whole:
        # Few integers: hats from the smallest to the largest, so that no integer between them is impossible.
        if len(torch.unique(x)) <= _POINTS:
            knots[0], knots[-1] = x[0], x[-1]
        knots = torch.cat([knots[:-1].floor(), knots[-1:].floor() + 1])
    knots = torch.unique(knots)
    if len(knots) == 1:
        width = max(1.0, abs(knots.item())) * 1e-3
        knots = torch.cat([knots - width, knots + width]).clamp(domain.low, domain.high)
    if len(knots) == 1 or bool((knots.diff() <= 0).any()):
        raise ValueError(f"a real column at the single value {knots[0].item():g} has no density; list it as an atom")
    high = domain.high + whole
    if knots[0] - domain.low <= knots[1] - knots[0]:
        knots[0] = domain.low
    if high - knots[-1] <= knots[-1] - knots[-2]:
        knots[-1] = high
    return knots


def _tails(x: Tensor, knots: Tensor, domain: Domain) -> Tensor:
    """Return scale and shape (2, 2) of the tails beyond the outermost knots, by probability-weighted moments."""
    high = domain.high + (domain.type == "integer")
    tails = torch.zeros(2, 2, dtype=torch.float64)
    for side, room in enumerate((knots[0] - domain.low, high - knots[-1])):
        if room > 0:
            distance = knots[0] - x if side == 0 else x + (domain.type == "integer") - knots[-1]
            spacing = (knots[1] - knots[0] if side == 0 else knots[-1] - knots[-2]).item()
            tails[side] = torch.tensor(_pareto(distance[distance > 0], spacing))
    return tails


def _pareto(d: Tensor, spacing: float) -> tuple[float, float]:
    """Return scale and shape of the law of distances, the shape drawn to 0 where these are few."""
    n = len(d)
    if n < 2:
        return (float(d.mean()) if n else spacing), 0.0
    d = d.sort().values
    mean = d.mean().item()
    weighted = (d * (1 - (torch.arange(n, dtype=torch.float64) + 0.65) / n)).mean().item()
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape, 0.0), 0.9) * n / (n + _PRIOR_EXCEEDANCES)
    return mean * (1 - shape), shape
