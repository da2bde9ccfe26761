"""Mixtures of Gaussians for rows with labels, one for each label, by EM from several starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.models.gaussian.base import Features, FittedLaw
from pushforward.probability import GaussianMixture, noise
from pushforward.probability.estimation.estimate import EMResult, OnIteration
from pushforward.probability.estimation.mixture_em import (
    Covariance,
    fit_mixture,
    fit_mixture_in_batches,
    free_numbers,
    start_mixture,
)

__all__ = ["LabeledEM"]


@dataclass(frozen=True, eq=False)
class LabeledEM:
    """How EM runs.

    Parameters
    ----------
    covariance : {"full", "diag", "tied", "spherical"}
    tolerance : float
    batch_size : int or None
    start : GaussianMixture or None
    labels : int
        Number of labels; rows without one have the mixture after the last.
    """

    covariance: Covariance
    tolerance: float
    batch_size: int | None
    start: GaussianMixture | None
    labels: int

    def fit(
        self,
        x: Tensor,
        features: Features,
        count: int,
        share: float,
        *,
        restarts: int,
        iterations: int,
        show: OnIteration | None,
        seed: int,
    ) -> FittedLaw:
        """Fit ``count`` Gaussians per label to rows x (N, d); ``share`` is the least variance, as a share of the data's."""
        whole = torch.cat([x, features.numbers], 1)
        center = whole.nanmean(0)
        variance = (whole - center).square().nanmean(0)
        floor = share * variance.where(variance > 0, 1.0)
        labels, laws, owner, weights = torch.unique(features.label), list[GaussianMixture](), list[Tensor](), list[Tensor]()
        done, value, numbers = 0, 0.0, len(labels) - 1
        for number, label in enumerate(labels.tolist()):
            rows = whole[features.label == label]
            label_seed = noise.derive(seed, "start", label)
            label_show = _after(show, number * restarts * iterations)
            result = self._best_of(rows, min(count, len(rows)), floor, restarts, iterations, label_show, seed=label_seed)
            law, part = result.parameters, len(rows) / len(x)
            laws.append(law)
            weights.append(part * law.weights)
            label_owner = label if label >= 0 else self.labels or label
            label_owner = -1 if features.numbers.shape[1] else label_owner
            owner.append(torch.full((len(law.weights),), label_owner))
            done += result.iterations
            numbers += free_numbers(len(law.weights), whole.shape[1], self.covariance)
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
            start = start_mixture(x, count, covariance=self.covariance, floor=floor, seed=attempt_seed)
            results.append(self._run_em(x, start, floor, iterations, _after(show, attempt * iterations), attempt_seed))
        return max(results, key=lambda result: result.bounds[-1])

    def _run_em(
        self, x: Tensor, start: GaussianMixture, floor: Tensor, most: int, show: OnIteration | None, seed: int
    ) -> EMResult[GaussianMixture]:
        kind, tolerance, size = self.covariance, self.tolerance, self.batch_size
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


def _after(show: OnIteration | None, first: int) -> OnIteration | None:
    """Return ``show`` with ``first`` added to the number of iterations."""
    return None if show is None else lambda done, bound: show(first + done, bound)
