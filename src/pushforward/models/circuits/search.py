"""Hidden trees for given rows: how many states and how much shrinkage, by the density of held-out rows, and the trees."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.circuits import em, structure
from pushforward.probability.circuits.basis import Basis
from pushforward.probability.circuits.em import Fit, Prior
from pushforward.probability.circuits.evidence import Evidence
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.domain import UNKNOWN, Domain

__all__ = ["Choice", "Learner"]

_STATES = (1, 2, 4, 8, 16, 32, 64, 128)
_SHRINKAGES = (0.3, 1.0, 3.0, 10.0, 30.0)
_MOST_NUMBERS = 1 << 22  # of the transitions of one tree
_ROUNDS, _USUAL_ROUNDS = 5, 3
_MOST_ROWS = 1000  # per state, up to which fewer states are not tried
_ENOUGH, _FOLDS = 1000, 5
_CELLS = 50_000  # that all folds together may train on
_FAILURES, _MIN_GAIN = 2, 2e-3  # nats per row
_JITTER = 0.3
_TRANSITION = 1.0  # strength of the prior of transitions
_SHOWN = 256  # training rows whose density is shown

OnTree = Callable[[int, float], None]
"""Called with the number of trees done and a mean log-density in nats."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Number of states, shrinkage in rows, rounds of EM, the seconds that a tree takes, and a fitted tree if there is one."""

    states: int
    shrinkage: float
    rounds: int
    seconds: float = 0.0
    tree: HiddenTree | None = None


@dataclass(frozen=True, eq=False)
class Learner:
    """Fits hidden trees to rows.

    Attributes
    ----------
    evidence : Evidence
        Training rows.
    held_out : Evidence or None
        Rows that are not trained on.
    information : Tensor (C, C)
        Mutual informations of the columns.
    shares : tuple of Tensors (B_c,)
        Shares of the elements of each column among the training rows.
    seed : int
    """

    evidence: Evidence
    held_out: Evidence | None
    information: Tensor
    shares: tuple[Tensor, ...]
    seed: int

    @classmethod
    def of(
        cls,
        x: Tensor,
        state: Tensor,
        domains: tuple[Domain, ...],
        held_out: tuple[Tensor, Tensor] | None,
        *,
        gaps: Sequence[bool],
        seed: int,
    ) -> "Learner":
        """Return the learner of rows x (N, C) with the states (N, C) of their cells; ``gaps`` says which columns have gaps."""
        known = state != UNKNOWN
        columns = enumerate(zip(domains, gaps, strict=True))
        bases = tuple(Basis.fit(x[known[:, column], column], domain, gap=gap) for column, (domain, gap) in columns)
        evidence = Evidence.of(bases, x, None if bool(known.all()) else state)
        aside = None if held_out is None else Evidence.of(bases, *held_out)
        information = structure.mutual_information(structure.codes(x.where(known, torch.nan), domains))
        return cls(evidence, aside, information, em.marginal_shares(evidence), seed)

    def grow(self, number: int, choice: Choice) -> HiddenTree:
        """Fit the tree with this number to all training rows, or return it if the choice has it."""
        if number == 0 and choice.tree is not None:
            return choice.tree
        return self._fit(number, choice, self.evidence, self.shares, None).tree

    def trials(self, states: int | None) -> int:
        """Return the largest number of trials that :meth:`choose` makes."""
        return len(self._ladder()) if states is None else 1

    def choose(self, states: int | None, shrinkage: float | None, *, end: float, show: OnTree) -> Choice:
        """Return the best number of states and shrinkage of those not given, and the best number of rounds.

        They are judged by the density of rows that EM does not see: the held-out rows if there are 1,000 of them, otherwise
        fifths of the training rows in turn, all or as many as are quick. The number of states doubles until the density has
        twice not risen by 0.002 nats, or there is no time until ``end`` for the next.
        """
        best, most = Choice(states or _STATES[0], shrinkage or 1.0, _USUAL_ROUNDS), torch.tensor(-math.inf)
        if states is not None and shrinkage is not None:
            return best
        splits, failures = self._splits(), 0
        for done, count in enumerate(self._ladder() if states is None else [states], 1):
            begin = time.perf_counter()
            choice = replace(best, states=count, rounds=_ROUNDS, tree=None)
            fits = [self._fit(0, choice, split.train, split.shares, split.judge) for split in splits]
            seconds = (time.perf_counter() - begin) / len(fits)
            choice = replace(choice, rounds=max(1, round(sum(fit.rounds for fit in fits) / len(fits))), seconds=seconds)
            if shrinkage is None:
                choice = self._shrunk(choice, fits, splits)
            if splits[0].train is self.evidence:
                choice = replace(choice, tree=_tree(fits[0], choice, self.shares))
            density = self._densities(choice, fits, splits)
            show(done, float(density.mean()))
            if density.mean() > most + _MIN_GAIN:
                best, most, failures = choice, density.mean(), 0
            else:
                failures += 1
            likely = 2 * seconds * len(splits)  # of the next number of states
            if failures == _FAILURES or time.perf_counter() + likely > end:
                break
        return best

    def _splits(self) -> list["_Split"]:
        if self.held_out is not None and len(self.held_out) >= _ENOUGH:
            return [_Split(self.evidence, self.shares, self.held_out)]
        order = noise.permutation(len(self.evidence), seed=self.seed, purpose="folds")
        folds = [order[number::_FOLDS] for number in range(min(_FOLDS, len(order)))]
        if len(folds) == 1:
            return [_Split(self.evidence, self.shares, self.evidence)]
        rest = [self.evidence.rows(order[~torch.isin(order, fold)]) for fold in folds]
        used = max(1, _CELLS // (len(order) * len(self.evidence.bases)))
        pairs = list(zip(rest, folds, strict=True))[:used]
        return [_Split(part, em.marginal_shares(part), self.evidence.rows(fold)) for part, fold in pairs]

    def _fit(self, number: int, choice: Choice, evidence: Evidence, shares: tuple[Tensor, ...], judge: Evidence | None) -> Fit:
        seed, prior = noise.derive(self.seed, "tree", number), _prior(choice, shares)
        parents = structure.spanning_tree(self.information, jitter=_JITTER if number else 0.0, seed=seed)
        start = em.start_tree(parents, evidence, choice.states, prior, seed=seed)
        return em.fit_tree(start, evidence, prior, rounds=choice.rounds, held_out=judge, seed=seed)

    def _shrunk(self, choice: Choice, fits: list[Fit], splits: list["_Split"]) -> Choice:
        """Return the choice with the shrinkage whose M-step has the largest density of the rows to judge by."""
        tried = [replace(choice, shrinkage=shrinkage) for shrinkage in _SHRINKAGES]
        return max(tried, key=lambda choice: float(self._densities(choice, fits, splits).mean()))

    def _densities(self, choice: Choice, fits: list[Fit], splits: list["_Split"]) -> Tensor:
        """Return the log-densities of the rows to judge by, under the M-steps of fits with the shrinkage of the choice."""
        parts = []
        for fit, split in zip(fits, splits, strict=True):
            parts.append(self.average([_tree(fit, choice, split.shares)]).log_probs_of(split.judge)[:, 0])
        return torch.cat(parts)

    def average(self, trees: list[HiddenTree]) -> HiddenTrees:
        """Return the mean of the densities of trees."""
        return em.average(self.evidence, trees)

    def shown_density(self, tree: HiddenTree) -> float:
        """Return the mean log-density of the held-out rows under a tree, or of some training rows."""
        rows = self.evidence.rows(slice(0, _SHOWN)) if self.held_out is None else self.held_out
        return float(self.average([tree]).log_probs_of(rows).mean())

    def _ladder(self) -> list[int]:
        """Return the numbers of states to try: those that fit into memory, and none that is too small for so many rows."""
        most = max(1, int((_MOST_NUMBERS / len(self.evidence.bases)) ** 0.5))
        least = min(len(self.evidence) // _MOST_ROWS, most)
        return [count for count in _STATES if least < 2 * count <= 2 * most]


@dataclass(frozen=True, eq=False)
class _Split:
    """Rows to train on, the shares of the elements of their columns, and rows to judge by."""

    train: Evidence
    shares: tuple[Tensor, ...]
    judge: Evidence


def _tree(fit: Fit, choice: Choice, shares: tuple[Tensor, ...]) -> HiddenTree:
    """Return the M-step of a fit with the shrinkage of the choice."""
    return em.maximized(fit.counts, _prior(choice, shares), fit.tree.parents)


def _prior(choice: Choice, shares: tuple[Tensor, ...]) -> Prior:
    return Prior(choice.shrinkage, _TRANSITION, shares)
