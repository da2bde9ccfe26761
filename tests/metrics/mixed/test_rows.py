"""What is no mixed row is refused, with its place."""

import numpy as np
import pytest

from pushforward.metrics.mixed.rows import as_mixed, level_numbers
from pushforward.probability.domain import Domain

DOMAINS = (Domain("category", 0, 2), Domain("real"))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([[0, 1.0], [1.5, 2.0]], ValueError, "column 0 of rows has the levels 0 to 2, but row 1 holds 1.5"),
        ([[0, 1.0], [3, 2.0]], ValueError, "row 1 holds 3"),
        ([[-1, 1.0]], ValueError, "row 0 holds -1"),
        ([[0, np.inf]], ValueError, "row 0 holds inf in column 1"),
        ([[0, 1.0, 2.0]], ValueError, r"shape \(n, 2\)"),
        ([0, 1.0], ValueError, r"shape \(n, 2\)"),
        ([["a", "b"]], TypeError, "number of the level"),
        (np.zeros((0, 2)), ValueError, "at least 1 rows for this figure, but there are 0"),
    ],
)
def test_what_is_no_mixed_row_is_refused(rows, error, message):
    with pytest.raises(error, match=message):
        as_mixed(rows, DOMAINS)


def test_rows_are_copied_and_gaps_kept():
    given = np.array([[0.0, np.nan], [np.nan, 2.0]])
    found = as_mixed(given, DOMAINS)
    found[:] = 1
    assert np.isnan(given[0, 1])
    assert level_numbers(given[:, 0], DOMAINS[0]).tolist() == [0, 3]
