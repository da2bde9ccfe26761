r"""Mixtures whose components are products of a Gaussian and of categories: laws of rows with coordinates of both types.

A row is (z, c): real numbers z (d,) and levels c_1, ..., c_J, with

    p(z, c) = sum_k w_k N(z; m_k, S_k) prod_j t_kj(c_j).

What is not known of a row is integrated out, which leaves a mixture of the same form: a number that is NaN, and a level

    ANY = -1           that can be any of the column,
    ANY_BUT_LAST = -2  that is not the last one, such as a column of which it is known that it has no gap.

So marginals and conditionals are exact: given the known part, a component is drawn by its posterior probability, and the
unknown part from that component.

References
----------
Geoffrey J. McLachlan, David Peel. Finite mixture models. Wiley, 2000.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.laws import gaps
from pushforward.probability.laws.mixture import GaussianMixture

__all__ = ["ANY", "ANY_BUT_LAST", "LevelTable", "ProductMixture"]

ANY, ANY_BUT_LAST = -1, -2


@dataclass(frozen=True, eq=False)
class LevelTable:
    """Logarithms of the probabilities of the levels of all columns, with those of what is not known, in one matrix.

    Attributes
    ----------
    rows : Tensor (sum of (L_j + 2), K)
        For each column: the levels, ANY_BUT_LAST, ANY.
    first : int64 Tensor (J,)
        Where each column begins.
    sizes : tuple of int
        L_j.
    """

    rows: Tensor
    first: Tensor
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, tables: Sequence[Tensor]) -> "LevelTable":
        """Return the matrix for tables (K, L_j)."""
        parts = []
        for table in tables:
            present = torch.log1p(-table[:, -1:].clamp(max=1.0)) if table.shape[1] > 1 else torch.zeros_like(table)
            parts.append(torch.cat([table.log(), present, torch.zeros_like(present)], 1).T)
        sizes = tuple(table.shape[1] for table in tables)
        first = torch.tensor([0, *(size + 2 for size in sizes)]).cumsum(0)[:-1]
        return cls(torch.cat(parts).contiguous(), first, sizes)

    def index(self, levels: Tensor) -> Tensor:
        """Return the row of the matrix for each level (N, J)."""
        sizes = torch.tensor(self.sizes)
        return self.first + torch.where(levels >= 0, levels, torch.where(levels == ANY, sizes + 1, sizes))

    def log_prob(self, levels: Tensor) -> Tensor:
        """Return the sum over columns of log t_kj(c_j), (N, K), for levels (N, J)."""
        index = self.index(levels)
        offsets = torch.arange(0, index.numel(), index.shape[1])
        total: Tensor = torch.nn.functional.embedding_bag(index.flatten(), self.rows, offsets, mode="sum")
        return total


@dataclass(frozen=True, eq=False)
class ProductMixture:
    """The law of rows (z, c) of the module docstring.

    Parameters
    ----------
    weights : Tensor (K,)
        float64, positive, with sum one.
    means : Tensor (K, d)
        d may be 0.
    covs : Tensor (K,), (K, d) or (K, d, d)
    tables : sequence of Tensor (K, L_j)
        Probabilities of the levels of each column; each row has the sum one. There may be none.

    Raises
    ------
    ValueError
        If shapes do not fit, or there are neither numbers nor columns, or probabilities do not sum to one.

    >>> tables = [torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double()]
    >>> law = ProductMixture([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], tables)
    >>> unknown = torch.full((1, 1), torch.nan).double()
    >>> law.log_prob(unknown, torch.tensor([[1]])).exp()
    tensor([0.4500], dtype=torch.float64)
    >>> law.responsibilities(unknown, torch.tensor([[1]])).round(decimals=3)
    tensor([[0.1110, 0.8890]], dtype=torch.float64)
    """

    weights: Tensor
    means: Tensor
    covs: Tensor
    tables: tuple[Tensor, ...]

    def __init__(self, weights: object, means: object, covs: object, tables: Sequence[Tensor]) -> None:
        for name, value in (("weights", weights), ("means", means), ("covs", covs)):
            object.__setattr__(self, name, torch.as_tensor(value, dtype=torch.float64))
        object.__setattr__(self, "tables", tuple(table.double() for table in tables))
        self._check()

    @classmethod
    def mean(cls, laws: Sequence["ProductMixture"]) -> "ProductMixture":
        """Return the mean of the densities of laws of the same coordinates."""
        weights = torch.cat([law.weights for law in laws]) / len(laws)
        tables = [torch.cat(tables) for tables in zip(*(law.tables for law in laws), strict=True)]
        return cls(weights, torch.cat([law.means for law in laws]), torch.cat([law.covs for law in laws]), tables)

    @property
    def dim(self) -> int:
        """Number d of real coordinates."""
        return self.means.shape[1]

    def log_joint(self, z: Tensor, levels: Tensor) -> Tensor:
        """Return log w_k p(z, c | k), (N, K), of the known parts of rows z (N, d), levels (N, J)."""
        joint = self.weights.log().expand(len(z), -1)
        if self.tables:
            joint = joint + self.level_table.log_prob(levels)
        if self.dim:
            joint = joint + gaps.log_joint(self.gaussians, z) - self.weights.log()
        return joint

    def log_prob(self, z: Tensor, levels: Tensor) -> Tensor:
        """Return log p of the known parts of rows z (N, d), levels (N, J), in nats, (N,)."""
        return self.log_joint(z, levels).logsumexp(1)

    def responsibilities(self, z: Tensor, levels: Tensor) -> Tensor:
        """Return the posterior probability of each component given the known part of each row, (N, K)."""
        return self.log_joint(z, levels).softmax(1)

    def sample(self, n: int, *, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names: z (n, d) and levels (n, J)."""
        z = torch.full((n, self.dim), torch.nan, dtype=torch.float64)
        levels = torch.full((n, len(self.tables)), ANY)
        return self.fill(z, levels, self.log_joint(z, levels), seed=seed, first=first)

    def fill(self, z: Tensor, levels: Tensor, log_joint: Tensor, *, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return rows with their unknown parts drawn given the known ones.

        ``log_joint`` (N, K) is :meth:`log_joint` of these rows, or other log-weights of the components. The random numbers
        of row i depend on (seed, first + i) alone.
        """
        rows = torch.arange(first, first + len(z))
        u = noise.uniform((1 + len(self.tables),), seed=seed, purpose="mixture component", rows=rows, dtype=torch.float64)
        component = _drawn(log_joint.softmax(1), u[:, 0])
        levels = levels.clone()
        for column, table in enumerate(self.tables):
            unknown = (levels[:, column] < 0).nonzero()[:, 0]
            if len(unknown):
                chances = table[component[unknown]]
                chances[levels[unknown, column] == ANY_BUT_LAST, -1] = 0.0
                levels[unknown, column] = _drawn(chances.clamp(min=0.0), u[unknown, 1 + column])
        if self.dim and bool(z.isnan().any()):
            normal = noise.normal((self.dim,), seed=seed, purpose="mixture", rows=rows, dtype=torch.float64)
            z = gaps.fill(self.gaussians, z, component, normal)
        return z, levels

    @functools.cached_property
    def gaussians(self) -> GaussianMixture:
        """The law of z, if d > 0."""
        return GaussianMixture(self.weights, self.means, self.covs)

    @functools.cached_property
    def level_table(self) -> LevelTable:
        """The tables in one matrix, if there are any."""
        return LevelTable.of(self.tables)

    def _check(self) -> None:
        count = len(self.weights)
        if self.weights.ndim != 1 or self.means.ndim != 2 or len(self.means) != count:
            raise ValueError(
                f"weights (K,) and means (K, d) are of shapes {tuple(self.weights.shape)}, {tuple(self.means.shape)}"
            )
        if not self.dim and not self.tables:
            raise ValueError("a row needs at least one number or level")
        for number, table in enumerate(self.tables):
            if table.ndim != 2 or len(table) != count or not table.shape[1]:
                raise ValueError(f"table {number} has the shape {tuple(table.shape)}, but needs ({count}, L)")
            if not bool((table >= 0).all()) or not torch.allclose(table.sum(1), torch.ones(count).double(), atol=1e-6):
                raise ValueError(f"table {number} needs probabilities whose sum over the levels is 1")
        if self.dim:
            _ = self.gaussians  # checks weights, means and covs
        elif not (bool((self.weights > 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-6):
            raise ValueError("weights must be positive, with sum 1")


def _drawn(chances: Tensor, u: Tensor) -> Tensor:
    """Return the level (n,) that uniform numbers u (n,) choose by chances (n, L) that need not be normalized."""
    upper = chances.cumsum(1)
    level = torch.searchsorted(upper, (u * upper[:, -1])[:, None], right=True)[:, 0]
    last = chances.shape[1] - 1 - (chances.flip(1) > 0).int().argmax(1)  # rounding must not choose an impossible level
    return torch.minimum(level, last)
