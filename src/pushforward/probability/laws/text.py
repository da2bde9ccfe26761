r"""Texts whose law is known exactly: a Markov chain over letters, made from the counts of a source text.

With c_k(x | s) the share of the source's occurrences of the string s of length k that the letter x follows, the next letter
after the last m = ``order`` letters s has the law

    p(x | s) = (1 - r) c_m(x | s) + r c_l(x | the last l letters of s),        l = ``lower``,

and c_l alone where the source does not have s. The source is read in a circle, so that every string in it is followed by
something and the chain has one closed class of states. With its stationary law pi over states, the entropy rate is

    H = sum_s pi(s) sum_x -p(x | s) log p(x | s),

and no model of isolated blocks of L letters, which begin anywhere in a long text, can need less per letter than

    (h + (L - m) H) / L,        h = sum_s -pi(s) log pi(s),        L >= m.

References
----------
Claude Shannon. A mathematical theory of communication. Bell System Technical Journal, 1948.
"""

import bisect
import functools
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from pushforward.probability import noise

__all__ = ["MarkovText"]

_TOLERANCE, _MOST_STEPS = 1e-14, 10_000


@dataclass(frozen=True)
class MarkovText:
    """A law of texts: a Markov chain over letters, made from the counts of a source text.

    Parameters
    ----------
    source : str
        At least ``order`` + 1 letters.
    order : int
        Letters that the next one depends on.
    lower : int
        Letters that the part ``share`` of its law depends on, at least 0 and below ``order``.
    share : float
        r, from 0 to below 1; with 0 only what the source has can occur.

    >>> law = MarkovText("abracadabra", order=2, lower=1, share=0.5)
    >>> round(law.entropy_rate, 4), round(law.floor(32), 4)
    (0.7271, 0.7727)
    >>> law.sample(12, seed=0)
    'bracacaabrac'
    """

    source: str
    order: int = 4
    lower: int = 2
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.order:
            raise ValueError(f"lower must be at least 0 and below order={self.order}, got {self.lower}")
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be from 0 to below 1, got {self.share}")
        if len(self.source) <= self.order:
            raise ValueError(f"source must have more than order={self.order} letters, got {len(self.source)}")

    def next_letters(self, state: str) -> dict[str, float]:
        """Return the law of the letter that follows the last ``order`` letters."""
        high, low = self._counts
        law = _shares(low[state[self.order - self.lower :]])
        if state not in high:
            return law
        mixed = {letter: self.share * p for letter, p in law.items()} if self.share else {}
        for letter, p in _shares(high[state]).items():
            mixed[letter] = mixed.get(letter, 0.0) + (1 - self.share) * p
        return mixed

    @property
    def entropy_rate(self) -> float:
        """H in bits per letter."""
        rows = [sum(-p * math.log2(p) for p in self.next_letters(state).values()) for state in self._states]
        return float(self._stationary @ np.array(rows))

    def floor(self, length: int) -> float:
        """Return the entropy of a block of ``length`` letters, at least ``order``, in bits per letter."""
        if length < self.order:
            raise ValueError(f"length must be at least order={self.order}, got {length}")
        law = self._stationary[self._stationary > 0]
        return float((-(law * np.log2(law)).sum() + (length - self.order) * self.entropy_rate) / length)

    def sample(self, n: int, *, seed: int, first: int = 0) -> str:
        """Return a text of n letters, number ``first`` of this seed, which begins in the stationary law."""
        u = noise.uniform((n,), seed=seed, purpose="letters", rows=torch.tensor([first]), dtype=torch.float64)[0].tolist()
        start = int(np.searchsorted(self._stationary.cumsum(), u[0] * self._stationary.sum(), side="right"))
        state = list(self._states)[min(start, len(self._states) - 1)]
        letters, laws = list(state), self._cumulative
        for number in u[self.order :]:
            following, sums = laws[state]
            letter = following[min(bisect.bisect_right(sums, number), len(following) - 1)]
            letters.append(letter)
            state = state[1:] + letter
        return "".join(letters)[:n]

    def log_prob(self, text: str) -> float:
        """Return the log-probability in nats of a text of at least ``order`` letters that begins anywhere."""
        state = text[: self.order]
        if len(state) < self.order:
            raise ValueError(f"the text must have at least order={self.order} letters, got {len(text)}")
        if state not in self._states:
            return -math.inf
        total = math.log(self._stationary[self._states[state]])
        for letter in text[self.order :]:
            p = self.next_letters(state).get(letter, 0.0)
            if p == 0:
                return -math.inf
            total, state = total + math.log(p), state[1:] + letter
        return total

    @functools.cached_property
    def _counts(self) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
        def counted(length: int) -> dict[str, Counter[str]]:
            circle = self.source + self.source[: length + 1]
            counts: dict[str, Counter[str]] = defaultdict(Counter)
            for start in range(len(self.source)):
                counts[circle[start : start + length]][circle[start + length]] += 1
            return counts

        return counted(self.order), counted(self.lower)

    @functools.cached_property
    def _states(self) -> dict[str, int]:
        """The states that the source leads to, with their numbers."""
        first = self.source[: self.order]
        states, queue = {first: 0}, [first]
        for state in queue:
            for letter in self.next_letters(state):
                following = state[1:] + letter
                if following not in states:
                    states[following] = len(states)
                    queue.append(following)
        return states

    @functools.cached_property
    def _stationary(self) -> NDArray[np.float64]:
        states = self._states
        moves = [(states[s[1:] + x], i, p) for s, i in states.items() for x, p in self.next_letters(s).items()]
        to, start, chance = (np.array(part) for part in zip(*moves, strict=True))
        matrix = sparse.csr_array((chance, (to, start)), shape=(len(states), len(states)))
        law = np.full(len(states), 1 / len(states))
        for _ in range(_MOST_STEPS):
            following = (law + matrix @ law) / 2  # the mean also converges where the chain is periodic
            if np.abs(following - law).sum() < _TOLERANCE:
                break
            law = following
        return np.asarray(law / law.sum())

    @functools.cached_property
    def _cumulative(self) -> dict[str, tuple[list[str], list[float]]]:
        laws = {state: self.next_letters(state) for state in self._states}
        return {state: (list(law), list(itertools.accumulate(law.values()))) for state, law in laws.items()}


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {letter: count / total for letter, count in sorted(counts.items())}
