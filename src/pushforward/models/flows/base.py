"""The base of families with an invertible network: densities, latents, and samples by inversion.

The network of such a family, under ``core``, is a bijection: it maps scaled rows x and their conditions to latents z and
log |dz/dx|, and its ``inverse(z, condition)`` returns x. With z standard normal,

    log p(x) = log N(z; 0, I) + log |dz/dx|.

Integers are trained and scored as x + u, encoded at the middle of their interval and decoded by rounding down. Constant columns
of vectors are not mapped; their latents are 0 and ignored. Images keep their shape, so the network gets constant elements too:
each is replaced by uniform noise e on an interval of width w, which the density accounts for. By Jensen's inequality, with
q(e) = 1 / w for each of them,

    log p(x) = log E_q [p(x, e) / q(e)] >= E_q log p(x, e) + sum log w,

a lower bound that is tight where the network has learned that e is independent noise.

References
----------
Jonathan Ho et al. Flow++: improving flow-based generative models with variational dequantization and architecture design. 2019.
https://arxiv.org/abs/1902.00275
Chin-Wei Huang, Laurent Dinh, Aaron Courville. Augmented normalizing flows. 2020. https://arxiv.org/abs/2002.07101
"""

import math
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition, Coordinates, Schema, Values
from pushforward.diffusion.log_prob import Kind, LogProb
from pushforward.models.base.batches import batches, part_of
from pushforward.models.base.density import RowDensityModel
from pushforward.models.base.task import RowTask
from pushforward.models.base.trained import TrainedModel
from pushforward.models.base.transformer import Transformer
from pushforward.networks.flows import Bijection
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["FlowTask", "InvertibleModel", "standard_log_prob"]

_WIDTH_OF_REALS = 1 / 16  # of the noise on constant elements of real-valued images, which are scaled to [-1, 1]


def standard_log_prob(z: Tensor) -> Tensor:
    """Return the log-density (B,) of standard normal rows z (B, *D).

    >>> standard_log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """
    return -(z.square() / 2 + math.log(2 * math.pi) / 2).flatten(1).sum(1)


class FlowTask(RowTask):
    """The negative log-density per row, in nats and in the units of the data.

    Parameters
    ----------
    flow : nn.Module
        ``(x, condition) -> (z, log |dz/dx|)``.
    offset : float
        Nats to add to log p of scaled rows.
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition" in training.
    width : Tensor (*D)
        Of the uniform noise on each element, 0 where there is none.
    """

    def __init__(self, flow: nn.Module, *, offset: float, condition_dropout: float, width: Tensor) -> None:
        super().__init__(condition_dropout=condition_dropout, dequantization=width)
        self.flow, self.offset = flow, offset

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return -log p(x | condition), (B,)."""
        with torch.autocast(x.device.type, enabled=False):  # in bfloat16 the inverse would be inaccurate
            z, log_det = self.flow(x, condition)
        return torch.as_tensor(-standard_log_prob(z) - log_det - self.offset)


class InvertibleModel(Transformer, RowDensityModel, TrainedModel):
    """Base of families with an invertible network; the module docstring specifies the network."""

    coordinates: ClassVar[Coordinates] = "scores"

    def transform(self, X: ArrayLike, *, condition: Condition = None, batch_size: int = 256) -> Values:
        """Return the latents z of the rows of X, standard normal as far as the model has learned the law of X.

        The parameters and the errors are those of :meth:`pushforward.Diffusion.transform`; ``condition`` selects the
        conditional law whose map is used.

        Returns
        -------
        array or tensor
            Floating-point, shaped like X; for a DataFrame an array (N, D).
        """
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        rows = self._rows_of(X, condition, self._density_dtype)
        start = rows.middle + self._constant_width.to(rows.z.dtype) / 2

        def encode(part: slice, flow: Bijection, device: torch.device) -> Tensor:
            return flow.latent(start[part].to(device), part_of(rows.condition, part, device)).cpu()

        with torch.no_grad():
            z = torch.cat(self._in_batches(encode, len(start), batch_size)).double()
        return self._code_schema.to_user(self.space_.transform.spread(z))

    def inverse_transform(self, Z: ArrayLike, *, condition: Condition = None, batch_size: int = 256) -> Values:
        """Return the rows of data whose latents are Z: the inverse of :meth:`transform`.

        The parameters, the result and the errors are those of :meth:`pushforward.Diffusion.inverse_transform`.
        """
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        latents = self._code_schema.to_internal(Z, name=type(self).__name__)
        z = self.space_.transform.pick(latents).to(self._density_dtype)
        encoded = self._encode(condition, len(z), self._density_dtype)

        def decode(part: slice, flow: Bijection, device: torch.device) -> Tensor:
            return flow.inverse(z[part].to(device), part_of(encoded, part, device)).cpu()

        with torch.no_grad():
            x = torch.cat(self._in_batches(decode, len(z), batch_size))
        return self.space_.to_user(x)

    @property
    def _code_schema(self) -> Schema:
        return self.space_.schema.codes()

    @property
    def _constant_width(self) -> Tensor:
        """Width (*D) of the noise on constant elements of images, in scaled units; 0 elsewhere."""
        transform = self.space_.transform
        of_constants = torch.where(transform.integer, 1 / transform.scale, _WIDTH_OF_REALS)
        return transform.pick(torch.where(transform.constant, of_constants, 0.0))

    def _offset(self) -> float:
        """Return log p of data minus log p of scaled rows with their noise, in nats."""
        width = self._constant_width
        return self.space_.transform.log_det + float(width[width > 0].log().sum())

    def _filled(self, z: Tensor, varies: Tensor | None, seed: int, first: int) -> Tensor:
        """Return scaled rows with noise on the constant elements of images; that of row i depends on (seed, first + i)."""
        if varies is None:
            return z
        numbers = torch.arange(first, first + len(z), device=z.device)
        u = noise.uniform(z.shape[1:], seed=seed, purpose="constants", rows=numbers, dtype=z.dtype, device=z.device)
        return z + self._constant_width.to(z) * u

    @torch.no_grad()
    def _log_prob(
        self, learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
    ) -> LogProb:
        assert isinstance(learned, Bijection)
        latent, log_det = learned(self._filled(z, varies, seed, first), condition)
        return self._scored(z, (standard_log_prob(latent) + log_det).cpu().double().numpy(), nfe=1)

    def _scored(self, z: Tensor, values: np.ndarray, *, nfe: int) -> LogProb:
        """Return the log-densities of scaled rows z from those of the rows with their noise."""
        zeros, constants = np.zeros(len(values)), int((self._constant_width > 0).sum())
        kind: Kind = "lower bound" if constants else "exact"
        scores = LogProb(values, kind, zeros, zeros, zeros, nfe=nfe, dims=z[0].numel() - constants)
        return scores.shifted(self._offset() - self.space_.transform.log_det)

    @torch.no_grad()
    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        flow = getattr(self, self.core)
        device, parts = next(flow.parameters()).device, []
        for part in batches(n, batch_size):
            rows = torch.arange(first + part.start, first + part.stop, device=device)
            z = noise.normal(self.space_.transform.shape, seed=seed, purpose="sample", rows=rows, device=device)
            parts.append(flow.inverse(z, part_of(condition, part, device)).cpu())
        return torch.cat(parts)
