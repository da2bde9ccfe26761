"""Markov texts: the stated entropies against sums over all strings, and the samples against the law."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from pushforward.data.builtin import markov_law
from pushforward.probability import MarkovText

LAW = MarkovText("abracadabra cab", order=2, lower=1, share=0.3)


def test_probabilities_of_all_strings_sum_to_one_and_their_entropy_is_the_floor():
    for length in (2, 4, 6):
        logs = np.array([LAW.log_prob("".join(text)) for text in itertools.product(sorted(set(LAW.source)), repeat=length)])
        p = np.exp(logs)
        assert p.sum() == pytest.approx(1, abs=1e-10)
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        assert LAW.floor(length) == pytest.approx(entropy / length, abs=1e-10)
        if length == 6:  # of a chain of order 2, each further letter adds the entropy rate
            assert LAW.floor(6) * 6 - LAW.floor(4) * 4 == pytest.approx(2 * LAW.entropy_rate, abs=1e-9)


def test_samples_follow_the_law():
    text = LAW.sample(40_000, seed=0)
    assert text[:100] == LAW.sample(100, seed=0)
    assert text != LAW.sample(40_000, seed=0, first=1)
    assert -LAW.log_prob(text) / len(text) / math.log(2) == pytest.approx(LAW.entropy_rate, abs=0.01)
    pairs, triples = (Counter(text[i : i + n] for i in range(len(text) - 2)) for n in (2, 3))
    for state in (state for state, count in pairs.items() if count > 2000):
        for letter, p in LAW.next_letters(state).items():
            assert triples[state + letter] / pairs[state] == pytest.approx(p, abs=0.04)


def test_what_the_source_excludes_has_probability_zero_and_wrong_arguments_are_refused():
    assert LAW.log_prob("zz") == -math.inf
    assert LAW.log_prob("abzz") == -math.inf
    for arguments, message in (((2, 2), "lower must be"), ((20, 1), "source must have more"), ((2, 1, 1.0), "share must be")):
        with pytest.raises(ValueError, match=message):
            MarkovText("abcab", *arguments)


def test_of_the_built_in_text_the_stated_entropy_rate_is_right():
    law = markov_law()
    assert law.entropy_rate == pytest.approx(1.645, abs=1e-3)
    text = law.sample(20_000, seed=5)
    assert -law.log_prob(text) / len(text) / math.log(2) == pytest.approx(law.entropy_rate, abs=0.03)
