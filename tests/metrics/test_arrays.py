"""Bad rows are refused before any work, with words that say what to do."""

import numpy as np
import pandas as pd
import pytest
import torch

from pushforward.metrics.arrays import as_rows, pair, subset


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros((1, 2)), ValueError, "samples must be at least 2 rows for this figure, but there are 1"),
        (np.zeros(3), ValueError, r"shape \(n, ...\) with one row per sample, but has \(3,\)"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), ValueError, "samples must be finite, but row 1 holds nan"),
        (np.array([[1.0, -np.inf], [3.0, 0.0]]), ValueError, "row 0 holds -inf"),
        (np.array([["a", "b"], ["c", "d"]]), TypeError, "samples must be numbers, but their dtype is <U1"),
        (np.zeros((3, 5)), ValueError, "same number of columns, but they have 5 and 2"),
        (np.zeros((3, 0)), ValueError, "at least one column"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_refused(values, error, message):
    with pytest.raises(error, match=message):
        pair(values, np.zeros((2, 2)))


def test_the_second_set_is_checked_as_the_first():
    with pytest.raises(ValueError, match="reference rows must be finite, but row 2 holds inf"):
        pair(np.zeros((3, 1)), np.array([[0.0], [0.0], [np.inf]]))


def test_numbers_pass_without_loss():
    small, large = np.array([[255]], dtype=np.uint8), np.array([[2**40 + 1]])
    assert as_rows(small).dtype == np.float32
    assert as_rows(large).dtype == np.float64
    assert as_rows(large)[0, 0] == 2**40 + 1
    left, right = pair(np.zeros((2, 1), np.float32), np.zeros((2, 1)))
    assert left.dtype == right.dtype == np.float64
    assert as_rows(torch.ones(2, 3, 4)).shape == (2, 12)
    assert as_rows(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})).tolist() == [[1, 0.5], [2, 1.5]]


def test_a_subset_has_different_rows_and_all_of_them_if_they_are_few():
    rows = np.arange(100.0)[:, None]
    assert subset(rows, 100, np.random.default_rng(0)) is rows
    drawn = subset(rows, 40, np.random.default_rng(0))
    assert len(np.unique(drawn)) == 40
    assert np.array_equal(drawn, subset(rows, 40, np.random.default_rng(0)))
