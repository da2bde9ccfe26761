r"""The autoencoder: an encoder from rows to short codes, and a decoder back.

Encoder f and decoder g are trained by the mean squared error of reconstruction, |g(f(x)) - x|^2 / D over the elements that
vary. With affine networks the minimum is that of principal component analysis: the codes span the same space.

The law of the codes is not learned, and the decoder is trained only at the codes of the data, so an :class:`Autoencoder` has no
``sample`` and no density. A :class:`~pushforward.models.autoencoders.vae.VAE` adds a law of the codes.

References
----------
Pierre Baldi, Kurt Hornik. Neural networks and principal component analysis: learning from examples without local minima. 1989.
"""

import math
from dataclasses import field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pushforward.models.base.codes import CodeModel, default_coder, default_latent_dim, default_training
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.task import RowTask
from pushforward.models.base.trained import TrainedModel
from pushforward.models.files.params import Size
from pushforward.networks import CoderSpec
from pushforward.plots import Plot

__all__ = ["Autoencoder", "PlainCoder"]


class PlainCoder(nn.Module):
    """The network of an autoencoder.

    Parameters
    ----------
    encoder, decoder : nn.Module
        ``(x, condition) -> (B, K)`` and ``(z, condition) -> (B, *D)``.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return codes (B, K)."""
        return torch.as_tensor(self.encoder(x, condition))

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return rows (B, *D)."""
        return torch.as_tensor(self.decoder(z, condition))


class _ReconstructionTask(RowTask):
    """Mean squared error per row; the target of an integer is the middle of its interval."""

    def __init__(self, network: PlainCoder, *, condition_dropout: float, width: Tensor, counted: Tensor) -> None:
        super().__init__(condition_dropout=condition_dropout)
        self.network = network
        self.offset: Tensor
        self.weight: Tensor
        self.register_buffer("offset", (width / 2).float(), persistent=False)
        self.register_buffer("weight", (counted / counted.sum()).float(), persistent=False)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        x = x + self.offset
        reconstruction = self.network.decode(self.network.encode(x, condition), condition)
        return ((reconstruction - x).square() * self.weight).flatten(1).sum(1)


class Autoencoder(CodeModel, TrainedModel):
    r"""Encoder and decoder with a bottleneck between them, trained by the reconstruction error.

    ``transform`` returns codes, ``inverse_transform`` rows. There is no ``sample``, because no law of the codes is learned.

    Parameters
    ----------
    latent_dim : int, optional
        Length of a code; default 16, or 64 for rows of 1,000 or more elements; for vectors at most half their length, rounded
        up.
    network : CoderSpec, optional
        Size of encoder and decoder; ``CoderSpec(depth=0)`` makes both affine. The default depends on the shape of the data.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    network_, latent_dim_, training_
        The resolved arguments.
    coder_ : PlainCoder
        The trained networks.

    References
    ----------
    Geoffrey Hinton, Ruslan Salakhutdinov. Reducing the dimensionality of data with neural networks. 2006.

    >>> import pushforward as pf
    >>> rows = pf.open_data("digits").values
    >>> model = pf.Autoencoder(latent_dim=3, train_steps=5, random_state=0).fit(rows)
    >>> codes = model.transform(rows[:4])
    >>> codes.shape, model.inverse_transform(codes).shape, hasattr(model, "sample")
    ((4, 3), (4, 8, 8), False)
    """

    streams: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("latent_dim", "network", *TrainedModel.fitted)
    core: ClassVar[str] = "coder_"
    generates: ClassVar[bool] = False

    latent_dim: Size | None = None
    network: CoderSpec | None = None

    coder_: PlainCoder = field(init=False)
    latent_dim_: int = field(init=False)
    network_: CoderSpec = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        longest = -(-shape[0] // 2) if len(shape) == 1 else math.prod(shape)
        return {
            "latent_dim": min(default_latent_dim(shape), longest),
            "network": default_coder(shape),
            "training": default_training(shape),
        }

    def _network(self) -> PlainCoder:
        shape, spec = self.space_.transform.shape, self.network_
        return PlainCoder(
            spec.encoder(shape, self.latent_dim_, self._condition_dim),
            spec.decoder(self.latent_dim_, shape, self._condition_dim),
        )

    def _task(self, network: nn.Module, prepared: Prepared) -> _ReconstructionTask:
        assert isinstance(network, PlainCoder)
        transform = self.space_.transform
        return _ReconstructionTask(
            network, condition_dropout=self.condition_dropout, width=transform.dequantization, counted=transform.varies
        )

    def _plot(self, prepared: Prepared) -> Plot:
        """Plot training rows beside their reconstructions."""
        n = self.space_.kind.drawn_while_training
        x, condition = prepared.x[:n], None if prepared.condition is None else prepared.condition[:n]
        dtype = self._coder_dtype
        condition = None if condition is None else condition.to(dtype)
        z = self._through("encode", (x + self.space_.transform.dequantization / 2).to(dtype), condition, n)
        return self.space_.draw_pairs(self._through("decode", z, condition, n), x)

    def _plot_seconds(self, network: nn.Module) -> float:
        return 0.0  # a hundred rows through the network: negligible
