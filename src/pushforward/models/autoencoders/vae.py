r"""Variational autoencoder: a Gaussian code, and a decoder from codes to rows.

The model is z ~ N(0, I), x ~ p(x | z); the encoder gives q(z | x) = N(mean(x), diag std(x)^2). Both are trained by the bound of
:mod:`pushforward.models.autoencoders.base`, with z = mean + std eps. With affine networks and one standard deviation for all
elements the model is probabilistic PCA, and the bound equals log p at its maximum.

A condition c is an input of both networks, and also shifts and scales the code before the decoder, h = m(c) + s(c) z with m and
log s linear in c and 0 for "no condition". Without this, a decoder can take all information from the code and ignore the
condition, and samples do not follow it.

References
----------
Danilo Rezende, Shakir Mohamed, Daan Wierstra. Stochastic backpropagation and approximate inference in deep generative models.
2014. https://arxiv.org/abs/1401.4082
James Lucas et al. Don't blame the ELBO! A linear VAE perspective on posterior collapse. 2019. https://arxiv.org/abs/1911.02469
"""

import math
from collections.abc import Callable
from dataclasses import field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition, Values
from pushforward.models.autoencoders.base import PosteriorDraw, VariationalCoder, VariationalModel
from pushforward.models.autoencoders.likelihoods import Likelihood, make_likelihood
from pushforward.models.base.codes import RandomCodes, arc, as_rows, default_latent_dim
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import Size
from pushforward.probability.counts import check_count

__all__ = ["VAE", "GaussianCoder"]

_WIDEST = 2.0  # log s stays within +-2, so that scales neither vanish nor diverge


class GaussianCoder(VariationalCoder):
    """The network of a VAE: q(z | x) from an encoder, p(x | z) from a decoder.

    Parameters
    ----------
    encoder : nn.Module
        ``(x, condition) -> (B, 2 K)``, mean and log standard deviation of the code.
    decoder : nn.Module
        ``(z, condition) ->`` input of ``likelihood``.
    likelihood : Likelihood
    latent_dim : int
        K.
    condition_dim : int
        Length of a condition; 0 for a network without one.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, latent_dim: int, condition_dim: int = 0
    ) -> None:
        super().__init__(likelihood, (latent_dim,))
        self.encoder, self.decoder = encoder, decoder
        self.region = nn.Linear(condition_dim, 2 * latent_dim, bias=False) if condition_dim else None
        if self.region is not None:
            nn.init.zeros_(self.region.weight)

    def posterior(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], PosteriorDraw]:
        """Return a function that draws from q(z | x), given standard normal eps (B, K); the encoder predicts h."""
        mean, log_std = self.encoder(x, condition).chunk(2, dim=1)
        m, log_s = self._region(condition, mean)
        return lambda eps: PosteriorDraw(
            self.decoder(mean + log_std.exp() * eps, condition), (mean - m) * (-log_s).exp(), log_std - log_s
        )

    def output(self, eps: Tensor, condition: Tensor | None) -> Tensor:
        """Return the input of the likelihood for z = eps."""
        m, log_s = self._region(condition, eps)
        return torch.as_tensor(self.decoder(m + log_s.exp() * eps, condition))

    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the mean of q(z | x), (B, K)."""
        return self.posterior(x, condition)(x.new_zeros(len(x), self.latent_dim)).mean

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return the center of p(x | z), (B, *D)."""
        return self.likelihood.center(self.output(z, condition))

    def _region(self, condition: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return m and log s of the conditions, (B, K)."""
        if condition is None or self.region is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        m, raw = self.region(condition).chunk(2, dim=1)
        return m, _WIDEST * torch.tanh(raw / _WIDEST)


class VAE(RandomCodes, VariationalModel):
    r"""Variational autoencoder: a decoder of Gaussian codes, trained by a lower bound of its density.

    ``transform`` returns the mean code of a row, ``inverse_transform`` the center of p(x | z); ``sample`` draws a code and then
    a row from p(x | z), noise included. ``log_prob`` is an importance-weighted lower bound.

    Parameters
    ----------
    latent_dim : int, optional
        Length of a code; default 16, or 64 for rows of 1,000 or more elements; at most the length of a row.

    Other parameters are those of :class:`~pushforward.models.autoencoders.base.VariationalModel`.

    Attributes
    ----------
    network_, latent_dim_, likelihood_, kl_warmup_, training_
        The resolved arguments.
    coder_ : GaussianCoder
        The trained networks.

    References
    ----------
    Diederik Kingma, Max Welling. Auto-encoding variational Bayes. 2014. https://arxiv.org/abs/1312.6114

    >>> import pushforward as pf
    >>> model = pf.VAE(latent_dim=3, train_steps=5, random_state=0).fit("digits")
    >>> rows = pf.open_data("digits").values[:4]
    >>> model.transform(rows).shape, model.sample(2, seed=0).shape, model.log_prob(rows, samples=2).kind
    ((4, 3), (2, 8, 8), 'lower bound')
    """

    streams: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("latent_dim", *VariationalModel.fitted)

    latent_dim: Size | None = None

    coder_: GaussianCoder = field(init=False)
    latent_dim_: int = field(init=False)

    def interpolate(self, a: ArrayLike, b: ArrayLike, n: int = 8, *, condition: Condition = None) -> Values:
        """Return n rows that interpolate between rows a and b, decoded from points on an arc between their codes.

        :func:`pushforward.interpolate` does the same for every model with codes.

        Parameters
        ----------
        a, b : rows
            One row each, like the training data.
        n : int
            Number of rows, at least 2; the first and the last are the reconstructions of a and b.
        condition : label or vector, optional
            The condition of all rows.

        >>> import pushforward as pf
        >>> model = pf.VAE(train_steps=5, random_state=0).fit("moons")
        >>> model.interpolate([0.0, 1.0], [1.0, 0.0], 5).shape
        (5, 2)
        """
        check_count("n", n, 2)
        start, end = (
            torch.as_tensor(self.transform(as_rows(self.space_.schema, row), condition=condition))[0].double() for row in (a, b)
        )
        return self.inverse_transform(arc(start, end, torch.linspace(0, 1, n, dtype=torch.float64)), condition=condition)

    def traverse(
        self, dimension: int, n: int = 9, *, reach: float = 2.5, around: ArrayLike | None = None, condition: Condition = None
    ) -> Values:
        """Return n rows whose codes differ in one element only, which runs from -reach to reach.

        Parameters
        ----------
        dimension : int
            Index of the element.
        n : int
        reach : float
            In standard deviations of the prior.
        around : row, optional
            The row whose code is varied; by default the code 0.
        condition : label or vector, optional

        Raises
        ------
        ValueError
            If the code has no such element.

        >>> import pushforward as pf
        >>> model = pf.VAE(train_steps=5, random_state=0).fit("moons")
        >>> model.traverse(1, 3).shape
        (3, 2)
        """
        check_count("n", n, 1)
        check_count("dimension", dimension, 0)
        if around is None:
            z = torch.zeros(1, self.latent_dim_, dtype=torch.float64)
        else:
            z = torch.as_tensor(self.transform(as_rows(self.space_.schema, around), condition=condition)).double()
        if dimension >= self.latent_dim_:
            raise ValueError(f"dimension must be below {self.latent_dim_}, the length of a code, got {dimension}")
        z = z.repeat(n, 1)
        z[:, dimension] = torch.linspace(-reach, reach, n, dtype=torch.float64)
        return self.inverse_transform(z, condition=condition)

    def _code_sampler(self, learned: object, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        assert isinstance(learned, GaussianCoder)
        draw_posterior = learned.posterior(x, None)

        def draw(eps: Tensor) -> tuple[Tensor, Tensor]:
            posterior = draw_posterior(eps)
            code = posterior.mean + posterior.log_std.exp() * eps
            minus_log_q = ((eps.square() + math.log(2 * math.pi)) / 2 + posterior.log_std).sum(1)
            return code, learned.likelihood.log_prob(posterior.output, x) + minus_log_q

        return draw

    @torch.no_grad()
    def _draw_given(self, z: Tensor, rows: Tensor, seed: int) -> Tensor:
        like = next(self.coder_.parameters())
        output = self.coder_.output(z.to(like), None)
        return self.coder_.likelihood.draw(output, rows.to(like.device), seed).cpu()

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        return super()._defaults(prepared) | {"latent_dim": default_latent_dim(self.space_.transform.shape)}

    def _network(self) -> GaussianCoder:
        shape, latent_dim, spec = self.space_.transform.shape, self.latent_dim_, self.network_
        likelihood = make_likelihood(self.likelihood_, self.space_.transform, self.space_.element_columns)
        output_shape = (likelihood.outputs * shape[0], *shape[1:])
        return GaussianCoder(
            spec.encoder(shape, 2 * latent_dim, self._condition_dim),
            spec.decoder(latent_dim, output_shape, self._condition_dim),
            likelihood,
            latent_dim,
            self._condition_dim,
        )
