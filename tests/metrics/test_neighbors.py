"""Neighbors are those of a search in float64, copies have the distance 0, and a row is not its own neighbor."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import pushforward.metrics.neighbors as module
from pushforward.metrics.neighbors import nearest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 4])
def test_neighbors_are_those_of_all_distances(monkeypatch, dtype, k):
    monkeypatch.setattr(module, "_NUMBERS", 7 * 300)  # many blocks, the last one short
    generator = np.random.default_rng(0)
    A, B = generator.normal(size=(101, 5)).astype(dtype), generator.normal(size=(300, 5)).astype(dtype)
    distances, indices = nearest(A, B, k=k)
    truth = cdist(A.astype(float), B.astype(float))
    assert np.array_equal(indices, truth.argsort(1)[:, :k])
    assert np.allclose(distances, np.sort(truth, 1)[:, :k], rtol=1e-12)


def test_a_row_is_not_its_own_neighbor_in_any_block(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", 500)
    rows = np.random.default_rng(1).normal(size=(60, 3))
    distances, indices = nearest(rows, rows, k=2, exclude_self=True)
    truth = cdist(rows, rows)
    np.fill_diagonal(truth, np.inf)
    assert np.array_equal(indices, truth.argsort(1)[:, :2])
    assert distances.min() > 0


def test_copies_far_from_the_origin_have_the_distance_zero():
    rows = (1000 + np.random.default_rng(2).normal(size=(50, 200))).astype(np.float32)
    distances, indices = nearest(rows[::-1], rows)
    assert np.array_equal(indices[:, 0], np.arange(50)[::-1])
    assert np.all(distances == 0)


def test_of_equal_rows_the_first_is_named():
    assert nearest([[0.0]], [[1.0], [0.0], [0.0]], k=2)[1].tolist() == [[1, 2]]


@pytest.mark.parametrize(("k", "exclude_self", "most"), [(0, False, 3), (4, False, 3), (3, True, 2)])
def test_a_number_of_neighbors_that_is_not_there(k, exclude_self, most):
    with pytest.raises(ValueError, match=f"k must be from 1 to {most}, the number of rows to choose from, but is {k}"):
        nearest(np.zeros((3, 2)), np.zeros((3, 2)), k=k, exclude_self=exclude_self)


def test_rounding_of_large_numbers_does_not_choose_the_wrong_row():
    generator = np.random.default_rng(3)
    A, B = ((3000 + generator.normal(size=(100, 300))).astype(np.float32) for _ in range(2))
    assert np.array_equal(nearest(A, B)[1][:, 0], cdist(A.astype(float), B.astype(float)).argmin(1))
    A, B = A - 3000, B - 3000
    twins = np.repeat(B, 2, axis=0)
    twins[::2, 0] += 1e-6  # less than the product can tell
    assert np.array_equal(nearest(A, twins)[1][:, 0], cdist(A.astype(float), twins.astype(float)).argmin(1))


def test_rows_of_narrow_clusters_far_apart_have_their_own_neighbors():
    generator = np.random.default_rng(4)
    rows = (100 * generator.integers(-1, 2, (300, 1)) + 0.01 * generator.normal(size=(300, 2))).astype(np.float32)
    truth = cdist(rows.astype(float), rows.astype(float))
    np.fill_diagonal(truth, np.inf)
    distances, _ = nearest(rows, rows, k=3, exclude_self=True)
    assert np.allclose(distances, np.sort(truth, axis=1)[:, :3], rtol=1e-12)
