"""Counts as callers give them."""

import numpy as np
import pytest

from pushforward.probability.counts import check_count


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_any_kind_become_ints(value):
    assert type(check_count("n", value)) is int
    assert check_count("n", value) == 3


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (True, TypeError, "n must be an integer, got True"),
        (2.0, TypeError, "n must be an integer, got 2.0"),
        ("3", TypeError, "n must be an integer, got '3'"),
        (None, TypeError, "n must be an integer, got None"),
        (1, ValueError, "n must be at least 2, got 1"),
    ],
)
def test_anything_else_is_refused_by_name(value, error, said):
    with pytest.raises(error, match=said):
        check_count("n", value, 2)
