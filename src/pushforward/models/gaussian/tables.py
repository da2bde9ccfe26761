"""The law of the columns of a table under a mixture of products, in the units of the data: :class:`TableLaw`."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.data import Facts
from pushforward.models.gaussian.columns import Coordinates
from pushforward.probability.domain import KNOWN, UNKNOWN
from pushforward.probability.laws.products import ProductMixture

__all__ = ["TableLaw"]

_NUMBERS = 1 << 22  # of rows times components at once


@dataclass(frozen=True, eq=False)
class TableLaw:
    """A mixture whose components are products of a Gaussian and of categories, seen through the coordinates of columns.

    Parameters
    ----------
    coordinates : Coordinates
        Levels and normal scores of the columns.
    mixture : ProductMixture
        The law of these.
    """

    coordinates: Coordinates
    mixture: ProductMixture

    def __post_init__(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        sizes = [column.size for column in self.coordinates.columns]
        found = [table.shape[1] for table in self.mixture.tables]
        if found != sizes or self.mixture.dim != self.coordinates.dim:
            raise ValueError(f"the mixture has the levels {found}, but the columns have {sizes}, or their scores differ")

    @property
    def gaps(self) -> list[bool]:
        """Which columns have gaps."""
        return [column.gaps for column in self.coordinates.columns]

    def log_prob(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the log-density of rows in nats, (N,), by the measure of :mod:`pushforward.probability.domain`.

        Parameters
        ----------
        x : Tensor (N, C)
            One number per column, NaN in gaps.
        state : int Tensor (N, C), optional
            KNOWN, UNKNOWN or PRESENT for each cell; all known by default. The density is that of the known cells.
        """
        state = torch.full(x.shape, KNOWN) if state is None else state
        density = [self.mixture.log_prob(*self.coordinates.forward(x[part], state[part])) for part in self._blocks(len(x))]
        return torch.cat([x.new_empty(0), *density]) + self.coordinates.log_volume(x, state)

    def responsibilities(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the posterior probability of each component given the known cells of each row, (N, K)."""
        return self.mixture.responsibilities(*self.coordinates.forward(x, state))

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1``, (n, C); row i is a function of (seed, i)."""
        x = torch.full((n, len(self.coordinates.columns)), torch.nan, dtype=torch.float64)
        return self.sample_given(x, torch.full(x.shape, UNKNOWN), seed=seed, first=first)

    def sample_given(self, x: Tensor, state: Tensor, *, seed: int, first: int = 0) -> Tensor:
        """Draw the cells of rows (N, C) that are not known, given those that are.

        Row i of the result is a function of (seed, first + i) and of row i of the arguments.
        """
        drawn = x.double().clone()
        for part in self._blocks(len(x)):
            z, levels = self.coordinates.forward(x[part], state[part])
            begin = first + part.start
            z, levels = self.mixture.fill(z, levels, self.mixture.log_joint(z, levels), seed=seed, first=begin)
            new = self.coordinates.inverse(z, levels, seed=seed, first=begin)
            drawn[part] = torch.where(state[part] == KNOWN, x[part].double(), new)
        return drawn

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the law as plain data for JSON and as tensors for safetensors; :meth:`from_state` restores it exactly."""
        law = self.mixture
        tensors = {"weights": law.weights, "means": law.means, "covs": law.covs, "tables": torch.cat(law.tables, 1)}
        return {"columns": self.coordinates.to_json()}, {name: part.contiguous() for name, part in tensors.items()}

    @classmethod
    def from_state(cls, facts: Facts, tensors: dict[str, Tensor]) -> "TableLaw":
        """Return the law from the output of :meth:`state`; ValueError if its parts do not fit each other."""
        coordinates = Coordinates.from_json(facts["columns"])
        sizes = [column.size for column in coordinates.columns]
        if tensors["tables"].ndim != 2 or tensors["tables"].shape[1] != sum(sizes):
            raise ValueError(
                f"the tables of levels have the shape {tuple(tensors['tables'].shape)}, but need {sum(sizes)} levels"
            )
        return cls(
            coordinates,
            ProductMixture(tensors["weights"], tensors["means"], tensors["covs"], torch.split(tensors["tables"], sizes, 1)),
        )

    def _blocks(self, n: int) -> Iterator[slice]:
        for begin in range(0, n, self._block):
            yield slice(begin, min(begin + self._block, n))

    @functools.cached_property
    def _block(self) -> int:
        return max(1, _NUMBERS // len(self.mixture.weights))
