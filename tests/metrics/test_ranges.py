"""Values outside the seen range and on the most frequent value: counts by hand, tests by SciPy's."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.ranges import most_frequent, outside_range
from pushforward.metrics.relabel import compared_shares

GAP = float("nan")
SEEN = np.array([[0.0, 5.0, 1.0], [0.0, 6.0, 1.0], [2.0, 7.0, 1.0], [GAP, 8.0, 1.0]])


@pytest.mark.parametrize(("hits", "hits_of_rows"), [(3, 9), (30, 4), (0, 0), (7, 7)])
def test_shares_are_compared_by_fishers_test(hits, hits_of_rows):
    share, floor = compared_shares(np.arange(40) < hits, np.arange(60) < hits_of_rows)
    table = [[hits, 40 - hits], [hits_of_rows, 60 - hits_of_rows]]
    sides = {side: stats.fisher_exact(table, side).pvalue for side in ("greater", "less")}
    assert share.p_value == pytest.approx(min(1.0, 2 * min(sides.values())), rel=1e-9)
    assert share.side == ("above" if sides["greater"] <= sides["less"] else "below")
    assert (share.value, floor.value) == (hits / 40, hits_of_rows / 60)


def test_a_row_is_outside_by_any_of_its_columns_and_never_by_a_gap():
    samples = np.array([[0.0, 5.0, 1.0], [GAP, 8.0, 1.0], [-0.1, 5.0, 1.0], [2.1, 9.0, 1.0]])
    found = outside_range(samples, SEEN, SEEN)
    assert (found.samples.value, found.rows.value) == (0.5, 0.0)
    assert found.columns.tolist() == [0.5, 0.25, 0.0]
    assert outside_range(samples, SEEN, SEEN, [1]).samples.value == 0.25


def test_the_most_frequent_value_is_that_of_the_seen_rows():
    samples = np.array([[0.0, 5.0, 1.0], [1.0, 5.0, 1.0], [1.0, 5.0, 1.0], [1.0, 5.0, GAP]])
    (spike,) = most_frequent(samples, SEEN[:2], SEEN)  # nothing is frequent in column 1, and column 2 has one value alone
    assert (spike.column, spike.value, spike.samples.value, spike.rows.value) == (0, 0.0, 0.25, 1.0)
    assert most_frequent(samples, SEEN[:2], SEEN, least=0.6) == []
