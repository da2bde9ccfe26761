"""Sampling by unmasking, for models of the law of masked tokens given the unmasked ones.

A new row starts masked except for what is given, a row with gaps with its gaps masked. A few elements are unmasked at a time,
each drawn from its law given the unmasked elements (:func:`pushforward.diffusion.unmask`); a condition can guide these laws
(:mod:`pushforward.diffusion.masked`). The value of a cell of a table is then drawn from its law inside the token.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, cast

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward import diffusion
from pushforward.data import ArrayLike, Condition, Tokenizer, Values
from pushforward.data.filling import Gaps
from pushforward.diffusion import MASKED, TokenNetwork
from pushforward.models.base.batches import batches, part_of
from pushforward.models.base.guidance import Guidance, guided_tokens, scale_of
from pushforward.models.base.model import GapChoice
from pushforward.models.base.trained import TrainedModel
from pushforward.models.tokens.texts import BLANK, NoEnd, blanks, decoded, fill_windows, prompted
from pushforward.models.tokens.tokens import (
    Predictor,
    PresentTokens,
    constant_rows,
    drawn_rows,
    refuse_unknown,
    sampled_dtype,
    to_tokens,
)
from pushforward.probability import noise
from pushforward.probability.counts import check_count, check_steps

__all__ = ["STEPS", "UnmaskingModel"]

STEPS = 64
"""Default number of network calls per row."""
_LONG, _QUICK = 256, 16
_MOST_REMASKED = 1000


class UnmaskingModel(TrainedModel):
    """Base of models of tokens, with ``sample`` and ``impute``; a family trains ``predictor_``."""

    core: ClassVar[str] = "predictor_"
    given_columns: ClassVar[bool] = True
    predictor_: Predictor = field(init=False)

    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        steps: int | None = None,
        remask: float = 0.0,
        prompt: str | Sequence[str] | None = None,
        length: int | None = None,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        condition : label, vector, values by name such as ``{"sex": "f", "age": 40}``, or one of them per row, optional
            Names are those of the training conditions, and of any columns of the data with names: the rows have these values,
            and their other columns are drawn from the law given them, without a training condition if none is named.
        guidance : float or Guidance
            The scale w in p(k | seen, condition)^w p(k | seen)^(1 - w), normalized, the law of each element as it is unmasked:
            1 is the conditional law, 0 ignores the condition, above 1 sharpens. Any value but 0 and 1 doubles the rows of
            each network call.
        steps : int, optional
            Network calls, each of which draws equally many elements, independently of each other. Default: one call for each
            element, up to 64.
        remask : float
            Number of times, on average, that each element is drawn anew given the others, which corrects elements that were
            drawn independently. More calls than elements are then useful: (1 + remask) for each.
        prompt : str or list of n str, optional
            The beginning of all texts, or of each.
        length : int, optional
            Tokens of each text, by default those of a row. Longer texts are drawn by overlapping blocks: the first half of a
            block is the second half of the one before. Only for texts that were cut into blocks.

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.

        Raises
        ------
        ValueError
            If a name or a level is unknown, or a given value is beyond the range of the training data.
        """
        check_is_fitted(self)
        rest, values = self.space_.split(condition)
        encoded, seed = self._begin_sampling(n, rest, seed, first, batch_size, gaps=gaps, given=values is not None)
        given = None if values is None else self._possible(self.space_.partial(values, n))
        network = guided_tokens(self, self.predictor_, scale_of(guidance, "a model of tokens"))
        options: dict[str, Any] = {
            "first": first,
            "batch_size": batch_size,
            "steps": _steps(steps),
            "remask": _remasked(remask),
        }
        text = self.space_.schema.text
        if text is not None:
            known = prompted(text, prompt, n, length)
            tokens = self._text_tokens(network, text, known, known == MASKED, encoded, seed=seed, **options)
            return cast(Values, text.decode(tokens.numpy()))
        if prompt is not None or length is not None:
            raise ValueError("prompt and length are for models of texts; omit them, or give the known elements to impute")
        options["seed"] = seed
        z = self._new_rows(network, n, encoded, given=given, **options)
        return self._delivered(z, gaps, condition=rest, seed=seed, given=given)

    def impute(
        self,
        X: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n: int = 1,
        steps: int | None = None,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        seed: int | None = None,
        batch_size: int = 256,
    ) -> Values | list[Values]:
        """Fill the gaps of rows by draws from their law given the rest of the row.

        ``steps``, ``guidance`` and ``batch_size`` are those of :meth:`sample`; other parameters and the result are those of
        :meth:`pushforward.Diffusion.impute`. Of texts, each "_" is one missing character.

        Raises
        ------
        ValueError
            If a known integer of an array has a fraction, or lies beyond the range that its column had in training.
        """
        check_is_fitted(self)
        check_count("n", n)
        check_count("batch_size", batch_size)
        steps = _steps(steps)
        seed = self._keep_seed(seed)
        if self.space_.schema.text is not None:
            if mask is not None:
                raise ValueError(f"blanks of texts are marked by {BLANK!r}; omit mask")
            options: dict[str, Any] = {"n": n, "steps": steps, "guidance": guidance, "batch_size": batch_size}
            return self._fill_texts(X, self.space_.schema.text, condition=condition, seed=seed, **options)
        gaps = Gaps.of(X, mask, self.space_, type(self).__name__)
        transform = self.space_.transform
        encoded = self.space_.encode(condition, len(gaps.x), null=self._knows_null)
        scale = scale_of(guidance, "a model of tokens")
        Guidance(scale).check_condition(encoded)
        network = guided_tokens(self, self.predictor_, scale)
        if self.space_.schema.elements is not None:
            network = PresentTokens(network, self.space_)
        encoded = None if encoded is None else encoded[gaps.rows]
        x, known = gaps.x[gaps.rows], gaps.known[gaps.rows]
        if self.space_.schema.elements is None:
            refuse_unknown(x, known & ~transform.constant, transform)
        z = transform.forward(x, dtype=sampled_dtype(self.space_))
        observed = transform.pick(known)

        def draw(seed: int) -> Tensor:
            return self._unmask(network, z, observed, encoded, seed=seed, first=0, batch_size=batch_size, steps=steps)

        return gaps.filled(draw, n=n, seed=seed)

    def _fill_texts(
        self,
        X: ArrayLike,
        text: Tokenizer,
        *,
        n: int,
        steps: int,
        condition: Condition,
        guidance: Guidance | float,
        seed: int,
        batch_size: int,
    ) -> Values | list[Values]:
        """Return texts with their blanks filled, or n such copies."""
        tokens, free, lengths = blanks(text, X)
        encoded = self.space_.encode(condition, len(tokens), null=self._knows_null)
        scale = scale_of(guidance, "a model of tokens")
        Guidance(scale).check_condition(encoded)
        network = guided_tokens(self, self.predictor_, scale)
        network = NoEnd(network, text.end) if text.ends else network
        options: dict[str, Any] = {"first": 0, "batch_size": batch_size, "steps": steps, "remask": 0.0}
        copies = []
        for copy in range(n):
            each = seed if copy == 0 else noise.derive(seed, "copy", copy)
            filled = self._text_tokens(network, text, tokens, free, encoded, seed=each, **options)
            copies.append(cast(Values, decoded(text, filled, lengths)))
        return copies[0] if n == 1 else copies

    def _text_tokens(
        self,
        network: TokenNetwork,
        text: Tokenizer,
        tokens: Tensor,
        free: Tensor,
        condition: Tensor | None,
        *,
        seed: int,
        first: int,
        batch_size: int,
        **options: Any,
    ) -> Tensor:
        """Return tokens (n, T) of texts with the free ones drawn; those that are -1 and not free stay so."""
        device = self.predictor_.levels.device

        def draw(tokens: Tensor, free: Tensor, seed: int) -> Tensor:
            short = text.length - tokens.shape[1]
            whole = nn.functional.pad(tokens, (0, short), value=MASKED)
            varies = nn.functional.pad(free, (0, short), value=False)
            parts = [
                diffusion.unmask(
                    network,
                    whole[part].to(device),
                    condition=part_of(condition, part, device),
                    free=varies[part].to(device),
                    seed=seed,
                    first=first + part.start,
                    **options,
                ).cpu()
                for part in batches(len(whole), batch_size)
            ]
            return torch.cat(parts)[:, : tokens.shape[1]]

        return fill_windows(tokens, free, text.length, draw, seed=seed)

    @property
    def _free(self) -> Tensor:
        """Which tokens vary, bool (L,)."""
        return self.space_.transform.varies.flatten()

    def _clean(self, x: Tensor) -> Tensor:
        """Return rows with their gaps filled by draws."""
        if not bool(x.isnan().any()):
            return x
        return self._unmask(self.predictor_, x, ~x.isnan(), None, seed=0, first=0, batch_size=256, steps=STEPS)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        # Plots with as many calls as ``sample`` would take as long as the training.
        steps = _QUICK if len(self.predictor_.levels) > _LONG else STEPS
        return self._new_rows(self.predictor_, n, condition, seed=seed, first=first, batch_size=batch_size, steps=steps)

    def _possible(self, given: Tensor) -> Tensor:
        """Return values of columns (n, C), NaN where not given, after a check that they can occur."""
        elements = self.space_.schema.elements
        if elements is not None:
            self.space_.refuse_impossible(elements.log_volume(given, elements.forward(given)), given)
        return given

    def _new_rows(
        self,
        network: TokenNetwork,
        n: int,
        condition: Tensor | None,
        *,
        given: Tensor | None = None,
        seed: int,
        first: int,
        batch_size: int,
        steps: int,
        remask: float = 0.0,
    ) -> Tensor:
        """Return n new scaled rows (n, *D), with the ``given`` values of columns (n, C), NaN elsewhere."""
        transform, elements = self.space_.transform, self.space_.schema.elements
        z = constant_rows(self.space_, n)
        observed = ~self._free.reshape(transform.shape).expand_as(z)
        if given is not None:
            known = transform.pick(~given.isnan())
            values = transform.forward(given if elements is None else elements.forward(given), dtype=z.dtype)
            z, observed = torch.where(known, values, z), observed | known
        options = {"first": first, "batch_size": batch_size, "steps": steps}
        return self._unmask(network, z, observed, condition, seed=seed, remask=remask, **options)

    def _unmask(
        self,
        network: TokenNetwork,
        z: Tensor,
        observed: Tensor,
        condition: Tensor | None,
        *,
        seed: int,
        first: int,
        batch_size: int,
        steps: int,
        remask: float = 0.0,
    ) -> Tensor:
        """Return scaled rows with the unobserved elements drawn, on the CPU; in tables the place in each token is drawn."""
        levels = self.predictor_.levels
        device = levels.device
        parts = []
        for part in batches(len(z), batch_size):
            tokens, _ = to_tokens(z[part].to(device), levels)
            filled = diffusion.unmask(
                network,
                tokens,
                condition=part_of(condition, part, device),
                free=self._free.to(device) & ~observed[part].flatten(1).to(device),
                steps=steps,
                remask=remask,
                seed=seed,
                first=first + part.start,
            )
            parts.append(filled.cpu())
        return drawn_rows(torch.cat(parts), z, self.space_, seed=seed, first=first)


def _remasked(remask: float) -> float:
    if isinstance(remask, bool) or not isinstance(remask, int | float) or not 0 <= remask <= _MOST_REMASKED:
        raise ValueError(f"remask must be a number from 0 to {_MOST_REMASKED}, got {remask!r}")
    return float(remask)


def _steps(steps: int | None) -> int:
    if steps is None:
        return STEPS
    return check_steps(steps)
