r"""The ladder: an encoder from the top down, beside the model of :mod:`pushforward.models.autoencoders.levels`.

It extracts features e = f(x) once, and then follows the levels of the model down, with posteriors relative to the priors:

    q(z_l | z_<l, x) = N(m_l(h) + s_l(h) d_l(h, e), diag (s_l(h) r_l(h, e))^2).

In units of the prior of its level this is N(d, r^2) against N(0, 1), so the bound is

    log p(x) >= E_q [ log p(x | h) - sum_l KL(N(d_l, r_l^2) || N(0, 1)) ]

with all KL terms in closed form; term l is the information about x that level l adds to the levels above.

References
----------
Casper Sønderby et al. Ladder variational autoencoders. 2016. https://arxiv.org/abs/1602.02282
Arash Vahdat, Jan Kautz. NVAE: a deep hierarchical variational autoencoder. 2020. https://arxiv.org/abs/2007.03898
Rewon Child. Very deep VAEs generalize autoregressive models and can outperform them on images. 2021.
https://arxiv.org/abs/2011.10650
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pushforward.models.autoencoders.base import PosteriorDraw
from pushforward.models.autoencoders.levels import LevelsCoder

__all__ = ["LadderCoder"]


class LadderCoder(LevelsCoder):
    """The network of a hierarchical VAE whose encoder is a ladder; ``encoder`` gives the features e of a row."""

    def posterior(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], PosteriorDraw]:
        """Return a function that draws from q(codes | x), given standard normal eps (B, K)."""
        features = self.encoder(x, condition)

        def draw(eps: Tensor) -> PosteriorDraw:
            h, means, log_stds, _ = self._descend(features, condition, eps)
            return PosteriorDraw(self.decoder(h, condition), torch.cat(means, dim=1), torch.cat(log_stds, dim=1))

        return draw

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the codes (B, K) of all levels, top first; each is the mean given the levels above."""
        eps = x.new_zeros(len(x), self.latent_dim)
        return torch.cat(self._descend(self.encoder(x, condition), condition, eps)[3], dim=1)

    def _descend(
        self, features: Tensor, condition: Tensor | None, eps: Tensor
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Return the last state, and d, log r and the code (B, K_l) of each level."""
        h = self._start(eps, condition)
        means, log_stds, codes = [], [], []
        for level, part in self._parts(eps):
            mean, log_std = level.prior_of(h)
            shift, log_ratio = level.posterior_of(h, features)
            z = mean + log_std.exp() * (shift + log_ratio.exp() * part)
            h = level.add(h, z)
            means.append(shift)
            log_stds.append(log_ratio)
            codes.append(z)
        return h, means, log_stds, codes
