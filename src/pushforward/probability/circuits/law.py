r"""Averages of hidden trees: an exact law of rows of mixed columns, :class:`HiddenTrees`.

The density is the mean of those of M trees, p(x) = sum over m of w_m p_m(x). Every marginal and every conditional law is exact:
an unknown cell has p(x_c | z) = 1 in the sums of :mod:`pushforward.probability.circuits.tree`, and a cell that is known to be
no gap the probability of that.

References
----------
Anji Liu, Guy Van den Broeck. Tractable regularization of probabilistic circuits. NeurIPS 2021.
Marina Meila, Michael I. Jordan. Learning with mixtures of trees. JMLR, 2000.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.circuits.basis import Basis
from pushforward.probability.circuits.evidence import Evidence
from pushforward.probability.circuits.tree import HiddenTree, order_of, picked
from pushforward.probability.domain import KNOWN, UNKNOWN

__all__ = ["HiddenTrees"]


@dataclass(frozen=True, eq=False)
class HiddenTrees:
    """The mean of the densities of hidden trees over the same columns.

    Parameters
    ----------
    bases : tuple of Basis
        One per column.
    trees : tuple of HiddenTree
    weights : Tensor (M,)
        Positive, with sum 1.
    """

    bases: tuple[Basis, ...]
    trees: tuple[HiddenTree, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        M, C = len(self.trees), len(self.bases)
        if not M or self.weights.shape != (M,) or not _sums_to_one(self.weights, 0) or not bool((self.weights > 0).all()):
            raise ValueError("weights must be positive, one per tree, and sum to one")
        S = len(self.trees[0].root)
        for tree in self.trees:
            if len(order_of(tree.parents)) != C:
                raise ValueError(f"a tree has {len(tree.parents)} parents, but there are {C} columns")
            shapes = [tuple(leaf.shape) for leaf in tree.leaves]
            if tree.transitions.shape != (C, S, S) or shapes != [(basis.size, S) for basis in self.bases]:
                raise ValueError("transitions must be (C, S, S), and leaves as many as the elements of each basis times S")
            tables = (tree.root[:, None], tree.transitions.mT, *tree.leaves)
            if tree.root.shape != (S,) or not all(_sums_to_one(table, -2) for table in tables):
                raise ValueError("the probabilities of states and elements must be float64, at least 0, and sum to one")

    @property
    def columns(self) -> int:
        """Number of columns C."""
        return len(self.bases)

    @property
    def gaps(self) -> list[bool]:
        """Which columns have gaps."""
        return [basis.gap for basis in self.bases]

    @property
    def states(self) -> int:
        """Number of hidden states S per column."""
        return len(self.trees[0].root)

    @property
    def parameters(self) -> int:
        """Number of free parameters."""
        S, C = self.states, self.columns
        leaves = sum(S * (basis.size - 1) for basis in self.bases)
        return len(self.trees) * (S - 1 + (C - 1) * S * (S - 1) + leaves) + len(self.trees) - 1

    def log_prob(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the log-density of rows in nats, (N,), by the measure of :mod:`pushforward.probability.domain`.

        Parameters
        ----------
        x : Tensor (N, C)
        state : int Tensor (N, C), optional
            KNOWN, UNKNOWN or PRESENT for each cell; all known by default. The density is that of the known cells.
        """
        return (self.log_probs(x, state) + self.weights.log()).logsumexp(1)

    def log_probs(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the log-density of rows under each tree, (N, M); the arguments are those of :meth:`log_prob`."""
        return self.log_probs_of(Evidence.of(self.bases, x, state))

    def log_probs_of(self, evidence: Evidence) -> Tensor:
        """Return the log-density of what is known of rows under each tree, (N, M)."""
        out = torch.zeros(len(evidence), len(self.trees), dtype=torch.float64)
        for rows in evidence.blocks(self.states):
            block = evidence.rows(rows)
            for number, tree in enumerate(self.trees):
                out[rows, number] = tree.upward(block.emissions(tree.leaves)).log_prob
        return out

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1``, (n, C); row i is a function of (seed, i)."""
        x = torch.full((n, self.columns), torch.nan, dtype=torch.float64)
        return self.sample_given(x, torch.full(x.shape, UNKNOWN), seed=seed, first=first)

    def sample_given(self, x: Tensor, state: Tensor, *, seed: int, first: int = 0) -> Tensor:
        """Draw the cells of rows (N, C) that are not known, given those that are.

        Parameters
        ----------
        x : Tensor (N, C)
        state : int Tensor (N, C)
            KNOWN, UNKNOWN or PRESENT for each cell.
        seed, first : int
            Row i of the result is a function of (seed, first + i) and of row i of the arguments.
        """
        drawn, evidence = x.double().clone(), Evidence.of(self.bases, x, state)
        for rows in evidence.blocks(self.states):
            block, numbers = evidence.rows(rows), torch.arange(first + rows.start, first + rows.stop)
            u = noise.uniform((3 * self.columns + 1,), seed=seed, purpose="circuit", rows=numbers, dtype=torch.float64)
            free = bool((state[rows] == UNKNOWN).all())
            scores = torch.zeros(len(u), len(self.trees)) if free else self.log_probs_of(block)
            tree_of = picked((scores + self.weights.log()).softmax(1), u[:, -1])
            for number in torch.unique(tree_of).tolist():
                own = (tree_of == number).nonzero()[:, 0]
                known = block.rows(own[:1] if free else own)  # without evidence all rows have the same messages
                drawn[rows.start + own] = self._drawn(self.trees[number], known, drawn[rows][own], state[rows][own], u[own])
        return drawn

    def _drawn(self, tree: HiddenTree, evidence: Evidence, x: Tensor, state: Tensor, u: Tensor) -> Tensor:
        """Return rows x (n, C) with the cells that are not known drawn from one tree, given the evidence."""
        C = self.columns
        states = tree.draw_states(tree.upward(evidence.emissions(tree.leaves)), u[:, :C])
        for column, basis in enumerate(self.bases):
            rows = (state[:, column] != KNOWN).nonzero()[:, 0]
            chances = tree.leaves[column].mT[states[rows, column]]
            if basis.gap:
                chances[:, 0] *= state[rows, column] == UNKNOWN
            element = picked(chances, u[rows, C + column])
            x[rows, column] = basis.draw(element, u[rows, 2 * C + column])
        return x

    def marginals(self, x: Tensor, state: Tensor) -> list[Tensor]:
        """Return the probabilities of the elements of each column's basis (N, B_c), given what is known of the row.

        The law of a cell (i, c) that is unknown is the mixture of the elements of ``bases[c]`` with these weights.
        """
        out = [torch.zeros(len(x), basis.size, dtype=torch.float64) for basis in self.bases]
        evidence = Evidence.of(self.bases, x, state)
        shares = (self.log_probs_of(evidence) + self.weights.log()).softmax(1)
        for rows in evidence.blocks(self.states):
            block = evidence.rows(rows)
            for number, tree in enumerate(self.trees):
                states, _ = tree.downward(tree.upward(block.emissions(tree.leaves)))
                for column, leaf in enumerate(tree.leaves):
                    chances = states[column] @ leaf.mT
                    out[column][rows] += shares[rows, number, None] * chances
        return out


def _sums_to_one(table: Tensor, dim: int) -> bool:
    sums = table.sum(dim)
    return table.dtype == torch.float64 and bool((table >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-6)
