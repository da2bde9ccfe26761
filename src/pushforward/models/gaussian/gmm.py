"""Mixtures of Gaussians: :class:`GMM`."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Facts, Limits, Schema, Transform
from pushforward.data.stream import AnyRows
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.available import available_if
from pushforward.models.base.columns import (
    RowLaw,
    condition_columns,
    condition_domains,
    inside_range,
    joint_columns,
    with_gaps_varying,
)
from pushforward.models.base.density import RowDensity
from pushforward.models.base.model import OUTSIDE_RUNS, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import Count, Seconds, Share
from pushforward.models.gaussian import posterior as posteriors
from pushforward.models.gaussian.base import Features, FittedLaw, LawModel, Tolerance
from pushforward.models.gaussian.search import Learner, Settings, Trial, surely_more
from pushforward.models.gaussian.tables import TableLaw
from pushforward.probability import GaussianMixture, noise
from pushforward.probability.counts import check_count
from pushforward.probability.domain import KNOWN
from pushforward.probability.estimation.estimate import EMResult, OnIteration
from pushforward.probability.estimation.mixture_em import (
    Covariance,
    fit_mixture,
    fit_mixture_in_batches,
    free_numbers,
    start_mixture,
)

__all__ = ["GMM"]

_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_SHARES = (1e-6, 1e-2, 1e-1)
_FULL_UP_TO = 100
_TRIAL_ROWS = 20_000
_SHARE_OF_TRIALS = 0.4  # of the time
_TIMED, _FEW = 3, 30  # iterations that are timed, and that a restart needs
_RESTARTS = 3
_TABLE_SHARE = 0.01


def _of_numbers(model: "GMM") -> bool:
    return not hasattr(model, "space_") or model.space_.schema.table is None


class GMM(LawModel):
    """A mixture of Gaussians, fitted by expectation-maximization (EM); ``law_`` is the exact law.

    EM starts from k-means and never lowers the likelihood. Rows may have gaps (NaN), which :meth:`impute` fills. Each label has
    its own mixture; numeric conditions enter a joint mixture, whose conditional law is exact.

    Tables have columns of any types, with gaps. There each component is a Gaussian of the normal scores of reals times
    independent laws of the levels of all other columns: categories, integers, gaps, and reals with a share of their own, such
    as 0. Conditions are further columns of the mixture, and ``sample`` takes values of any columns. EM starts from single rows,
    and ends when the density of rows that it does not see rises by less than 0.002 nats.

    Parameters
    ----------
    n_components : int, optional
        Number of Gaussians per label, at most that of rows. By default 1, 2, 4, 8, 16, 32 and 64 are tried in turn, on at most
        20,000 rows, until the density of held-out rows no longer rises by more than its standard error. Without held-out rows
        the Bayesian information criterion decides. For tables the number of components; up to 512 are tried, on all rows, and
        with fewer than 1,000 held-out rows parts of the training rows are held out in turn.
    covariance : {"full", "diag", "tied", "spherical"}, optional
        A matrix per Gaussian, variances by element, one matrix for all, or one variance per Gaussian. Default full, for rows of
        more than 100 elements diag.
    min_variance : float, optional
        Minimal variance of a Gaussian in any direction, as a share of the variances of the data, so that no Gaussian collapses
        onto one row. By default the best of 1e-6, 0.01 and 0.1 by the density of held-out rows; without these 1e-6. For tables
        0.01.
    start : GaussianMixture, optional
        Law to start from, in the units of the data (then of the condition's standardized numbers); not with labels or tables.
    restarts : int, optional
        Number of starts of EM, each from another k-means; the best result is used. Default 3, for tables 1.
    batch_size : int, optional
        Rows per batch of stepwise EM, which updates after each batch; by default one update per pass over all rows. Not for
        tables.
    tolerance : float
        EM ends when an iteration gains at most this many nats per row.
    max_iterations : int
        Maximal number of iterations, each over all rows.
    max_time : float, optional
        Approximate seconds: two fifths for the trials above, the rest for restarts and iterations, whose numbers are set before
        EM starts, as ``restarts_`` and ``max_iterations_``. For tables no trial begins that is likely to end later.

    Other parameters are those of :class:`~pushforward.models.base.preparing.Preparing`.

    Attributes
    ----------
    law_ : Gaussian, GaussianMixture or TableLaw
        The law of the elements that vary, without a condition; for tables that of the columns that vary and then of the
        condition: one category for a label, or its standardized numbers and categories.
    n_components_, covariance_, min_variance_, restarts_, max_iterations_
        The resolved arguments.
    training_result_ : TrainingResult
        ``steps`` are iterations of EM; ``held_out_loss`` is the mean of -log p(x | condition) in nats.

    References
    ----------
    Arthur P. Dempster, Nan M. Laird, Donald B. Rubin. Maximum likelihood from incomplete data via the EM algorithm. 1977.

    >>> import pushforward as pf
    >>> model = pf.GMM(n_components=2, held_out=0, random_state=0).fit([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    >>> model.law_.means.flatten().sort().values.round(decimals=1).tolist()
    [0.1, 5.1]
    """

    categories: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("n_components", "covariance", "min_variance", "restarts", "max_iterations")

    n_components: Count | None = None
    covariance: Covariance | None = None
    min_variance: Share | None = None
    start: GaussianMixture | None = None
    restarts: Count | None = None
    batch_size: Count | None = None
    tolerance: Tolerance = 1e-4
    max_iterations: Count = 200
    max_time: Seconds | None = None

    n_components_: int = field(init=False)
    covariance_: Covariance = field(init=False)
    min_variance_: float = field(init=False)
    restarts_: int = field(init=False)
    max_iterations_: int = field(init=False)

    def responsibilities(self, X: ArrayLike, *, condition: Condition = None) -> np.ndarray:
        """Return the posterior probability of each Gaussian for each row, (N, K), given its observed elements.

        >>> import pushforward as pf
        >>> model = pf.GMM(n_components=2, held_out=0, random_state=0).fit([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
        >>> np.sort(model.responsibilities([[0.1]])).round(3).tolist()
        [[0.0, 1.0]]
        """
        check_is_fitted(self)
        rows = self._rows_of(X, condition, torch.float64)
        if isinstance(self.law_, TableLaw):
            x = inside_range(self.space_, rows.z)[0]
            return np.asarray(self.law_.responsibilities(*joint_columns(self.space_, x, rows.condition, gap=KNOWN)))
        x = self.thresholds_(self._flat(rows.middle))
        return np.asarray(self._joint_of(x, self._features(rows.condition, len(x))).softmax(1))

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        x = self._training_rows(prepared)
        features = self._features(prepared.condition, len(x))
        self._check_start(x, features)
        if self.n_components is not None and self.n_components > len(x):
            raise _too_many(self.n_components, len(x))
        self.covariance_ = self.covariance or ("full" if x.shape[1] <= _FULL_UP_TO else "diag")
        counts = _COMPONENTS if self.n_components is None else (self.n_components,)
        if self.start is not None:
            counts = (len(self.start.weights),)
        shares = (
            (_SHARES if prepared.held_out is not None else _SHARES[:1]) if self.min_variance is None else (self.min_variance,)
        )
        if len(counts) * len(shares) == 1:
            best = counts[0], shares[0]
        else:
            trial = torch.linspace(0, len(x) - 1, min(len(x), _TRIAL_ROWS), dtype=torch.float64).long()
            trial_features = Features(features.label[trial], features.numbers[trial])
            with self._progress(len(counts) * len(shares)) as show:
                best = self._best(prepared, x[trial], trial_features, counts, shares, show)
        return {"covariance": self.covariance_, "n_components": best[0], "min_variance": best[1], "restarts": _RESTARTS}

    def _fill_in(self, prepared: Prepared) -> None:
        super()._fill_in(prepared)
        if self.max_time is not None:
            self.restarts_, self.max_iterations_ = self._planned(prepared, prepared.began + self.max_time)

    def _resolve(self, prepared: Prepared) -> object:
        if _of_numbers(self):
            return super()._resolve(prepared)
        for name, value in (("start", self.start), ("batch_size", self.batch_size)):
            if value is not None:
                raise ValueError(f"{name} is for rows of numbers, but the data are a table; omit it")
        if self.n_components is not None and self.n_components > len(prepared.whole):
            raise _too_many(self.n_components, len(prepared.whole))
        self._forget()
        return None

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        if _of_numbers(self):
            super()._learn(prepared, resolved, run)
        else:
            self._learn_table(prepared)

    def _learn_table(self, prepared: Prepared) -> None:
        begin = time.perf_counter()
        learner, trial = self._choose(prepared)
        self.law_, held_out = learner.law(trial), None
        mixture = self.law_.mixture
        if prepared.held_out is not None:
            x, log_shares = inside_range(self.space_, prepared.held_out[0])
            held_out = self._table.log_density(x, prepared.held_out[1]) + log_shares
        levels = sum(len(mixture.weights) * leaf.free for leaf in learner.leaves)
        self.training_result_ = self._result(
            prepared,
            steps=trial.iterations,
            seconds=time.perf_counter() - begin,
            held_out=held_out,
            parameters=levels + free_numbers(len(mixture.weights), mixture.dim, self.covariance_),
        )

    def _choose(self, prepared: Prepared) -> tuple[Learner, Trial]:
        """Return the learner of the rows of a table, and the trial that it chose."""
        cells, held_out = joint_columns(self.space_, self._flat(prepared.whole), prepared.condition, gap=KNOWN), None
        if prepared.held_out is not None:
            inside = inside_range(self.space_, prepared.held_out[0])[0]
            held_out = joint_columns(self.space_, inside, prepared.held_out[1], gap=KNOWN)
        table, chosen = self.space_.schema.table, self.space_.transform.varies.tolist()
        assert table is not None
        beside = condition_domains(self.space_)
        domains = [domain for domain, varies in zip(table.domains, chosen, strict=True) if varies]
        gaps = [gap for gap, varies in zip(table.gaps, chosen, strict=True) if varies]
        self.covariance_ = self.covariance or "full"
        self.min_variance_ = _TABLE_SHARE if self.min_variance is None else self.min_variance
        self.restarts_ = self.restarts or 1
        end = math.inf if self.max_time is None else prepared.began + self.max_time
        settings = Settings(self.covariance_, self.min_variance_, self.tolerance, self.max_iterations, end)
        learner = Learner.of(cells, held_out, [*domains, *beside], [*gaps, *[False] * len(beside)], settings, seed=self.seed_)
        with self._progress(learner.trials(self.n_components)) as show:
            trial = learner.choose(self.n_components, self.restarts_, show)
        self.n_components_, self.max_iterations_ = trial.components, trial.iterations
        return learner, trial

    def _resolved(self) -> Facts:
        return super()._resolved() | {"max_time": None}

    def _planned(self, prepared: Prepared, end: float) -> tuple[int, int]:
        """Return the number of restarts, and of iterations in each, that fit into the time, from the first few iterations."""
        x = self._training_rows(prepared)
        features, seconds = self._features(prepared.condition, len(x)), []
        for iterations in (1, 1 + _TIMED):
            begin = time.perf_counter()
            self._fit(x, features, self.n_components_, self.min_variance_, restarts=1, iterations=iterations)
            seconds.append(time.perf_counter() - begin)
        first, more = seconds[0], max((seconds[1] - seconds[0]) / _TIMED, 1e-6)
        left = end - time.perf_counter()
        restarts = min(self.restarts_, max(1, int(left / (first + _FEW * more))))
        return restarts, min(self.max_iterations, max(1, int((left / restarts - first) / more)))

    def _best(
        self,
        prepared: Prepared,
        x: Tensor,
        features: Features,
        counts: tuple[int, ...],
        shares: tuple[float, ...],
        show: OnIteration,
    ) -> tuple[int, float]:
        """Return the best number of Gaussians and minimal variance, with one start each, of those that fit into the time."""
        best, most, tried = (counts[0], shares[0]), None, 0
        end = math.inf if self.max_time is None else time.perf_counter() + _SHARE_OF_TRIALS * self.max_time
        for count in counts:
            before = best
            for share in shares:
                if most is not None and time.perf_counter() >= end:
                    return best
                fit = self._fit(x, features, count, share, restarts=1, iterations=self.max_iterations)
                self._adopt(fit.joint, fit.owner)
                density = self._held_out_density(prepared)
                if density is None:
                    density = torch.tensor([fit.log_likelihood - fit.parameters * math.log(len(x)) / (2 * len(x))])
                if most is None or surely_more(density, most):
                    best, most = (count, share), density
                tried += 1
                show(tried, float(most.mean()))
            if best == before and count != counts[0]:
                break
        return best

    def _check_start(self, x: Tensor, features: Features) -> None:
        start = self.start
        if start is None:
            return
        if self.space_.conditions is not None and self.space_.conditions.has_classes:
            raise ValueError("start is one law, but each label has its own mixture; omit it, or pass condition=False")
        size = x.shape[1] + features.numbers.shape[1]
        if start.dim != size:
            raise ValueError(f"start has {start.dim} dimensions, but rows have {size} elements that vary (conditions included)")
        if self.n_components not in (None, len(start.weights)):
            raise ValueError(
                f"n_components={self.n_components}, but start has {len(start.weights)} components; omit n_components"
            )

    posterior = available_if(_of_numbers)(posteriors.posterior)

    @property
    def _table(self) -> RowLaw:
        """The law of the rows of a table given their conditions."""
        assert isinstance(self.law_, TableLaw)
        return RowLaw(self.space_, self.law_)

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
        transform = super()._scaling(x, schema, limits)
        return transform if schema.table is None else with_gaps_varying(transform, schema.table.gaps)

    def _score(
        self, X: ArrayLike, condition: Condition, density: RowDensity, *, draws: int, seed: int, first: int, batch_size: int
    ) -> LogProb:
        if _of_numbers(self):
            return super()._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = self._rows(X, condition)
        scores = self._exactly(self._table.log_density(self._flat(rows.z), rows.condition).numpy())
        return replace(scores.shifted(rows.log_shares.numpy()), constants=self.space_.transform.constants)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        if _of_numbers(self):
            return super()._generate(n, condition, seed=seed, first=first, batch_size=batch_size)
        return self._whole(self._table.sample(n, self._dim, condition, seed=seed, first=first))

    def _complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int, batch_size: int) -> Tensor:
        if _of_numbers(self):
            return super()._complete(x, condition, seed=seed, first=first, batch_size=batch_size)
        flat = self._flat(self.space_.transform.forward(x, dtype=torch.float64))
        self.space_.refuse_impossible(self._table.log_marginal(flat, condition), x)
        return self._whole(self._table.complete(flat, condition, seed=seed, first=first))

    def _filled(self, x: Tensor, condition: Tensor | None, *, seed: int, batch_size: int) -> Tensor:
        if _of_numbers(self):
            return super()._filled(x, condition, seed=seed, batch_size=batch_size)
        flat = self._flat(self.space_.transform.forward(self.space_.transform.ends(x)[0], dtype=torch.float64))
        return self._whole(self._table.fill(flat, condition, seed=seed))

    def _clean(self, x: Tensor) -> Tensor:
        return super()._clean(x) if _of_numbers(self) else x

    def _fit_law(self, x: Tensor, features: Features) -> FittedLaw:
        restarts, iterations = self.restarts_, self.max_iterations_
        with self._progress(len(torch.unique(features.label)) * restarts * iterations) as show:
            return self._fit(
                x, features, self.n_components_, self.min_variance_, restarts=restarts, iterations=iterations, show=show
            )

    def _fit(
        self,
        x: Tensor,
        features: Features,
        count: int,
        share: float,
        *,
        restarts: int,
        iterations: int,
        show: OnIteration | None = None,
    ) -> FittedLaw:
        whole = torch.cat([x, features.numbers], 1)
        center = whole.nanmean(0)
        variance = (whole - center).square().nanmean(0)
        floor = share * variance.where(variance > 0, 1.0)
        labels, laws, owner, weights = torch.unique(features.label), list[GaussianMixture](), list[Tensor](), list[Tensor]()
        done, value, numbers = 0, 0.0, len(labels) - 1
        for number, label in enumerate(labels.tolist()):
            rows = whole[features.label == label]
            label_seed = noise.derive(self.seed_, "start", label)
            label_show = _after(show, number * restarts * iterations)
            result = self._best_of(rows, min(count, len(rows)), floor, restarts, iterations, label_show, seed=label_seed)
            law, part = result.parameters, len(rows) / len(x)
            laws.append(law)
            weights.append(part * law.weights)
            label_owner = label if label >= 0 or self.space_.conditions is None else len(self.space_.conditions.classes)
            label_owner = -1 if features.numbers.shape[1] else label_owner
            owner.append(torch.full((len(law.weights),), label_owner))
            done += result.iterations
            numbers += free_numbers(len(law.weights), whole.shape[1], self.covariance_)
            value += part * (result.bounds[-1] + (math.log(part) if len(labels) > 1 else 0.0))
        joint = GaussianMixture(
            torch.cat(weights), torch.cat([law.means for law in laws]), torch.cat([law.covs for law in laws])
        )
        return FittedLaw(joint, torch.cat(owner), done, numbers, value)

    def _best_of(
        self, x: Tensor, count: int, floor: Tensor, restarts: int, iterations: int, show: OnIteration | None, *, seed: int
    ) -> EMResult[GaussianMixture]:
        if self.start is not None:
            return self._run_em(x, self.start, floor, iterations, show, seed)
        results = []
        for attempt in range(restarts if count > 1 else 1):
            attempt_seed = noise.derive(seed, attempt)
            start = start_mixture(x, count, covariance=self.covariance_, floor=floor, seed=attempt_seed)
            results.append(self._run_em(x, start, floor, iterations, _after(show, attempt * iterations), attempt_seed))
        return max(results, key=lambda result: result.bounds[-1])

    def _run_em(
        self, x: Tensor, start: GaussianMixture, floor: Tensor, most: int, show: OnIteration | None, seed: int
    ) -> EMResult[GaussianMixture]:
        kind, tolerance, size = self.covariance_, self.tolerance, self.batch_size
        if size is None or size >= len(x):
            return fit_mixture(
                x, start, covariance=kind, floor=floor, tolerance=tolerance, max_iterations=most, on_iteration=show
            )

        def batches() -> Iterator[Tensor]:
            order = noise.permutation(len(x), seed=seed, purpose="batches")
            return (x[rows] for rows in torch.split(order, size))

        return fit_mixture_in_batches(
            batches, start, covariance=kind, floor=floor, tolerance=tolerance, passes=most, on_iteration=show
        )

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        if isinstance(self.law_, TableLaw):
            return self.law_.state()
        joint = self.joint_
        facts, tensors = super()._state()
        return facts, tensors | {"joint.weights": joint.weights, "joint.means": joint.means, "joint.covs": joint.covs}

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        if not _of_numbers(self):
            self.law_ = TableLaw.from_state(facts, tensors)
            needed = self._dim + condition_columns(self.space_, None, 0)[0].shape[1]
            if len(self.law_.gaps) != needed:
                raise ValueError(f"the law is of {len(self.law_.gaps)} columns, but rows and conditions have {needed}")
            return
        super()._restore(facts, tensors, parts)
        law = GaussianMixture(*(tensors[f"joint.{name}"] for name in ("weights", "means", "covs")))
        self._check_law(law, tensors["owner"])
        self._adopt(law, tensors["owner"])


def _after(show: OnIteration | None, first: int) -> OnIteration | None:
    """Return ``show`` with ``first`` added to the number of iterations."""
    return None if show is None else lambda done, bound: show(first + done, bound)


def _too_many(components: int, rows: int) -> ValueError:
    return ValueError(f"n_components={components:,} is more than the {rows:,} training rows; set fewer, or omit it")
