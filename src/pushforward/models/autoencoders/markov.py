r"""The Markov encoder: learned, from the bottom up, beside the model of :mod:`pushforward.models.autoencoders.levels`.

The code of the lowest level L is drawn given the row, and that of every other level given the one below it alone,

    q(z_1, ..., z_L | x) = q(z_L | x) q(z_L-1 | z_L) ... q(z_1 | z_2),

each a Gaussian whose mean and variance are learned. The model still draws from the top down, so log q - log p does not split
into KL divergences of Gaussians, and is averaged over drawn codes:

    log p(x) >= E_q [ log p(x | h) - sum_l k_l ],      k_l = log q(z_l | z_l+1) - log p(z_l | z_<l),      z_L+1 = x.

The mean of k_1 + ... + k_l is a KL divergence, of q(z_1, ..., z_l | z_l+1) from p(z_1, ..., z_l), and so at least 0. The mean
of one k_l may be negative, where level l has more in common with those above than with the one below. If the model draws every
level from the one above alone, and the row from the lowest, its posterior has this form. With it, k_1 + ... + k_L is
log p(x | h) - log p(x) for every draw, and on the model's own data the mean of k_l is the information that level l has about
the level below, less what it has about the level above.

References
----------
Diederik Kingma, Tim Salimans, Ben Poole, Jonathan Ho. Variational diffusion models. 2021. https://arxiv.org/abs/2107.00630
Casper Sønderby et al. Ladder variational autoencoders. 2016. https://arxiv.org/abs/1602.02282
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pushforward.models.autoencoders.base import PosteriorDraw
from pushforward.models.autoencoders.bound import log_ratio
from pushforward.models.autoencoders.levels import WIDEST, LevelsCoder, bend, steady
from pushforward.models.autoencoders.likelihoods import Likelihood
from pushforward.models.autoencoders.reports import LatentReport
from pushforward.networks.coder import AffineCoder

__all__ = ["MarkovCoder"]


class _Step(nn.Module):
    """q(z_l | z_l+1): mean and unlimited log standard deviation of a code, (B, 2 K), from the code of the level below."""

    def __init__(self, below: int, length: int, condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.affine = AffineCoder((below,), (2 * length,), condition_dim)
        self.bend = bend(below, 2 * length, condition_dim, width=width, depth=depth)
        steady(self.affine.linear)

    def forward(self, z: Tensor, condition: Tensor | None) -> Tensor:
        affine: Tensor = self.affine(z, condition)
        return affine if self.bend is None else affine + self.bend(z, condition)


class MarkovCoder(LevelsCoder):
    """The network of a hierarchical VAE with a Markov encoder; ``encoder`` gives the law of the lowest level.

    Parameters
    ----------
    encoder : nn.Module
        ``(x, condition) -> (B, 2 K_L)``, mean and unlimited log standard deviation.

    Others are those of :class:`~pushforward.models.autoencoders.levels.LevelsCoder`, without ``features``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent_dims: tuple[int, ...],
        *,
        condition_dim: int,
        width: int,
        depth: int,
    ) -> None:
        sizes = {"condition_dim": condition_dim, "width": width, "depth": depth}
        super().__init__(encoder, decoder, likelihood, latent_dims, features=0, **sizes)
        pairs = zip(latent_dims[1:], latent_dims[:-1], strict=True)
        self.steps = nn.ModuleList(_Step(below, length, **sizes) for below, length in pairs)  # top first

    def posterior(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], PosteriorDraw]:
        """Return a function that draws from q(codes | x), given standard normal eps (B, K)."""
        lowest = self.encoder(x, condition)
        return lambda eps: self._draw(lowest, condition, eps)[0]

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the codes (B, K) of all levels, top first; each is the mean given the level below."""
        return self._ascend(self.encoder(x, condition), condition, x.new_zeros(len(x), self.latent_dim))[2]

    def kl(self, posterior: PosteriorDraw, eps: Tensor) -> Tensor:
        """Return log q - log p of each element of the drawn codes, (B, K)."""
        return log_ratio(posterior.mean, posterior.log_std, eps)

    def facts(self, x: Tensor, condition: Tensor | None, eps: Tensor) -> tuple[Tensor, ...]:
        """Return for each row log q - log p, mean codes, drawn codes, and these in units of their priors, (B, K) each."""
        posterior, codes = self._draw(self.encoder(x, condition), condition, eps)
        return self.kl(posterior, eps), self.encode(x, condition), codes, posterior.mean + posterior.log_std.exp() * eps

    def report(self, *facts: Tensor) -> LatentReport:
        """Return the report of facts about all rows, (N, K) each."""
        return LatentReport.of_draws(*facts, levels=self.latent_dims)

    def _draw(self, lowest: Tensor, condition: Tensor | None, eps: Tensor) -> tuple[PosteriorDraw, Tensor]:
        """Return a draw of codes, with q(z_l | z_l+1) in units of p(z_l | z_<l), and the codes themselves."""
        mean, log_std, codes = self._ascend(lowest, condition, eps)
        h, m, log_s = self._descend(codes, condition)
        return PosteriorDraw(self.decoder(h, condition), (mean - m) * (-log_s).exp(), log_std - log_s), codes

    def _ascend(self, lowest: Tensor, condition: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log std of q, and the codes, each (B, K), top first; the codes are drawn from the lowest level up."""
        law, levels = lowest, list[tuple[Tensor, Tensor, Tensor]]()
        parts = torch.split(eps, list(self.latent_dims), dim=1)
        for step, part in zip((None, *reversed(self.steps)), reversed(parts), strict=True):
            if step is not None:
                law = step(levels[-1][2], condition)
            mean, raw = law.chunk(2, dim=1)
            log_std = WIDEST - nn.functional.softplus(WIDEST - raw)  # below WIDEST: a chain of exp(w z) would overflow
            levels.append((mean, log_std, mean + log_std.exp() * part))
        mean, log_std, codes = (torch.cat(found[::-1], dim=1) for found in zip(*levels, strict=True))
        return mean, log_std, codes

    def _descend(self, codes: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last state of the model, and mean and log std (B, K) of p(z_l | z_<l), for given codes."""
        h, laws = self._start(codes, condition), []
        for level, part in self._parts(codes):
            laws.append(level.prior_of(h))
            h = level.add(h, part)
        m, log_s = (torch.cat(parts, dim=1) for parts in zip(*laws, strict=True))
        return h, m, log_s
