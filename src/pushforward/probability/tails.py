r"""Knots at the quantiles of a column, and laws of what lies beyond the outermost ones.

A tail is a generalized Pareto law of the distance d beyond a knot,

    P(distance > d) = (1 + shape d / scale)^(-1 / shape),      exp(-d / scale) if shape = 0,

truncated and normalized at the bound of the domain. For a column of integers it is the law of a real y, and the integer is
floor(y): the integer k has the mass of [k, k + 1). Knots are then integers, and the bound above is that of y.

Integers beyond the range of the data have a geometric law instead (:func:`log_share`).

References
----------
J. R. M. Hosking, J. R. Wallis. Parameter and quantile estimation for the generalized Pareto distribution. Technometrics, 1987.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.domain import Domain

__all__ = ["Tail", "fit_tails", "log_share", "quantile_knots"]

_KNOTS = 64
_FEW = 256  # distinct integers, with which knots reach from the smallest to the largest
_PRIOR_EXCEEDANCES = 20  # at shape 0


@dataclass(frozen=True, eq=False)
class Tail:
    """The law beyond an outermost knot.

    Attributes
    ----------
    side : int
        0 below the first knot, 1 above the last.
    end, scale, shape, room : float64 Tensor ()
        The knot, the parameters, and the distance from the knot to the bound.
    whole : bool
        Whether the values are integers.

    >>> knots, tails = torch.tensor([0.0, 1.0]).double(), torch.tensor([[0.0, 0.0], [2.0, 0.0]]).double()
    >>> Tail.beyond(knots, tails, Domain("real"), 1).density(torch.tensor([1.0, 1.5]).double())
    tensor([0.0000, 0.3894], dtype=torch.float64)
    """

    side: int
    end: Tensor
    scale: Tensor
    shape: Tensor
    room: Tensor
    whole: bool

    @classmethod
    def beyond(cls, knots: Tensor, tails: Tensor, domain: Domain, side: int) -> "Tail":
        """Return one of two tails (2, 2), as :func:`fit_tails` returns them."""
        whole, (scale, shape) = domain.type == "integer", tails[side]
        if side == 0:
            return cls(side, knots[0], scale, shape, knots[0] - domain.low, whole)
        return cls(side, knots[-1], scale, shape, domain.high + whole - knots[-1], whole)

    def density(self, x: Tensor) -> Tensor:
        """Return the density at x, or the mass of [x, x + 1) for integers; 0 at all other values."""
        return self.log_density(x).exp()

    def log_density(self, x: Tensor) -> Tensor:
        """Return the logarithm of :meth:`density`, which is finite also far out."""
        d, all_of_it = self._distance(x), self._below(self.room).log()
        if not self.whole:
            beyond = d.clamp(min=0)
            log_density = -self._stretched(beyond) - torch.log1p(self.shape * beyond / self.scale) - self.scale.log()
            return torch.where((d > 0) & (d <= self.room), log_density - all_of_it, -torch.inf)
        near = (d - 1).clamp(min=0)
        # log(exp(-a) - exp(-b)) without cancellation
        a, b = self._stretched(near), self._stretched(near + 1)
        log_mass = (-torch.expm1(a - b)).log() - a - all_of_it
        return torch.where((d >= 1) & (d <= self.room) & (x == x.floor()), log_mass, -torch.inf)

    def draw(self, u: Tensor) -> Tensor:
        """Return the values at which the distribution function of the distance is u, in [0, 1)."""
        log_over = torch.log1p(-u * self._below(self.room))
        stretched = -self.scale * log_over if self.shape == 0 else self.scale * torch.expm1(-self.shape * log_over) / self.shape
        distance = torch.minimum(stretched, self.room)
        if not self.whole:
            return self.end - distance if self.side == 0 else self.end + distance
        whole = torch.minimum(distance.ceil().clamp(min=1), self.room)
        return self.end - whole if self.side == 0 else self.end + whole - 1

    def share(self, x: Tensor) -> Tensor:
        """Return the number u of which :meth:`draw` makes x, for integers in the middle of all such numbers."""
        d = self._distance(x) - (0.5 if self.whole else 0.0)
        return self._below(torch.minimum(d.clamp(min=0), self.room)) / self._below(self.room)

    def _distance(self, x: Tensor) -> Tensor:
        """Return the distance from the knot to the far end of a value, which is an interval for integers."""
        return self.end - x if self.side == 0 else x + self.whole - self.end

    def _stretched(self, d: Tensor) -> Tensor:
        """Return -log P(distance > d) without a bound."""
        return d / self.scale if self.shape == 0 else torch.log1p(self.shape * d / self.scale) / self.shape

    def _below(self, d: Tensor) -> Tensor:
        """Return P(distance <= d) without a bound."""
        return -torch.expm1(-self._stretched(d))


def quantile_knots(x: Tensor, domain: Domain, *, integers_per_knot: int) -> Tensor:
    """Return increasing knots at the quantiles of values (N,), moved to the bounds of the domain if these are near.

    Integers have at most one knot for ``integers_per_knot`` of them.
    """
    whole = domain.type == "integer"
    x = x.sort().values
    count = max(2, min(_KNOTS, round(2 * len(x) ** (1 / 3))))
    if whole:
        count = max(2, min(count, int((x[-1] - x[0]) / integers_per_knot) + 1))
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    knots = torch.quantile(x, levels) if len(x) < 1 << 24 else x[(levels * len(x)).long()]
    if whole:
        # Few integers: knots from the smallest to the largest, so that no integer between them is impossible.
        if len(torch.unique(x)) <= _FEW:
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


def fit_tails(x: Tensor, knots: Tensor, domain: Domain) -> Tensor:
    """Return scale and shape (2, 2) of the tails beyond the outermost knots, by probability-weighted moments.

    The scale is 0 where there is no room beyond.
    """
    high = domain.high + (domain.type == "integer")
    tails = torch.zeros(2, 2, dtype=torch.float64)
    for side, room in enumerate((knots[0] - domain.low, high - knots[-1])):
        if room > 0:
            distance = knots[0] - x if side == 0 else x + (domain.type == "integer") - knots[-1]
            spacing = (knots[1] - knots[0] if side == 0 else knots[-1] - knots[-2]).item()
            tails[side] = torch.tensor(_pareto(distance[distance > 0], spacing))
    return tails


def log_share(beyond: Tensor, share: Tensor, room: Tensor) -> Tensor:
    """Return the log-probability of integers j = ``beyond`` above the end of a range with share r, given that j >= 0.

    It is log (1 - r) r^j / (1 - r^(room + 1)) up to j = ``room``, -inf above it; 0 for j < 0.
    """
    log_p = torch.xlogy(beyond.clamp(min=0.0), share) + torch.log1p(-share) - torch.log1p(-(share ** (room + 1)))
    return torch.where(beyond < 0, 0.0, log_p.where(beyond <= room, -torch.inf))


def _pareto(d: Tensor, spacing: float) -> tuple[float, float]:
    """Return scale and shape of the law of distances, the shape shrunk to 0 where these are few."""
    n = len(d)
    if n < 2:
        return (float(d.mean()) if n else spacing), 0.0
    d = d.sort().values
    mean = d.mean().item()
    weighted = (d * (1 - (torch.arange(n, dtype=torch.float64) + 0.65) / n)).mean().item()
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape, 0.0), 0.9) * n / (n + _PRIOR_EXCEEDANCES)
    return mean * (1 - shape), shape
