"""Mixtures of products for the rows of a table: how many components, and how many iterations, by rows that EM does not see."""

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

__all__ = ["Learner", "Settings", "Trial", "surely_more"]

_COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_MOST_ROWS = 1000  # per component, up to which fewer components are not tried
_STRENGTH = 1.0  # rows by which the shares of levels in a component are drawn to those of the column
_ENOUGH, _FOLDS, _FOLDED_ROWS = 1000, 5, 5000
_FAILURES, _MIN_GAIN = 2, 2e-3  # nats per row

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
    """A number of components, the number of the start and of iterations; the fits, and the densities that they give."""

    components: int
    attempt: int
    iterations: int
    fits: list[Fitted]
    densities: Tensor


@dataclass(frozen=True, eq=False)
class _Rows:
    """The coordinates of rows, and what to add to their log-density for that of the columns, (N,)."""

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

    def trials(self, components: int | None) -> int:
        """Return the largest number of trials that :meth:`choose` makes."""
        return len(self._ladder()) if components is None else 1

    def choose(self, components: int | None, restarts: int, show: OnIteration) -> Trial:
        """Return the trial with the largest density of the rows to judge by.

        The number of components doubles until that density does not rise by more than its standard error, or there is no time
        for more.
        """
        best: Trial | None = None
        for done, count in enumerate(self._ladder() if components is None else (components,), 1):
            begin = time.perf_counter()
            trial = self._trial(count, 0)
            better = best is None or surely_more(trial.densities, best.densities)
            best = trial if best is None or better else best
            show(done, float(best.densities.mean()))
            end = time.perf_counter()
            if not better or end + 2 * (end - begin) > self.settings.end:
                break
        assert best is not None
        others = [self._trial(best.components, attempt) for attempt in range(1, restarts)]
        return max([best, *others], key=lambda trial: float(trial.densities.mean()))

    def law(self, trial: Trial) -> TableLaw:
        """Return the law of a trial, from all training rows."""
        if self.splits[0][0] is self.train:
            return TableLaw(self.coordinates, trial.fits[0].law)
        passes = self._passes(self.train, trial.components, trial.attempt, 0)
        fits = [next(passes) for _ in range(trial.iterations)]
        return TableLaw(self.coordinates, fits[-1].law)

    def _trial(self, count: int, attempt: int) -> Trial:
        """Return the best iteration of EM from a start."""
        passes = [self._passes(rows, count, attempt, number) for number, (rows, _) in enumerate(self.splits)]
        best, failures, settings = Trial(count, attempt, 0, [], torch.tensor(-math.inf)), 0, self.settings
        for done in range(1, settings.iterations + 1):
            fits = [next(each) for each in passes]
            judged = zip(fits, self.splits, strict=True)
            density = torch.cat([fit.law.log_prob(rows.z, rows.levels) + rows.log_volume for fit, (_, rows) in judged])
            gain = float(density.mean() - best.densities.mean())
            if gain > 0 or done == 1:
                best = Trial(count, attempt, done, fits, density)
            failures = 0 if gain > max(settings.tolerance, _MIN_GAIN) else failures + 1
            if failures == _FAILURES or time.perf_counter() > settings.end:
                break
        return best

    def _passes(self, rows: _Rows, count: int, attempt: int, split: int) -> Iterator[Fitted]:
        seed = noise.derive(self.seed, "start", attempt, split)
        start = start_products(rows.z, rows.levels, self.leaves, count, self.form, seed=seed)
        return fit_products(rows.z, rows.levels, self.leaves, start, self.form)

    def _ladder(self) -> tuple[int, ...]:
        """Return the numbers of components to try: at most that of rows, less those that are few for so many rows."""
        most = len(self.train.z)
        least = min(most // _MOST_ROWS, _COMPONENTS[-1])
        return tuple(count for count in _COMPONENTS if least < 2 * count and count <= most)


def surely_more(one: Tensor, other: Tensor) -> bool:
    """Whether the mean of ``one`` is larger by more than the standard error of the paired difference."""
    gain = one - other
    return bool(gain.mean() > gain.std(correction=0) / math.sqrt(len(gain)))


def _coded(coordinates: Coordinates, cells: Cells) -> _Rows:
    return _Rows(*coordinates.forward(*cells), coordinates.log_volume(*cells))
