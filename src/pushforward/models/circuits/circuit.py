"""Averages of hidden Chow-Liu trees: :class:`Circuit`."""

import math
import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Facts, Limits, Schema, Transform
from pushforward.data.stream import AnyRows
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.columns import (
    RowLaw,
    condition_columns,
    condition_domains,
    inside_range,
    joint_columns,
    with_gaps_varying,
)
from pushforward.models.base.density import RowDensity
from pushforward.models.base.exact import ExactModel
from pushforward.models.base.model import OUTSIDE_RUNS, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.circuits import storage
from pushforward.models.circuits.domains import domains, unbounded
from pushforward.models.circuits.search import Choice, Learner
from pushforward.models.files.params import Count, Seconds
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.counts import check_count
from pushforward.probability.domain import KNOWN, Domain

__all__ = ["Circuit"]

Strength = Annotated[float, Gt(0)]

_TREES = 4
_SHARE_OF_TRIALS = 0.4  # of the time


class Circuit(ExactModel):
    """An average of hidden Chow-Liu trees, fitted by expectation-maximization (EM): an exact law of any columns.

    Each column has a hidden state. The states of all columns are linked in a tree, and the columns are independent given the
    states. The density is the mean of the densities of several such trees, which differ in their links. Density, samples, and
    the law of any columns given any others are exact. A real column has a piecewise linear density given its state, with tails,
    and probabilities of its own for values that 1 % of the rows repeat; levels and integers have probabilities.

    Rows may have gaps (NaN), and EM learns where they occur. In a table a gap is a value with a probability, and samples have
    gaps; in arrays the law of a row is that of its values where it has no gaps. :meth:`impute` fills gaps by exact draws.

    Parameters
    ----------
    n_states : int, optional
        Number of hidden states per column. By default 1, 2, 4, ..., 128 are tried in turn, until the density of held-out
        rows has twice not risen by 0.002 nats. With fewer than 1,000 of these, fifths of the training rows are held out in
        turn. With more than 1,000 rows per state, fewer states are not tried.
    n_trees : int, optional
        Number of trees. Default 4, or as many as fit into ``max_time``.
    shrinkage : float, optional
        Weight, in rows, with which the law of a column given its state is shrunk to that of the whole column. By default the
        best of 0.3, 1, 3, 10 and 30 by the same densities.
    max_time : float, optional
        Approximate seconds: two fifths for the trials above, the rest for the trees.

    Other parameters are those of :class:`~pushforward.models.base.preparing.Preparing`.

    Attributes
    ----------
    law_ : HiddenTrees
        The joint law of the elements that vary, in the units of the data, and then of the condition: one category for a label,
        or its standardized numbers.
    n_states_, n_trees_, shrinkage_
        The resolved arguments.
    training_result_ : TrainingResult
        ``steps`` are trees; ``held_out_loss`` is the mean of -log p(x | condition) in nats.

    References
    ----------
    C. K. Chow, C. N. Liu. Approximating discrete probability distributions with dependence trees. 1968.
    Anji Liu, Guy Van den Broeck. Tractable regularization of probabilistic circuits. NeurIPS 2021.

    >>> import pushforward as pf
    >>> X = torch.tensor([[0, 0], [0, 1], [3, 2], [3, 3]] * 25)
    >>> model = pf.Circuit(n_states=4, random_state=0).fit(X)
    >>> model.log_prob(X[:1]).kind, model.impute([[float("nan"), 3.0]], seed=0)[0].tolist()
    ('exact', [3, 3])
    """

    categories: ClassVar[bool] = True
    columnwise: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("n_states", "n_trees", "shrinkage")

    n_states: Count | None = None
    n_trees: Count | None = None
    shrinkage: Strength | None = None
    max_time: Seconds | None = None

    n_states_: int = field(init=False)
    n_trees_: int = field(init=False)
    shrinkage_: float = field(init=False)
    law_: HiddenTrees = field(init=False)

    def _resolve(self, prepared: Prepared) -> None:
        self._forget()  # the choices of an earlier training; the new ones are made in training, most of whose time they take

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        begin = time.perf_counter()
        self.law_ = self._average(*self._choose(prepared), prepared.began)
        self.n_trees_ = len(self.law_.trees)
        seconds = time.perf_counter() - begin
        held_out = None
        if prepared.held_out is not None:
            x, log_shares = inside_range(self.space_, prepared.held_out[0])
            held_out = self._rows_law.log_density(x, prepared.held_out[1]) + log_shares
        self.training_result_ = self._result(
            prepared, steps=self.n_trees_, seconds=seconds, held_out=held_out, parameters=self.law_.parameters
        )

    def _choose(self, prepared: Prepared) -> tuple[Learner, Choice]:
        """Return the learner of the rows, and the number of states and the shrinkage that it chose."""
        x, held_out = joint_columns(self.space_, self._flat(prepared.whole), prepared.condition, gap=KNOWN), None
        if prepared.held_out is not None:
            inside = inside_range(self.space_, prepared.held_out[0])[0]
            held_out = joint_columns(self.space_, inside, prepared.held_out[1], gap=KNOWN)
        learner = Learner.of(*x, self._domains(prepared), held_out, gaps=self._columns_with_gaps(x[0]), seed=self.seed_)
        end = math.inf if self.max_time is None else prepared.began + _SHARE_OF_TRIALS * self.max_time
        with self._progress(learner.trials(self.n_states)) as show:
            choice = learner.choose(self.n_states, self.shrinkage, end=end, show=show)
        self.n_states_, self.shrinkage_ = choice.states, choice.shrinkage
        return learner, choice

    def _average(self, learner: Learner, choice: Choice, began: float) -> HiddenTrees:
        """Return the average of the trees that fit into the time."""
        most, trees = self.n_trees or _TREES, list[HiddenTree]()
        end = math.inf if self.max_time is None else began + self.max_time
        slowest = choice.seconds
        with self._progress(most) as show:
            while len(trees) < most and (not trees or time.perf_counter() + slowest < end):
                start = time.perf_counter()
                trees.append(learner.grow(len(trees), choice))
                slowest = max(slowest, time.perf_counter() - start)
                show(len(trees), learner.shown_density(trees[-1]))
        return learner.average(trees)

    def _resolved(self) -> Facts:
        return super()._resolved() | {"max_time": None}

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
        transform = super()._scaling(x, schema, limits)
        return transform if schema.table is None else with_gaps_varying(transform, schema.table.gaps)

    def _domains(self, prepared: Prepared) -> tuple[Domain, ...]:
        """Return the domains of the columns of the law."""
        table, (values, _) = self.space_.schema.table, condition_columns(self.space_, prepared.condition, len(prepared.whole))
        pairs = zip(values.mT, condition_domains(self.space_), strict=True)
        beside = tuple(domain if domain.type == "category" else unbounded(column) for column, domain in pairs)
        if table is not None:
            varies = self.space_.transform.varies.tolist()
            own = tuple(domain for domain, varying in zip(table.domains, varies, strict=True) if varying)
            return own + beside
        parts = [prepared.whole] if prepared.held_out is None else [prepared.whole, prepared.held_out[0]]
        return domains(self.space_, torch.cat([self._flat(part) for part in parts])) + beside

    def _columns_with_gaps(self, columns: Tensor) -> list[bool]:
        """Return which columns of the law may have gaps, given the training rows (N, C) with their conditions."""
        gaps: list[bool] = columns.isnan().any(0).tolist()
        if self.space_.schema.table is not None:  # that of a table may be in a row that is held out
            gaps[: self._dim] = self.space_.transform.pick(torch.tensor(self.space_.schema.table.gaps)).tolist()
        return gaps

    def _score(
        self, X: ArrayLike, condition: Condition, density: RowDensity, *, draws: int, seed: int, first: int, batch_size: int
    ) -> LogProb:
        """Return log p(x): probabilities of integers are those of the law, which needs no random numbers."""
        check_is_fitted(self)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = self._rows(X, condition)
        scores = density(self.law_, rows.z, condition=rows.condition, varies=rows.varies, seed=seed, first=first)
        return replace(scores.shifted(rows.log_shares.numpy()), constants=self.space_.transform.constants)

    def _log_prob(
        self, learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
    ) -> LogProb:
        return self._exactly(self._rows_law.log_density(self._flat(z), condition).numpy())

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        return self._whole(self._rows_law.sample(n, self._dim, condition, seed=seed, first=first))

    def _complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int, batch_size: int) -> Tensor:
        flat = self._flat(self.space_.transform.forward(x, dtype=torch.float64))
        self.space_.refuse_impossible(self._rows_law.log_marginal(flat, condition), x)
        return self._whole(self._rows_law.complete(flat, condition, seed=seed, first=first))

    def _filled(self, x: Tensor, condition: Tensor | None, *, seed: int, batch_size: int) -> Tensor:
        flat = self._flat(self.space_.transform.forward(self.space_.transform.ends(x)[0], dtype=torch.float64))
        return self._whole(self._rows_law.fill(flat, condition, seed=seed))

    def _clean(self, x: Tensor) -> Tensor:
        """Return rows with their gaps filled by draws, except for the gaps of tables, which are values."""
        if self.space_.schema.table is not None or not bool(x.isnan().any()):
            return x
        return self._whole(self._rows_law.complete(self._flat(x), None, seed=0))

    @property
    def _rows_law(self) -> RowLaw:
        return RowLaw(self.space_, self.law_)

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        return storage.state(self.law_)

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        law = storage.restored(facts, tensors)
        numbers = condition_columns(self.space_, None, 0)[0].shape[1]
        columns = self._dim + numbers
        if law.columns != columns:
            raise ValueError(f"the law is of {law.columns} columns, but rows and conditions have {columns}")
        self.law_ = law
