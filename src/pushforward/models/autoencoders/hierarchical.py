r"""Hierarchical VAE: several levels of Gaussian codes, each conditioned on those above, with one bound for all.

The model draws the levels from the top down and then the row
(:mod:`pushforward.models.autoencoders.levels`),

    z_1 ~ N(0, I),      z_l | z_<l ~ N(m_l(h), diag s_l(h)^2),      x ~ p(x | h).

Its encoder is learned, and one of two:

- a *ladder* follows the same levels down, q(z_l | z_<l, x) (:mod:`pushforward.models.autoencoders.ladder`);
- a *Markov* encoder goes up from the row, q(z_L | x) and then q(z_l | z_l+1) (:mod:`pushforward.models.autoencoders.markov`).

Both give the bound log p(x) >= E_q [ log p(x | h) + log p(z) - log q(z | x) ]. With affine networks all laws are Gaussian. Then
the ladder can equal the posterior, and so can the Markov encoder if each level depends on its neighbors alone: the bound is
log p(x).

References
----------
Casper Sønderby et al. Ladder variational autoencoders. 2016. https://arxiv.org/abs/1602.02282
"""

from dataclasses import field
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import MinLen

from pushforward.models.autoencoders.base import VariationalModel
from pushforward.models.autoencoders.ladder import LadderCoder
from pushforward.models.autoencoders.levels import LevelsCoder
from pushforward.models.autoencoders.likelihoods import make_likelihood
from pushforward.models.autoencoders.markov import MarkovCoder
from pushforward.models.base.codes import default_latent_dim
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import Size

__all__ = ["HierarchicalVAE"]

Encoder: TypeAlias = Literal["ladder", "markov"]

_STATE = 128


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
    encoder : "ladder" or "markov"
        From the top down, q(z_l | levels above, x), the default and nearly always the better one; or from the bottom up, each
        level given only the one below it. Diffusion is such a chain with a fixed encoder.

    Other parameters are those of :class:`~pushforward.models.autoencoders.base.VariationalModel`.

    Attributes
    ----------
    network_, latent_dims_, likelihood_, kl_warmup_, training_
        The resolved arguments.
    coder_ : LadderCoder or MarkovCoder
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
    encoder: Encoder = "ladder"

    coder_: LevelsCoder = field(init=False)
    latent_dims_: tuple[int, ...] = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        if self.encoder == "markov" and self.free_bits:
            raise ValueError(
                f"free_bits={self.free_bits:g} needs encoder='ladder': with encoder='markov' the term of one element may be "
                f"negative, so a floor would not bound the KL; omit free_bits, or set encoder='ladder'"
            )
        longest = default_latent_dim(self.space_.transform.shape)
        return super()._defaults(prepared) | {"latent_dims": tuple(max(1, longest // 2**k) for k in (2, 1, 0))}

    def _network(self) -> LevelsCoder:
        shape, spec, dims = self.space_.transform.shape, self.network_, self.latent_dims_
        width = spec.width if len(shape) == 1 else max(spec.width, _STATE)
        likelihood = make_likelihood(self.likelihood_, self.space_.transform, self.space_.element_columns)
        output_shape = (likelihood.outputs * shape[0], *shape[1:])
        markov, sizes = self.encoder == "markov", {"condition_dim": self._condition_dim, "width": width, "depth": spec.depth}
        encoder = spec.encoder(shape, 2 * dims[-1] if markov else width, self._condition_dim)
        decoder = spec.decoder(width, output_shape, self._condition_dim)
        if markov:
            return MarkovCoder(encoder, decoder, likelihood, dims, **sizes)
        return LadderCoder(encoder, decoder, likelihood, dims, features=width, **sizes)
