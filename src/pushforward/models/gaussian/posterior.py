"""``posterior`` of closed-form laws: exact draws given a linear measurement.

To draw (x, c) given y = A x + noise, draw a component by the evidence of y, and (x', noise') from its prior, and correct by the
gain: x = x' + S A^T (A S A^T + R)^-1 (y - A x' - noise'). Arguments are those of the denoising families
(:mod:`pushforward.models.denoising.posterior`), except those about steps.
"""

from dataclasses import dataclass

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Transform, Values
from pushforward.data.measurement import Noise, Operator, measurement
from pushforward.diffusion import Observation, observe
from pushforward.models.gaussian.base import LawModel
from pushforward.models.gaussian.thresholds import Thresholds
from pushforward.probability import GaussianMixture
from pushforward.probability.counts import check_count
from pushforward.probability.noise import normal, uniform

__all__ = ["posterior"]


def posterior(
    model: LawModel,
    A: Operator,
    y: ArrayLike,
    noise: Noise,
    *,
    b: ArrayLike | None = None,
    n: int = 1,
    condition: Condition = None,
    seed: int | None = None,
    first: int = 0,
) -> Values:
    """Draw rows x given the measurement y = A x + b + noise, all in the units of the data, exactly.

    The parameters and the result are those of :meth:`pushforward.Diffusion.posterior`.

    Raises
    ------
    ValueError, TypeError
        If a shape does not fit, the noise is negative, A is not linear, or entries of y without noise depend on each other.
    """
    check_is_fitted(model)
    check_count("n", n)
    check_count("first", first, least=0)
    seed = model._keep_seed(seed)
    space = model.space_
    operator, measured, dtype = measurement(space.schema, A, y)
    observation = observe(operator, measured, noise, space.schema.internal_shape, b, dtype=dtype)
    encoded = space.encode(condition, n)
    measured_law = _Measured.of(observation, space.transform, model.thresholds_, dtype)
    x = _draws(model, measured_law, n, encoded, seed=seed, first=first)
    return space.to_user(model._whole(x))


def _draws(model: LawModel, measured: "_Measured", n: int, condition: Tensor | None, *, seed: int, first: int) -> Tensor:
    """Return n draws (n, d) of varying elements given a measurement of them."""
    features = model._features(condition, n)
    numbers = features.numbers
    x = torch.empty(n, measured.matrix.shape[1], dtype=torch.float64)
    ones = torch.ones(n, 1, dtype=torch.bool)  # without numbers there is one pattern, the empty one
    patterns, which = torch.unique(torch.cat([~numbers.isnan(), ones], 1), dim=0, return_inverse=True)
    for number, observed in enumerate(patterns[:, :-1]):
        rows = (which == number).nonzero()[:, 0]
        y = torch.cat([measured.values(first + rows, seed), numbers[rows][:, observed]], 1)
        owned = model._owned(features.label[rows])
        x[rows] = _measured_rows(model.joint_, measured.with_numbers(observed), y, owned, first + rows, seed)
    return x


def _measured_rows(law: GaussianMixture, linear: "_Linear", y: Tensor, owned: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Draw x given y (n, M) = A (x, c) + noise, from the components that each row's label owns."""
    law_of_y = law.evidence(linear.matrix, linear.std)
    evidence = law_of_y.components.log_prob(y) + law.weights.log()
    chances = evidence.where(owned, -torch.inf).softmax(1).cumsum(1)
    u = uniform((1,), seed=seed, purpose="mixture component", rows=rows, dtype=torch.float64)
    k = torch.searchsorted(chances, u * chances[:, -1:], right=True)[:, 0].clamp(max=len(law.weights) - 1)
    z = normal((law.dim,), seed=seed, purpose="mixture", rows=rows, dtype=torch.float64)
    v = law.components.draw(k, z)
    e = normal((y.shape[1],), seed=seed, purpose="measurement noise", rows=rows, dtype=torch.float64)
    residual = y - v @ linear.matrix.mT - linear.std * e
    covs = law.components.full_covs
    for component in torch.unique(k):
        own_rows = k == component
        cross = covs[component] @ linear.matrix.mT
        factor = law_of_y.components.factor[component]
        v[own_rows] += torch.cholesky_solve(residual[own_rows].mT, factor).mT @ cross.mT
    return v[:, : linear.dim]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A measurement of the varying elements (d,) of a row: its matrix (M, d), standard deviations of noise, values y (1, M).

    The contribution of constants is subtracted from ``y``; ``width`` (d,) is 1 where an element is an integer, else 0. The law
    is that of v = x + u, or v = g(x + u) for elements with two values, so the measurement of v is y + A (v - x). x is ``known``
    (d,) where an element with two values is measured alone and without noise; otherwise, as v - x then depends on x, its mean
    over rows is kept: x is drawn with the shares of the training data.
    """

    matrix: Tensor
    std: Tensor
    y: Tensor
    width: Tensor
    thresholds: Thresholds
    known: Tensor

    @classmethod
    def of(cls, observation: Observation, transform: Transform, thresholds: Thresholds, dtype: torch.dtype) -> "_Measured":
        varies = ~transform.constant
        basis = torch.eye(varies.numel(), dtype=dtype)[varies.flatten()].reshape(-1, *varies.shape)
        constants = observation.measure(transform.value[None].to(dtype)).double()
        width = (transform.integer & varies).double()[varies]
        matrix, std, y = observation.measure(basis).double().mT, observation.std.double(), observation.y - constants
        alone = ((matrix != 0).sum(1) == 1) & (std == 0)
        known = torch.full_like(width, torch.nan)
        for row in alone.nonzero()[:, 0].tolist():
            element = int((matrix[row] != 0).int().argmax())
            known[element] = y[0, row] / matrix[row, element]
        return cls(matrix, std, y, width, thresholds, known)

    def values(self, rows: Tensor, seed: int) -> Tensor:
        """Return the measurement of v for rows with these numbers, (n, M), with u drawn for each row."""
        y = self.y.expand(len(rows), -1)
        if not bool(self.width.any()):
            return y
        u = uniform((len(self.width),), seed=seed, purpose="dequantization", rows=rows, dtype=torch.float64)
        maps = self.thresholds
        share = uniform((len(self.width),), seed=seed, purpose="two values", rows=rows, dtype=torch.float64)
        value = torch.where(self.known.isnan(), (share < maps.share).double(), (self.known - maps.low).round().clamp(0, 1))
        x = torch.where(maps.chosen, maps.low + value, 0.0)
        return y + (maps(x + self.width * u) - x) @ self.matrix.mT

    def with_numbers(self, observed: Tensor) -> "_Linear":
        """Return the measurement of (x, c) that includes the observed numbers of c."""
        rows = torch.eye(len(observed), dtype=torch.float64)[observed]
        matrix: Tensor = torch.block_diag(self.matrix, rows)  # type: ignore[no-untyped-call]
        return _Linear(matrix, torch.cat([self.std, self.std.new_zeros(len(rows))]), self.matrix.shape[1])


@dataclass(frozen=True, eq=False)
class _Linear:
    """y = A v + noise with independent noise of standard deviations ``std``; x is the first ``dim`` elements of v."""

    matrix: Tensor
    std: Tensor
    dim: int
