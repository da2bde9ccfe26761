"""Texts while they are drawn: which tokens are uncovered after each call of a network, for models that draw token by token."""

import copy
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pushforward.data import Tokenizer
from pushforward.diffusion import MASKED
from pushforward.models.tokens.base import TokenModel
from pushforward.models.tokens.masked_diffusion import MaskedDiffusion
from pushforward.models.tokens.tokens import Predictor

__all__ = ["COVERED", "uncovered"]

COVERED = "░"


class _Recording(nn.Module):
    """A network that records the tokens that it is called with."""

    levels: Tensor

    def __init__(self, network: Predictor, rows: int) -> None:
        super().__init__()
        self.network, self.rows, self.states = network, rows, list[Tensor]()
        self.register_buffer("levels", network.levels)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        self.states.append(tokens[: self.rows].cpu().clone())
        logits: Tensor = self.network(tokens, condition)
        return logits


def uncovered(model: TokenModel, n: int, *, frames: int = 25, **options: Any) -> list[list[str]]:
    """Return n texts at up to ``frames`` moments of their drawing, the last of which are ``model.sample(n, **options)``.

    A masked diffusion uncovers tokens in a random order, other models from left to right. A covered token is shown as "░".

    >>> import pushforward as pf
    >>> options = {"text": pf.Text(block=8), "train_steps": 2, "network": pf.MLPSpec(width=8, depth=1), "random_state": 0}
    >>> model = pf.MaskedDiffusion(**options).fit(["abcabcabcabcabcabcabcabc"])
    >>> texts = [texts[0] for texts in uncovered(model, 1, seed=0)]
    >>> texts[0], [text.count("░") for text in texts], texts[-1] == model.sample(1, seed=0)[0]
    ('░░░░░░░░', [8, 7, 6, 5, 4, 3, 2, 1, 0], True)
    """
    text = model.space_.schema.text
    if text is None:
        raise ValueError("this model does not learn texts, so it has none to uncover; pass one that was fitted to texts")
    if not isinstance(model, MaskedDiffusion):
        drawn = [str(each) for each in model.sample(n, **options)]
        shares = np.linspace(0, 1, frames)
        return [[each[: round(share * len(each))] for each in drawn] for share in shares]
    recording = _Recording(model.predictor_, n)
    watched: Any = copy.copy(model)
    watched.predictor_ = recording
    with torch.no_grad():
        drawn = [str(each) for each in watched.sample(n, **options)]
    states = [[_text_of(text, row) for row in state.tolist()] for state in recording.states]
    kept = np.unique(np.linspace(0, len(states) - 1, min(frames - 1, len(states))).round().astype(int))
    return [*(states[k] for k in kept), drawn]


def _text_of(text: Tokenizer, row: list[int]) -> str:
    parts = [(covered, list(tokens)) for covered, tokens in groupby(row, key=lambda token: token == MASKED)]
    return "".join(COVERED * len(tokens) if covered else text.text_of(tokens) for covered, tokens in parts)
