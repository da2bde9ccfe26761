"""The columns of a table as coordinates of a mixture of products: levels, and a number for each real.

The levels of a column are, in this order,

- those of its numbers without a level of their own: one for all reals, beside which the row has the normal score of the number,
  z = Phi^-1(P(X <= x)); for integers one for each of the intervals of :class:`Steps`;
- its atoms: all levels of a category, and numbers with a share of their own;
- one for gaps, if the column has any.

So the density of a row is that of its levels and scores, times dz/dx for each real, and divided by the number of integers of
the interval for each integer.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from pushforward.data import Facts
from pushforward.data.columns.elements import Score
from pushforward.probability import noise
from pushforward.probability.domain import KNOWN, PRESENT, Domain
from pushforward.probability.estimation.products_em import Intervals, Leaf, Shares
from pushforward.probability.laws.products import ANY, ANY_BUT_LAST

__all__ = ["Coordinates", "LevelColumn", "Steps"]

_ROWS_PER_STEP, _MOST_STEPS = 10, 256
_ROWS_PER_KNOT, _MOST_KNOTS = 20, 256
_UNSEEN = 0.5  # rows that are added to each level
_ATOM, _TIMES = 0.01, 10  # share of the rows that an atom has, and times more rows than the typical number
_FEW = 20  # different numbers that all are atoms


@dataclass(frozen=True)
class Steps:
    """Intervals of the integers from ``low`` on that are no atoms, all of which are equally probable within an interval.

    Parameters
    ----------
    low : float
    atoms : tuple of float
        Rising.
    starts : tuple of float
        Where each interval begins, and where the last one ends, in numbers of integers from ``low`` that are no atoms.
    edges : tuple of float
        Normal scores of the inner ends.
    """

    low: float
    atoms: tuple[float, ...]
    starts: tuple[float, ...]
    edges: tuple[float, ...]

    @classmethod
    def fit(cls, x: Tensor, low: float, high: float, atoms: tuple[float, ...]) -> "Steps | None":
        """Fit to the integers x (N,) without atoms; None if there are no others from ``low`` to ``high``."""
        count = high - low + 1 - len(atoms)
        if count < 1:
            return None
        empty = cls(low, atoms, (0.0, count), ())
        ranks, counts = torch.unique(empty._rank(x), return_counts=True)
        least = _ROWS_PER_STEP if len(ranks) <= _MOST_STEPS else math.ceil(len(x) / _MOST_STEPS)
        starts, rows = [0.0], [0]
        for rank, number in zip(ranks.tolist(), counts.tolist(), strict=True):
            alone = number >= least
            if starts[-1] < rank and (alone or rows[-1] >= least):
                starts.append(rank)
                rows.append(0)
            rows[-1] += number
            if alone and rank + 1 < count:
                starts.append(rank + 1)
                rows.append(0)
        upper = torch.tensor(rows).double().clamp(min=_UNSEEN).cumsum(0)
        return cls(low, atoms, (*starts, count), tuple(torch.special.ndtri(upper[:-1] / upper[-1]).tolist()))

    def __post_init__(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        rising = all(
            bool((torch.tensor(part, dtype=torch.float64).diff() > 0).all()) for part in (self.starts, self.edges, self.atoms)
        )
        if not rising or len(self.edges) != len(self.starts) - 2 or self.starts[0] != 0:
            raise ValueError("the intervals of integers need rising ends, and a score for each inner one")

    @property
    def count(self) -> int:
        """Number of intervals."""
        return len(self.starts) - 1

    def level(self, x: Tensor) -> Tensor:
        """Return the interval (N,) of each integer x (N,)."""
        return torch.searchsorted(self._starts[1:-1], self._rank(x.nan_to_num(self.low)), right=True)

    def value(self, level: Tensor, u: Tensor) -> Tensor:
        """Return an integer (N,) of each interval (N,), by uniform numbers u (N,)."""
        begin, end = self._starts[level], self._starts[level + 1]
        rank = torch.minimum(begin + (u * (end - begin)).floor(), end - 1)
        before = self._atoms - self.low - torch.arange(len(self.atoms))  # ranks, of which so many atoms lie below
        return self.low + rank + torch.searchsorted(before, rank, right=True)

    def log_volume(self, level: Tensor) -> Tensor:
        """Return minus the logarithm of the number of integers of each interval (N,)."""
        return -(self._starts[level + 1] - self._starts[level]).log()

    def _rank(self, x: Tensor) -> Tensor:
        return (x - self.low - torch.searchsorted(self._atoms, x.contiguous())).contiguous()

    @property
    def _starts(self) -> Tensor:
        return torch.tensor(self.starts, dtype=torch.float64)

    @property
    def _atoms(self) -> Tensor:
        return torch.tensor(self.atoms, dtype=torch.float64)


@dataclass(frozen=True)
class LevelColumn:
    """One column.

    Parameters
    ----------
    atoms : tuple of float
        Rising.
    gaps : bool
    inside : Score, Steps, or None
        Of the numbers that are no atoms, if there are any.
    """

    atoms: tuple[float, ...]
    gaps: bool
    inside: Score | Steps | None = None

    @classmethod
    def fit(cls, x: Tensor, domain: Domain, gaps: bool) -> "LevelColumn":
        """Fit to numbers x (N,), NaN in gaps."""
        if domain.type == "category":
            return cls(tuple(map(float, range(domain.levels))), gaps)
        x = x[~x.isnan()].double()
        atoms = _atoms(x, domain)
        rest = x[~torch.isin(x, torch.tensor(atoms, dtype=torch.float64))]
        if domain.type == "integer":
            return cls(atoms, gaps, Steps.fit(rest, domain.low, domain.high, atoms))
        rest = rest if len(torch.unique(rest)) > 1 else x  # so that no real is impossible
        if len(torch.unique(rest)) < 2:
            return cls(tuple(torch.unique(x).tolist()), gaps)
        knots = max(2, min(_MOST_KNOTS, len(rest) // _ROWS_PER_KNOT))
        return cls(atoms, gaps, Score.fit(rest, replace(domain, atoms=()), gaps=False, knots=knots))

    @property
    def real(self) -> bool:
        """Whether there are scores."""
        return isinstance(self.inside, Score)

    @property
    def size(self) -> int:
        """Number of levels."""
        return self._first + len(self.atoms) + self.gaps

    def level(self, x: Tensor) -> Tensor:
        """Return the levels (N,) of numbers x (N,), NaN in gaps."""
        level = self.inside.level(x) if isinstance(self.inside, Steps) else torch.zeros(len(x), dtype=torch.int64)
        if self.atoms:
            at = torch.searchsorted(self._atoms, x.nan_to_num(self.atoms[0]).contiguous()).clamp(max=len(self.atoms) - 1)
            level = torch.where(self._atoms[at] == x, self._first + at, level)
        return torch.where(x.isnan(), self.size - 1, level)

    def score(self, x: Tensor) -> Tensor:
        """Return z (N,) of numbers x (N,), NaN where there is none."""
        assert isinstance(self.inside, Score)
        return torch.where(self.level(x) == 0, self.inside.forward(x, torch.full_like(x, 0.5))[:, 0], torch.nan)

    def value(self, level: Tensor, z: Tensor | None, u: Tensor) -> Tensor:
        """Return numbers (N,) for levels and z (N,), NaN in gaps; uniform numbers u (N,) choose within intervals."""
        values = torch.tensor([*[0.0] * self._first, *self.atoms, torch.nan], dtype=torch.float64)[level]
        if isinstance(self.inside, Steps):
            return torch.where(level < self._first, self.inside.value(level.clamp(max=self._first - 1), u), values)
        if self.inside is None or z is None:
            return values
        return torch.where(level == 0, self.inside.inverse(z.nan_to_num(0.0)[:, None]), values)

    def log_volume(self, x: Tensor) -> Tensor:
        """Return the term (N,) that turns the log-density of the coordinates into that of numbers x (N,)."""
        level = self.level(x)
        if self.inside is None:
            known = torch.isin(x, self._atoms) | (x.isnan() & self.gaps)
            return torch.where(known, 0.0, -torch.inf)
        if isinstance(self.inside, Steps):
            volume = self.inside.log_volume(level.clamp(max=self._first - 1))
        else:
            volume = self.inside.log_volume(x, self.score(x)[:, None])
        return torch.where(level < self._first, volume, 0.0)

    def leaf(self, x: Tensor, strength: float, floor: float) -> Leaf:
        """Return the M-step of the column, for the numbers x (N,) of the training rows."""
        level = self.level(x[~x.isnan()] if not self.gaps else x)
        if not isinstance(self.inside, Steps) or self._first == 1:
            return Shares(_shares(level, self.size), strength)
        edges = torch.tensor([-math.inf, *self.inside.edges, math.inf], dtype=torch.float64)
        beside = (level - self._first + 1).clamp(min=0)
        size = self.size - self._first + 1
        return Intervals(edges, floor, Shares(_shares(beside, size), strength) if size > 1 else None)

    @property
    def _first(self) -> int:
        """Number of levels before those of the atoms."""
        return self.inside.count if isinstance(self.inside, Steps) else int(self.inside is not None)

    @property
    def _atoms(self) -> Tensor:
        return torch.tensor(self.atoms, dtype=torch.float64)


@dataclass(frozen=True)
class Coordinates:
    """The coordinates of all columns.

    Parameters
    ----------
    columns : tuple of LevelColumn
    """

    columns: tuple[LevelColumn, ...]

    @classmethod
    def fit(cls, x: Tensor, domains: Sequence[Domain], gaps: Sequence[bool]) -> "Coordinates":
        """Fit to rows x (N, C), float64, NaN in gaps and where unknown."""
        return cls(tuple(LevelColumn.fit(*parts) for parts in zip(x.unbind(1), domains, gaps, strict=True)))

    @property
    def dim(self) -> int:
        """Number of scores."""
        return len(self._real)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z (N, d) and levels (N, C) of rows x (N, C), NaN in gaps.

        ``state`` says which cells are known, by default all; a gap in a column without gaps is unknown.
        """
        levels = torch.stack([column.level(values) for column, values in self._with(x)], 1)
        scores = [column.score(values) for column, values in self._with(x) if column.real]
        z = torch.stack(scores, 1) if scores else torch.empty(len(x), 0, dtype=torch.float64)
        state = torch.full(x.shape, KNOWN) if state is None else state
        has_gaps = torch.tensor([column.gaps for column in self.columns])
        unknown = (state != KNOWN) | (x.isnan() & ~has_gaps)
        free = torch.where((state == PRESENT) & has_gaps, ANY_BUT_LAST, ANY)
        return z.where(~unknown[:, self._real], torch.nan), torch.where(unknown, free, levels)

    def inverse(self, z: Tensor, levels: Tensor, *, seed: int, first: int = 0) -> Tensor:
        """Return rows (N, C), NaN in gaps; the random numbers of row i depend on (seed, first + i) alone."""
        rows = torch.arange(first, first + len(levels))
        u = noise.uniform((len(self.columns),), seed=seed, purpose="within intervals", rows=rows, dtype=torch.float64)
        scores = iter(z.unbind(1))
        parts = []
        for index, column in enumerate(self.columns):
            parts.append(column.value(levels[:, index], next(scores) if column.real else None, u[:, index]))
        return torch.stack(parts, 1)

    def log_volume(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the term (N,) that turns the log-density of the coordinates into that of the known cells of rows x (N, C)."""
        has_gaps = torch.tensor([column.gaps for column in self.columns])
        each = torch.stack([column.log_volume(values) for column, values in self._with(x)], 1)
        return torch.where((state == KNOWN) & (has_gaps | ~x.isnan()), each, 0.0).sum(1)

    def leaves(self, x: Tensor, strength: float, floor: float) -> list[Leaf]:
        """Return the M-steps of the columns, for training rows x (N, C)."""
        return [column.leaf(values, strength, floor) for column, values in self._with(x)]

    def to_json(self) -> list[Facts]:
        """Return the coordinates as plain data; :meth:`from_json` restores them."""
        return [asdict(replace(column, inside=None)) | {"inside": _inside_facts(column.inside)} for column in self.columns]

    @classmethod
    def from_json(cls, facts: list[Facts]) -> "Coordinates":
        """Return the coordinates from the output of :meth:`to_json`; ValueError if the facts do not describe any."""
        return cls(tuple(_column_of(part) for part in facts))

    @property
    def _real(self) -> list[int]:
        return [index for index, column in enumerate(self.columns) if column.real]

    def _with(self, x: Tensor) -> list[tuple[LevelColumn, Tensor]]:
        return list(zip(self.columns, x.double().unbind(1), strict=True))


def _atoms(x: Tensor, domain: Domain) -> tuple[float, ...]:
    """Return the numbers of a column (N,) with a level of their own: those of the domain, or by how often they occur."""
    if domain.type == "real" and domain.atoms:
        return tuple(sorted(domain.atoms))
    values, counts = torch.unique(x, return_counts=True)
    if domain.type == "real" or not len(x):
        return ()
    if len(values) <= _FEW and len(x) >= _TIMES * len(values):
        return tuple(values.tolist())
    often = (counts >= _ATOM * len(x)) & (counts >= _TIMES * counts.median())
    return tuple(values[often].tolist())


def _shares(levels: Tensor, size: int) -> Tensor:
    """Return the shares of levels (N,), none of which is 0, because a level that no training row has may occur in others."""
    counts = torch.bincount(levels, minlength=size).double() + _UNSEEN
    return counts / counts.sum()


def _inside_facts(inside: Score | Steps | None) -> Facts | None:
    if inside is None:
        return None
    return {"score": inside.to_json()} if isinstance(inside, Score) else {"steps": asdict(inside)}


def _column_of(facts: Facts) -> LevelColumn:
    inside: Score | Steps | None = None
    if facts["inside"] is not None:
        law, parts = next(iter(facts["inside"].items()))
        if law == "score":
            inside = Score.from_json(parts)
        else:
            inside = Steps(float(parts["low"]), *(tuple(map(float, parts[name])) for name in ("atoms", "starts", "edges")))
    atoms = tuple(map(float, facts["atoms"]))
    if not atoms and inside is None:
        raise ValueError("a column needs an atom, or other numbers")
    return LevelColumn(atoms, bool(facts["gaps"]), inside)
