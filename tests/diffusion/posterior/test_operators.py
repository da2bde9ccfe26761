"""Operators against NumPy and SciPy, adjoints by inner products, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from pushforward.diffusion import Blur, Downsample, Linear, Mask, Matrix, Projection, observe
from pushforward.probability import Gaussian

IMAGES = torch.randn(3, 2, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OPERATORS = [
    Mask(torch.arange(96).reshape(2, 8, 6) % 3 > 0),
    Downsample(2),
    Blur(1.3),
    Projection("height"),
    Projection("width"),
    Matrix(np.random.default_rng(0).normal(size=(5, 96))),
    Linear(lambda x: x.flip(-1).cumsum(-2)),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
@given(st.floats(-3, 3))
def test_linear_and_adjoint(operator, factor):
    one, two = IMAGES[:1], IMAGES[1:2]
    torch.testing.assert_close(operator(one + factor * two), operator(one) + factor * operator(two))
    v = torch.randn(operator(one).shape, dtype=torch.float64)
    torch.testing.assert_close((operator(one) * v).sum(), (one * operator.adjoint(v, one)).sum())


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
def test_each_row_by_itself_and_the_dtype_kept(operator):
    rows = operator(IMAGES)
    for i in range(3):
        torch.testing.assert_close(rows[i : i + 1], operator(IMAGES[i : i + 1]))
    single = operator(IMAGES.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), rows, atol=1e-5, rtol=1e-5)


def test_named_operators_are_what_they_say():
    x = IMAGES.numpy()
    np.testing.assert_allclose(Downsample(2)(IMAGES), x.reshape(3, 2, 4, 2, 3, 2).mean((3, 5)))
    np.testing.assert_allclose(Projection("height")(IMAGES)[:, :, 0], x.sum(2))
    np.testing.assert_allclose(Projection("width")(IMAGES)[..., 0], x.sum(3))
    blurred = x
    for axis in (2, 3):
        blurred = gaussian_filter1d(blurred, 1.3, axis=axis, mode="constant", truncate=5.9 / 1.3)
    np.testing.assert_allclose(Blur(1.3)(IMAGES), blurred, atol=2e-5)
    seen = OPERATORS[0].seen.numpy()
    np.testing.assert_array_equal(Mask(seen)(IMAGES), np.where(seen, x, 0))
    A = np.random.default_rng(1).normal(size=(5, 96))
    np.testing.assert_allclose(Matrix(A)(IMAGES), x.reshape(3, -1) @ A.T)


def test_an_observation_takes_constants_and_correlated_noise_off():
    """y - b - c measured with noise N(m, R) is L^-1 (y - b - c - m) with unit noise."""
    A, c, b = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([3.0, 1.0]), np.array([0.2, -0.1])
    mean, cov, y = np.array([0.3, -0.6]), np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([4.0, 2.0])
    seen = observe(Linear(lambda x: x @ torch.tensor(A).T + torch.tensor(c)), y, Gaussian(mean, cov), (2,), b)
    x = torch.randn(4, 2, dtype=torch.float64)
    white = np.linalg.inv(np.linalg.cholesky(cov))
    np.testing.assert_allclose(seen.residual(x), (y - b - c - mean - x.numpy() @ A.T) @ white.T)
    np.testing.assert_allclose(seen.std, 1.0)
    np.testing.assert_allclose(seen.matrix((2,)), white @ A)
    v = torch.randn(4, 2, dtype=torch.float64)
    np.testing.assert_allclose(seen.pull(v, x), v.numpy() @ white @ A)
    plain = observe(Matrix(A), y, [0.1, 0.0], (2,))
    np.testing.assert_allclose(plain.variance(x), [0.01, 0.0])
    np.testing.assert_allclose(plain.residual(x), y - x.numpy() @ A.T)


@pytest.mark.parametrize(
    ("A", "y", "noise", "message"),
    [
        (
            Matrix(np.eye(3)),
            [1.0] * 3,
            0.1,
            r"A has the shape \(3, 3\) .* rows of 3 elements, but the rows have 2, the shape \(2,\)",
        ),
        (
            Matrix(np.eye(2)),
            [1.0] * 3,
            0.1,
            r"y has the shape \(3,\), 3 entries, but A measures \(2,\) of a row of shape \(2,\), 2",
        ),
        (Matrix(np.eye(2)), [1.0, np.nan], 0.1, "y must be finite, but entry 1 is nan"),
        (Matrix(np.eye(2)), [1.0] * 2, -0.1, "noise is a standard deviation and at least 0, but entry 0 is -0.1"),
        (Matrix(np.eye(2)), [1.0] * 2, [0.1, -2.0], "at least 0, but entry 1 is -2"),
        (
            Matrix(np.eye(2)),
            [1.0] * 2,
            [0.1] * 3,
            r"noise must be one standard deviation or 2 of them, but has the shape \(3,\)",
        ),
        (Matrix(np.eye(2)), [1.0] * 2, Gaussian([0.0], 1.0), "noise lives in 1 dimensions, but y has 2 entries"),
        (
            Matrix([[1.0, 2.0], [2.0, 4.0]]),
            [1.0, 3.0],
            0.0,
            "no row meets all entries of y that have noise 0: the nearest misses",
        ),
        (Matrix([[0.0, 0.0]]), [1.0], 0.0, "no row meets all entries of y that have noise 0: the nearest misses one by 1;"),
        (Linear(torch.exp), [1.0] * 2, 0.1, r"A is not linear: A\(u - 2 v\) differs from A u - 2 A v by"),
        (Linear(torch.sum), [1.0], 0.1, r"A must map rows \(1, 2\) to measurements \(1, ...\), but gave \(\)"),
        (Mask([True]), [1.0] * 2, 0.1, r"the mask has the shape \(1,\), but the rows have \(2,\)"),
        (
            Downsample(2),
            [1.0],
            0.1,
            r"Downsample\(factor=2\) measures images \(C, H, W\), but the rows have the shape \(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(A, y, noise, message):
    with pytest.raises(ValueError, match=message):
        observe(A, y, noise, (2,))


def test_what_noise_allows_is_not_refused():
    """Measurements that depend on each other may agree, or differ by their noise."""
    twice = Matrix([[1.0, 2.0], [2.0, 4.0]])
    observe(twice, [1.0, 2.0], 0.0, (2,))
    observe(twice, [1.0, 3.0], [0.0, 0.1], (2,))
    observe(Mask([True, False]), [1.0, 5.0], 0.0, (2,))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"A must be a matrix \(M, D\), but has the shape \(2,\)"):
        Matrix([1.0, 2.0])
    with pytest.raises(ValueError, match=r"A must be finite, but entry \(0, 1\) is inf"):
        Matrix([[1.0, np.inf]])
    with pytest.raises(TypeError, match="a mask is an array of booleans, True where the element is known, got torch.int64"):
        Mask([1, 0])
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        Downsample(0)
    with pytest.raises(ValueError, match="factor=5 does not divide the images of 8 x 6 pixels"):
        Downsample(5)(IMAGES)
    with pytest.raises(ValueError, match="width of a blur must be positive, got 0.0"):
        Blur(0.0)
    with pytest.raises(ValueError, match="along must be 'height' or 'width', got 'depth'"):
        Projection("depth")
    with pytest.raises(ValueError, match="b has 3 entries, but y has 2"):
        observe(Matrix(np.eye(2)), [1.0, 2.0], 0.1, (2,), [1.0] * 3)
