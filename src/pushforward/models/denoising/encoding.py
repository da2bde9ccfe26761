"""Encoding with a denoising model: from rows of data to the noise that the probability flow makes them of, and back.

The flow (:mod:`pushforward.diffusion.samplers.adaptive`) carries the data's law to that of x_1 = alpha(1) x + sigma(1) z
without randomness, for every source and coupling, so a row and its latent z = x_1 / sigma(1) determine each other. Where the
noise is standard normal, the latents of the data are too, as far as the model has learned its law and alpha(1) is small.

The end at the data. Rows stand at theta = 0, where there is no noise, though networks were trained from t_min on: below it the
flow is continued from just above, as for densities. Nothing is added to the data, and the way back ends at the data, not at
E[x | x_t].

Integers stand in the middle of their unit cell and are rounded down on the way back, so they return exactly as long as the
error is less than half of it. Constant columns are no part of the flow: their latents are 0 and nobody reads them. Constant
elements of images are seen by the network, which knows them noised: their noise is one draw, the same for all rows, and is
their latent (with a source of its own, what its rows have there).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import Schema, Values
from pushforward.diffusion import AbstractDenoiser, Adaptive, widen
from pushforward.models.base.arguments import check_count
from pushforward.models.base.density import DensityVerbs
from pushforward.models.base.estimator import TransformerMixin
from pushforward.models.base.rows import Rows, condition_rows
from pushforward.models.denoising.source import GaussianSource
from pushforward.probability import noise

__all__ = ["EncodingVerbs"]

_MOST_CALLS = 2000  # per row


class EncodingVerbs(TransformerMixin, DensityVerbs):
    """The verbs ``transform`` and ``inverse_transform`` of models with a denoiser, called as it is for densities."""

    denoiser_: Any
    source_: Any

    def transform(self, X: Any, *, condition: Any = None, rtol: float = 1e-5, batch_size: int = 256) -> Values:
        """Return the noise z that the probability flow turns into the rows of X.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Whose law's flow is followed. Without it a conditional model uses what it learned with its condition dropped.
        rtol : float
            Error allowed in a step, relative to the size of a row. Networks are rough in t, so the error at the end is larger:
            for the moons, in units of their spread, mostly 1e-3 at 1e-5 (450 calls) and 3e-3 at 1e-4 (150 calls).
        batch_size : int
            Rows that go through the network at once.

        Returns
        -------
        array or tensor
            Shaped like X, in floats; for a DataFrame an array (N, D). Standard normal where the source is Gaussian noise; for
            a model with a source of its own they are rows like those, in the units of the data.

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
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        flow = Adaptive(rtol=rtol, max_nfe=_MOST_CALLS)
        rows = Rows.of(self, X, condition, dtype=self._density_dtype)
        start, held = rows.middle, self._held(rows.varies)
        if held is not None:
            start = torch.where(held.varies, start, held.value)

        def of(part: slice, denoiser: Any, device: torch.device) -> Tensor:
            c = None if rows.condition is None else rows.condition[part].to(device)
            through = denoiser if held is None else _Held(denoiser, held, noised=True)
            return flow.encode(through, start[part].to(device), condition=c).x.cpu()

        z = torch.cat(self._in_batches(of, len(start), batch_size))
        return self._latent_schema.to_user(self._as_latent(z if held is None else torch.where(held.varies, z, held.latent)))

    def inverse_transform(self, Z: Any, *, condition: Any = None, rtol: float = 1e-5, batch_size: int = 256) -> Values:
        """Return the rows of data that the probability flow makes of noise: the inverse of :meth:`transform`.

        Parameters
        ----------
        Z : array or tensor
            Shaped like the training data: what :meth:`transform` returned, or noise of one's own.
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
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        flow = Adaptive(rtol=rtol, max_nfe=_MOST_CALLS)
        z = self._from_latent(self._latent_schema.to_internal(Z, name=type(self).__name__)).to(self._density_dtype)
        given = condition_rows(self, condition, len(z), self._density_dtype)
        images = self.space_.transform.kind == "images" and self.space_.transform.constants > 0
        held = self._held(~self.space_.transform.constant if images else None)

        def of(part: slice, denoiser: Any, device: torch.device) -> Tensor:
            c = None if given is None else given[part].to(device)
            through = denoiser if held is None else _Held(denoiser, held, noised=False)
            return flow.decode(through, z[part].to(device), condition=c).x.cpu()

        return self.space_.schema.to_user(self.space_.transform.inverse(torch.cat(self._in_batches(of, len(z), batch_size))))

    @property
    def _latent_schema(self) -> Schema:
        """Layout of latents: that of the data, in floats."""
        schema = self.space_.schema
        dtype = str(schema.internal_dtype).removeprefix("torch.")
        container = "numpy" if schema.container == "pandas" else schema.container
        return replace(schema, container=container, dtypes=(dtype,), columns=None)

    def _as_latent(self, z: Tensor) -> Tensor:
        """Return latents with constant columns, in the units of the data where the source has such."""
        transform, z = self.space_.transform, z.double()
        varies = ~transform.constant
        if transform.kind == "vectors":
            z = z.new_zeros(len(z), len(varies)).index_copy(1, varies.nonzero()[:, 0], z)
        if isinstance(self.source_, GaussianSource):
            return z
        return torch.where(varies, transform.shift + transform.scale * z, transform.value)

    def _from_latent(self, z: Tensor) -> Tensor:
        """Return the inverse of :meth:`_as_latent`."""
        if not isinstance(self.source_, GaussianSource):
            return self.space_.transform.forward(z)
        return z[:, ~self.space_.transform.constant] if self.space_.transform.kind == "vectors" else z

    def _held(self, varies: Tensor | None) -> "_Constants | None":
        """Return what is known of the constant elements of images."""
        if varies is None:
            return None
        value = self.space_.transform.forward(torch.zeros(1, *self.space_.transform.shape, dtype=self._density_dtype))
        if not isinstance(self.source_, GaussianSource):
            return _Constants(varies, value, value, value)  # rows of a source have the same constants
        eps = noise.normal(value.shape[1:], seed=0, purpose="constants", rows=torch.arange(1), dtype=value.dtype)
        one = torch.ones((), dtype=torch.float64)
        level = self.denoiser_.schedule.alpha(one) / self.denoiser_.schedule.sigma(one)
        return _Constants(varies, value, eps, eps + level.item() * value)


@dataclass(frozen=True, eq=False)
class _Constants:
    """Which elements vary, bool (*D); and the scaled value, the noise and the latent (1, *D) of those that do not."""

    varies: Tensor
    value: Tensor
    noise: Tensor
    latent: Tensor


class _Held(AbstractDenoiser):
    """A denoiser that knows the constant elements, and where ``noised`` shows them to the network with their own noise.

    The flow from noise carries that of the constants along; that from the data has none to carry.
    """

    def __init__(self, denoiser: AbstractDenoiser, constants: _Constants, *, noised: bool) -> None:
        super().__init__()
        self.denoiser, self.constants, self.noised = denoiser, constants, noised
        self.schedule, self.gaussian_source, self.calls = denoiser.schedule, denoiser.gaussian_source, denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]."""
        varies, value = self.constants.varies.to(x_t.device), self.constants.value.to(x_t)
        seen = x_t
        if self.noised:
            alpha, sigma = (widen(scale.to(x_t.dtype), x_t) for scale in (self.schedule.alpha(t), self.schedule.sigma(t)))
            seen = torch.where(varies, x_t, alpha * value + sigma * self.constants.noise.to(x_t))
        return torch.where(varies, self.denoiser(seen, t, condition), value)
