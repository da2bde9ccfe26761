"""Mixtures of products for the rows of a table: how many components, and how many iterations, by rows that EM does not see.

The density is the mean of those of several mixtures from different starts. What a mixture learns of its rows by chance differs
from start to start, so the mean allows more components and more iterations than a single mixture.
"""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.models.gaussian.columns import Coordinates
from pushforward.models.gaussian.tables import TableLaw
from pushforward.probability import noise
from pushforward.probability.domain import KNOWN, Domain
from pushforward.probability.estimation.estimate import OnIteration
from pushforward.probability.estimation.mixture_em import Covariance, Form
from pushforward.probability.estimation.products_em import Fitted, Leaf, fit_products, start_products
from pushforward.probability.laws.products import ProductMixture

__all__ = ["Learner", "Settings", "Trial", "surely_more"]

_COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_MOST_ROWS = 1000  # per component, up to which fewer components are not tried
_STRENGTH = 0.1  # rows by which the shares of levels in a component are shrunk to those of the column
_ENOUGH, _FOLDS, _FOLDED_ROWS = 1000, 5, 5000
_FAILURES, _MIN_GAIN = 2, 2e-3  # nats per row
_MORE_COMPONENTS, _MORE_ITERATIONS = 2, 3  # times as many in each of several mixtures as are best for one
_STARTS, _MOST_FOR_STARTS = 6, 100_000  # rows

Cells = tuple[Tensor, Tensor]
"""Numbers (N, C) and the state of each cell."""


@dataclass(frozen=True)
class Settings:
    """The form of the covariances of normal scores, their least variance, and when EM ends."""

    covariance: Covariance
    min_variance: float
    tolerance: float
    iterations: int
    end: float


@dataclass(frozen=True, eq=False)
class Trial:
    """The mean of mixtures.

    Attributes
    ----------
    components, starts, iterations : int
        Components of each mixture, number of mixtures, and iterations of each.
    laws : list of ProductMixture
        The mean for each split of the rows.
    densities : Tensor
        Log-densities that these give to the rows to judge by.
    """

    components: int
    starts: int
    iterations: int
    laws: list[ProductMixture]
    densities: Tensor


@dataclass(frozen=True, eq=False)
class _Step:
    """The laws after an iteration of EM, one for each split, and the densities that they give to the rows to judge by."""

    laws: list[ProductMixture]
    densities: Tensor

    @property
    def density(self) -> float:
        return float(self.densities.mean())


@dataclass(frozen=True, eq=False)
class _Rows:
    """The coordinates of rows, and the term (N,) that turns their log-density into that of the columns."""

    z: Tensor
    levels: Tensor
    log_volume: Tensor

    def take(self, rows: Tensor) -> "_Rows":
        return _Rows(self.z[rows], self.levels[rows], self.log_volume[rows])


@dataclass(frozen=True, eq=False)
class Learner:
    """Fits mixtures of products to rows.

    Attributes
    ----------
    coordinates : Coordinates
    leaves : sequence of Shares or Intervals
        One per column.
    form : Form
    train : _Rows
    splits : list of (_Rows, _Rows)
        Rows to train on, and rows to judge by.
    settings : Settings
    seed : int
    """

    coordinates: Coordinates
    leaves: Sequence[Leaf]
    form: Form
    train: _Rows
    splits: list[tuple[_Rows, _Rows]]
    settings: Settings
    seed: int

    @classmethod
    def of(
        cls,
        cells: Cells,
        held_out: Cells | None,
        domains: Sequence[Domain],
        gaps: Sequence[bool],
        settings: Settings,
        *,
        seed: int,
    ) -> "Learner":
        """Return the learner of rows; without 1,000 that are held out, parts of the training rows judge in turn."""
        x, state = cells
        coordinates = Coordinates.fit(x, domains, gaps)
        train = _coded(coordinates, cells)
        z, floor = train.z, settings.min_variance
        form = Form(settings.covariance, floor * (z - z.nanmean(0)).square().nanmean(0))
        leaves = coordinates.leaves(x.where(state == KNOWN, torch.nan), _STRENGTH, floor)
        if held_out is not None and len(held_out[0]) >= _ENOUGH:
            splits = [(train, _coded(coordinates, held_out))]
        else:
            order = noise.permutation(len(x), seed=seed, purpose="folds")
            folds = [order[number::_FOLDS] for number in range(min(_FOLDS, len(order)))]
            used = folds if len(x) <= _FOLDED_ROWS else folds[:1]
            splits = [(train.take(order[~torch.isin(order, fold)]), train.take(fold)) for fold in used]
        return cls(coordinates, leaves, form, train, splits, settings, seed)

    def trials(self, components: int | None, starts: int | None) -> int:
        """Return the largest number of trials that :meth:`choose` makes."""
        return 1 if components is not None else len(self._ladder()) + (starts != 1)

    def choose(self, components: int | None, starts: int | None, show: OnIteration) -> Trial:
        """Return the trial with the largest density of the rows to judge by.

        Without a number of components, it doubles for one start until that density does not rise by more than its standard
        error, or there is no time for more. Then several starts are tried, with twice as many components.
        """
        if components is not None:
            trial = self._trial(components, starts or 1)
            show(1, float(trial.densities.mean()))
            return trial
        best: Trial | None = None
        ladder, done, late = self._ladder(), 0, False
        for done, count in enumerate(ladder, 1):
            begin = time.perf_counter()
            trial = self._trial(count, 1)
            better = best is None or surely_more(trial.densities, best.densities)
            best = trial if best is None or better else best
            show(done, float(best.densities.mean()))
            end = time.perf_counter()
            late = end + 2 * (end - begin) > self.settings.end
            if not better or late:
                break
        assert best is not None
        starts = starts or (_STARTS if len(self.train.z) <= _MOST_FOR_STARTS else 1)
        if starts == 1 or late:
            return best
        trial = self._trial(min(_MORE_COMPONENTS * best.components, ladder[-1]), starts)
        best = max(best, trial, key=lambda trial: float(trial.densities.mean()))
        show(done + 1, float(best.densities.mean()))
        return best

    def law(self, trial: Trial) -> TableLaw:
        """Return the law of a trial, from all training rows."""
        if self.splits[0][0] is self.train:
            return TableLaw(self.coordinates, trial.laws[0])
        laws = []
        for start in range(trial.starts):
            passes = self._passes(self.train, trial.components, start, 0)
            laws.append(next(itertools.islice(passes, trial.iterations - 1, None)).law)
        return TableLaw(self.coordinates, ProductMixture.mean(laws))

    def _trial(self, count: int, starts: int) -> Trial:
        """Return the mean of mixtures from several starts.

        One has the best number of iterations. Several have three times as many as are best for the first alone: later samples
        are harder to tell from rows, and the density of the mean falls far less than that of each.
        """
        steps, best, first, failures, done = self._steps(count, 0), None, 0, 0, 0
        for done, step in enumerate(itertools.islice(steps, self.settings.iterations), 1):
            gain = math.inf if best is None else step.density - best.density
            best, first = (step, done) if best is None or gain > 0 else (best, first)
            failures = 0 if gain > max(self.settings.tolerance, _MIN_GAIN) else failures + 1
            if failures == _FAILURES or time.perf_counter() > self.settings.end:
                break
        assert best is not None
        if starts == 1:
            return Trial(count, 1, first, best.laws, best.densities)
        last, slowest = min(_MORE_ITERATIONS * first, self.settings.iterations), 0.0
        every = [step if done == last else next(itertools.islice(steps, last - done - 1, None))]
        while len(every) < starts and time.perf_counter() + slowest < self.settings.end:
            begin = time.perf_counter()
            every.append(next(itertools.islice(self._steps(count, len(every)), last - 1, None)))
            slowest = max(slowest, time.perf_counter() - begin)
        density = torch.stack([step.densities for step in every]).logsumexp(0) - math.log(len(every))
        splits = zip(*(step.laws for step in every), strict=True)
        return Trial(count, len(every), last, [ProductMixture.mean(laws) for laws in splits], density)

    def _steps(self, count: int, start: int) -> Iterator["_Step"]:
        """Yield the laws after each iteration of EM from a start, one for each split, and the densities that they give."""
        passes = [self._passes(rows, count, start, number) for number, (rows, _) in enumerate(self.splits)]
        while True:
            laws = [next(each).law for each in passes]
            judged = zip(laws, self.splits, strict=True)
            yield _Step(laws, torch.cat([law.log_prob(rows.z, rows.levels) + rows.log_volume for law, (_, rows) in judged]))

    def _passes(self, rows: _Rows, count: int, attempt: int, split: int) -> Iterator[Fitted]:
        seed = noise.derive(self.seed, "start", attempt, split)
        start = start_products(rows.z, rows.levels, self.leaves, count, self.form, seed=seed)
        return fit_products(rows.z, rows.levels, self.leaves, start, self.form)

    def _ladder(self) -> tuple[int, ...]:
        """Return the numbers of components to try: at most one per row, and none that is too small for so many rows."""
        most = len(self.train.z)
        least = min(most // _MOST_ROWS, _COMPONENTS[-1])
        return tuple(count for count in _COMPONENTS if least < 2 * count and count <= most)


def surely_more(one: Tensor, other: Tensor) -> bool:
    """Whether the mean of ``one`` is larger by more than the standard error of the paired difference."""
    gain = one - other
    return bool(gain.mean() > gain.std(correction=0) / math.sqrt(len(gain)))


def _coded(coordinates: Coordinates, cells: Cells) -> _Rows:
    return _Rows(*coordinates.forward(*cells), coordinates.log_volume(*cells))
