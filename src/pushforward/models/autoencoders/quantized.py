"""The networks and the training task of a VQ-VAE; :mod:`pushforward.models.autoencoders.vqvae` derives the bound."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pushforward import diffusion
from pushforward.models.autoencoders.likelihoods import Likelihood
from pushforward.models.base.task import RowTask
from pushforward.networks import TokenTransformer
from pushforward.networks.quantizer import Quantizer
from pushforward.probability import noise

__all__ = ["QuantizedCoder", "QuantizedTask"]


class Quantized(NamedTuple):
    """Quantized rows: the output of the decoder, the codes (B, L), and the squared distance to their vectors (B,)."""

    output: Tensor
    codes: Tensor
    distance: Tensor


class QuantizedCoder(nn.Module):
    """The network of a VQ-VAE.

    Parameters
    ----------
    encoder : nn.Module
        ``(x, condition) -> (B, L W)``, L vectors of length W side by side.
    decoder : nn.Module
        ``(vectors, condition) ->`` input of ``likelihood``.
    quantizer : Quantizer
    likelihood : Likelihood
        p(x | codes).
    prior : TokenTransformer
        The law of the codes.
    tokens : int
        L.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: Quantizer,
        likelihood: Likelihood,
        prior: TokenTransformer,
        *,
        tokens: int,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.quantizer, self.likelihood = encoder, decoder, quantizer, likelihood
        self.prior, self.tokens = prior, tokens

    def quantize(self, x: Tensor, condition: Tensor | None) -> Quantized:
        """Encode, quantize and decode rows; in training this also updates the codebook."""
        z = self._vectors(x, condition)
        vectors, codes = self.quantizer(z)
        distance = (nn.functional.normalize(z, dim=2) - vectors.detach()).square().sum((1, 2))
        return Quantized(self.decoder(vectors.flatten(1), condition), codes, distance)

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the codes of rows, int64 (B, L)."""
        return torch.as_tensor(self.quantizer(self._vectors(x, condition))[1])

    def output(self, codes: Tensor, condition: Tensor | None) -> Tensor:
        """Return the input of the likelihood for int64 codes (B, L)."""
        return torch.as_tensor(self.decoder(self.quantizer.vectors(codes).flatten(1), condition))

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return the center of p(x | codes), (B, *D), for codes (B, L) of any dtype."""
        codes = z.long()
        wrong = (codes != z) | (codes < 0) | (codes >= self.quantizer.size)
        if bool(wrong.any()):
            raise ValueError(
                f"codes are integers from 0 to {self.quantizer.size - 1}, as transform returns them, but Z has the value "
                f"{float(z[wrong][0]):g}"
            )
        return self.likelihood.center(self.output(codes, condition))

    def _vectors(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return torch.as_tensor(self.encoder(x, condition).unflatten(1, (self.tokens, -1)))


class QuantizedTask(RowTask):
    """The negative bound per row, in nats and in the units of the data; in training plus the distance to the codes."""

    def __init__(
        self, network: QuantizedCoder, *, commitment: float, log_det: float, condition_dropout: float, width: Tensor
    ) -> None:
        intervals = network.likelihood.intervals
        super().__init__(condition_dropout=condition_dropout, dequantization=None if intervals else width)
        self.network, self.commitment, self.log_det = network, commitment, log_det
        self.offset: Tensor
        self.register_buffer("offset", (width / 2 if intervals else torch.zeros(())).float(), persistent=False)

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return uniform numbers for the order (S, B, L) and the number (S, B) of masked codes; the latter are stratified."""

        def uniform(purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
            return noise.uniform(shape, seed=seed, purpose=purpose, rows=rows, step=steps[:, None], device=rows.device)

        return uniform("hide", (self.network.tokens,)), diffusion.stratified(uniform("share"), rows, total)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of each row, (B,)."""
        x, network = x + self.offset, self.network
        quantized = network.quantize(x, condition)
        prior_loss = diffusion.masked_loss(network.prior, quantized.codes, diffusion.mask_tokens(*numbers), condition)
        bound = prior_loss - network.likelihood.log_prob(quantized.output, x) - self.log_det
        return bound + self.commitment * quantized.distance if self.training else bound
