"""How far a model of texts is from the law of the texts, where that is known: bits per character of both, on the same texts."""

import math
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from pushforward.data import RowSpace
from pushforward.diffusion.log_prob import LogProb
from pushforward.metrics.measure import Measure
from pushforward.metrics.text import bits_per_character
from pushforward.probability import MarkovText

__all__ = ["AgainstLaw", "against_law", "has_blocks_of_letters"]


@dataclass(frozen=True)
class AgainstLaw:
    """A model of texts beside their law.

    Attributes
    ----------
    learned : Measure
        Bits per character of the model, on texts drawn from the law.
    exact : float
        Entropy of the law for texts of this length, in bits per character: no model needs less on average.
    error : float
        KL(law || model) in bits per character, estimated on the same texts.
    is_bound : bool
        Whether ``learned`` and ``error`` are upper bounds.
    """

    learned: Measure
    exact: float
    error: float
    is_bound: bool


class _Fitted(Protocol):
    @property
    def space_(self) -> RowSpace: ...


class ScoresTexts(_Fitted, Protocol):
    """A fitted model of texts with a density."""

    def log_prob(self, X: list[str], /) -> LogProb:
        """Return log-densities of texts."""


def has_blocks_of_letters(model: _Fitted) -> TypeGuard[ScoresTexts]:
    """Whether the rows of a model with ``log_prob`` are blocks of letters, which :func:`against_law` needs."""
    text = model.space_.schema.text
    return text is not None and text.tokens != "bpe" and not text.ends and hasattr(model, "log_prob")


def against_law(model: ScoresTexts, law: MarkovText, n: int = 128) -> AgainstLaw:
    """Compare a model with the law of its texts on n texts of the length of its rows, which begin anywhere.

    Parameters
    ----------
    model : ScoresTexts
        Of blocks of letters (:func:`has_blocks_of_letters`), all of which are ASCII if its tokens are bytes.
    law : MarkovText
    n : int
    """
    text = model.space_.schema.text
    assert text is not None
    length = text.length
    texts = [law.sample(length, seed=0, first=first) for first in range(n)]
    found = model.log_prob(texts)
    truth = np.array([law.log_prob(text) for text in texts])
    error = float((truth - found.values).mean()) / length / math.log(2)
    return AgainstLaw(bits_per_character(found.values, np.full(n, length)), law.floor(length), error, not found.is_exact)
