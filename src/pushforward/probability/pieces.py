r"""The law of one column, cut into pieces at quantiles, with a density inside each piece.

Pieces are the intervals between neighboring knots, and the tails beyond the outermost knots
(:mod:`pushforward.probability.tails`). Inside [a, b], with the heights f and g of its ends and t = (x - a) / (b - a),

    density      2 (f + (g - f) t) / ((f + g) (b - a))
    share        P(X <= x) = t (2 f + (g - f) t) / (f + g)

whose inverse is t = (f + g) u / (f + sqrt(f^2 + (g^2 - f^2) u)). For a column of integers these are laws of a real y, and the
integer is floor(y): the integer k has the mass of [k, k + 1), which is the density at k + 1/2. Knots are then integers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.domain import Domain
from pushforward.probability.tails import Tail, fit_tails, quantile_knots

__all__ = ["Pieces"]

_INTEGERS_PER_PIECE = 4
_UNSEEN = 0.5  # rows added to each interval, so that none has density 0


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces in rising order.

    Parameters
    ----------
    domain : Domain
        Of integers or reals; its atoms do not matter.
    knots : float64 Tensor (K,)
        Rising; at least two.
    heights : float64 Tensor (K,)
        Densities at the knots in any unit, above 0.
    tails : float64 Tensor (2, 2)
        Scale and shape of the tail below the first knot, and of that above the last one; scale 0 where there is none.

    >>> pieces = Pieces.fit(torch.rand(100), Domain("real", 0, 1))
    >>> pieces.count, float(pieces.share(torch.tensor([1.0])))
    (8, 1.0)
    """

    domain: Domain
    knots: Tensor
    heights: Tensor
    tails: Tensor

    def __post_init__(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        parts = (self.knots, self.heights, self.tails)
        if any(part.dtype != torch.float64 or not bool(part.isfinite().all()) for part in parts):
            raise ValueError("knots, heights and tails must be finite and float64")
        if self.knots.ndim != 1 or len(self.knots) < 2 or bool((self.knots.diff() <= 0).any()):
            raise ValueError("pieces need at least two knots in rising order")
        if self.heights.shape != self.knots.shape or bool((self.heights <= 0).any()):
            raise ValueError("each knot has a height above 0")
        if self.tails.shape != (2, 2) or bool((self.tails < 0).any()):
            raise ValueError("two tails have scales and shapes of at least 0")

    @classmethod
    def fit(cls, x: Tensor, domain: Domain) -> "Pieces":
        """Fit to values (N,) without gaps; without values, all of a domain of integers is one piece."""
        x = x.double()
        if not len(x):
            knots, tails = torch.tensor([domain.low, domain.high + 1]).double(), torch.zeros(2, 2).double()
        else:
            knots = quantile_knots(x, domain, integers_per_knot=_INTEGERS_PER_PIECE)
            tails = fit_tails(x, knots, domain)
        y = x + 0.5 if domain.type == "integer" else x
        inside = y[(y >= knots[0]) & (y <= knots[-1])]
        at = (torch.searchsorted(knots, inside, right=True) - 1).clamp(max=len(knots) - 2)
        counts = torch.bincount(at, minlength=len(knots) - 1).double() + _UNSEEN
        around, width = (torch.nn.functional.pad(part, (1, 1)).unfold(0, 2, 1).sum(1) for part in (counts, knots.diff()))
        return cls(domain, knots, around / width, tails)

    @property
    def count(self) -> int:
        """Number of pieces."""
        return len(self.knots) - 1 + int((self.tails[:, 0] > 0).sum())

    def piece(self, x: Tensor) -> Tensor:
        """Return the numbers of the pieces of values (n,), int64; those beyond the domain belong to the outermost ones."""
        y = x + 0.5 if self.domain.type == "integer" else x
        beyond = torch.searchsorted(self.knots, y, right=True) - (y == self.knots[-1]).long()
        return (beyond - 1 + self._first).clamp(0, self.count - 1)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log-density inside their pieces of values (n,), log-probability for integers; -inf beyond the domain."""
        start, width, left, right = self._interval(self.piece(x))
        t = ((x - start) + (0.5 if self.domain.type == "integer" else 0.0)) / width
        density = 2 * (left + (right - left) * t) / ((left + right) * width)
        log_density = torch.where((t >= 0) & (t <= 1), density.clamp(min=0).log(), -torch.inf)
        for number, tail in self._outer():
            log_density = torch.where(self.piece(x) == number, tail.log_density(x), log_density)
        return log_density

    def share(self, x: Tensor) -> Tensor:
        """Return the distribution function inside their pieces at values (n,), for integers k at k + 1/2."""
        start, width, left, right = self._interval(self.piece(x))
        t = (((x - start) + (0.5 if self.domain.type == "integer" else 0.0)) / width).clamp(0, 1)
        share = t * (2 * left + (right - left) * t) / (left + right)
        for number, tail in self._outer():
            share = torch.where(self.piece(x) == number, tail.share(x), share)
        return share

    def draw(self, piece: Tensor, u: Tensor) -> Tensor:
        """Return the values inside pieces (n,) at which the distribution function is u (n,), in [0, 1]."""
        start, width, left, right = self._interval(piece)
        t = (left + right) * u / (left + (left.square() + (right.square() - left.square()) * u).clamp(min=0).sqrt())
        x = start + width * t.clamp(0, 1)
        if self.domain.type == "integer":
            x = torch.minimum(x.floor(), start + width - 1)
        for number, tail in self._outer():
            x = torch.where(piece == number, tail.draw(u), x)
        return x

    @property
    def _first(self) -> int:
        """Number of the first piece that is no tail."""
        return int(self.tails[0, 0] > 0)

    def _interval(self, piece: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return start and width of the intervals of pieces (n,), and the heights of both ends."""
        at = (piece - self._first).clamp(0, len(self.knots) - 2)
        return self.knots[at], self.knots.diff()[at], self.heights[at], self.heights[at + 1]

    def _outer(self) -> list[tuple[int, Tail]]:
        """Return number and law of each tail."""
        numbers = {0: 0, 1: self.count - 1}
        return [
            (number, Tail.beyond(self.knots, self.tails, self.domain, side))
            for side, number in numbers.items()
            if self.tails[side, 0] > 0
        ]
