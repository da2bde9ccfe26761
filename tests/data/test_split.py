import pytest
import torch

from pushforward.data import split_rows


@pytest.mark.parametrize(
    ("n", "fraction", "held"),
    [(100, 0.1, 10), (100, 0.0, 0), (5, 0.01, 1), (2, 0.9, 1), (1, 0.5, 0), (3, 0.99, 2), (1797, 0.1, 180)],
)
def test_every_row_is_on_one_side(n, fraction, held):
    train, held_out = split_rows(n, fraction, seed=3)
    assert len(held_out) == held
    assert torch.equal(torch.cat((train, held_out)).sort().values, torch.arange(n))
    for side in (train, held_out):
        assert side.dtype == torch.int64
        assert torch.equal(side, side.sort().values)


def test_the_split_depends_on_the_seed_alone():
    first, second, other = (split_rows(1000, 0.2, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    # Two independent fifths share a fifth of their rows: 40 of 200, with a standard deviation of 5.1.
    shared = int(torch.isin(first, other).sum())
    assert 15 < shared < 65
    # Rows are drawn from all over: the mean row number is 500, with a standard deviation of 18.
    assert abs(float(first.double().mean()) - 499.5) < 90


@pytest.mark.parametrize(
    ("n", "fraction", "message"), [(0, 0.1, "n must be at least 1"), (5, 1.0, r"\[0, 1\), not 1.0"), (5, -0.1, r"\[0, 1\)")]
)
def test_wrong_splits_are_refused(n, fraction, message):
    with pytest.raises(ValueError, match=message):
        split_rows(n, fraction, 0)
