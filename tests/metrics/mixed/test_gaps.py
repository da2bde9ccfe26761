"""Patterns of gaps, and combinations of categories, against counts by hand."""

import itertools

import numpy as np
import pytest

from pushforward.metrics.mixed.combinations import unseen_combinations
from pushforward.metrics.mixed.gaps import gap_patterns
from pushforward.probability.domain import Domain


def with_gaps(seed, n, width, rate):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, (n, width)).astype(float)
    rows[rng.random((n, width)) < rate] = np.nan
    return rows


@pytest.mark.parametrize("width", [3, 11])
def test_rates_pairs_and_the_variation_of_patterns_are_those_of_a_count(width):
    P, Q = with_gaps(0, 60, width, 0.3), with_gaps(1, 90, width, 0.2)
    found = gap_patterns(P, Q, (Domain("real"),) * width)
    a, b = np.isnan(P), np.isnan(Q)
    assert [rate.value for rate in found.sampled] == pytest.approx(a.mean(axis=0).tolist())
    assert [rate.value for rate in found.real] == pytest.approx(b.mean(axis=0).tolist())
    assert found.sampled_pairs[0, 2] == pytest.approx((a[:, 0] & a[:, 2]).mean())
    assert found.real_pairs[1, 2] == pytest.approx((b[:, 1] & b[:, 2]).mean())
    lists = [list(map(tuple, part.tolist())) for part in (a, b)]
    patterns = set(lists[0]) | set(lists[1])
    truth = sum(abs(lists[0].count(s) / 60 - lists[1].count(s) / 90) for s in patterns) / 2
    assert found.variation.value == pytest.approx(truth, abs=1e-12)
    assert found.invented.value == pytest.approx(np.mean([s not in lists[1] for s in lists[0]]))


def test_gaps_that_should_go_together_are_seen_although_their_rates_are_right():
    rng = np.random.default_rng(0)
    Q, P = np.zeros((2, 2000, 2))
    Q[rng.random(2000) < 0.3] = np.nan
    P[rng.random((2000, 2)) < 0.3] = np.nan
    found = gap_patterns(P, Q, (Domain("real"),) * 2)
    assert found.sampled[0].low < found.real[0].value < found.sampled[0].high
    assert found.variation.low < 0.42 < found.variation.high  # 2 . 0.3 . 0.7


def test_unseen_combinations_are_those_of_a_search():
    P, Q = (np.column_stack([with_gaps(s, n, 3, 0.1), np.arange(n)]) for s, n in ((0, 80), (1, 12)))
    domains = (*[Domain("category", 0, 1)] * 3, Domain("real"))
    found = unseen_combinations(P, Q, domains)
    rows, seen = P[:, :3].astype(str).tolist(), Q[:, :3].astype(str).tolist()
    unseen = {
        (i, j): [(row[i], row[j]) not in {(other[i], other[j]) for other in seen} for row in rows]
        for i, j in itertools.combinations(range(3), 2)
    }
    for (i, j), flags in unseen.items():
        assert found.pairs[i, j] == found.pairs[j, i] == pytest.approx(np.mean(flags))
    assert found.rows.value == pytest.approx(np.mean(np.any(list(unseen.values()), axis=0)))
    assert np.isnan(found.pairs[3]).all()
    assert unseen_combinations(Q, Q, domains).rows.value == 0
    with pytest.raises(ValueError, match="need two columns of categories, but there is 1"):
        unseen_combinations(P[:, 2:], Q[:, 2:], domains[2:])
