"""The law of rows given conditions, from a law of columns of several types: those of a row, then those of its condition.

The condition is one category for a label, or a column for each of its numbers and categories. So the law of a row given any
part of a condition is a quotient of two marginals, p(x | c) = p(x, c) / p(c).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pushforward.data import RowSpace, Transform
from pushforward.data.conditions.features import collected
from pushforward.probability.domain import KNOWN, PRESENT, UNKNOWN, Domain

__all__ = [
    "ColumnLaw",
    "RowLaw",
    "columns_of_law",
    "condition_columns",
    "condition_domains",
    "inside_range",
    "joint_columns",
    "with_gaps_varying",
]


class ColumnLaw(Protocol):
    """An exact law of rows of mixed columns; ``state`` says what is known of each cell."""

    @property
    def gaps(self) -> Sequence[bool]:
        """Which columns have gaps."""

    def log_prob(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the log-density of the known cells of rows x (N, C) in nats, (N,)."""

    def sample_given(self, x: Tensor, state: Tensor, *, seed: int, first: int = 0) -> Tensor:
        """Return rows x (N, C) with the other cells drawn given these."""


@dataclass(frozen=True, eq=False)
class RowLaw:
    """The law of the varying elements of rows given their condition.

    Attributes
    ----------
    space : RowSpace
    law : ColumnLaw
    """

    space: RowSpace
    law: ColumnLaw

    def log_density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return log p(x | condition) of rows, (N,), for varying elements (N, d) with NaN in gaps."""
        # A gap is scored only in tables, and in columns that had gaps in training; elsewhere it says nothing.
        scored = torch.tensor(self.law.gaps[: x.shape[1]]) & (self._unsaid == UNKNOWN)
        columns, state = joint_columns(self.space, x, condition, gap=torch.where(scored, KNOWN, self._unsaid))
        given = torch.cat([torch.full(x.shape, self._unsaid), state[:, x.shape[1] :]], 1)
        distinct, which = torch.unique(torch.cat([columns[:, x.shape[1] :], given], 1), dim=0, return_inverse=True)
        first = torch.full((len(distinct),), len(x)).scatter_reduce(0, which, torch.arange(len(x)), "amin")
        return self.law.log_prob(columns, state) - self.law.log_prob(columns[first], given[first])[which]

    def log_marginal(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return log p of the elements of rows (N, d) that are not NaN, and of their condition, (N,)."""
        return self.law.log_prob(*joint_columns(self.space, x, condition, gap=UNKNOWN))

    def sample(self, n: int, dim: int, condition: Tensor | None, *, seed: int, first: int = 0) -> Tensor:
        """Draw the varying elements of n rows, (n, dim)."""
        return self.complete(torch.full((n, dim), torch.nan, dtype=torch.float64), condition, seed=seed, first=first)

    def complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int = 0) -> Tensor:
        """Return x (n, d) with its NaN drawn given the other elements and the conditions; gaps of tables can be drawn."""
        return self._drawn(x, condition, self._unsaid, seed, first)

    def fill(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int = 0) -> Tensor:
        """Return x (n, d) with its NaN drawn as :meth:`complete` does, but given that they are no gaps."""
        return self._drawn(x, condition, PRESENT, seed, first)

    def _drawn(self, x: Tensor, condition: Tensor | None, unknown: int, seed: int, first: int) -> Tensor:
        columns, state = joint_columns(self.space, x, condition, gap=unknown)
        for column, has_gaps in enumerate(self.law.gaps):
            if not has_gaps:  # without gaps PRESENT is UNKNOWN, which needs no sums if it holds for all cells
                state[:, column] = state[:, column].where(state[:, column] != PRESENT, UNKNOWN)
        return self.law.sample_given(columns, state, seed=seed, first=first)[:, : x.shape[1]]

    @property
    def _unsaid(self) -> int:
        """State of a cell whose value is not given. In tables it may also be a gap; other rows have no gaps."""
        return PRESENT if self.space.schema.table is None else UNKNOWN


def inside_range(space: RowSpace, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the varying elements of rows with integers moved into the training range, and the rule for its ends."""
    transform = space.transform
    inside, log_shares = transform.ends(transform.in_units(z))
    return transform.forward(inside, dtype=torch.float64)[:, transform.varies], log_shares


def joint_columns(space: RowSpace, x: Tensor, condition: Tensor | None, *, gap: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return the columns of the law (n, C) and the state of each cell, from varying elements (n, d) and encoded conditions.

    ``gap`` is the state of the gaps in x, one or (n, d).
    """
    numbers, known = condition_columns(space, condition, len(x))
    state = torch.where(x.isnan(), gap, KNOWN)
    return torch.cat([x, numbers], 1), torch.cat([state, torch.where(known, KNOWN, UNKNOWN)], 1)


def condition_columns(space: RowSpace, condition: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """Return labels or numbers (n, F) of encoded conditions (n, K), and which are known; None is "no condition"."""
    encoder = space.conditions
    if encoder is None:
        return torch.empty(n, 0, dtype=torch.float64), torch.empty(n, 0, dtype=torch.bool)
    encoded = encoder.encode(None, n) if condition is None else condition
    if encoder.has_classes:
        return encoded[:, 1:].argmax(1, keepdim=True).double(), encoded[:, :1] > 0
    features = encoder.features(encoded)
    if encoder.table is not None:
        features = collected(encoder.table, features)
    return features.nan_to_num(), ~features.isnan()


def condition_domains(space: RowSpace) -> tuple[Domain, ...]:
    """Return the domains of the columns of conditions; numbers are standardized, and may be any reals."""
    encoder = space.conditions
    if encoder is None:
        return ()
    if encoder.has_classes:
        return (Domain("category", 0, len(encoder.classes) - 1),)
    if encoder.table is None:
        return (Domain("real"),) * len(encoder.mean)
    return tuple(domain if domain.type == "category" else Domain("real") for domain in encoder.table.domains)


def columns_of_law(space: RowSpace) -> tuple[list[Domain], list[bool]]:
    """Return the domains of the columns of the law of a table, and which of them have gaps."""
    table, chosen, beside = space.schema.table, space.transform.varies.tolist(), condition_domains(space)
    assert table is not None
    domains = [domain for domain, varies in zip(table.domains, chosen, strict=True) if varies]
    gaps = [gap for gap, varies in zip(table.gaps, chosen, strict=True) if varies]
    return [*domains, *beside], [*gaps, *[False] * len(beside)]


def with_gaps_varying(transform: Transform, gaps: Sequence[bool]) -> Transform:
    """Return the scaling of a table in which a column of one value and gaps varies: whether there is a gap is learned."""
    constant = transform.constant & ~torch.tensor(gaps)
    return replace(transform, constant=constant, value=transform.value.where(constant, 0.0))
