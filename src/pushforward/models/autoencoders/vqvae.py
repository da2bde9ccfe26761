r"""VQ-VAE: rows as a few entries of a codebook, and a learned law of these entries.

An encoder maps a row x to L vectors, each is replaced by the nearest of K codes (:mod:`pushforward.networks.quantizer`), and a
decoder gives p(x | codes). The codes c(x) are a function of the row, and the model's law of codes is p(c), so

    p(x) = sum_c p(x | c) p(c) >= p(x | c(x)) p(c(x)),
    log p(x) >= log p(x | c(x)) + log p(c(x)).

The loss is the negative of the right side, plus ``commitment`` times the squared distance between the encoder's vectors and
their codes, which keeps the vectors near the codes. p(c) is masked diffusion (:mod:`pushforward.diffusion.masked`): a
transformer that unmasks codes, trained in the same steps by its own lower bound of log p(c). Codes are integers, so it passes
no gradient to the encoder. To sample, unmask codes one by one and draw from p(x | codes).

A condition is an input of encoder, decoder and transformer.

References
----------
Huiwen Chang et al. MaskGIT: masked generative image transformer. 2022. https://arxiv.org/abs/2202.04200
"""

from dataclasses import field, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from sklearn.utils import Tags
from torch import Tensor, nn

from pushforward import diffusion
from pushforward.data import ArrayLike, Condition, Schema, Values
from pushforward.diffusion import TokenNetwork
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.autoencoders.bound import BoundModel, CodeDraws
from pushforward.models.autoencoders.likelihoods import LikelihoodName, default_likelihood, make_likelihood
from pushforward.models.autoencoders.quantized import QuantizedCoder, QuantizedTask
from pushforward.models.autoencoders.reports import CodeReport
from pushforward.models.base.batches import batches, part_of
from pushforward.models.base.codes import CodeModel, default_coder, default_training
from pushforward.models.base.guidance import Guidance, guided_tokens, scale_of
from pushforward.models.base.model import GapChoice
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.files.params import Size
from pushforward.networks import CoderSpec, TransformerSpec, default_transformer
from pushforward.networks.quantizer import Quantizer
from pushforward.training import TrainingSettings

__all__ = ["VQVAE"]

SAMPLES, DRAWS = 16, 2
_WIDTH = 8  # length of a code's vector; with short vectors no code stays unused
_LEAST = 0.05  # a code used less than this share of uniform use is reset
_REPORT_BATCH = 256


class VQVAE(BoundModel, CodeModel, TrainedModel):
    r"""Autoencoder with integer codes from a codebook, and a learned law of these codes.

    ``transform`` returns the codes of rows, integers (N, L), ``inverse_transform`` the center of p(x | codes); ``sample`` draws
    codes and then a row from p(x | codes), noise included. ``log_prob`` is a lower bound, and ``code_report`` measures the use
    of the codebook.

    Parameters
    ----------
    tokens : int, optional
        L, the number of codes of a row; default 8 for vectors, at most one per column, 4 for images, 16 for larger ones.
    codebook_size : int, optional
        K, the size of the codebook; default 64, 16 for vectors of up to 8 columns, 256 for larger images.
    likelihood : "gaussian", "diagonal", "logistic", "bernoulli" or "columns", optional
        The law p(x | codes), see :mod:`pushforward.models.autoencoders.likelihoods`. The default depends on the data.
    commitment : float
        Weight of the squared distance between the encoder's vectors and their codes.
    network : CoderSpec, optional
        Size of encoder and decoder. The default depends on the shape of the data.
    prior : TransformerSpec, optional
        Size of the transformer for the law of the codes. The default depends on their number.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    tokens_, codebook_size_, likelihood_, network_, prior_, training_
        The resolved arguments.
    coder_ : QuantizedCoder
        The trained networks.

    References
    ----------
    Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu. Neural discrete representation learning. 2017.
    https://arxiv.org/abs/1711.00937

    >>> import pushforward as pf
    >>> model = pf.VQVAE(tokens=3, codebook_size=16, train_steps=5, random_state=0).fit("digits")
    >>> rows = pf.open_data("digits").values[:4]
    >>> codes = model.transform(rows)
    >>> codes.shape, codes.dtype.kind, model.inverse_transform(codes).shape, model.sample(2, seed=0).shape
    ((4, 3), 'i', (4, 8, 8), (2, 8, 8))
    """

    fitted: ClassVar[tuple[str, ...]] = ("tokens", "codebook_size", "likelihood", "network", "prior", *TrainedModel.fitted)
    core: ClassVar[str] = "coder_"
    of_levels: ClassVar[bool] = True

    tokens: Size | None = None
    codebook_size: Size | None = None
    likelihood: LikelihoodName | None = None
    commitment: Annotated[float, Ge(0)] = 1.0
    network: CoderSpec | None = None
    prior: TransformerSpec | None = None

    tokens_: int = field(init=False)
    codebook_size_: int = field(init=False)
    likelihood_: LikelihoodName = field(init=False)
    network_: CoderSpec = field(init=False)
    prior_: TransformerSpec = field(init=False)
    coder_: QuantizedCoder = field(init=False)

    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        guidance : float or Guidance
            The scale w in p(c_l | seen, condition)^w p(c_l | seen)^(1 - w), normalized, the law of each code as it is
            unmasked: 1 is the conditional law, 0 ignores the condition, above 1 sharpens. Any value but 0 and 1 doubles the
            rows of each call of the transformer. The decoder always gets the condition itself, and none at 0.

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.
        """
        encoded, seed = self._begin_sampling(n, condition, seed, first, batch_size, gaps=gaps)
        scale = scale_of(guidance, "a VQVAE")
        prior = guided_tokens(self, self.coder_.prior, scale)
        decoder_condition = torch.zeros_like(encoded) if encoded is not None and scale == 0 else encoded
        z = self._draw_rows(prior, n, encoded, decoder_condition, seed=seed, first=first, batch_size=batch_size)
        return self._delivered(z, gaps, condition=condition, seed=seed)

    def code_report(self, X: ArrayLike, *, condition: Condition = None) -> CodeReport:
        """Return how many codes the rows of X use, and how evenly.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional

        >>> import pushforward as pf
        >>> X = pf.open_data("moons").values[:200]
        >>> model = pf.VQVAE(codebook_size=4, train_steps=5, random_state=0).fit(X)
        >>> model.code_report(X).size
        4
        """
        codes = self.transform(X, condition=condition, batch_size=_REPORT_BATCH)
        return CodeReport.of(np.asarray(codes), self.codebook_size_)

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn that codes are integers for any dtype of rows."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        tokens = self.tokens or _default_tokens(shape)
        return {
            "tokens": tokens,
            "codebook_size": _default_size(shape),
            "likelihood": default_likelihood(self.space_.transform, self.space_.element_columns),
            "network": default_coder(shape),
            "prior": TransformerSpec(width=96, depth=2) if _is_large(shape) else default_transformer((tokens,)),
            "training": _default_training(shape),
        }

    def _network(self) -> QuantizedCoder:
        shape, spec, tokens, size = self.space_.transform.shape, self.network_, self.tokens_, self.codebook_size_
        likelihood = make_likelihood(self.likelihood_, self.space_.transform, self.space_.element_columns)
        output_shape = (likelihood.outputs * shape[0], *shape[1:])
        return QuantizedCoder(
            spec.encoder(shape, tokens * _WIDTH, self._condition_dim),
            spec.decoder(tokens * _WIDTH, output_shape, self._condition_dim),
            Quantizer(size, _WIDTH, least=_LEAST * self.training_.batch_size * tokens / size),
            likelihood,
            self.prior_.build([size] * tokens, self._condition_dim),
            tokens=tokens,
        )

    def _task(self, network: nn.Module, prepared: Prepared) -> QuantizedTask:
        assert isinstance(network, QuantizedCoder)
        return QuantizedTask(
            network,
            commitment=self.commitment,
            log_det=self.space_.log_det,
            condition_dropout=self.condition_dropout,
            width=self.space_.transform.dequantization,
        )

    @property
    def _code_length(self) -> int:
        return self.tokens_

    @property
    def _code_schema(self) -> Schema:
        return replace(super()._code_schema, dtypes=("int64",))

    def _weighed(self, learned: object, z: Tensor, condition: Tensor | None, draws: CodeDraws) -> LogProb:
        assert isinstance(learned, QuantizedCoder)
        with torch.no_grad():
            codes = learned.encode(z, condition)
            log_likelihood = learned.likelihood.log_prob(learned.output(codes, condition), z)
        prior_bound = diffusion.masked_bound(
            learned.prior,
            codes,
            condition=condition,
            draws=draws.samples,
            seed=draws.seed,
            first=0 if draws.shared else draws.first,
            shared=draws.shared,
        )
        values = prior_bound.values + log_likelihood.double().cpu().numpy()
        return replace(prior_bound, values=values, nfe=draws.samples + 2, dims=learned.likelihood.dims)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        prior = self.coder_.prior
        return self._draw_rows(prior, n, condition, condition, seed=seed, first=first, batch_size=batch_size)

    @torch.no_grad()
    def _draw_rows(
        self,
        prior: TokenNetwork,
        n: int,
        condition: Tensor | None,
        decoder_condition: Tensor | None,
        *,
        seed: int,
        first: int,
        batch_size: int,
    ) -> Tensor:
        """Draw n scaled rows on the CPU: codes from ``prior`` given ``condition``, then rows given ``decoder_condition``."""
        coder, parts = self.coder_, []
        device = next(coder.parameters()).device
        for part in batches(n, batch_size):
            rows = torch.arange(first + part.start, first + part.stop, device=device)
            masked = torch.zeros(len(rows), coder.tokens, dtype=torch.int64, device=device)
            c, d = part_of(condition, part, device), part_of(decoder_condition, part, device)
            codes = diffusion.unmask(prior, masked, condition=c, seed=seed, first=first + part.start)
            parts.append(coder.likelihood.draw(coder.output(codes, d), rows, seed).cpu())
        return torch.cat(parts)


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and max(shape[1:]) >= 16


def _default_tokens(shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return min(shape[0], 8)
    return 16 if _is_large(shape) else 4


def _default_size(shape: tuple[int, ...]) -> int:
    """Return the default codebook size; in few dimensions even a small one gives many combinations for few rows."""
    if len(shape) == 1:
        return 16 if shape[0] <= 8 else 64
    return 256 if _is_large(shape) else 64


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return the settings that performed best on 8x8 digits, MNIST and points in the plane, on one CPU core."""
    common = default_training(shape)
    if len(shape) == 1:
        return replace(common, steps=1500)
    return replace(common, learning_rate=2e-3) if _is_large(shape) else common
