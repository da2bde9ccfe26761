"""Distances between sets against brute force, and figures of collections whose answer is known."""

import itertools

import numpy as np
import pytest

from pushforward.metrics.sets import chamfer, matching, set_figures

NUMBERS = np.random.default_rng(0)


def test_chamfer_is_the_mean_of_squared_distances_to_the_nearest_point_both_ways():
    x, y = NUMBERS.normal(size=(5, 3)), NUMBERS.normal(size=(7, 3))
    there = np.mean([min(np.sum((a - b) ** 2) for b in y) for a in x])
    back = np.mean([min(np.sum((a - b) ** 2) for a in x) for b in y])
    assert chamfer(x, y) == pytest.approx(there + back, rel=1e-12)


def test_matching_is_the_best_of_all_permutations():
    x, y = NUMBERS.normal(size=(5, 2)), NUMBERS.normal(size=(5, 2))
    best = min(
        np.mean([np.linalg.norm(a - y[j]) for a, j in zip(x, order, strict=True)]) for order in itertools.permutations(range(5))
    )
    assert matching(x, y) == pytest.approx(best, rel=1e-12)
    assert matching(x, y[::-1]) == pytest.approx(best, rel=1e-12)


def test_matching_repeats_the_points_of_the_smaller_set():
    x = NUMBERS.normal(size=(3, 2))
    assert matching(x, np.repeat(x, 2, axis=0)) == pytest.approx(0, abs=1e-12)


def test_copies_are_told_apart_from_fresh_sets_and_from_others():
    sets = NUMBERS.normal(size=(2, 40, 6, 2)) + 3 * NUMBERS.normal(size=(2, 40, 1, 2))
    copies = set_figures(sets[0] + 1e-9, sets[0])
    fresh = set_figures(sets[0], sets[1])
    far = set_figures(sets[0] + 100, sets[1])
    for space in ("Chamfer", "matching"):
        assert copies["1-NN accuracy", space].value == 0
        assert copies["coverage", space].value == 1
        assert copies["1-NN accuracy", space].p_value < 0.01
        assert copies["1-NN accuracy", space].side == "below"
        assert far["1-NN accuracy", space].value == 1
        assert far["1-NN accuracy", space].side == "above"
        assert fresh["1-NN accuracy", space].p_value > 0.05
        assert fresh["1-NN accuracy", space].low < 0.5 < fresh["1-NN accuracy", space].high


def test_the_order_of_points_and_absent_points_do_not_matter():
    sets = NUMBERS.normal(size=(2, 8, 6, 2))
    padded = np.concatenate((sets, np.full((2, 8, 1, 2), np.nan)), axis=2)
    assert set_figures(padded[0], sets[1][:, ::-1]) == set_figures(sets[0], sets[1])


def test_collections_of_different_numbers_are_refused():
    with pytest.raises(ValueError, match="equally many samples and reference sets, at least 3, not 4 and 5"):
        set_figures(np.zeros((4, 2, 2)), np.zeros((5, 2, 2)))
