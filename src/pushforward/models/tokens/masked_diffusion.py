r"""Masked diffusion: rows of integers, or of a table with columns of any type, unmasked element by element.

A row is a sequence of tokens, one per element (:mod:`pushforward.models.tokens.tokens`). A network predicts the law of each
masked token given the unmasked ones; :mod:`pushforward.diffusion.masked` defines the training bound and the sampling by
unmasking.
"""

from dataclasses import field, replace
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward import diffusion, networks
from pushforward.data import ArrayLike, Condition
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.density import DensityModel
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.task import RowTask
from pushforward.models.base.trained import TrainedModel
from pushforward.models.tokens.base import TokenModel
from pushforward.models.tokens.tokens import (
    Predictor,
    levels_of,
    start_from_marginals,
    to_tokens,
)
from pushforward.models.tokens.unmasking import UnmaskingModel
from pushforward.networks import MLPSpec, TokenMLP, TokenUNet, TransformerSpec, UNetSpec
from pushforward.probability import noise
from pushforward.probability.counts import check_count
from pushforward.training import TrainingSettings

__all__ = ["MaskedDiffusion", "UnmaskingTask"]

DRAWS = 16
_LARGE = 16  # longer side of images
_COMMON = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=None, ema=0.1)
_TABLES = replace(_COMMON, steps=4000, batch_size=256, learning_rate=2e-3)
_TEXTS = replace(_COMMON, steps=6000, batch_size=64, learning_rate=8e-3, evaluations=10)


class UnmaskingTask(RowTask):
    """The bound of each row, for a random set of masked tokens.

    Parameters
    ----------
    network : TokenMLP, TokenTransformer or TokenUNet
    free : bool Tensor (L,)
        Which tokens vary.
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition" in training.
    """

    def __init__(self, network: Predictor, *, free: Tensor, condition_dropout: float = 0.0) -> None:
        super().__init__(condition_dropout=condition_dropout)
        self.network = network
        self.free: Tensor
        self.register_buffer("free", free, persistent=False)

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return uniform numbers for the order (S, B, L) and the number (S, B) of masked tokens; the latter are stratified."""

        def uniform(purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
            return noise.uniform(shape, seed=seed, purpose=purpose, rows=rows, step=steps[:, None], device=rows.device)

        return uniform("hide", tuple(self.free.shape)), diffusion.stratified(uniform("share"), rows, total)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the bound of -log P of each row in nats, (B,); gaps stay masked and do not count."""
        u, v = numbers
        tokens, observed = to_tokens(x, self.network.levels)
        free = self.free & observed
        return diffusion.masked_loss(self.network, tokens, diffusion.mask_tokens(u, v, free), condition, free=free)


class MaskedDiffusion(DensityModel, TokenModel, UnmaskingModel):
    r"""Masked diffusion: integers, texts, and tables with columns of any type, unmasked in a random order.

    Each element of a row is a token with its own number of values: pixels with grey levels, columns of a table, letters of a
    sequence (N, L), characters of texts. A network learns the law of masked tokens given the others, without rounding or
    dequantization: ``log_prob`` is a lower bound of the log-probability of the integers, and ``impute`` unmasks the missing
    elements given the observed ones. Training rows may also have gaps (NaN).

    All values of arrays must be integers, of any dtype. In a table, gaps, categories, frequent integers and frequent reals have
    a token each, and other numbers and dates one for each bin, with a fixed density inside it. ``log_prob`` is then a lower
    bound of the log-density in the units of the data: the probability of the tokens times the densities inside the bins.
    ``sample`` takes values of any columns, as in ``condition={"sex": "Female"}``.

    Parameters
    ----------
    network : TransformerSpec, MLPSpec or UNetSpec, optional
        Size of a transformer, in which each element attends to all others, or of a perceptron, or for images of a U-Net, which
        is local first and learns from fewer images. Default: a U-Net for images, a perceptron for tables, else a transformer.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    network_, training_
        The resolved arguments.
    predictor_ : TokenTransformer, TokenMLP or TokenUNet
        The trained network.

    References
    ----------
    Subham Sahoo et al. Simple and effective masked diffusion language models. 2024. https://arxiv.org/abs/2406.07524
    Jiaxin Shi et al. Simplified and generalized masked diffusion for discrete data. 2024. https://arxiv.org/abs/2406.04329

    >>> import pushforward as pf
    >>> X = np.random.default_rng(0).integers(0, 5, (100, 3))
    >>> model = pf.MaskedDiffusion(train_steps=5, random_state=0).fit(X)
    >>> model.sample(2, seed=0).shape, model.log_prob(X[:4]).kind
    ((2, 3), 'lower bound')
    >>> model.impute(np.array([[3.0, np.nan, 1.0]]), seed=0)[0, ::2].tolist()
    [3, 1]
    """

    fitted: ClassVar[tuple[str, ...]] = ("network", *TrainedModel.fitted)
    gaps: ClassVar[bool] = True

    network: TransformerSpec | MLPSpec | UNetSpec | None = None

    network_: TransformerSpec | MLPSpec | UNetSpec = field(init=False)

    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        draws: int = DRAWS,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return a lower bound of the log-probability, for tables log-density, of each row in nats, with its standard error.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data, without fractions in arrays. Of a row with gaps (NaN), the probability of what is seen;
            a gap is a value in columns of tables that have gaps in training.
        draws : int
            Random sets of hidden elements per row, each of which calls the network; the standard error needs 2.

        Other parameters and the errors are those of :meth:`pushforward.NormalizingFlow.log_prob`.

        Returns
        -------
        LogProb
            Of the kind "lower bound".
        """
        bound = self._bound(X, condition, draws=draws, seed=seed, first=first, batch_size=batch_size, shared=False)
        return bound.in_bits_per_dim() if bits_per_dim else bound

    def score_samples(self, X: ArrayLike, *, condition: Condition = None) -> np.ndarray:
        """Return the bound of each row in nats, (N,).

        All rows share their sets of masked elements, so that the score of a row does not depend on where it stands. For the
        mean over rows prefer :meth:`log_prob`, where the errors of rows are independent of each other.
        """
        return self._bound(X, condition, draws=DRAWS, seed=0, first=0, batch_size=256, shared=True).values

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        if self.space_.schema.text is not None:
            return {"network": TransformerSpec(width=64, depth=2, convolution=9), "training": _TEXTS}
        if self.space_.schema.elements is not None:
            return {"network": MLPSpec(), "training": _TABLES}
        size = networks.default_transformer(shape) if len(shape) == 1 else networks.default_spec(shape)
        return {"network": size, "training": _default_training(shape)}

    def _network(self) -> Predictor:
        levels, shape = levels_of(self.space_), self.space_.transform.shape
        if isinstance(self.network_, UNetSpec):
            return TokenUNet(levels, shape, self._condition_dim, spec=self.network_)
        if isinstance(self.network_, MLPSpec):
            return TokenMLP(levels, self._condition_dim, spec=self.network_)
        return self.network_.build(levels, self._condition_dim, shape=shape)

    def _task(self, network: nn.Module, prepared: Prepared) -> UnmaskingTask:
        assert isinstance(network, Predictor)
        start_from_marginals(network, prepared.whole)
        return UnmaskingTask(network, free=self._free, condition_dropout=self.condition_dropout)

    def _bound(
        self, X: ArrayLike, condition: Condition, *, draws: int, seed: int, first: int, batch_size: int, shared: bool
    ) -> LogProb:
        check_is_fitted(self)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = self._rows(X, condition)

        def score_part(part: slice, network: Predictor, device: torch.device) -> LogProb:
            z = rows.z[part].to(device)
            tokens, observed = to_tokens(z, network.levels)
            bound = diffusion.masked_bound(
                network,
                tokens,
                condition=None if rows.condition is None else rows.condition[part].to(device, self._density_dtype),
                free=self._free.to(device) & observed,
                draws=draws,
                seed=noise.derive(seed, "bound"),
                first=first + part.start * (not shared),
                shared=shared,
            )
            return bound.shifted(np.asarray(rows.log_volume(part, seed, first)))

        bound = LogProb.concatenate(self._in_batches(score_part, len(rows.z), batch_size))
        bound = bound.shifted(rows.log_shares.numpy())
        return replace(bound, dims=int(self._free.sum()), constants=self.space_.transform.constants)


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return the settings that performed best on 8x8 digits, MNIST and small tables, on one CPU core.

    Large images are slow: many steps of small batches learn more in the same time, and there are few evaluations.
    """
    if len(shape) == 1:
        return replace(_COMMON, steps=2000, batch_size=256, learning_rate=2e-3)
    if max(shape[1:]) < _LARGE:
        return replace(_COMMON, steps=2000, batch_size=64, learning_rate=2e-3)
    return replace(_COMMON, steps=8000, batch_size=16, learning_rate=2e-3, evaluations=5)
