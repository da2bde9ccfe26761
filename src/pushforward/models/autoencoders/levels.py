r"""The top-down half of a hierarchical VAE, the model p, which all its encoders share.

It draws the levels from the top down and then the row,

    z_1 ~ N(0, I),      z_l | z_<l ~ N(m_l(h), diag s_l(h)^2),      x ~ p(x | h),

where h is a state to which every level adds its code. With a condition the law of z_1 has a learned mean and deviation too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pushforward.models.autoencoders.base import VariationalCoder
from pushforward.models.autoencoders.likelihoods import Likelihood
from pushforward.networks.coder import ResidualBlock, VectorCoder

__all__ = ["WIDEST", "Level", "LevelsCoder", "bend", "steady"]

WIDEST = 2.0  # limit of log standard deviations; the scale of a code is arbitrary, so none need be large


def bend(inputs: int, outputs: int, condition_dim: int = 0, *, width: int, depth: int) -> VectorCoder | None:
    """Return a network that is added to an affine map, and is 0 at first; None for depth 0.

    An affine start passes each code straight to the next; levels behind random layers collapse.
    """
    if not depth:
        return None
    network = VectorCoder(inputs, outputs, condition_dim, width=width, depth=depth)
    _silence(network.last)
    return network


def steady(layer: nn.Linear) -> None:
    """Initialize a layer so that the log standard deviations, the second half of its outputs, are 0 for any input.

    Otherwise codes could overflow along the chain, because the scale of each is the exponential of the codes before it.
    """
    with torch.no_grad():
        for part in (layer.weight, layer.bias):
            part[len(part) // 2 :] = 0


def _silence(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class Level(nn.Module):
    """Prior and state update of one level, and its posterior where that sees the state and ``features`` of the row."""

    def __init__(self, length: int, width: int, features: int, *, depth: int, prior: nn.Module | None) -> None:
        super().__init__()
        self.length, self.prior = length, prior
        self.posterior = nn.Linear(width + features, 2 * length) if features else None
        self.into = nn.Linear(length, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.bend = bend(width + features, 2 * length, width=width, depth=min(depth, 1)) if features else None
        if self.posterior is not None:
            steady(self.posterior)
        for block in self.blocks:
            _silence(block.contract)  # type: ignore[arg-type]

    def prior_of(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the prior given the state; standard normal without a network."""
        if self.prior is None:
            zeros = h.new_zeros(len(h), self.length)
            return zeros, zeros
        mean, raw = self.prior(h).chunk(2, dim=1)
        return mean, WIDEST * torch.tanh(raw / WIDEST)

    def posterior_of(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the posterior, in units of the prior."""
        assert self.posterior is not None
        both = torch.cat((h, features), dim=1)
        output = self.posterior(both) if self.bend is None else self.posterior(both) + self.bend(both)
        mean, log_std = output.chunk(2, dim=1)
        return mean, log_std

    def add(self, h: Tensor, z: Tensor) -> Tensor:
        """Add the code of this level to the state."""
        h = h + self.into(z)
        for block in self.blocks:
            h = block(h)
        return h


def _prior(width: int, length: int, *, top: bool, of: int) -> nn.Module | None:
    """Return the network of a prior; the top level has none without a condition, and then is standard normal."""
    return None if top and not of else nn.Linear(width, 2 * length, bias=not top)


class LevelsCoder(VariationalCoder):
    """The network of a hierarchical VAE without its encoder, of which a subclass defines ``posterior`` and ``encode``.

    Parameters
    ----------
    encoder : nn.Module
        ``(x, condition) -> (B, F)``.
    decoder : nn.Module
        ``(h, condition) ->`` input of ``likelihood``.
    likelihood : Likelihood
    latent_dims : tuple of int
        Length of each level's code, top first.
    condition_dim, width, depth : int
        Length of a condition, length of the state, and residual blocks per level.
    features : int
        F where the posterior of each level sees the state and the output of ``encoder``; otherwise 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent_dims: tuple[int, ...],
        *,
        condition_dim: int,
        features: int,
        width: int,
        depth: int,
    ) -> None:
        super().__init__(likelihood, latent_dims)
        self.encoder, self.decoder, self.width = encoder, decoder, width
        self.start = nn.Linear(condition_dim, width, bias=False) if condition_dim else None
        self.levels = nn.ModuleList(
            Level(length, width, features, depth=depth, prior=_prior(width, length, top=index == 0, of=condition_dim))
            for index, length in enumerate(latent_dims)
        )

    def output(self, eps: Tensor, condition: Tensor | None) -> Tensor:
        """Return the input of the likelihood for codes drawn from the prior, given standard normal eps (B, K)."""
        h = self._start(eps, condition)
        for level, part in self._parts(eps):
            mean, log_std = level.prior_of(h)
            h = level.add(h, mean + log_std.exp() * part)
        return torch.as_tensor(self.decoder(h, condition))

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return the center of p(x | z), (B, *D)."""
        h = self._start(z, condition)
        for level, part in self._parts(z):
            h = level.add(h, part)
        return self.likelihood.center(self.decoder(h, condition))

    def _start(self, rows: Tensor, condition: Tensor | None) -> Tensor:
        """Return the state before the first level, (B, width)."""
        if condition is None or self.start is None:
            return rows.new_zeros(len(rows), self.width)
        return torch.as_tensor(self.start(condition))

    def _parts(self, z: Tensor) -> Iterator[tuple[Level, Tensor]]:
        return zip(self.levels, torch.split(z, self.latent_dims, dim=1), strict=True)  # type: ignore[arg-type]
