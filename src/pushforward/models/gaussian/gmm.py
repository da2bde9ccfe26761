"""Mixtures of Gaussians: :class:`GMM`."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Facts
from pushforward.models.base.model import Prepared
from pushforward.models.files.params import Count, Seconds, Share
from pushforward.models.gaussian import posterior as posteriors
from pushforward.models.gaussian.base import Features, Found, LawModel, Tolerance
from pushforward.probability import GaussianMixture, noise
from pushforward.probability.estimate import EMResult, OnIteration
from pushforward.probability.mixture_em import Covariance, fit_mixture, fit_mixture_in_batches, free_numbers, start_mixture

__all__ = ["GMM"]

_COMPONENTS = (1, 2, 4, 8, 16, 32, 64)
_SHARES = (1e-6, 1e-2, 1e-1)
_FULL_UP_TO = 100
_TRIAL_ROWS = 20_000
_SHARE_OF_TRIALS = 0.4  # of the time
_TIMED, _FEW = 3, 30  # iterations that are timed, and that are worth a restart


class GMM(LawModel):
    """A mixture of Gaussians, fitted by expectation-maximization; the result is the exact law ``law_``.

    EM starts from k-means and never lowers the likelihood. Gaps (NaN) are learned from, and filled by :meth:`impute`. Labels
    get a mixture each; numbers as a condition enter a joint mixture, whose conditional law is exact.

    Parameters
    ----------
    n_components : int, optional
        Number of Gaussians, for each label if there are labels. By default 1, 2, 4, 8, 16, 32 and 64 are tried in turn, on
        20,000 rows at most, until one gives held-out rows no density that is higher by its standard error. Without held-out
        rows the Bayesian information criterion decides. Where rows are fewer it is their number.
    covariance : {"full", "diag", "tied", "spherical"}, optional
        A matrix for each Gaussian, variances by element, one matrix for all, or one variance for each Gaussian. Default full,
        for rows of more than 100 elements diag.
    min_variance : float, optional
        Least variance of a Gaussian in any direction, as a share of the variances of the data: without it a Gaussian could
        shrink onto one row. By default the best of 1e-6, 0.01 and 0.1 by the density of held-out rows, without these 1e-6.
    start : GaussianMixture, optional
        Law to start from, in the units of the data (then of the condition's standardized numbers); not with labels.
    restarts : int
        How often EM starts anew, from other k-means; the best is kept.
    batch_size : int, optional
        Rows of a batch of stepwise EM, with an update after each, for many rows; without it all rows make one update.
    tolerance : float
        EM ends when an iteration gains at most this many nats per row.
    max_iterations : int
        Most iterations, each over all rows.
    max_time : float, optional
        Seconds, about: two fifths of them for what is tried above, and as many restarts and iterations as the rest has room
        for. They are decided before EM begins, as ``restarts_`` and ``max_iterations_``.

    Other parameters are those of :class:`~pushforward.models.base.model.GenerativeModel`.

    Attributes
    ----------
    law_ : Gaussian or GaussianMixture
        The law of the elements that vary, without a condition.
    n_components_, covariance_, min_variance_, restarts_, max_iterations_
        The arguments with their defaults filled in.
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

    fitted: ClassVar[tuple[str, ...]] = ("n_components", "covariance", "min_variance", "restarts", "max_iterations")

    n_components: Count | None = None
    covariance: Covariance | None = None
    min_variance: Share | None = None
    start: GaussianMixture | None = None
    restarts: Count = 3
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
        """Return the probability that each Gaussian made each row, (N, K), of what is seen of the row.

        >>> import pushforward as pf
        >>> model = pf.GMM(n_components=2, held_out=0, random_state=0).fit([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
        >>> np.sort(model.responsibilities([[0.1]])).round(3).tolist()
        [[0.0, 1.0]]
        """
        check_is_fitted(self)
        rows = self._rows_of(X, condition, torch.float64)
        x = self._flat(rows.middle)
        return np.asarray(self._joint_of(x, self._features(rows.condition, len(x))).softmax(1))

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        x = self._training_rows(prepared)
        features = self._features(prepared.condition, len(x))
        self._check_start(x, features)
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
            some = torch.linspace(0, len(x) - 1, min(len(x), _TRIAL_ROWS), dtype=torch.float64).long()
            some_features = Features(features.label[some], features.numbers[some])
            with self._progress(len(counts) * len(shares)) as show:
                best = self._best(prepared, x[some], some_features, counts, shares, show)
        return {"covariance": self.covariance_, "n_components": best[0], "min_variance": best[1]}

    def _fill_in(self, prepared: Prepared) -> None:
        begin = time.perf_counter()
        super()._fill_in(prepared)
        if self.max_time is not None:
            self.restarts_, self.max_iterations_ = self._planned(prepared, begin + self.max_time)

    def _resolved(self) -> Facts:
        return super()._resolved() | {"max_time": None}

    def _planned(self, prepared: Prepared, end: float) -> tuple[int, int]:
        """Return how many restarts, and iterations in each, there is time for, by the time of the first few."""
        x = self._training_rows(prepared)
        features, seconds = self._features(prepared.condition, len(x)), []
        for iterations in (1, 1 + _TIMED):
            begin = time.perf_counter()
            self._fitted(x, features, self.n_components_, self.min_variance_, restarts=1, iterations=iterations)
            seconds.append(time.perf_counter() - begin)
        first, more = seconds[0], max((seconds[1] - seconds[0]) / _TIMED, 1e-6)
        left = end - time.perf_counter()
        restarts = min(self.restarts, max(1, int(left / (first + _FEW * more))))
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
        """Return the number of Gaussians and the least variance that do best, one start each, of those there is time for."""
        best, most, tried = (counts[0], shares[0]), None, 0
        end = math.inf if self.max_time is None else time.perf_counter() + _SHARE_OF_TRIALS * self.max_time
        for count in counts:
            before = best
            for share in shares:
                if most is not None and time.perf_counter() >= end:
                    return best
                found = self._fitted(x, features, count, share, restarts=1, iterations=self.max_iterations)
                self._adopt(found.joint, found.owner)
                density = self._held_out_density(prepared)
                if density is None:
                    density = torch.tensor([found.log_likelihood - found.parameters * math.log(len(x)) / (2 * len(x))])
                if most is None or _surely_more(density, most):
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
            raise ValueError(
                "start is one law, but each label gets a mixture of its own; leave it out, or write condition=False"
            )
        size = x.shape[1] + features.numbers.shape[1]
        if start.dim != size:
            raise ValueError(
                f"start lives in {start.dim} dimensions, but rows have {size} elements that vary (conditions included)"
            )
        if self.n_components not in (None, len(start.weights)):
            raise ValueError(
                f"n_components={self.n_components}, but start has {len(start.weights)} components; leave n_components out"
            )

    posterior = posteriors.posterior
    impute = posteriors.impute

    def _fit_law(self, x: Tensor, features: Features) -> Found:
        restarts, iterations = self.restarts_, self.max_iterations_
        with self._progress(len(torch.unique(features.label)) * restarts * iterations) as show:
            return self._fitted(
                x, features, self.n_components_, self.min_variance_, restarts=restarts, iterations=iterations, show=show
            )

    def _fitted(
        self,
        x: Tensor,
        features: Features,
        count: int,
        share: float,
        *,
        restarts: int,
        iterations: int,
        show: OnIteration | None = None,
    ) -> Found:
        whole = torch.cat([x, features.numbers], 1)
        center = whole.nanmean(0)
        variance = (whole - center).square().nanmean(0)
        floor = share * variance.where(variance > 0, 1.0)
        labels, laws, owner, weights = torch.unique(features.label), list[GaussianMixture](), list[Tensor](), list[Tensor]()
        done, value, numbers = 0, 0.0, len(labels) - 1
        for number, label in enumerate(labels.tolist()):
            rows = whole[features.label == label]
            named = noise.derive(self.seed_, "start", label)
            watched = _after(show, number * restarts * iterations)
            found = self._best_of(rows, min(count, len(rows)), floor, restarts, iterations, watched, seed=named)
            law, part = found.parameters, len(rows) / len(x)
            laws.append(law)
            weights.append(part * law.weights)
            mine = label if label >= 0 or self.space_.conditions is None else len(self.space_.conditions.classes)
            mine = -1 if features.numbers.shape[1] else mine
            owner.append(torch.full((len(law.weights),), mine))
            done += found.iterations
            numbers += free_numbers(len(law.weights), whole.shape[1], self.covariance_)
            value += part * (found.bounds[-1] + (math.log(part) if len(labels) > 1 else 0.0))
        joint = GaussianMixture(
            torch.cat(weights), torch.cat([law.means for law in laws]), torch.cat([law.covs for law in laws])
        )
        return Found(joint, torch.cat(owner), done, numbers, value)

    def _best_of(
        self, x: Tensor, count: int, floor: Tensor, restarts: int, iterations: int, show: OnIteration | None, *, seed: int
    ) -> EMResult[GaussianMixture]:
        if self.start is not None:
            return self._climb(x, self.start, floor, iterations, show, seed)
        results = []
        for attempt in range(restarts if count > 1 else 1):
            named = noise.derive(seed, attempt)
            start = start_mixture(x, count, covariance=self.covariance_, floor=floor, seed=named)
            results.append(self._climb(x, start, floor, iterations, _after(show, attempt * iterations), named))
        return max(results, key=lambda found: found.bounds[-1])

    def _climb(
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
        joint = self.joint_
        tensors = {"joint.weights": joint.weights, "joint.means": joint.means, "joint.covs": joint.covs, "owner": self.owner_}
        return {}, tensors

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        law = GaussianMixture(*(tensors[f"joint.{name}"] for name in ("weights", "means", "covs")))
        self._adopt(law, tensors["owner"])


def _after(show: OnIteration | None, first: int) -> OnIteration | None:
    """Return ``show`` for iterations that come after the first ones."""
    return None if show is None else lambda done, bound: show(first + done, bound)


def _surely_more(one: Tensor, other: Tensor) -> bool:
    """Whether the mean of one is larger by more than the standard error of the difference, row by row."""
    gain = one - other
    return bool(gain.mean() > gain.std(correction=0) / math.sqrt(len(gain)))
