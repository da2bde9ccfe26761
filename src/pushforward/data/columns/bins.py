"""A column of a table as tokens: a gap, points, and bins, which together hold every value once.

Points are levels, integers that many rows have, and values of a real column with a share of their own. Bins are the pieces of
the law of all other values (:mod:`pushforward.probability.pieces`): between quantiles, and beyond the outermost ones. So the
density of a cell is the probability of its token times the density inside the token, which is 1 for gaps and points.

For integers the points are taken out of the number line, which closes up: the bins are those of k minus the number of points
below k. Integers beyond the range of the data have a geometric share of the ends (:mod:`pushforward.data.transform`).

The coordinate of a cell is z = token + 1/4 + u/2, where u is the distribution function inside the bin. The margins keep
rounding from changing the token.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from pushforward.data.checks import Facts
from pushforward.probability.domain import Domain
from pushforward.probability.pieces import Pieces
from pushforward.probability.tails import log_share

__all__ = ["Bins", "in_token"]

_FEW = 32  # integers of a range that are all points
_OFTEN, _MOST = 10, 256  # rows that make an integer a point if there are more, and number of such points

_MARGIN = 0.25


@dataclass(frozen=True, eq=False)
class Bins:
    """The tokens of a column, in the order gap, points, bins.

    Parameters
    ----------
    domain : Domain
    gap : bool
        Whether there is a token for gaps.
    points : float64 Tensor (A,)
        In rising order.
    pieces : Pieces, optional
        The law of all values that are no points; None if there are none.
    ends : (float, float)
        Shares of the smallest and of the largest integer that belong to integers beyond; 0 for reals and levels.

    >>> bins = Bins.fit(torch.tensor([0.0, 1.0, 1.0, torch.nan]), Domain("category", 0, 2), gaps=True)
    >>> bins.tokens, bins.forward(torch.tensor([1.0, torch.nan]), torch.rand(2)).tolist()
    (4, [[2.5], [0.5]])
    """

    domain: Domain
    gap: bool
    points: Tensor
    pieces: Pieces | None = None
    ends: tuple[float, float] = (0.0, 0.0)

    size: ClassVar[int] = 1

    @classmethod
    def fit(cls, x: Tensor, domain: Domain, *, gaps: bool) -> "Bins":
        """Fit to the numbers of a column (N,), NaN in gaps."""
        seen, domain = x[~x.isnan()].double(), replace(domain, atoms=tuple(sorted(domain.atoms)))
        if domain.type == "category":
            return cls(domain, gaps, torch.arange(domain.levels, dtype=torch.float64))
        if domain.type == "real":
            points = torch.tensor(domain.atoms, dtype=torch.float64)
            rest = seen[~torch.isin(seen, points)]
            # Where all that is seen are points, so that no other real is impossible.
            rest = rest if len(rest) or len(torch.unique(seen)) < 2 else seen
            return cls(domain, gaps, points, Pieces.fit(rest, domain) if len(rest) else None)
        points = _points(seen, domain)
        low, high = (
            0.0 if end == limit else 1 / (int((seen == end).sum()) + 2)
            for end, limit in zip((domain.low, domain.high), domain.limits, strict=True)
        )
        rest = seen[~torch.isin(seen, points)]
        bins = cls(domain, gaps, points, ends=(low, high))
        line = _closed_up(domain, len(points))
        return bins if line is None else cls(domain, gaps, points, Pieces.fit(bins._on_line(rest), line), (low, high))

    def fits(self, domain: Domain, gap: bool) -> bool:
        """Whether these are tokens of a column with this domain and with gaps or none."""
        return (self.gap, self.domain) == (gap, replace(domain, atoms=tuple(sorted(domain.atoms))))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.gap) + len(self.points) + (0 if self.pieces is None else self.pieces.count)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the coordinates (N, 1) of numbers x (N,); NaN for a gap that is none of the tokens.

        The uniform numbers u, which spread scores, have no effect.
        """
        x, (token, is_point) = x.double(), self._point(x)
        share = torch.full_like(x, 0.5)
        if self.pieces is not None:
            y = self._on_line(self._inside(x))
            token = torch.where(is_point, token, int(self.gap) + len(self.points) + self.pieces.piece(y))
            share = torch.where(is_point, share, self.pieces.share(y))
        return torch.where(x.isnan(), 0.5 if self.gap else torch.nan, in_token(token, share))[:, None]

    def inverse(self, z: Tensor, *, gaps: bool = True) -> Tensor:
        """Return numbers (N,) from coordinates (N, 1), NaN in gaps; without ``gaps`` a gap becomes the next token."""
        z = z[:, 0].double()
        token = z.floor().clamp(0, self.tokens - 1)
        share, number = (2 * (z - token - _MARGIN)).clamp(0, 1), token.long() - int(self.gap)
        if not gaps:
            number = number.clamp(min=0)
        x = torch.full_like(z, torch.nan)
        if len(self.points):
            x = torch.where(number >= 0, self.points[number.clamp(0, len(self.points) - 1)], x)
        if self.pieces is not None:
            values = self._off_line(self.pieces.draw(number - len(self.points), share))
            x = torch.where(number >= len(self.points), values, x)
        return x

    def log_volume(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the log-density of numbers x (N,) inside their token, (N,): log-probability for integers, 0 for gaps.

        A column with one token is constant, and has no density.
        """
        x, (_, is_point) = x.double(), self._point(x)
        if self.tokens == 1:
            return torch.zeros_like(x)
        if self.pieces is None:
            inside = torch.zeros_like(x).where(is_point, -torch.inf)
        else:
            y = self._on_line(self._inside(x))
            inside = torch.where(is_point, 0.0, self.pieces.log_density(y))
        if self.domain.type == "integer":
            low, high, (least, most) = self.domain.low, self.domain.high, self.domain.limits
            for beyond, share, room in ((low - x, self.ends[0], low - least), (x - high, self.ends[1], most - high)):
                inside = inside + log_share(beyond, *torch.tensor([share, room], dtype=torch.float64))
        return torch.where(x.isnan(), 0.0, inside)

    def to_json(self) -> Facts:
        """Return the tokens as plain data without infinities; :meth:`from_json` restores them."""
        facts: Facts = {
            "type": self.domain.type,
            "bounds": _without_infinities(self.domain.low, self.domain.high),
            "limits": _without_infinities(*self.domain.limits),
            "gap": self.gap,
            "points": self.points.tolist(),
            "ends": list(self.ends),
        }
        if self.pieces is None:
            return facts
        parts = {name: getattr(self.pieces, name).tolist() for name in ("knots", "heights", "tails")}
        return facts | parts

    @classmethod
    def from_json(cls, facts: Facts) -> "Bins":
        """Return the tokens from the output of :meth:`to_json`; ValueError if the facts do not describe any."""
        low, high = _with_infinities(facts["bounds"])
        points = torch.tensor(facts["points"], dtype=torch.float64)
        atoms = tuple(points.tolist()) if facts["type"] == "real" else ()
        domain = Domain(facts["type"], low, high, atoms, _with_infinities(facts["limits"]))
        ends = tuple(map(float, facts["ends"]))
        if points.ndim != 1 or bool((points.diff() <= 0).any()) or not bool(points.isfinite().all()):
            raise ValueError("the points of a column must be finite and rise")
        if len(ends) != 2 or not all(0 <= end < 1 for end in ends) or type(facts["gap"]) is not bool:
            raise ValueError("the tokens of a column need the shares of two ends, and gaps or none")
        pieces = None
        if "knots" in facts:
            line = domain if domain.type == "real" else _closed_up(domain, len(points))
            if line is None:
                raise ValueError("a column of integers that are all points has no bins")
            parts = (torch.tensor(facts[name], dtype=torch.float64) for name in ("knots", "heights", "tails"))
            pieces = Pieces(line, *parts)
        bins = cls(domain, facts["gap"], points, pieces, (ends[0], ends[1]))
        if domain.type == "category" and (pieces is not None or points.tolist() != list(range(domain.levels))):
            raise ValueError("the points of a category are its levels")
        if not bins.tokens:
            raise ValueError("a column needs a token")
        return bins

    def _point(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of numbers (N,) as points, the next one for others, and which are points."""
        x = self._inside(x.double())
        if not len(self.points):
            return torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
        at = torch.searchsorted(self.points, x.nan_to_num(self.points[0].item()).contiguous()).clamp(max=len(self.points) - 1)
        return (int(self.gap) + at).double(), self.points[at] == x

    def _inside(self, x: Tensor) -> Tensor:
        """Return integers moved into the range of the data."""
        return x if self.domain.type == "real" else x.clamp(self.domain.low, self.domain.high)

    def _on_line(self, x: Tensor) -> Tensor:
        """Return numbers on the line without points, which closes up for integers; gaps as any number."""
        x = x.nan_to_num(0.0)
        return x if self.domain.type == "real" else x - torch.searchsorted(self.points, x.contiguous())

    def _off_line(self, y: Tensor) -> Tensor:
        if self.domain.type == "real":
            return y
        return y + torch.searchsorted(self.points - torch.arange(len(self.points)), y.contiguous(), right=True)


def _without_infinities(low: float, high: float) -> list[float | None]:
    return [end if math.isfinite(end) else None for end in (low, high)]


def _with_infinities(ends: list[float | None]) -> tuple[float, float]:
    low, high = ends
    return -math.inf if low is None else low, math.inf if high is None else high


def in_token(token: Tensor, u: Tensor) -> Tensor:
    """Return the coordinates of cells whose distribution function inside their tokens is u."""
    return token + _MARGIN + (1 - 2 * _MARGIN) * u


def _points(seen: Tensor, domain: Domain) -> Tensor:
    """Return the integers of a column that have a token each."""
    if domain.high - domain.low < _FEW:
        return torch.arange(domain.low, domain.high + 1, dtype=torch.float64)
    values, counts = torch.unique(seen, return_counts=True)
    often = counts.argsort(descending=True, stable=True)[:_MOST]
    points: Tensor = values[often[counts[often] >= _OFTEN]].sort().values
    return points


def _closed_up(domain: Domain, points: int) -> Domain | None:
    """Return the range of integers without that many of them, None if none is left."""
    return None if domain.high - domain.low < points else Domain("integer", domain.low, domain.high - points)
