r"""Measures of texts: bits per character, laws of n-grams, copies from training, and repetition.

With P_n and Q_n the laws of n-grams, the strings of n characters, of two sets of texts, their divergence is that of Jensen and
Shannon in bits,

    D_n = 1/2 KL(P_n || M) + 1/2 KL(Q_n || M),      M = (P_n + Q_n) / 2,      0 <= D_n <= 1.

Two sets of one law have a divergence above 0, the more so the longer the n-grams and the fewer the texts; compare only sets of
equal size.

The longest copy of a text is the length of its longest substring that is also one of a training text. The distinct share is the
number of different n-grams in texts by the number of all; texts that repeat themselves, or each other, have a small one.

References
----------
Jianhua Lin. Divergence measures based on the Shannon entropy. IEEE Transactions on Information Theory, 1991.
Jiwei Li et al. A diversity-promoting objective function for neural conversation models. NAACL 2016.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pushforward.metrics.measure import Measure

__all__ = ["bits_per_character", "distinct_share", "longest_copies", "ngram_divergence"]

_Z = 1.96
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def bits_per_character(log_prob: ArrayLike, characters: ArrayLike) -> Measure:
    """Return the bits that texts need per character, from their log-probabilities in nats (N,) and lengths (N,).

    It is the quotient of two sums, and its interval that of a ratio estimator: 1.96 standard errors over texts.

    >>> bits_per_character(np.full(4, -2 * np.log(2)), np.full(4, 2)).value
    1.0
    """
    bits, count = -np.asarray(log_prob, dtype=np.float64) / math.log(2), np.asarray(characters, dtype=np.float64)
    ratio, n = float(bits.sum() / count.sum()), len(bits)
    if n < 2 or not np.isfinite(bits).all():
        return Measure.exact(ratio, n)
    error = _Z * float(np.sqrt(((bits - ratio * count) ** 2).sum() / (n - 1) / n)) / float(count.mean())
    return Measure(ratio, ratio - error, ratio + error, n)


def ngram_divergence(texts: Sequence[str], others: Sequence[str], n: int) -> Measure:
    """Return the divergence of the laws of n-grams of two sets of texts, in bits, from 0 to 1.

    >>> ngram_divergence(["abab"], ["cdcd"], 2).value, ngram_divergence(["abab"], ["abab"], 2).value
    (1.0, 0.0)
    """
    one, two = _ngrams(texts, n), _ngrams(others, n)
    keys = list(one | two)
    p, q = (np.array([counts[key] for key in keys], dtype=float) for counts in (one, two))
    if not p.sum() or not q.sum():
        raise ValueError(f"the texts have no strings of {n} characters; give longer texts")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    halves = [float((law[law > 0] * np.log2(law[law > 0] / middle[law > 0])).sum()) / 2 for law in (p, q)]
    return Measure.exact(min(max(sum(halves), 0.0), 1.0), len(texts))


def distinct_share(texts: Sequence[str], n: int) -> Measure:
    """Return the number of different n-grams by the number of all.

    >>> distinct_share(["aaaa", "abcd"], 2).value
    0.6666666666666666
    """
    counts = _ngrams(texts, n)
    if not counts:
        raise ValueError(f"the texts have no strings of {n} characters; give longer texts")
    return Measure.exact(len(counts) / sum(counts.values()), len(texts))


def longest_copies(texts: Sequence[str], training: Sequence[str]) -> NDArray[np.int64]:
    """Return the length of the longest substring of each text that is also in a training text, (N,).

    >>> longest_copies(["xbcdx", "zzz"], ["abcde", "yx"]).tolist()
    [3, 0]
    """
    letters, known = _joined(texts), _joined(training)
    owner = np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])
    longest = np.zeros(len(texts), dtype=np.int64)
    # Hashes of all strings of a length come from those of one letter less; zeros stand between texts and match nothing.
    hashes, known_hashes = np.zeros(len(letters), dtype=np.uint64), np.zeros(len(known), dtype=np.uint64)
    for length in range(1, max(map(len, texts), default=0) + 1):
        hashes = _longer(hashes, letters, length)
        known_hashes = _longer(known_hashes, known, length)
        inside, known_inside = _within(letters, length), _within(known, length)
        found = np.isin(hashes[: len(inside)][inside], known_hashes[: len(known_inside)][known_inside])
        if not found.any():
            break
        longest[np.unique(owner[: len(inside)][inside][found])] = length
    return longest


def _ngrams(texts: Sequence[str], n: int) -> Counter[str]:
    return Counter(text[start : start + n] for text in texts for start in range(len(text) - n + 1))


def _joined(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the code points of texts, with a zero after each text."""
    joined = "\x00".join(texts) + "\x00"
    codes: NDArray[np.uint64] = np.frombuffer(joined.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32).astype(
        np.uint64
    )
    return codes


def _longer(hashes: NDArray[np.uint64], letters: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return the hashes of the strings of ``length`` letters that begin at each place, from those of one less."""
    last = letters[length - 1 :]
    kept = hashes[: len(last)]
    mixed = (kept ^ last) * _FACTOR
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def _within(letters: NDArray[np.uint64], length: int) -> NDArray[np.bool_]:
    """Return whether the strings of ``length`` letters that begin at each place lie inside a text."""
    ends = np.concatenate([[0], np.cumsum(letters == 0)])
    return np.asarray(ends[length:] == ends[:-length])
