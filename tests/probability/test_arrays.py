"""Arguments become tensors of the right dtype and shape, or an error that says which number is wrong."""

import numpy as np
import pytest
import torch

from pushforward.probability.arrays import as_float_tensor, deviations, indices, matrix, vector

LIKE = torch.zeros(1, dtype=torch.float32)
CPU = torch.device("cpu")


def test_dtypes_are_kept_where_they_are_floating():
    assert as_float_tensor([1, 2]).dtype == torch.float64
    assert as_float_tensor(np.arange(3)).dtype == torch.float64
    assert as_float_tensor(np.ones(3, np.float32)).dtype == torch.float32
    assert as_float_tensor(torch.ones(3, dtype=torch.float32)).dtype == torch.float32
    assert vector("b", [1.0], 1, like=LIKE).dtype == torch.float32
    assert matrix("A", np.eye(2), 2, like=LIKE).dtype == torch.float32


def test_one_deviation_stands_for_all():
    assert deviations("noise", 0.5, 3, like=LIKE).tolist() == [0.5] * 3
    assert deviations("noise", [0.0, 2.0], 2, like=LIKE).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("dims", [[2, 0], (2, 0), np.array([2, 0]), torch.tensor([2, 0])])
def test_dims_of_any_kind(dims):
    assert indices(dims, 3, device=CPU).tolist() == [2, 0]
    assert indices(range(2), 3, device=CPU).tolist() == [0, 1]
    assert indices(2, 3, device=CPU).tolist() == [2]
    assert indices([], 3, device=CPU).dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: as_float_tensor(object()), TypeError, "an array or a tensor, but got object"),
        (lambda: vector("y", [1.0], 2, like=LIKE), ValueError, r"y must have the shape \(2,\), but has \(1,\)"),
        (lambda: vector("y", [1.0, np.nan], 2, like=LIKE), ValueError, "y must be finite, but entry 1 is nan"),
        (lambda: matrix("A", [1.0, 2.0], 2, like=LIKE), ValueError, r"A must have the shape \(M, 2\), but has \(2,\)"),
        (lambda: matrix("A", [[1.0, 2.0]], 3, like=LIKE), ValueError, r"A must have the shape \(M, 3\), but has \(1, 2\)"),
        (lambda: matrix("A", [[1.0, -np.inf]], 2, like=LIKE), ValueError, r"A must be finite, but entry \(0, 1\) is -inf"),
        (lambda: deviations("noise", [0.1, -0.2], 2, like=LIKE), ValueError, r"at least 0, but entry 1 is -0\.2"),
        (
            lambda: deviations("noise", np.eye(2), 2, like=LIKE),
            ValueError,
            r"shape \(2, 2\); give correlated noise as Gaussian",
        ),
        (lambda: deviations("noise", np.nan, 2, like=LIKE), ValueError, "noise must be finite, but entry 0 is nan"),
        (lambda: indices([0, 3], 3, device=CPU), ValueError, "dims must lie in 0 to 2, but contains 3"),
        (lambda: indices(-1, 3, device=CPU), ValueError, "dims must lie in 0 to 2, but contains -1"),
        (lambda: indices([1, 1], 3, device=CPU), ValueError, r"dims must be distinct, but is \[1, 1\]"),
        (lambda: indices([[0, 1]], 3, device=CPU), ValueError, r"one integer or a list of them, but has the shape \(1, 2\)"),
        (lambda: indices([True, False], 2, device=CPU), TypeError, r"dims must be integers, .* but is \[True, False\]"),
        (lambda: indices([0.5], 2, device=CPU), TypeError, r"dims must be integers, .* but is \[0\.5\]"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
