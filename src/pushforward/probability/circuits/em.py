r"""EM for hidden trees: maximum a posteriori under Dirichlet priors, with expected counts from the two passes over the tree.

The objective of one tree, up to a constant, is

    sum over rows of log p(x)  +  leaf * sum over c, z, b of pi_c(b) log p(b | z)  +  transition / S * sum of log T_c[z, z'],

with pi_c the shares of the elements of column c among all rows: the leaf of each state is shrunk to the law of the column with
the weight of ``leaf`` rows. An iteration over all rows never lowers it. Stepwise EM updates after each batch of rows, from a
moving average of the expected counts; the k-th update has the weight k^(-1/3). One iteration over all rows ends the fit.

The states of all columns start from the same random rows, and the transitions are half the identity, so that the start is close
to a mixture of products.

References
----------
Percy Liang, Dan Klein. Online EM for unsupervised models. NAACL 2009.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.circuits.evidence import Evidence
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree

__all__ = [
    "Counts",
    "Prior",
    "average",
    "expected",
    "expected_of_all",
    "fit_tree",
    "marginal_shares",
    "maximized",
    "objective",
    "start_tree",
]

_BATCHES, _MIN_BATCH, _MAX_BATCH = 16, 32, 512  # per pass, and rows in each
_DECAY = 1 / 3
_UPDATES = 10  # at least, in a round
_MIN_GAIN = 2e-3  # nats per row and round
_MARGINAL_ITERATIONS = 10
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Prior:
    """Strengths of the Dirichlet priors, in rows, and the shares (B_c,) that the leaves are shrunk to."""

    leaf: float
    transition: float
    shares: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Counts:
    """Expected counts of the states of the root (S,), of pairs of states (C, S, S), and of elements and states (B_c, S)."""

    root: Tensor
    transitions: Tensor
    leaves: tuple[Tensor, ...]

    def mixed(self, a: float, other: "Counts", b: float) -> "Counts":
        """Return a * self + b * other."""
        pairs = zip(self.leaves, other.leaves, strict=True)
        leaves = tuple(a * mine + b * theirs for mine, theirs in pairs)
        return Counts(a * self.root + b * other.root, a * self.transitions + b * other.transitions, leaves)


def expected(tree: HiddenTree, evidence: Evidence) -> tuple[Counts, Tensor]:
    """Return the expected counts of rows, and their log-densities (n,): the E-step."""
    emissions = evidence.emissions(tree.leaves)
    up = tree.upward(emissions)
    states, incoming = tree.downward(up)
    transitions, leaves = torch.zeros_like(tree.transitions), []
    for column, leaf in enumerate(tree.leaves):
        if tree.parents[column] != -1:
            transitions[column] = tree.transitions[column] * (incoming[column].mT @ up.products[column])
        cell, ratio = evidence.known(column), states[column] / emissions[column].clamp(min=_TINY)
        counts = torch.zeros_like(leaf)
        for slot in range(cell.index.shape[1]):
            counts.index_add_(0, cell.index[:, slot], cell.value[:, slot : slot + 1] * ratio)
        leaves.append(counts * leaf)
    return Counts(states[tree.parents.index(-1)].sum(0), transitions, tuple(leaves)), up.log_prob


def expected_of_all(tree: HiddenTree, evidence: Evidence) -> tuple[Counts, float]:
    """Return the expected counts of all rows, block by block, and the sum of their log-densities."""
    total, log_prob = None, 0.0
    for rows in evidence.blocks(len(tree.root)):
        counts, each = expected(tree, evidence.rows(rows))
        total, log_prob = counts if total is None else total.mixed(1, counts, 1), log_prob + float(each.sum())
    assert total is not None
    return total, log_prob


def maximized(counts: Counts, prior: Prior, parents: tuple[int, ...]) -> HiddenTree:
    """Return the tree with the largest expected objective: the M-step."""
    root = counts.root + prior.transition / len(counts.root)
    transitions = counts.transitions + prior.transition / len(counts.root)
    leaves = tuple(
        (count + prior.leaf * share[:, None]) / (count.sum(0) + prior.leaf)
        for count, share in zip(counts.leaves, prior.shares, strict=True)
    )
    return HiddenTree(parents, root / root.sum(), transitions / transitions.sum(2, keepdim=True), leaves)


def objective(tree: HiddenTree, evidence: Evidence, prior: Prior) -> float:
    """Return the objective, which EM never lowers."""
    shares = sum(float((share[:, None] * leaf.log()).sum()) for leaf, share in zip(tree.leaves, prior.shares, strict=True))
    inner = [column for column, parent in enumerate(tree.parents) if parent != -1]
    pairs = float(tree.transitions[inner].log().sum() + tree.root.log().sum()) / len(tree.root)
    return expected_of_all(tree, evidence)[1] + prior.leaf * shares + prior.transition * pairs


def marginal_shares(evidence: Evidence) -> tuple[Tensor, ...]:
    """Return the shares of the elements of each column (B_c,) that fit its known cells, by EM; none is 0."""
    out = []
    for column, basis in enumerate(evidence.bases):
        cell = evidence.known(column)
        share = torch.full((basis.size,), 1 / basis.size, dtype=torch.float64)
        for _ in range(_MARGINAL_ITERATIONS):
            part = cell.value * share[cell.index]
            part = part / part.sum(1, keepdim=True).clamp(min=_TINY)
            counts = torch.zeros_like(share).index_add_(0, cell.index.flatten(), part.flatten()) + 0.5 / basis.size
            share = counts / counts.sum()
        out.append(share)
    return tuple(out)


def start_tree(parents: tuple[int, ...], evidence: Evidence, states: int, prior: Prior, *, seed: int) -> HiddenTree:
    """Return a tree to start from: the leaf of a state is half that of a random row, the transitions half the identity."""
    rows = noise.permutation(len(evidence), seed=seed, purpose="start")
    rows = rows.repeat(math.ceil(states / len(rows)))[:states]
    seeds, leaves = evidence.rows(rows), []
    for column, share in enumerate(prior.shares):
        cell = seeds.known(column)
        part = cell.value * share[cell.index]
        part = part / part.sum(1, keepdim=True).clamp(min=_TINY)
        own = torch.zeros(states, len(share), dtype=torch.float64).scatter_add_(1, cell.index, part).mT
        leaves.append((own + share[:, None]) / (own.sum(0) + 1))
    uniform = torch.full((states,), 1 / states, dtype=torch.float64)
    transitions = (0.5 * torch.eye(states, dtype=torch.float64) + 0.5 / states).expand(len(leaves), -1, -1)
    return HiddenTree(parents, uniform, transitions, tuple(leaves))


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted tree, the expected counts that it is the M-step of, and the number of rounds of stepwise EM before it."""

    tree: HiddenTree
    counts: Counts
    rounds: int


def fit_tree(
    start: HiddenTree, evidence: Evidence, prior: Prior, *, rounds: int, held_out: Evidence | None = None, seed: int
) -> Fit:
    """Run rounds of stepwise EM, until the density of held-out rows no longer rises, and then one iteration over all rows.

    A round is one pass over the rows, or several that have 10 updates.
    """
    tree, best, kept, most, counts, updates = start, start, 0, -math.inf, None, 0
    passes = math.ceil(_UPDATES / math.ceil(len(evidence) / _batch_size(len(evidence))))
    for number in range(rounds):
        for rows in _batches(len(evidence), seed, range(number * passes, (number + 1) * passes)):
            new, _ = expected(tree, evidence.rows(rows))
            rate, scale = (updates + 1) ** -_DECAY, len(evidence) / len(rows)
            counts = new.mixed(scale, new, 0) if counts is None else counts.mixed(1 - rate, new, rate * scale)
            tree, updates = maximized(counts, prior, tree.parents), updates + 1
        density = 0.0 if held_out is None else float(average(evidence, [tree]).log_probs_of(held_out).mean())
        gain = math.inf if held_out is None else density - most
        if gain > 0:
            best, kept, most = tree, number + 1, density
        if gain < _MIN_GAIN:
            break
    counts, _ = expected_of_all(best, evidence)
    return Fit(maximized(counts, prior, best.parents), counts, kept)


def average(evidence: Evidence, trees: list[HiddenTree]) -> HiddenTrees:
    """Return the mean of the densities of trees over the columns of the evidence."""
    return HiddenTrees(evidence.bases, tuple(trees), torch.full((len(trees),), 1 / len(trees), dtype=torch.float64))


def _batches(n: int, seed: int, passes: range) -> Iterator[Tensor]:
    for step in passes:
        yield from torch.split(noise.permutation(n, seed=seed, purpose="batches", step=step), _batch_size(n))


def _batch_size(n: int) -> int:
    return min(max(n // _BATCHES, _MIN_BATCH), _MAX_BATCH)
