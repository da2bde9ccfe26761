"""Texts of any length from models of rows of L tokens: prompts, blanks, and windows that carry context from block to block."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pushforward.data import Tokenizer
from pushforward.data.text import as_texts
from pushforward.diffusion import MASKED, TokenNetwork
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["BLANK", "NoEnd", "Window", "blanks", "decoded", "fill_windows", "prompted", "windows_of"]

BLANK = "_"
"""A missing character of a text to fill."""

Window = Callable[[Tensor, Tensor, int], Tensor]
"""Returns tokens (n, l) with the free ones (n, l) drawn, given the tokens, their places, and a seed."""


def prompted(tokenizer: Tokenizer, prompt: str | Sequence[str] | None, n: int, length: int | None) -> Tensor:
    """Return n texts of ``length`` tokens, by default those of a row, which begin with a prompt; -1 for tokens to draw.

    Raises
    ------
    ValueError
        If the prompt or the length is longer than texts can be, the number of prompts is neither 1 nor n, or the training data
        lack a character.
    """
    texts = [""] if prompt is None else [prompt] if isinstance(prompt, str) else as_texts(prompt)
    if texts is None or len(texts) not in (1, n):
        raise ValueError(f"prompt must be a text, or a list with one for each of the {n} rows, got {prompt!r}")
    codes = [tokenizer.codes(text) for text in texts]
    longest = max(map(len, codes))
    size = max(tokenizer.length, longest) if length is None else check_count("length", length)
    if longest > size:
        raise ValueError(f"the prompt has {longest:,} {tokenizer.noun}, more than length={size:,}; shorten it, or set more")
    if tokenizer.ends and size > tokenizer.length:
        raise ValueError(
            f"the texts of training end after at most {tokenizer.length:,} {tokenizer.noun}, so {size:,} of them have no law; "
            "shorten the prompt, or omit length"
        )
    known = torch.full((n, size), MASKED)
    for row in range(n):
        given = codes[row % len(codes)]
        known[row, : len(given)] = torch.tensor(given, dtype=torch.long)
    return known


def blanks(tokenizer: Tokenizer, texts: Any) -> tuple[Tensor, Tensor, list[int]]:
    """Return the tokens (n, T) of texts with blanks, -1 for these and beyond a text; which are blanks; and the lengths.

    Raises
    ------
    TypeError, ValueError
        If ``texts`` are not texts, or tokens are not characters or bytes.
    """
    listed = as_texts(texts)
    if listed is None:
        raise TypeError(f"impute fills the blanks of texts, a list of str with {BLANK!r} for each missing character")
    if tokenizer.tokens == "bpe":
        raise ValueError(
            "the number of byte pairs in a blank is unknown; train with text=Text(tokens='characters') to fill blanks"
        )
    if BLANK in tokenizer.characters:
        raise ValueError(f"the texts of training have the character {BLANK!r}, which marks blanks; replace it before training")
    if tokenizer.ends and max(map(len, listed)) > tokenizer.length:
        raise ValueError(f"a text is longer than those of training, which have at most {tokenizer.length:,} {tokenizer.noun}")
    codes = [[code for part in _split(text) for code in _codes(tokenizer, part)] for text in listed]
    size = max(tokenizer.length, *map(len, codes))
    tokens = torch.full((len(codes), size), tokenizer.end if tokenizer.ends else MASKED)
    free = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, part in enumerate(codes):
        tokens[row, : len(part)] = torch.tensor(part, dtype=torch.long)
        free[row, : len(part)] = tokens[row, : len(part)] == MASKED
    return tokens, free, [len(part) for part in codes]


def fill_windows(tokens: Tensor, free: Tensor, length: int, draw: Window, *, seed: int) -> Tensor:
    """Return tokens (n, T) with the free ones drawn, window by window of at most ``length`` tokens.

    Each window begins half a window after the one before, so that at least half of it is known from there on.

    >>> fill_windows(torch.full((1, 5), -1), torch.ones(1, 5, dtype=torch.bool), 4, lambda t, f, s: t + f * 2, seed=0)
    tensor([[1, 1, 1, 1, 1]])
    """
    tokens, left = tokens.clone(), free.clone()
    for start, _ in windows_of(tokens.shape[1], length):
        part = slice(start, start + length)
        if bool(left[:, part].any()):
            tokens[:, part] = draw(tokens[:, part], left[:, part], noise.derive(seed, "window", start) if start else seed)
            left[:, part] = False
    return tokens


def windows_of(size: int, length: int) -> list[tuple[int, int]]:
    """Return where the windows of a text of ``size`` tokens begin, and the first token of each that none before it has.

    >>> windows_of(11, 4)
    [(0, 0), (2, 4), (4, 6), (6, 8), (7, 10)]
    """
    last = max(size - length, 0)
    starts = [*range(0, last, max(length // 2, 1)), last]
    return [(start, starts[index - 1] + length if index else 0) for index, start in enumerate(starts)]


class NoEnd:
    """A network of tokens that gives the end mark probability 0, for filling blanks."""

    def __init__(self, network: TokenNetwork, end: int) -> None:
        self.network, self.end = network, end

    def __call__(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Return logits (B, L, K)."""
        logits = self.network(tokens, condition)
        return logits.masked_fill(torch.arange(logits.shape[2], device=logits.device) == self.end, -torch.inf)


def decoded(tokenizer: Tokenizer, tokens: Tensor, lengths: Sequence[int]) -> NDArray[np.object_]:
    """Return the texts of the first ``lengths`` tokens of each row."""
    texts = np.empty(len(tokens), dtype=object)
    texts[:] = [tokenizer.text_of(row[:length]) for row, length in zip(tokens.tolist(), lengths, strict=True)]
    return texts


def _split(text: str) -> list[str]:
    """Return the parts of a text between blanks, and each blank, in order."""
    parts: list[str] = []
    for index, part in enumerate(text.split(BLANK)):
        parts += ([BLANK] if index else []) + [part]
    return parts


def _codes(tokenizer: Tokenizer, part: str) -> list[int]:
    return [MASKED] if part == BLANK else tokenizer.codes(part)
