"""Averages of hidden Chow-Liu trees: :class:`Circuit`."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Facts, Limits, Schema, Transform, Values
from pushforward.data.conditions.features import collected
from pushforward.data.filling import Gaps
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.density import RowDensity
from pushforward.models.base.exact import ExactModel
from pushforward.models.base.model import OUTSIDE_RUNS, Prepared, RunOptions
from pushforward.models.circuits import storage
from pushforward.models.circuits.domains import domains, unbounded
from pushforward.models.circuits.search import Choice, Learner
from pushforward.models.files.params import Count, Seconds
from pushforward.probability.circuits.evidence import KNOWN, PRESENT, UNKNOWN
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.counts import check_count
from pushforward.probability.domain import Domain

__all__ = ["Circuit"]

Strength = Annotated[float, Gt(0)]

_TREES = 4
_SHARE_OF_TRIALS = 0.4  # of the time


@dataclass(frozen=True, eq=False)
class _Trained:
    """What ``_learn`` needs: the rows, what was chosen for them, and when the fit began."""

    learner: Learner
    choice: Choice
    begin: float


class Circuit(ExactModel):
    """An average of hidden Chow-Liu trees, fitted by expectation-maximization (EM): an exact law of reals and integers.

    Each column has a hidden state. The states of all columns are linked in a tree, and the columns are independent given the
    states. The density is the mean of the densities of several such trees, which differ in their links. Density, samples, and
    the law of any columns given any others are exact. A real column has a piecewise linear density given its state, with tails,
    and probabilities of its own for values that 1 % of the rows repeat; an integer has probabilities.

    Rows may have gaps (NaN). EM learns where they occur; the law of a row is that of its values where it has no gaps.
    :meth:`impute` fills gaps by exact draws.

    Parameters
    ----------
    n_states : int, optional
        Number of hidden states per column. By default 1, 2, 4, ..., 128 are tried in turn, until the density of held-out
        rows has twice not risen by 0.002 nats. With fewer than 1,000 of these, fifths of the training rows are held out in
        turn. With more than 1,000 rows per state, fewer states are not tried.
    n_trees : int, optional
        Number of trees. Default 4, or as many as fit into ``max_time``.
    shrinkage : float, optional
        Weight, in rows, with which the law of a column given its state is drawn to that of the whole column. By default the
        best of 0.3, 1, 3, 10 and 30 by the same densities.
    max_time : float, optional
        Approximate seconds: two fifths for the trials above, the rest for the trees.

    Other parameters are those of :class:`~pushforward.models.base.model.GenerativeModel`.

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

    def impute(
        self,
        X: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n: int = 1,
        condition: Condition = None,
        seed: int | None = None,
        batch_size: int = 256,
    ) -> Values | list[Values]:
        """Fill the gaps of rows by draws from their law given the rest of the row, exactly.

        Parameters and result are those of :meth:`pushforward.GMM.impute`; ``batch_size`` has no effect, because the law takes
        as many rows at once as fit into a fixed part of the memory.
        """
        check_is_fitted(self)
        check_count("n", n)
        check_count("batch_size", batch_size)
        seed = self._keep_seed(seed)
        gaps = Gaps.of(X, mask, self.space_, type(self).__name__)
        encoded = self.space_.encode(condition, len(gaps.x))

        def draw(seed: int) -> Tensor:
            x = torch.where(gaps.known, gaps.x.double(), torch.nan)[gaps.rows]
            z = self.space_.transform.forward(self.space_.transform.ends(x)[0], dtype=torch.float64)
            flat, given = self._flat(z), None if encoded is None else encoded[gaps.rows]
            return self._draw(flat, given, unknown=torch.full(flat.shape, PRESENT), seed=seed)

        return gaps.filled(draw, n=n, seed=seed)

    def _resolve(self, prepared: Prepared) -> _Trained:
        begin = time.perf_counter()
        x, held_out = self._columns(self._flat(prepared.x), prepared.condition, gap=KNOWN), None
        if prepared.held_out is not None:
            held_out = self._columns(self._inside(prepared.held_out[0])[0], prepared.held_out[1], gap=KNOWN)
        learner = Learner.of(*x, self._domains(prepared), held_out, gaps=self._columns_with_gaps(x[0]), seed=self.seed_)
        end = math.inf if self.max_time is None else begin + _SHARE_OF_TRIALS * self.max_time
        with self._progress(learner.trials(self.n_states)) as show:
            choice = learner.choose(self.n_states, self.shrinkage, end=end, show=show)
        self.n_states_, self.shrinkage_, self.n_trees_ = choice.states, choice.shrinkage, self.n_trees or _TREES
        return _Trained(learner, choice, begin)

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        assert isinstance(resolved, _Trained)
        self.law_ = self._average(resolved)
        self.n_trees_ = len(self.law_.trees)
        seconds = time.perf_counter() - resolved.begin
        held_out = None
        if prepared.held_out is not None:
            x, log_shares = self._inside(prepared.held_out[0])
            held_out = self._log_density(x, prepared.held_out[1]) + log_shares
        self.training_result_ = self._result(
            prepared, steps=self.n_trees_, seconds=seconds, held_out=held_out, parameters=self.law_.parameters
        )

    def _average(self, resolved: _Trained) -> HiddenTrees:
        """Return the average of the trees that fit into the time."""
        learner, choice, trees = resolved.learner, resolved.choice, list[HiddenTree]()
        end = math.inf if self.max_time is None else resolved.begin + self.max_time
        slowest = choice.seconds
        with self._progress(self.n_trees_) as show:
            while len(trees) < self.n_trees_ and (not trees or time.perf_counter() + slowest < end):
                begin = time.perf_counter()
                trees.append(learner.grow(len(trees), choice))
                slowest = max(slowest, time.perf_counter() - begin)
                show(len(trees), learner.shown_density(trees[-1]))
        return learner.average(trees)

    def _resolved(self) -> Facts:
        return super()._resolved() | {"max_time": None}

    def _scaling(self, x: Tensor, schema: Schema, limits: Limits | None) -> Transform:
        transform = super()._scaling(x, schema, limits)
        if schema.table is None:
            return transform
        # A column of one value and gaps is not constant: whether there is a gap is learned.
        constant = transform.constant & ~torch.tensor(schema.table.gaps)
        return replace(transform, constant=constant, value=transform.value.where(constant, 0.0))

    def _domains(self, prepared: Prepared) -> tuple[Domain, ...]:
        """Return the domains of the columns of the law."""
        encoder, table = self.space_.conditions, self.space_.schema.table
        if encoder is None:
            beside: tuple[Domain, ...] = ()
        elif encoder.has_classes:
            beside = (Domain("category", 0, len(encoder.classes) - 1),)
        else:
            values, _ = self._condition_columns(prepared.condition, len(prepared.x))
            known = (None,) * values.shape[1] if encoder.table is None else encoder.table.domains
            beside = tuple(
                domain if domain is not None and domain.type == "category" else unbounded(column)
                for column, domain in zip(values.mT, known, strict=True)
            )
        if table is not None:
            varies = self.space_.transform.varies.tolist()
            own = tuple(domain for domain, varying in zip(table.domains, varies, strict=True) if varying)
            return own + beside
        parts = [prepared.x] if prepared.held_out is None else [prepared.x, prepared.held_out[0]]
        return domains(self.space_, torch.cat([self._flat(part) for part in parts])) + beside

    def _columns_with_gaps(self, columns: Tensor) -> list[bool]:
        """Return which columns of the law may have gaps, given the training rows (N, C) with their conditions."""
        gaps: list[bool] = columns.isnan().any(0).tolist()
        if self.space_.schema.table is not None:  # that of a table may be in a row that is held out
            gaps[: self._dim] = self.space_.transform.pick(torch.tensor(self.space_.schema.table.gaps)).tolist()
        return gaps

    def _columns(self, x: Tensor, condition: Tensor | None, *, gap: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return the columns of the law (n, C) and the state of each cell, from varying elements (n, d) and conditions.

        ``gap`` is the state of the gaps in x, one or (n, d).
        """
        numbers, known = self._condition_columns(condition, len(x))
        state = torch.where(x.isnan(), gap, KNOWN)
        return torch.cat([x, numbers], 1), torch.cat([state, torch.where(known, KNOWN, UNKNOWN)], 1)

    def _condition_columns(self, condition: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        """Return labels or numbers (n, F) of encoded conditions (n, K), and which are known; None is "no condition"."""
        encoder = self.space_.conditions
        if encoder is None:
            return torch.empty(n, 0, dtype=torch.float64), torch.empty(n, 0, dtype=torch.bool)
        encoded = encoder.encode(None, n) if condition is None else condition
        if encoder.has_classes:
            return encoded[:, 1:].argmax(1, keepdim=True).double(), encoded[:, :1] > 0
        features = encoder.features(encoded)
        if encoder.table is not None:
            features = collected(encoder.table, features)
        return features.nan_to_num(), ~features.isnan()

    def _inside(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the varying elements of rows with integers moved into the training range, and the rule for its ends."""
        transform = self.space_.transform
        inside, log_shares = transform.ends(transform.in_units(z))
        return self._flat(transform.forward(inside, dtype=torch.float64)), log_shares

    def _unsaid(self, x: Tensor) -> Tensor:
        """Return the states (n, d) of cells of which nothing is said: a gap is a value of tables, and of no other rows."""
        return torch.full(x.shape, PRESENT if self.space_.schema.table is None else UNKNOWN)

    def _gap_states(self, x: Tensor) -> Tensor:
        """Return the states (n, d) of gaps that are scored: of a column without gaps in training nothing is said."""
        has_gaps = torch.tensor([basis.gap for basis in self.law_.bases[: x.shape[1]]])
        return self._unsaid(x).where((self._unsaid(x) == PRESENT) | ~has_gaps, KNOWN)

    def _log_density(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return log p(x | condition) of rows, (N,), for varying elements (N, d) with NaN in gaps."""
        columns, state = self._columns(x, condition, gap=self._gap_states(x))
        given = torch.cat([self._unsaid(x), state[:, x.shape[1] :]], 1)
        distinct, which = torch.unique(torch.cat([columns[:, x.shape[1] :], given], 1), dim=0, return_inverse=True)
        first = torch.full((len(distinct),), len(x)).scatter_reduce(0, which, torch.arange(len(x)), "amin")
        return self.law_.log_prob(columns, state) - self.law_.log_prob(columns[first], given[first])[which]

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
        return self._exactly(self._log_density(self._flat(z), condition).numpy())

    def _draw(self, x: Tensor, condition: Tensor | None, *, unknown: Tensor, seed: int, first: int = 0) -> Tensor:
        """Return rows with the gaps of x (n, d) drawn given the other elements and the conditions.

        ``unknown`` (n, d) is the state of gaps: PRESENT if none may be drawn, UNKNOWN otherwise.
        """
        columns, state = self._columns(x, condition, gap=unknown)
        for column, basis in enumerate(self.law_.bases):
            if not basis.gap:  # without gaps PRESENT is UNKNOWN, which needs no sums if it holds for all cells
                state[:, column] = state[:, column].where(state[:, column] != PRESENT, UNKNOWN)
        return self._whole(self.law_.sample_given(columns, state, seed=seed, first=first)[:, : x.shape[1]])

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        x = torch.full((n, self._dim), torch.nan, dtype=torch.float64)
        return self._draw(x, condition, unknown=self._unsaid(x), seed=seed, first=first)

    def _complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int, batch_size: int) -> Tensor:
        flat = self._flat(self.space_.transform.forward(x, dtype=torch.float64))
        columns, state = self._columns(flat, condition, gap=UNKNOWN)
        self._refuse_impossible(self.law_.log_prob(columns, state), x)
        return self._draw(flat, condition, unknown=self._unsaid(flat), seed=seed, first=first)

    def _clean(self, x: Tensor) -> Tensor:
        """Return rows with their gaps filled by draws, except for the gaps of tables, which are values."""
        if self.space_.schema.table is not None or not bool(x.isnan().any()):
            return x
        flat = self._flat(x)
        return self._draw(flat, None, unknown=self._unsaid(flat), seed=0)

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        return storage.state(self.law_)

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, Any]) -> None:
        law = storage.restored(facts, tensors)
        numbers = self._condition_columns(None, 0)[0].shape[1]
        columns = self._dim + numbers
        if law.columns != columns:
            raise ValueError(f"the law is of {law.columns} columns, but rows and conditions have {columns}")
        self.law_ = law
