"""The columns of a table as real coordinates, for models of real vectors.

A category becomes a block of 0/1 coordinates, one per level and one for a gap. Any other column becomes its normal score

    z = Phi^-1(u),      u uniform on the interval (P(X < x), P(X <= x)) of the data,

whose law is the standard normal one, whatever the law of the column: integers and numbers with a share of their own are spread
over their interval, a gap has the interval at the lower end, and the inverse is exact for both. Between the numbers of the data
the quantile function is linear in z; beyond them it continues to the bounds of a real column, or without end where there are
none.

Models of tokens take another coordinate of each column, which holds its token (:mod:`pushforward.data.columns.bins`).
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pushforward.data.checks import Facts
from pushforward.data.columns.bins import Bins
from pushforward.data.ends import end_shares
from pushforward.probability.domain import Domain
from pushforward.probability.tails import log_share

__all__ = ["Bins", "Block", "Coordinates", "Elements", "Score"]

_KNOTS = 256
_FAR = 8.0  # standard deviations at which a bounded column reaches its bound
_UNSEEN = 0.1  # count of an integer within the range of the data that is not among them
_MOST_VALUES = 1000  # of integers that each have an interval
_OFTEN, _ATOM = 10, 0.01  # rows, and share of rows, that give an integer an interval if there are more


@dataclass(frozen=True)
class Block:
    """A category as 0/1 coordinates, the last of them for a gap if the column has gaps."""

    levels: int
    gaps: bool

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.levels + self.gaps

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return numbers of levels (N,), NaN for a gap, as coordinates (N, size); a gap that is none of the levels is 0."""
        index = torch.where(x.isnan(), float(self.levels), x).long()
        return torch.nn.functional.one_hot(index, self.levels + 1)[:, : self.size].to(x.dtype)

    def inverse(self, z: Tensor, *, gaps: bool = True) -> Tensor:
        """Return the levels with the largest coordinates; a gap only with ``gaps``."""
        index = z[:, : self.size if gaps else self.levels].argmax(1)
        return torch.where(index == self.levels, torch.nan, index.to(z.dtype))


@dataclass(frozen=True)
class Score:
    """A column as its normal score.

    Parameters
    ----------
    low, high : tuple of float
        Ends in z of the interval of each number of ``values``; equal for reals without a share of their own.
    values : tuple of float
        In rising order.
    below, above : float
        dx/dz beyond the smallest and the largest number; 0 if the column ends there.
    gap : float
        Upper end in z of the interval of a gap; -inf without gaps.
    shares : (float, float)
        Of the mass of the smallest and the largest integer, those of all integers beyond
        (:mod:`pushforward.data.transform`); 0 where there are none.
    rooms : (float or None, float or None)
        How many integers are possible beyond the smallest and the largest one; None for infinitely many.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    values: tuple[float, ...]
    below: float
    above: float
    gap: float
    shares: tuple[float, float] = (0.0, 0.0)
    rooms: tuple[float | None, float | None] = (0.0, 0.0)

    size: ClassVar[int] = 1

    @classmethod
    def fit(cls, x: Tensor, domain: Domain, *, gaps: bool, knots: int = _KNOTS) -> "Score":
        """Fit to the numbers of a column (N,), NaN in gaps; at most ``knots`` of those without an interval are kept."""
        present = x[~x.isnan()].double()
        values, counts = torch.unique(present, return_counts=True)
        narrow = domain.type != "real" and float(values[-1] - values[0]) < _MOST_VALUES
        if narrow:
            values, counts = _with_unseen(values, counts)
        share = counts.double() / counts.sum()
        upper = (counts.cumsum(0).double() / counts.sum()).clamp(max=1.0)  # sums round up too
        below = torch.cat([torch.zeros(1, dtype=torch.float64), upper[:-1]])
        atom = torch.isin(values, torch.tensor(domain.atoms, dtype=torch.float64))
        if domain.type != "real":
            often = counts >= max(_OFTEN, _ATOM * len(present))
            few = len(values) <= _MOST_VALUES and len(present) >= _OFTEN * len(values)
            atom = often | narrow | few
        low, high = (torch.where(atom, end, below + share / 2) for end in (below, upper))
        smooth = (~atom).nonzero()[:, 0]
        keep = atom.clone()
        keep[smooth[torch.linspace(0, len(smooth) - 1, min(knots, len(smooth)), dtype=torch.float64).long()]] = True
        absent = (len(x) - len(present) + 0.5) / (len(x) + 1) if gaps else 0.0
        low, high = (_score(absent + (1 - absent) * end[keep]) for end in (low, high))
        gap = float(_score(torch.tensor(absent, dtype=torch.float64))) if gaps else -math.inf
        ends = cls._with_ends(low.tolist(), high.tolist(), values[keep].tolist(), bool(atom[0]), bool(atom[-1]), domain, gap)
        if domain.type != "integer":
            return ends
        low, high, limits = present.amin(0, True), present.amax(0, True), torch.tensor(domain.limits)[:, None].double()
        first, last = end_shares(present[:, None], low, high, (limits[0], limits[1]))
        rooms = (float(room) if math.isfinite(room) else None for room in (low - limits[0], limits[1] - high))
        return replace(ends, shares=(float(first), float(last)), rooms=(next(rooms), next(rooms)))

    @classmethod
    def _with_ends(
        cls,
        low: list[float],
        high: list[float],
        values: list[float],
        first: bool,
        last: bool,
        domain: Domain,
        gap: float,
    ) -> "Score":
        """Add what is beyond the numbers: the bounds of reals, which are reached far out, or slopes.

        ``first`` and ``last`` say whether the smallest and the largest number are atoms.
        """
        near, below, above = max(1, len(values) // 50), 0.0, 0.0  # slopes between neighbors would be random
        if domain.type == "real" and len(values) > 1 and not first:
            if math.isinf(domain.low):
                below = (values[near] - values[0]) / (low[near] - high[0])
            elif values[0] > domain.low:
                start = max(gap, -_FAR)
                low, high, values = [start, *low], [start, *high], [domain.low, *values]
        if domain.type == "real" and len(values) > 1 and not last:
            if math.isinf(domain.high):
                above = (values[-1] - values[-1 - near]) / (low[-1] - high[-1 - near])
            elif values[-1] < domain.high:
                low, high, values = [*low, _FAR], [*high, _FAR], [*values, domain.high]
        return cls(tuple(low), tuple(high), tuple(values), below, above, gap)

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the scores (N, 1) of numbers x (N,), spread by uniform numbers u (N,) over their intervals."""
        low, high, values = self._tensors()
        known = x.double().nan_to_num(self.values[0]).contiguous()
        right = torch.searchsorted(values, known).clamp(max=len(values) - 1)
        left = torch.where((values[right] == known) | (known > values[-1]), right, (right - 1).clamp(min=0))
        width = (values[right] - values[left]).where(right > left, 1.0)
        share = ((known - values[left]) / width).where(right > left, 0.0)
        between = high[left] + share * (low[right] - high[left])
        bottom, top = torch.special.ndtr(low[left]), torch.special.ndtr(high[left])
        spread = _score(bottom + u * (top - bottom))
        z = torch.where(right > left, between, torch.where(low[left] < high[left], spread, low[left]))
        z = torch.where((known > values[-1]) & (self.above > 0), high[-1] + (known - values[-1]) / (self.above or 1.0), z)
        z = torch.where((known < values[0]) & (self.below > 0), low[0] + (known - values[0]) / (self.below or 1.0), z)
        if self.gap > -math.inf:
            z = torch.where(x.isnan(), _score(u * torch.special.ndtr(torch.tensor(self.gap, dtype=torch.float64))), z)
        return z[:, None]

    def inverse(self, z: Tensor, *, gaps: bool = True) -> Tensor:
        """Return numbers (N,) from scores (N, 1), NaN in gaps; without ``gaps`` the smallest number instead."""
        z = z[:, 0].double().contiguous()
        low, high, values = self._tensors()
        right = torch.searchsorted(high, z).clamp(max=len(values) - 1)
        left = (right - 1).clamp(min=0)
        width = (low[right] - high[left]).where(low[right] > high[left], 1.0)
        share = ((z - high[left]) / width).clamp(0, 1).where(z < low[right], 1.0)
        x = values[left] + share * (values[right] - values[left])
        x = x + self.above * (z - high[-1]).clamp(min=0) + self.below * (z - low[0]).clamp(max=0)
        return torch.where((z < self.gap) & gaps, torch.nan, x)

    def log_volume(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the term (N,) that turns log p(z) into log p(x), given numbers x (N,) and their scores z (N, 1).

        For a value with an interval, that is the logarithm of P(interval) / phi(z) under the normal law, whose mean over the
        interval turns densities into probabilities; for other reals log dz/dx. An integer beyond the others has its share of
        the mass of the end.
        """
        low, high, values = self._tensors()
        known, z = x.double().nan_to_num(self.values[0]).contiguous(), z[:, 0].double()
        log_shares = torch.zeros_like(known)
        if any(self.shares) or any(self.rooms):
            below, above = torch.tensor(self.shares, dtype=torch.float64)
            room_below, room_above = (torch.tensor(math.inf if room is None else room).double() for room in self.rooms)
            log_shares = log_share(known - values[-1], above, room_above) + log_share(values[0] - known, below, room_below)
            known = known.clamp(values[0], values[-1])
        at = torch.searchsorted(values, known).clamp(max=len(values) - 1)
        has_interval = (values[at] == known) & (low[at] < high[at])
        right = at.clamp(min=min(1, len(values) - 1))
        left = (right - 1).clamp(min=0)
        slope = (low[right] - high[left]) / (values[right] - values[left])
        slope = torch.where(known > values[-1], 1 / self.above if self.above else 0.0, slope)
        slope = torch.where(known < values[0], 1 / self.below if self.below else 0.0, slope)
        mass = torch.special.ndtr(high[at]) - torch.special.ndtr(low[at])
        if self.gap > -math.inf:
            gap = torch.special.ndtr(torch.tensor(self.gap, dtype=torch.float64))
            mass, has_interval = torch.where(x.isnan(), gap, mass), has_interval | x.isnan()
        normal = -z.square() / 2 - math.log(2 * math.pi) / 2
        return torch.where(has_interval, mass.log() - normal, slope.log()) + torch.where(x.isnan(), 0.0, log_shares)

    @property
    def has_intervals(self) -> bool:
        """Whether some values have an interval."""
        return self.gap > -math.inf or self.low != self.high

    def to_json(self) -> Facts:
        """Return the score as plain data; :meth:`from_json` restores it."""
        return dict(vars(self)) | {"gap": None if self.gap == -math.inf else self.gap}  # JSON has no infinity

    @classmethod
    def from_json(cls, facts: Facts) -> "Score":
        """Return the score from the output of :meth:`to_json`; ValueError if the facts do not describe one."""
        low, high, values = (tuple(map(float, facts[name])) for name in ("low", "high", "values"))
        gap = -math.inf if facts["gap"] is None else float(facts["gap"])
        shares = (float(facts["shares"][0]), float(facts["shares"][1]))
        rooms = (facts["rooms"][0], facts["rooms"][1])
        score = cls(low, high, values, float(facts["below"]), float(facts["above"]), gap, shares, rooms)
        if not len(low) == len(high) == len(values) > 0:
            raise ValueError("the scores of a column need an interval for each number")
        rising = all(a < b for a, b in itertools.pairwise(values)) and all(a <= b for a, b in zip(low, high, strict=True))
        apart = all(a <= b for a, b in zip(high, low[1:], strict=False)) and all(map(math.isfinite, (*low, *high, *values)))
        slopes = math.isfinite(score.below) and math.isfinite(score.above) and score.below >= 0 and score.above >= 0
        if not rising or not apart or not slopes:
            raise ValueError("the scores of a column need rising intervals and rising numbers")
        if not all(0 <= share < 1 for share in score.shares):
            raise ValueError("the shares beyond the ends of a column must be at least 0 and less than 1")
        if not all(room is None or room >= 0 for room in score.rooms):
            raise ValueError("the integers beyond the ends of a column must be numbered")
        if not score.gap <= low[0]:
            raise ValueError("the interval of a gap must end before those of the numbers")
        return score

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        low, high, values = (torch.tensor(part, dtype=torch.float64) for part in (self.low, self.high, self.values))
        return low, high, values


Element = Block | Score | Bins
Coordinates = Literal["blocks", "scores", "bins"]


@dataclass(frozen=True)
class Elements:
    """The coordinates of all columns of a table.

    Parameters
    ----------
    parts : tuple of Block, Score or Bins
        One per column.
    """

    parts: tuple[Element, ...]

    @classmethod
    def fit(
        cls, x: Tensor, domains: tuple[Domain, ...], gaps: tuple[bool, ...], *, coordinates: Coordinates = "blocks"
    ) -> "Elements":
        """Fit to rows (N, C), NaN in gaps.

        ``gaps`` says which columns may have them, ``coordinates`` whether all columns have scores or bins, or scores except
        for categories, which become blocks.
        """

        def part(index: int) -> Element:
            domain = domains[index]
            if domain.type == "category" and coordinates == "blocks":
                return Block(domain.levels, gaps[index])
            return (Bins if coordinates == "bins" else Score).fit(x[:, index], domain, gaps=gaps[index])

        return cls(tuple(map(part, range(len(domains)))))

    def fit_to(self, domains: tuple[Domain, ...], gaps: tuple[bool, ...]) -> bool:
        """Whether these are coordinates of columns with these domains and gaps."""
        if len(self.parts) != len(domains):
            return False
        for part, domain, has_gaps in zip(self.parts, domains, gaps, strict=True):
            if isinstance(part, Bins):
                known = part.fits(domain, has_gaps)
            elif isinstance(part, Block):
                known = domain.type == "category" and (part.levels, part.gaps) == (domain.levels, has_gaps)
            else:
                known = has_gaps == (part.gap > -math.inf)
                known = known and (domain.type != "category" or 0 <= part.values[0] <= part.values[-1] < domain.levels)
            if not known:
                return False
        return True

    @property
    def sizes(self) -> list[int]:
        """Numbers of coordinates of the columns."""
        return [part.size for part in self.parts]

    def forward(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Return coordinates (N, D) of rows (N, C); uniform numbers u (N, C), by default 1/2, choose within intervals."""
        u = torch.full_like(x, 0.5) if u is None else u
        columns = zip(self.parts, x.double().unbind(1), u.double().unbind(1), strict=True)
        return torch.cat([part.forward(values, spread) for part, values, spread in columns], 1)

    def inverse(self, z: Tensor, *, gaps: bool = True) -> Tensor:
        """Return rows (N, C), float64, from coordinates (N, D), NaN in gaps; without ``gaps`` they have a value."""
        parts = zip(self.parts, torch.split(z.double(), self.sizes, 1), strict=True)
        return torch.stack([part.inverse(values, gaps=gaps) for part, values in parts], 1)

    @property
    def columns(self) -> Tensor:
        """Number of the column that each coordinate belongs to, int64 (D,)."""
        return torch.tensor([index for index, size in enumerate(self.sizes) for _ in range(size)], device="cpu")

    @property
    def are_levels(self) -> Tensor:
        """Which coordinates are those of the levels of a column that has more than one, bool (D,)."""
        levels = [isinstance(part, Block) and part.size > 1 for part in self.parts]
        return torch.tensor([levels[column] for column in self.columns.tolist()], device="cpu")

    @property
    def are_scores(self) -> bool:
        """Whether all columns have scores, so that densities of coordinates determine those of rows."""
        return all(isinstance(part, Score) for part in self.parts)

    @property
    def are_bins(self) -> bool:
        """Whether all columns have bins, so that probabilities of tokens determine densities of rows."""
        return all(isinstance(part, Bins) for part in self.parts)

    @property
    def tokens(self) -> Tensor:
        """Number of tokens of each column with bins, int64; 0 for other columns."""
        # On the CPU even where a network is built on the meta device to learn its size.
        return torch.tensor([part.tokens if isinstance(part, Bins) else 0 for part in self.parts], device="cpu")

    @property
    def has_intervals(self) -> bool:
        """Whether some values of scores have an interval."""
        return any(isinstance(part, Score) and part.has_intervals for part in self.parts)

    def log_volume(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the term (N,) that turns log p(z), or the log-probability of tokens, into log p(x).

        p(z) has probabilities of levels; see :meth:`Score.log_volume` and :meth:`Bins.log_volume`.
        """
        total = torch.zeros(len(x), dtype=torch.float64)
        for part, values, scores in zip(self.parts, x.double().unbind(1), torch.split(z, self.sizes, 1), strict=True):
            if not isinstance(part, Block):
                total += part.log_volume(values, scores)
        return total

    def mask(self, known: Tensor) -> Tensor:
        """Return which coordinates (N, D) are known from which columns (N, C) are."""
        return known[:, self.columns]

    def to_json(self) -> list[Facts]:
        """Return the coordinates as plain data; :meth:`from_json` restores them."""
        return [dict(vars(part)) if isinstance(part, Block) else part.to_json() for part in self.parts]

    @classmethod
    def from_json(cls, facts: list[Facts]) -> "Elements":
        """Return the coordinates from the output of :meth:`to_json`; ValueError if the facts do not describe any."""

        def part(facts: Facts) -> Element:
            if "points" in facts:
                return Bins.from_json(facts)
            return Block(**facts) if "levels" in facts else Score.from_json(facts)

        return cls(tuple(map(part, facts)))


def _with_unseen(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return all integers from the smallest to the largest with their counts, a small one for those that are not seen."""
    whole = torch.arange(float(values[0]), float(values[-1]) + 1, dtype=torch.float64)
    every = torch.full_like(whole, _UNSEEN)
    every[(values - values[0]).long()] = counts.double()
    return whole, every


def _score(share: Tensor) -> Tensor:
    """Return Phi^-1 of shares, within the range that float64 resolves."""
    score: Tensor = torch.special.ndtri(share)
    return score.clamp(-_FAR, _FAR)
