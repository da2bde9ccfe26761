"""Gaussians give the closed forms, with the stated bias and interval, whether or not the covariances have full rank."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pushforward.metrics.frechet import _map, frechet_distance, kernel_distance


def _normal(n, dim, seed):
    return np.random.default_rng(seed).normal(size=(n, dim))


def test_the_distance_is_that_of_the_matrix_root():
    P, Q = _normal(50, 4, 0) @ _normal(4, 4, 1), _normal(70, 4, 2) + 1
    a, b, A, B = P.mean(0), Q.mean(0), np.cov(P.T), np.cov(Q.T)
    truth = ((a - b) ** 2).sum() + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert math.isclose(frechet_distance(P, Q).value, truth, rel_tol=1e-7)
    assert math.isclose(frechet_distance(Q, P).value, truth, rel_tol=1e-7)


def test_a_shift_gives_its_square_and_two_widths_the_square_of_their_difference():
    rows = _normal(100, 3, 0)
    assert math.isclose(frechet_distance(rows + np.array([1.0, 2.0, 2.0]), rows).value, 9.0, rel_tol=1e-9)
    deviations = rows.std(0, ddof=1)
    assert math.isclose(
        frechet_distance(3 * (rows - rows.mean(0)), rows - rows.mean(0)).value, 4 * (deviations**2).sum(), rel_tol=1e-7
    )


def test_the_bias_for_equal_laws_is_the_stated_one():
    n, m, dim = 400, 600, 8
    values = [frechet_distance(_normal(n, dim, s), _normal(m, dim, 100 + s), test=False).value for s in range(40)]
    stated = (1 / n + 1 / m) * (dim + dim * (dim + 1) / 4)
    assert abs(np.mean(values) / stated - 1) < 0.1


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_interval_is_that_of_repeated_draws(scale):
    results = [frechet_distance(scale * _normal(300, 3, s) + 0.2, _normal(400, 3, 500 + s), test=False) for s in range(100)]
    values = np.array([result.value for result in results])
    width = np.mean([result.high - result.value for result in results]) / 1.959964
    assert 0.8 < width / values.std() < 1.5
    assert np.mean([result.low <= values.mean() <= result.high for result in results]) > 0.85
    assert results[0].n == 300


def test_covariances_without_full_rank():
    rows = _normal(60, 2, 0)
    flat = np.column_stack([rows, np.full(60, 7.0), rows.sum(1)])  # a constant column, and one that depends on others
    assert math.isclose(frechet_distance(flat + np.array([0, 0, 2.0, 0]), flat).value, 4.0, rel_tol=1e-6)
    line = np.column_stack([rows[:, 0], np.zeros(60)])
    found = frechet_distance(line, rows).value
    A, B = np.cov(line.T), np.cov(rows.T)
    truth = rows[:, 1].mean() ** 2 + np.trace(A + B) - 2 * math.sqrt(A[0, 0] * B[0, 0])
    assert math.isclose(found, truth, rel_tol=1e-3)
    assert frechet_distance(np.ones((5, 3)), np.ones((4, 3))).value == 0.0
    assert math.isclose(frechet_distance(np.ones((5, 3)), np.zeros((4, 3))).value, 3.0, rel_tol=1e-9)
    few = frechet_distance(_normal(5, 50, 0), _normal(6, 50, 1))  # fewer rows than features
    assert few.low <= few.value <= few.high


def test_the_kernel_distance_of_shifted_gaussians():
    # E (1 + x y)^3 for independent x ~ N(a, 1), y ~ N(b, 1): moments 1, m, m^2 + 1, m^3 + 3 m.
    def expected(a, b):
        moments = [[1, m, m**2 + 1, m**3 + 3 * m] for m in (a, b)]
        return sum(math.comb(3, power) * moments[0][power] * moments[1][power] for power in range(4))

    truth = expected(0.5, 0.5) + expected(0, 0) - 2 * expected(0.5, 0)
    results = [kernel_distance(_normal(400, 1, s) + 0.5, _normal(300, 1, 900 + s), test=False) for s in range(60)]
    values = np.array([result.value for result in results])
    assert abs(values.mean() - truth) < 4 * values.std() / 60**0.5
    assert np.mean([result.low <= truth <= result.high for result in results]) > 0.85


def test_the_kernel_distance_of_equal_laws_is_zero_on_average():
    values = [kernel_distance(_normal(50, 5, s), _normal(50, 5, 300 + s), test=False).value for s in range(60)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 60**0.5
    assert min(values) < 0


def test_the_kernel_distance_sees_skewness_and_frechet_does_not():
    generator = np.random.default_rng(0)
    skewed, even = generator.exponential(size=(3000, 1)) - 1, generator.normal(size=(3000, 1))
    skewed = (skewed - skewed.mean()) / skewed.std() * even.std() + even.mean()
    assert frechet_distance(skewed, even).value < 1e-9
    assert kernel_distance(skewed, even).low > 0


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="samples must be at least 2 rows"):
        frechet_distance(np.zeros((1, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="reference rows must be at least 3 rows"):
        kernel_distance(np.zeros((4, 2)), np.zeros((2, 2)))


def test_the_map_of_the_interval_takes_one_covariance_to_the_other():
    A, B = (np.cov(_normal(20, 4, seed).T) for seed in (0, 1))
    M = _map(A, B)
    assert np.allclose(M, M.T)
    assert np.allclose(M @ A @ M, B)
