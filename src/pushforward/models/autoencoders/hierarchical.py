r"""Hierarchical VAE: several levels of Gaussian codes, each conditioned on those above, with one bound for all.

The model draws the levels from the top down and then the row,

    z_1 ~ N(0, I),      z_l | z_<l ~ N(m_l(h), diag s_l(h)^2),      x ~ p(x | h),

where h is a state to which every level adds its code. The encoder extracts features e = f(x) once, and then follows the same
levels down, with posteriors relative to the priors:

    q(z_l | z_<l, x) = N(m_l(h) + s_l(h) d_l(h, e), diag (s_l(h) r_l(h, e))^2).

In units of the prior of its level this is N(d, r^2) against N(0, 1), so the bound is

    log p(x) >= E_q [ log p(x | h) - sum_l KL(N(d_l, r_l^2) || N(0, 1)) ]

with all KL terms in closed form; term l is the information about x that level l adds to the levels above. With affine networks
all laws are Gaussian and q can equal the posterior: then the bound is log p(x).

References
----------
Arash Vahdat, Jan Kautz. NVAE: a deep hierarchical variational autoencoder. 2020. https://arxiv.org/abs/2007.03898
Rewon Child. Very deep VAEs generalize autoregressive models and can outperform them on images. 2021.
https://arxiv.org/abs/2011.10650
"""

from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from pushforward.models.autoencoders.base import PosteriorDraw, VariationalCoder, VariationalModel
from pushforward.models.autoencoders.likelihoods import Likelihood, make_likelihood
from pushforward.models.base.codes import default_latent_dim
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import Size
from pushforward.networks.coder import ResidualBlock, VectorCoder

__all__ = ["HierarchicalVAE", "LadderCoder"]

_STATE = 128
_WIDEST = 2.0  # limit of the log standard deviations of priors; the scale of a code is arbitrary, so none need be large


class _Level(nn.Module):
    """Prior, posterior and state update of one level."""

    def __init__(self, length: int, width: int, features: int, *, depth: int, prior: nn.Module | None) -> None:
        super().__init__()
        self.length, self.prior = length, prior
        self.posterior = nn.Linear(width + features, 2 * length)
        self.into = nn.Linear(length, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.bend = VectorCoder(width + features, 2 * length, 0, width=width, depth=1) if depth else None
        # An affine start passes each code straight to the decoder; levels behind random layers collapse.
        for layer in (*(block.contract for block in self.blocks), *(() if self.bend is None else (self.bend.last,))):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def prior_of(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the prior given the state; standard normal without a network."""
        if self.prior is None:
            zeros = h.new_zeros(len(h), self.length)
            return zeros, zeros
        mean, raw = self.prior(h).chunk(2, dim=1)
        return mean, _WIDEST * torch.tanh(raw / _WIDEST)

    def posterior_of(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the posterior, in units of the prior."""
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


class LadderCoder(VariationalCoder):
    """The network of a hierarchical VAE.

    Parameters
    ----------
    encoder : nn.Module
        ``(x, condition) -> (B, F)``, features of the row.
    decoder : nn.Module
        ``(h, condition) ->`` input of ``likelihood``.
    likelihood : Likelihood
    latent_dims : tuple of int
        Length of each level's code, top first.
    condition_dim, features, width, depth : int
        Length of a condition, F, length of the state, and residual blocks per level.
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
            _Level(length, width, features, depth=depth, prior=_prior(width, length, top=index == 0, of=condition_dim))
            for index, length in enumerate(latent_dims)
        )

    def posterior(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], PosteriorDraw]:
        """Return a function that draws from q(codes | x), given standard normal eps (B, K)."""
        features = self.encoder(x, condition)

        def draw(eps: Tensor) -> PosteriorDraw:
            h, means, log_stds, _ = self._descend(features, condition, eps)
            return PosteriorDraw(self.decoder(h, condition), torch.cat(means, dim=1), torch.cat(log_stds, dim=1))

        return draw

    def output(self, eps: Tensor, condition: Tensor | None) -> Tensor:
        """Return the input of the likelihood for codes drawn from the prior, given standard normal eps (B, K)."""
        h = self._start(eps, condition)
        for level, part in self._parts(eps):
            mean, log_std = level.prior_of(h)
            h = level.add(h, mean + log_std.exp() * part)
        return torch.as_tensor(self.decoder(h, condition))

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the codes (B, K) of all levels, top first; each is the mean given the levels above."""
        eps = x.new_zeros(len(x), self.latent_dim)
        return torch.cat(self._descend(self.encoder(x, condition), condition, eps)[3], dim=1)

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return the center of p(x | z), (B, *D)."""
        h = self._start(z, condition)
        for level, part in self._parts(z):
            h = level.add(h, part)
        return self.likelihood.center(self.decoder(h, condition))

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

    def _start(self, rows: Tensor, condition: Tensor | None) -> Tensor:
        """Return the state before the first level, (B, width)."""
        if condition is None or self.start is None:
            return rows.new_zeros(len(rows), self.width)
        return torch.as_tensor(self.start(condition))

    def _parts(self, z: Tensor) -> Iterator[tuple[_Level, Tensor]]:
        return zip(self.levels, torch.split(z, self.latent_dims, dim=1), strict=True)  # type: ignore[arg-type]


class HierarchicalVAE(VariationalModel):
    r"""Variational autoencoder with several levels of codes, each drawn given those above.

    ``transform`` returns the codes of all levels side by side, top first; ``inverse_transform`` decodes them; ``sample`` draws
    the levels from the top down and then a row. ``log_prob`` is an importance-weighted lower bound, ``latent_report`` measures
    the information in each level.

    Parameters
    ----------
    latent_dims : tuple of int, optional
        Length of the code of each level, top first; default three levels, each twice as long as the one above, the last with
        the default length of a :class:`~pushforward.models.autoencoders.vae.VAE`.

    Other parameters are those of :class:`~pushforward.models.autoencoders.base.VariationalModel`.

    Attributes
    ----------
    network_, latent_dims_, likelihood_, kl_warmup_, training_
        The resolved arguments.
    coder_ : LadderCoder
        The trained networks.

    References
    ----------
    Casper Sønderby et al. Ladder variational autoencoders. 2016. https://arxiv.org/abs/1602.02282

    >>> import pushforward as pf
    >>> model = pf.HierarchicalVAE(latent_dims=(2, 3), train_steps=5, random_state=0).fit("digits")
    >>> rows = pf.open_data("digits").values[:4]
    >>> model.transform(rows).shape, model.sample(2, seed=0).shape, model.latent_report(rows).kl_by_level.shape
    ((4, 5), (2, 8, 8), (2,))
    """

    streams: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("latent_dims", *VariationalModel.fitted)

    latent_dims: Annotated[tuple[Size, ...], MinLen(1)] | None = None

    coder_: LadderCoder = field(init=False)
    latent_dims_: tuple[int, ...] = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        longest = default_latent_dim(self.space_.transform.shape)
        return super()._defaults(prepared) | {"latent_dims": tuple(max(1, longest // 2**k) for k in (2, 1, 0))}

    def _network(self) -> LadderCoder:
        shape, spec = self.space_.transform.shape, self.network_
        width = spec.width if len(shape) == 1 else max(spec.width, _STATE)
        likelihood = make_likelihood(self.likelihood_, self.space_.transform, self.space_.element_columns)
        output_shape = (likelihood.outputs * shape[0], *shape[1:])
        return LadderCoder(
            spec.encoder(shape, width, self._condition_dim),
            spec.decoder(width, output_shape, self._condition_dim),
            likelihood,
            self.latent_dims_,
            condition_dim=self._condition_dim,
            features=width,
            width=width,
            depth=spec.depth,
        )
