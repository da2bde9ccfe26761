"""Measures of texts against slow searches and SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from pushforward.metrics.text import bits_per_character, distinct_share, longest_copies, ngram_divergence


def words(seed, n=12, length=9, letters="ab c"):
    numbers = np.random.default_rng(seed)
    return ["".join(numbers.choice(list(letters), numbers.integers(1, length))) for _ in range(n)]


def test_longest_copies_are_those_of_a_search():
    texts, training = [*words(0), "", "é𝄞x"], [*words(1), "zé𝄞"]

    def search(text):
        strings = (text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1))
        return max((len(string) for string in strings if any(string in known for known in training)), default=0)

    assert longest_copies(texts, training).tolist() == [search(text) for text in texts]


def test_divergence_is_the_square_of_jensen_shannons_distance():
    one, two = words(0, 30), words(1, 30)
    keys = sorted({text[i : i + 2] for text in one + two for i in range(len(text) - 1)})
    counts = [
        [sum(text[i : i + 2] == key for text in texts for i in range(len(text) - 1)) for key in keys] for texts in (one, two)
    ]
    assert ngram_divergence(one, two, 2).value == pytest.approx(jensenshannon(*counts, base=2) ** 2, abs=1e-12)
    with pytest.raises(ValueError, match=r"no strings of 20 characters"):
        ngram_divergence(one, two, 20)


def test_repetition_lowers_the_distinct_share():
    assert distinct_share(["abcabcabc"], 3).value == pytest.approx(3 / 7)
    assert distinct_share(["abcd"], 2).value == 1


def test_the_interval_of_bits_per_character_covers_the_truth():
    """Of 400 means of a ratio with a known value, about 95 % of the intervals cover it."""
    numbers, covered = np.random.default_rng(0), 0
    for _ in range(400):
        characters = numbers.integers(20, 60, 100)
        bits = 2 * characters + numbers.normal(size=100) * np.sqrt(characters)
        found = bits_per_character(-bits * np.log(2), characters)
        covered += found.low < 2 < found.high
    assert 0.91 < covered / 400 < 0.98
