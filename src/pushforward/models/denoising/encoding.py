"""``transform`` and ``inverse_transform`` of denoising models: rows to the noise of their probability flow, and back.

The flow (:mod:`pushforward.diffusion.samplers.adaptive`) maps the law of the data to that of x_1 = alpha(1) x + sigma(1) z
deterministically, for every source and coupling, so a row and its latent z = x_1 / sigma(1) determine each other. If the noise
is standard normal, so are the latents of the data, provided that the law is learned and alpha(1) is small.

Rows are at theta = 0, without noise, although networks are trained from t_min on: below it the flow is extrapolated from just
above, as for densities. No noise is added to the data, and the inverse ends at the data, not at E[x | x_t].

Integers are encoded at the middle of their interval and decoded by rounding down, so an error below half a unit restores them.
Constant columns are not mapped: their latents are 0 and ignored by the inverse. Constant elements of images are mapped, because
the network was trained on images with all elements noised. Their noise is one draw, shared by all rows, and is their latent;
with a custom source it is the constant of the source's rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Values
from pushforward.data.points import absent_points
from pushforward.data.schema import Schema
from pushforward.diffusion import AbstractDenoiser, Adaptive, widen
from pushforward.diffusion.points import PresentPoints
from pushforward.models.base.batches import part_of
from pushforward.models.denoising.base import Denoising, WithDenoiser
from pushforward.models.denoising.source import GaussianSource
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["code_schema", "from_units", "in_units", "inverse_transform", "transform"]

_MOST_CALLS = 2000  # per row


def transform(
    model: Denoising, X: ArrayLike, *, condition: Condition = None, rtol: float = 1e-5, batch_size: int = 256
) -> Values:
    """Return the noise z that the probability flow turns into the rows of X.

    Parameters
    ----------
    X : array, tensor or DataFrame
        Rows like the training data.
    condition : label, vector, or one of them per row, optional
        The condition of the flow. Without it a conditional model uses the law that it learned with its condition dropped.
    rtol : float
        Error allowed in a step, relative to the size of a row. Networks are rough in t, so the error at the end is larger:
        for the moons, in units of their spread, mostly 1e-3 at 1e-5 (450 calls) and 3e-3 at 1e-4 (150 calls).
    batch_size : int
        Rows that go through the network at once.

    Returns
    -------
    array or tensor
        Floating-point, shaped like X; for a DataFrame an array (N, D). If the source is Gaussian noise, they are standard
        normal, and vectors (N, K L) for signals that are learned as coefficients. If the model has its own source, they are
        like rows of that source, in the units of the data.

    Raises
    ------
    ValueError
        If X does not fit the training data, or the model has learned no law without a condition and none is given.

    >>> import pushforward as pf
    >>> X = torch.tensor([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0]] * 20)
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit(X)
    >>> z = model.transform(X[:2])
    >>> z.shape, model.inverse_transform(z).round(decimals=2).tolist()
    (torch.Size([2, 2]), [[1.0, 5.0], [2.0, 3.0]])
    """
    check_is_fitted(model)
    check_count("batch_size", batch_size)
    flow = Adaptive(rtol=rtol, max_nfe=_MOST_CALLS)
    rows = model._rows_of(X, condition, model._density_dtype)
    x, constants = rows.middle, _constants(model, rows.varies)
    if constants is not None:
        x = torch.where(constants.varies, x, constants.value)

    def encode(part: slice, denoiser: AbstractDenoiser, device: torch.device) -> Tensor:
        inner = denoiser if constants is None else _WithConstants(denoiser, constants, noised=True)
        condition = part_of(rows.condition, part, device)
        return _through(inner, x[part].to(device), lambda d, z: flow.encode(d, z, condition=condition).x).cpu()

    z = torch.cat(model._in_batches(encode, len(x), batch_size))
    if constants is not None:
        z = torch.where(constants.varies, z, constants.latent)
    return code_schema(model).to_user(in_units(model, z))


def inverse_transform(
    model: Denoising, Z: ArrayLike, *, condition: Condition = None, rtol: float = 1e-5, batch_size: int = 256
) -> Values:
    """Return the rows of data that the probability flow makes of noise: the inverse of :meth:`transform`.

    Parameters
    ----------
    Z : array or tensor
        What :meth:`transform` returned, or any noise of that shape, which is mostly the shape of the training data.
    condition, rtol, batch_size
        As in :meth:`transform`.

    Returns
    -------
    array, tensor or DataFrame
        Rows in the layout, dtype and units of the training data.

    Raises
    ------
    ValueError
        If Z is not shaped like the training data, or the model has learned no law without a condition and none is given.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit([[1.0, 5.0], [2.0, 3.0]] * 20)
    >>> model.inverse_transform([[0.0, 0.0]]).shape
    (1, 2)
    """
    check_is_fitted(model)
    check_count("batch_size", batch_size)
    flow = Adaptive(rtol=rtol, max_nfe=_MOST_CALLS)
    latents = code_schema(model).to_internal(Z, name=type(model).__name__)
    z = from_units(model, latents).to(model._density_dtype)
    encoded = model._encode(condition, len(z), model._density_dtype)
    varies = model.space_.transform.varies
    constants = _constants(model, None if bool(varies.all()) else varies)

    def decode(part: slice, denoiser: AbstractDenoiser, device: torch.device) -> Tensor:
        inner = denoiser if constants is None else _WithConstants(denoiser, constants, noised=False)
        condition = part_of(encoded, part, device)
        return _through(inner, z[part].to(device), lambda d, z: flow.decode(d, z, condition=condition).x).cpu()

    x = torch.cat(model._in_batches(decode, len(z), batch_size))
    return model.space_.to_user(x)


def _through(denoiser: AbstractDenoiser, z: Tensor, flow: Callable[[AbstractDenoiser, Tensor], Tensor]) -> Tensor:
    """Return the rows that a flow makes of z (B, *D), NaN in the absent points of sets."""
    if z.ndim != 3 or not bool(z.isnan().any()):
        return flow(denoiser, z)
    absent = absent_points(z)
    ends = flow(PresentPoints(denoiser, ~absent), z.nan_to_num(0.0))
    return torch.where(absent[..., None], torch.nan, ends)


def code_schema(model: WithDenoiser) -> Schema:
    """Return the layout of latents: that of the rows, or vectors for signals whose noise is that of their coordinates."""
    schema, coding = model.space_.schema, model.space_.transform.coding
    if coding is None or not isinstance(model.source_, GaussianSource):
        return schema.codes()
    return schema.codes(math.prod(coding.shape))


def in_units(model: WithDenoiser, z: Tensor) -> Tensor:
    """Return latents with constant columns; in the units of the data unless the source is Gaussian."""
    transform, z = model.space_.transform, z.double()
    z = transform.spread(z)
    if isinstance(model.source_, GaussianSource):
        return z if transform.coding is None else z.flatten(1)
    return transform.in_units(z)


def from_units(model: WithDenoiser, z: Tensor) -> Tensor:
    """Invert :func:`in_units`."""
    if not isinstance(model.source_, GaussianSource):
        return model.space_.transform.forward(z)
    coding = model.space_.transform.coding
    return model.space_.transform.pick(z if coding is None else z.reshape(-1, *coding.shape))


def _constants(model: Denoising, varies: Tensor | None) -> "_Constants | None":
    """Return the constant elements of images, or None if none are kept."""
    if varies is None:
        return None
    value = model.space_.transform.scaled_value(model._density_dtype)[None]
    if not isinstance(model.source_, GaussianSource):
        return _Constants(varies, value, value, value)  # rows of a source have the same constants
    eps = noise.normal(value.shape[1:], seed=0, purpose="constants", rows=torch.arange(1), dtype=value.dtype)
    one = torch.ones((), dtype=torch.float64)
    level = model.denoiser_.schedule.alpha(one) / model.denoiser_.schedule.sigma(one)
    return _Constants(varies, value, eps, eps + level.item() * value)


@dataclass(frozen=True, eq=False)
class _Constants:
    """Which elements vary, bool (*D); and the scaled value, the noise and the latent (1, *D) of the constant ones."""

    varies: Tensor
    value: Tensor
    noise: Tensor
    latent: Tensor


class _WithConstants(AbstractDenoiser):
    """A denoiser that returns the constant elements exactly; with ``noised`` it adds their noise to its input.

    When decoding, the state of the flow already contains this noise; when encoding it does not.
    """

    def __init__(self, denoiser: AbstractDenoiser, constants: _Constants, *, noised: bool) -> None:
        super().__init__()
        self.denoiser, self.constants, self.noised = denoiser, constants, noised
        self.schedule, self.gaussian_source, self.calls = denoiser.schedule, denoiser.gaussian_source, denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]."""
        varies, value = self.constants.varies.to(x_t.device), self.constants.value.to(x_t)
        inputs = x_t
        if self.noised:
            alpha, sigma = (widen(scale.to(x_t.dtype), x_t) for scale in (self.schedule.alpha(t), self.schedule.sigma(t)))
            inputs = torch.where(varies, x_t, alpha * value + sigma * self.constants.noise.to(x_t))
        return torch.where(varies, self.denoiser(inputs, t, condition), value)
