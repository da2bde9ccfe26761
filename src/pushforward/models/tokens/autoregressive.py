r"""Autoregressive models: rows of integers, or of a table with columns of any type, one element after the other.

A row is a sequence of tokens, one per element (:mod:`pushforward.models.tokens.tokens`), and

    log p(x) = sum_l log p(x_l | x_1, ..., x_{l-1}),

exactly. A causal transformer (:mod:`pushforward.networks.causal`) gives all terms in one call. New rows are drawn token by
token (:mod:`pushforward.models.tokens.decoding`).
"""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition, Tokenizer, Values
from pushforward.data.text import as_texts
from pushforward.diffusion import MASKED
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.available import available_if
from pushforward.models.base.batches import batches, part_of
from pushforward.models.base.density import DensityModel
from pushforward.models.base.guidance import Guidance, check_null, needed_encoder, scale_of
from pushforward.models.base.model import GapChoice
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.tokens.base import TokenModel
from pushforward.models.tokens.decoding import decode, next_log_probs, not_ended
from pushforward.models.tokens.next_token import NextTokenTask
from pushforward.models.tokens.texts import fill_windows, prompted, windows_of
from pushforward.models.tokens.tokens import (
    constant_rows,
    drawn_rows,
    levels_of,
    refuse_unknown,
    start_from_marginals,
    to_tokens,
)
from pushforward.networks import CausalTransformer, TransformerSpec
from pushforward.probability.counts import check_count
from pushforward.training import TrainingSettings

__all__ = ["Autoregressive"]


_FEW = 8
_COMMON = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0, ema=0.05)
_TEXTS = replace(_COMMON, steps=3000, batch_size=64, learning_rate=4e-3, evaluations=10)


def _of_texts(model: "Autoregressive") -> bool:
    return model.__sklearn_is_fitted__() and model.space_.schema.text is not None


class Autoregressive(DensityModel, TokenModel):
    r"""Autoregressive model: integers, texts, and tables with columns of any type, drawn one element after the other.

    Each element of a row is a token with its own number of values: pixels with grey levels, columns of a table, letters of a
    sequence (N, L), characters of texts. A causal transformer learns the law of each token given those before it, in the order
    of the row, without rounding or dequantization. ``log_prob`` is exact, and ``sample`` takes the beginning of rows as a
    ``prompt``.

    All values of arrays must be integers, of any dtype. In a table, gaps, categories, frequent integers and frequent reals have
    a token each, and other numbers and dates one for each bin, with a fixed density inside it; ``log_prob`` is then the
    log-density in the units of the data.

    Parameters
    ----------
    network : TransformerSpec, optional
        Size of the transformer; ``patch`` must be 1. Default: by the length of a row.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    network_, training_
        The resolved arguments.
    predictor_ : CausalTransformer
        The trained network.

    References
    ----------
    Yoshua Bengio, Réjean Ducharme, Pascal Vincent, Christian Jauvin. A neural probabilistic language model. JMLR 2003.
    Benigno Uria et al. Neural autoregressive distribution estimation. JMLR 2016. https://arxiv.org/abs/1605.02226

    >>> import pushforward as pf
    >>> X = np.random.default_rng(0).integers(0, 5, (100, 3))
    >>> model = pf.Autoregressive(train_steps=5, random_state=0).fit(X)
    >>> model.sample(2, seed=0).shape, model.log_prob(X[:4]).kind
    ((2, 3), 'exact')
    >>> model.sample(2, prompt=[4, 1], seed=0)[:, :2].tolist()
    [[4, 1], [4, 1]]
    """

    fitted: ClassVar[tuple[str, ...]] = ("network", *TrainedModel.fitted)
    core: ClassVar[str] = "predictor_"

    network: TransformerSpec | None = None

    network_: TransformerSpec = field(init=False)
    predictor_: CausalTransformer = field(init=False)

    def sample(
        self,
        n: int = 1,
        *,
        prompt: ArrayLike | str | None = None,
        length: int | None = None,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        temperature: float = 1.0,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        prompt : str or list of n str, or sequence (k,) or (n, k), optional
            The beginning of all texts, or of each; for integers the first k elements of rows. The rest is drawn given it. Not
            for tables.
        length : int, optional
            Tokens of each text, by default those of a row. Longer texts are drawn by overlapping blocks: the first half of a
            block is the second half of the one before. Only for texts that were cut into blocks.
        guidance : float or Guidance
            The scale w in p(k | before, condition)^w p(k | before)^(1 - w), normalized, the law of each element: 1 is the
            conditional law, 0 ignores the condition, above 1 sharpens. Any value but 0 and 1 doubles the rows that the network
            sees.
        temperature : float
            Each element is drawn from the power 1 / temperature of its law, normalized: 1 is the learned law, below 1 favors
            likely values, above 1 unlikely ones.

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.

        Raises
        ------
        ValueError
            If the prompt is longer than a row, or has a value or a character that the training data do not have.
        """
        encoded, seed = self._begin_sampling(n, condition, seed, first, batch_size, gaps=gaps)
        scale = self._checked_scale(guidance)
        options = {"scale": scale, "temperature": _temperature(temperature)}
        text = self.space_.schema.text
        if text is not None:
            known = prompted(text, cast(Any, prompt), n, length)
            return self._texts(text, known, encoded, seed=seed, first=first, batch_size=batch_size, **options)
        if length is not None or isinstance(prompt, str):
            raise ValueError(
                "length and a prompt of text are for models of texts; omit length, and give the first elements as prompt"
            )
        known = self._known(n, prompt)
        z = self._decoded(known, encoded, seed=seed, first=first, batch_size=batch_size, **options)
        return self._delivered(z, gaps, condition=condition, seed=seed)

    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return the log-probability, for tables log-density, of each row in nats.

        It is exact and takes one network call; ``seed`` and ``first`` have no effect. Where texts were cut into blocks, X may
        hold texts of any length; for a text longer than a block it is the law from which ``sample`` draws texts of this length.
        Other parameters and the errors are those of :meth:`pushforward.NormalizingFlow.log_prob`.
        """
        check_is_fitted(self)
        check_count("batch_size", batch_size)
        text, texts = self.space_.schema.text, as_texts(X)
        if text is not None and texts is not None and not text.ends:
            result = self._text_log_prob([text.codes(each) for each in texts], text.length, condition, batch_size)
            return result.in_bits_per_dim() if bits_per_dim else result
        rows = self._rows(X, condition)

        def score_part(part: slice, network: CausalTransformer, device: torch.device) -> LogProb:
            tokens, _ = to_tokens(rows.z[part].to(device), network.levels)
            with torch.no_grad():
                terms = next_log_probs(network, tokens, part_of(rows.condition, part, device))
            values = (terms * (self._free.to(device) & not_ended(tokens, self._end))).sum(1).double().cpu().numpy()
            zeros = np.zeros_like(values)
            exact = LogProb(values, "exact", zeros, zeros, zeros, nfe=1, dims=int(self._free.sum()))
            return exact.shifted(np.asarray(rows.log_volume(part, seed, first)))

        result = LogProb.concatenate(self._in_batches(score_part, len(rows.z), batch_size))
        result = replace(result.shifted(rows.log_shares.numpy()), constants=self.space_.transform.constants)
        return result.in_bits_per_dim() if bits_per_dim else result

    def _text_log_prob(self, codes: list[list[int]], length: int, condition: Condition, batch_size: int) -> LogProb:
        """Return the log-probability of texts of any length, window by window, each given the half before it."""
        encoded = self._encode(condition, len(codes), self._density_dtype)
        windows = [(row, *window) for row, code in enumerate(codes) for window in windows_of(len(code), length)]
        rows = torch.tensor([row for row, *_ in windows])
        tokens, counted = (
            torch.zeros(len(windows), length, dtype=torch.long),
            torch.zeros(len(windows), length, dtype=torch.bool),
        )
        for index, (row, start, begin) in enumerate(windows):
            part = codes[row][start : start + length]
            tokens[index, : len(part)] = torch.tensor(part, dtype=torch.long)
            counted[index, begin - start : len(part)] = True

        def score_part(part: slice, network: CausalTransformer, device: torch.device) -> Tensor:
            given = None if encoded is None else encoded[rows[part]].to(device)
            with torch.no_grad():
                terms = next_log_probs(network, tokens[part].to(device), given)
            return (terms.cpu() * counted[part]).double().sum(1)

        parts = torch.cat(self._in_batches(score_part, len(windows), batch_size))
        values = torch.zeros(len(codes), dtype=torch.float64).index_add_(0, rows, parts).numpy()
        zeros, calls = np.zeros_like(values), int(torch.bincount(rows).max())
        return LogProb(values, "exact", zeros, zeros, zeros, nfe=calls, dims=max(map(len, codes)))

    @available_if(_of_texts)
    def predict_proba(self, X: Sequence[str], *, condition: Condition = None, batch_size: int = 256) -> np.ndarray:
        """Return the probability of each token after each text, (N, K), in the order of ``classes_``; rows sum to one.

        Parameters
        ----------
        X : list of str
            Beginnings of texts of any length; of a text as long as a row or longer, only the end is used.
        condition : label, vector, or one of them per text, optional
        batch_size : int
            Texts that go through the network at once.

        Raises
        ------
        TypeError, ValueError
            If X is not a list of str, or has a character that the training data do not have.
        """
        check_is_fitted(self)
        text, texts = self.space_.schema.text, as_texts(X)
        if text is None or texts is None:
            raise TypeError("predict_proba takes the beginnings of texts, a list of str")
        codes = [text.codes(each)[-(text.length - 1) :] for each in texts]
        tokens = torch.zeros(len(codes), max(map(len, codes)) + 1, dtype=torch.long)
        for row, part in enumerate(codes):
            tokens[row, : len(part)] = torch.tensor(part, dtype=torch.long)
        last = torch.tensor([len(part) for part in codes])
        encoded = self._encode(condition, len(codes), self._density_dtype)

        def predict(part: slice, network: CausalTransformer, device: torch.device) -> np.ndarray:
            with torch.no_grad():
                logits = network(tokens[part].to(device), part_of(encoded, part, device)).cpu()
            at = last[part]
            return np.asarray(logits[torch.arange(len(at)), at].double().softmax(1))

        return np.concatenate(self._in_batches(predict, len(codes), batch_size))

    @property
    def classes_(self) -> np.ndarray:
        """The text of each token, "" for the end of a text, for a model of texts."""
        check_is_fitted(self)
        text = self.space_.schema.text
        if text is None:
            raise AttributeError("classes_ are the tokens of texts, but this model was trained on other rows")
        return np.array(text.names, dtype=object)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        length = len(self._free)
        if self.space_.schema.text is not None:
            return {"network": TransformerSpec(width=96, depth=2, convolution=9), "training": _TEXTS}
        network = TransformerSpec(width=64, depth=2) if length <= _FEW else TransformerSpec(width=128, depth=3)
        return {"network": network, "training": _default_training(length)}

    def _network(self) -> CausalTransformer:
        return self.network_.build_causal(levels_of(self.space_), self._condition_dim)

    def _task(self, network: nn.Module, prepared: Prepared) -> NextTokenTask:
        assert isinstance(network, CausalTransformer)
        start_from_marginals(network, prepared.whole)
        return NextTokenTask(network, free=self._free, end=self._end, condition_dropout=self.condition_dropout)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        return self._decoded(self._known(n, None), condition, seed=seed, first=first, batch_size=batch_size)

    @property
    def _free(self) -> Tensor:
        """Which tokens vary, bool (L,)."""
        return self.space_.transform.varies.flatten()

    @property
    def _end(self) -> int:
        """The end mark of texts, -1 for none."""
        text = self.space_.schema.text
        return MASKED if text is None or not text.ends else text.end

    def _checked_scale(self, guidance: Guidance | float) -> float:
        scale = scale_of(guidance, "a model of tokens")
        if scale != 1:
            check_null(needed_encoder(self, scale), self.condition_dropout)
        return scale

    def _known(self, n: int, prompt: ArrayLike | None) -> Tensor:
        """Return the tokens (n, L) that are constant or given by a prompt, -1 elsewhere."""
        levels = self.predictor_.levels.cpu()
        constant, _ = to_tokens(constant_rows(self.space_, n), levels)
        known = constant.where(~self._free, MASKED)
        return known if prompt is None else self._prompted(known, prompt)

    def _prompted(self, known: Tensor, prompt: ArrayLike) -> Tensor:
        """Return known tokens with those of a prompt (k,) or (n, k) at the beginning of the row."""
        space, (n, _) = self.space_, known.shape
        if space.schema.table is not None:
            raise ValueError("a prompt is the beginning of a sequence, but the rows are those of a table; omit it")
        values = torch.as_tensor(np.asarray(prompt)).double()
        size = space.transform.shift.numel()
        if values.ndim not in (1, 2) or values.shape[-1] > size or (values.ndim == 2 and len(values) not in (1, n)):
            raise ValueError(
                f"prompt must be the first elements of all rows (k,) or of each (n, k), with n={n} and k at most {size}, got "
                f"shape {tuple(values.shape)}"
            )
        whole = torch.full((n, size), torch.nan, dtype=torch.float64)
        whole[:, : values.shape[-1]] = values
        x = whole.reshape(n, *space.transform.shift.shape)
        refuse_unknown(x, ~x.isnan() & ~space.transform.constant, space.transform)
        tokens, given = to_tokens(space.transform.forward(x), self.predictor_.levels.cpu())
        return tokens.where(given & self._free, known)

    def _decoded(
        self,
        known: Tensor,
        condition: Tensor | None,
        *,
        scale: float = 1.0,
        temperature: float = 1.0,
        seed: int,
        first: int,
        batch_size: int,
    ) -> Tensor:
        """Return scaled rows (n, *D) with their known tokens (n, L), and the others drawn, on the CPU."""
        options = {"scale": scale, "temperature": temperature, "first": first, "batch_size": batch_size}
        tokens = self._tokens(known, condition, seed=seed, **options)  # type: ignore[arg-type]
        return drawn_rows(tokens, constant_rows(self.space_, len(known)), self.space_, seed=seed, first=first)

    def _tokens(
        self,
        known: Tensor,
        condition: Tensor | None,
        *,
        scale: float = 1.0,
        temperature: float = 1.0,
        seed: int,
        first: int,
        batch_size: int,
    ) -> Tensor:
        """Return tokens (n, l) with those that are -1 drawn, on the CPU."""
        device = self.predictor_.levels.device
        parts = [
            decode(
                self.predictor_,
                known[part].to(device),
                condition=part_of(condition, part, device),
                scale=scale,
                temperature=temperature,
                end=self._end,
                seed=seed,
                first=first + part.start,
            ).cpu()
            for part in batches(len(known), batch_size)
        ]
        return torch.cat(parts)

    def _texts(self, text: Tokenizer, known: Tensor, condition: Tensor | None, *, seed: int, **options: Any) -> Values:
        """Return texts with their known tokens (n, T), and the others drawn."""

        def draw(tokens: Tensor, free: Tensor, seed: int) -> Tensor:
            return self._tokens(tokens, condition, seed=seed, **options)

        tokens = fill_windows(known, known == MASKED, text.length, draw, seed=seed)
        return cast(Values, text.decode(tokens.numpy()))


def _temperature(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise ValueError(f"temperature must be a number above 0, got {value!r}; 1 is the learned law")
    return float(value)


def _default_training(length: int) -> TrainingSettings:
    return replace(_COMMON, steps=2000, batch_size=256 if length <= _FEW else 64, learning_rate=2e-3)
