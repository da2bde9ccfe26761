"""The base of families with a closed-form law: Gaussians and mixtures of them, fitted in float64.

Densities, samples, imputation and posteriors of linear measurements are exact. The law is in the units of the data. Constant
elements are left out; an integer k is learned as k + u with one draw of u in [0, 1), and an element with two values through the
map of :mod:`pushforward.models.gaussian.thresholds`. Rows may have gaps (NaN), because the law of the observed elements is
closed-form too.

Conditions. The model is one mixture of Gaussians over (x, c), where c is a numeric condition, with no elements if there is
none. With labels, each component belongs to one label (or to all, -1), and conditioning selects the components of the label:

    p(x | label) = sum over k of that label of w_k N(x; k) / sum of the same w_k,      p(x | c) = p(x, c) / p(c).

The law without a condition, ``law_``, is therefore the exact marginal; for labels it weights each by its frequency.

A family defines ``_fit_law(x, features)``, and extends ``_state`` and ``_restore``.
"""

import abc
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from pushforward.data import Facts
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.batches import batches
from pushforward.models.base.exact import ExactModel
from pushforward.models.base.model import OUTSIDE_RUNS, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.gaussian.tables import TableLaw
from pushforward.models.gaussian.thresholds import Thresholds
from pushforward.probability import Gaussian, GaussianMixture, gaps, noise

__all__ = ["Features", "FittedLaw", "LawModel", "Tolerance"]

Tolerance = Annotated[float, Ge(0)]


@dataclass(frozen=True, eq=False)
class Features:
    """Encoded conditions of rows, split into labels and numbers.

    Attributes
    ----------
    label : int64 Tensor (N,)
        Number of the label; -1 without one.
    numbers : Tensor (N, F)
        Standardized numbers of a vector, NaN where missing; F = 0 without vectors.
    """

    label: Tensor
    numbers: Tensor


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """A fitted law.

    Attributes
    ----------
    joint : GaussianMixture
        Law of (x, c).
    owner : int64 Tensor (K,)
        Label that each component belongs to; -1 for all, the number of labels for rows without one.
    iterations : int
    parameters : int
        Number of learned parameters.
    log_likelihood : float
        Mean over the training rows.
    """

    joint: GaussianMixture
    owner: Tensor
    iterations: int
    parameters: int
    log_likelihood: float


class LawModel(ExactModel):
    """Base of families with a closed-form law; the module docstring lists what a family defines.

    Attributes
    ----------
    law_ : Gaussian, GaussianMixture or TableLaw
        Exact law of the elements of a row that vary, flattened, in the units of the data (integers as x + u, elements with two
        values as numbers below or above a threshold).
    joint_ : GaussianMixture
        Law of (x, c), c the standardized numbers of a vector condition; ``law_`` is its marginal.
    owner_ : int64 Tensor (K,)
        Label that each component of ``joint_`` belongs to, by its number in ``space_.conditions.classes``; -1 for all.
    thresholds_ : Thresholds
        The maps of elements with two values.
    """

    columnwise: ClassVar[bool] = True
    takes_series: ClassVar[bool] = True

    law_: Gaussian | GaussianMixture | TableLaw = field(init=False)
    joint_: GaussianMixture = field(init=False)
    owner_: Tensor = field(init=False)
    thresholds_: Thresholds = field(init=False)

    @abc.abstractmethod
    def _fit_law(self, x: Tensor, features: Features) -> FittedLaw:
        """Fit to rows x (N, d) of varying elements, float64, with NaN in gaps."""

    def _resolve(self, prepared: Prepared) -> object:
        """Resolve defaults, and return the seconds that this took, which count as training."""
        begin = time.perf_counter()
        self._set_thresholds(self._flat(prepared.whole))
        self._fill_in(prepared)
        return time.perf_counter() - begin

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        assert isinstance(resolved, float)
        begin = time.perf_counter()
        fit = self._fit_law(self._training_rows(prepared), self._features(prepared.condition, len(prepared.whole)))
        self._adopt(fit.joint, fit.owner)
        seconds = time.perf_counter() - begin + resolved
        held_out = self._held_out_density(prepared)
        self.training_result_ = self._result(
            prepared, steps=fit.iterations, seconds=seconds, held_out=held_out, parameters=fit.parameters
        )

    def _held_out_density(self, prepared: Prepared) -> Tensor | None:
        """Return log p(x | condition) in nats of each held-out row, integers as x + u."""
        if prepared.held_out is None:
            return None
        x = self._dequantized(prepared.held_out[0], prepared.held_out_rows, self.seed_)
        density = self._log_density(self.thresholds_(x), self._features(prepared.held_out[1], len(x)))
        return density + self.thresholds_.log_slope(x)

    def _set_thresholds(self, x: Tensor) -> None:
        transform = self.space_.transform
        low, high = (
            transform.pick(end.expand_as(transform.shift))[transform.varies] for end in (transform.low, transform.high)
        )
        whole = transform.pick(transform.integer)[transform.varies]
        self.thresholds_ = Thresholds.fit(x, low, whole & (high == low + 1))

    def _adopt(self, joint: GaussianMixture, owner: Tensor) -> None:
        """Store the fitted law, and its marginal without a condition."""
        self.joint_, self.owner_ = joint, owner
        dim = self._dim
        law = joint if joint.dim == dim else joint.marginal(range(dim))
        self.law_ = Gaussian(law.means[0], law.covs[0]) if len(law.weights) == 1 else law

    def _check_law(self, joint: GaussianMixture, owner: Tensor) -> None:
        """Raise a ValueError if a law that was read is not one of rows and conditions like those of the space."""
        encoder, dim = self.space_.conditions, self._dim
        labels, numbers = (0, 0) if encoder is None else (len(encoder.classes), len(encoder.mean))
        if joint.dim != dim + numbers or joint.means.dtype != torch.float64 or joint.covs.ndim != 3:
            raise ValueError(f"the law is of {joint.dim} numbers, but rows and conditions have {dim + numbers}")
        if (
            owner.dtype != torch.int64
            or owner.shape != joint.weights.shape
            or not bool(((owner >= -1) & (owner <= labels)).all())
        ):
            raise ValueError("owner must hold the number of a label for each component")

    def _training_rows(self, prepared: Prepared) -> Tensor:
        """Return the varying elements of the training rows (N, d), as the law has them."""
        return self.thresholds_(self._dequantized(prepared.whole, prepared.rows, self.seed_))

    def _dequantized(self, z: Tensor, rows: Tensor, seed: int) -> Tensor:
        """Return the varying elements of scaled rows, integers as x + u, where u depends on (seed, row) alone."""
        x, width = self._flat(z), self._flat(self.space_.transform.dequantization[None])
        if not bool((width > 0).any()):
            return x
        u = noise.uniform((x.shape[1],), seed=seed, purpose="dequantization", rows=rows, dtype=x.dtype)
        return x + width * u

    def _features(self, condition: Tensor | None, n: int) -> Features:
        """Split encoded conditions (n, K) into labels and numbers; None is "no condition" for all."""
        encoder = self.space_.conditions
        unlabeled = torch.full((n,), -1)
        if encoder is None:
            return Features(unlabeled, torch.empty(n, 0, dtype=torch.float64))
        encoded = encoder.encode(None, n) if condition is None else condition
        if encoder.has_classes:
            label = torch.where(encoded[:, 0] > 0, encoded[:, 1:].argmax(1), unlabeled)
            return Features(label, torch.empty(n, 0, dtype=torch.float64))
        return Features(unlabeled, encoder.features(encoded))

    def _joint_of(self, x: Tensor, features: Features) -> Tensor:
        """Return log p(x, c, component) (N, K), -inf for components of other labels."""
        joint = gaps.log_joint(self.joint_, torch.cat([x, features.numbers], 1))
        return joint.where(self._owned(features.label), -torch.inf)

    def _owned(self, label: Tensor) -> Tensor:
        """Return which components belong to the label of each row, (N, K); all, for a label without training rows."""
        owned = (self.owner_ < 0) | (label[:, None] < 0) | (label[:, None] == self.owner_)
        return owned | ~owned.any(1, keepdim=True)

    def _log_density(self, x: Tensor, features: Features) -> Tensor:
        """Return log p(x | condition), (N,), of the observed elements of rows (N, d)."""
        unobserved = torch.full_like(x[:, :1], torch.nan).expand_as(x)
        return self._joint_of(x, features).logsumexp(1) - self._joint_of(unobserved, features).logsumexp(1)

    def _log_prob(
        self, learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
    ) -> LogProb:
        x = self._flat(z)
        density = self._log_density(self.thresholds_(x), self._features(condition, len(x)))
        return self._exactly((density + self.thresholds_.log_slope(x)).numpy())

    def _draw(self, x: Tensor, features: Features, *, seed: int, first: int) -> Tensor:
        """Return rows (n, d) with their gaps drawn given the observed elements and the conditions."""
        rows = torch.arange(first, first + len(x))
        chances = self._joint_of(x, features).softmax(1).cumsum(1)
        u = noise.uniform((1,), seed=seed, purpose="mixture component", rows=rows, dtype=torch.float64)
        component = torch.searchsorted(chances, u * chances[:, -1:], right=True)[:, 0].clamp(max=chances.shape[1] - 1)
        whole = torch.cat([x, features.numbers], 1)
        z = noise.normal((whole.shape[1],), seed=seed, purpose="mixture", rows=rows, dtype=torch.float64)
        return gaps.fill(self.joint_, whole, component, z)[:, : x.shape[1]]

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        parts = []
        for begin in range(0, n, batch_size):
            count = min(batch_size, n - begin)
            features = self._features(None if condition is None else condition[begin : begin + count], count)
            unobserved = torch.full((count, self._dim), torch.nan, dtype=torch.float64)
            parts.append(self._draw(unobserved, features, seed=seed, first=first + begin))
        return self._whole(torch.cat(parts))

    def _filled(self, x: Tensor, condition: Tensor | None, *, seed: int, batch_size: int) -> Tensor:
        transform, parts = self.space_.transform, []
        for part in batches(len(x), batch_size):
            z = transform.forward(x[part], dtype=torch.float64)
            given = self.thresholds_(self._dequantized(z, torch.arange(part.start, part.stop), seed))
            features = self._features(None if condition is None else condition[part], len(given))
            parts.append(self._draw(given, features, seed=seed, first=part.start))
        return self._whole(torch.cat(parts))

    def _complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int, batch_size: int) -> Tensor:
        transform, parts = self.space_.transform, []
        for part in batches(len(x), batch_size):
            rows = torch.arange(first + part.start, first + part.stop)
            z = transform.forward(x[part].nan_to_num(0.0), dtype=torch.float64)
            given = self.thresholds_(self._dequantized(z, rows, seed))
            given = given.where(~x[part].flatten(1)[:, ~transform.constant.flatten()].isnan(), torch.nan)
            features = self._features(None if condition is None else condition[part], len(given))
            self.space_.refuse_impossible(self._joint_of(given, features).logsumexp(1), x[part])
            parts.append(self._draw(given, features, seed=seed, first=first + part.start))
        return self._whole(torch.cat(parts))

    def _clean(self, x: Tensor) -> Tensor:
        """Return rows with their gaps filled by draws."""
        if not bool(x.isnan().any()):
            return x
        middle = self.thresholds_(self._flat(x + self.space_.transform.dequantization / 2))
        return self._whole(self._draw(middle, self._features(None, len(x)), seed=0, first=0))

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        maps = self.thresholds_
        return {}, {"owner": self.owner_, "thresholds.low": maps.low, "thresholds.share": maps.share}

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        low, share = tensors["thresholds.low"], tensors["thresholds.share"]
        shape = (self._dim,)
        known = all(part.shape == shape and part.dtype == torch.float64 for part in (low, share))
        if not known or not bool(((share >= 0) & (share < 1)).all()):
            raise ValueError("thresholds must hold a value and a share, at least 0 and below 1, for each varying element")
        self.thresholds_ = Thresholds(low, share)
