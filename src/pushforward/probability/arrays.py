"""Conversion of array arguments to tensors, with checks of shape and values.

Every error names the argument, says what is wrong with it and what it must be.

>>> vector("b", [1, 2], 2, like=torch.zeros(1, dtype=torch.float32))
tensor([1., 2.])
"""

from collections.abc import Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ArrayLike", "Dims", "as_float_tensor", "check_finite", "deviations", "indices", "matrix", "vector"]

ArrayLike = Tensor | NDArray | Sequence | float  # type: ignore[type-arg]
Dims = int | Sequence[int] | Tensor | NDArray  # type: ignore[type-arg]


def as_float_tensor(value: ArrayLike) -> Tensor:
    """Return ``value`` as a floating-point tensor: floating tensors and arrays keep their dtype, the rest is float64.

    >>> as_float_tensor([1, 2]).dtype, as_float_tensor(np.float32([1, 2])).dtype
    (torch.float64, torch.float32)
    """
    try:
        tensor = torch.as_tensor(value) if hasattr(value, "dtype") else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"expected numbers, an array or a tensor, but got {type(value).__name__}") from error
    return tensor if tensor.is_floating_point() else tensor.double()


def vector(name: str, value: ArrayLike, length: int, *, like: Tensor) -> Tensor:
    """Return ``value`` as a finite tensor (length,) with the dtype and device of ``like``."""
    tensor = as_float_tensor(value).to(like)
    if tensor.shape != (length,):
        raise ValueError(f"{name} must have the shape ({length},), but has {tuple(tensor.shape)}")
    check_finite(name, tensor)
    return tensor


def matrix(name: str, value: ArrayLike, columns: int, *, like: Tensor) -> Tensor:
    """Return ``value`` as a finite tensor (M, columns) with the dtype and device of ``like``."""
    tensor = as_float_tensor(value).to(like)
    if tensor.ndim != 2 or tensor.shape[1] != columns:
        raise ValueError(f"{name} must have the shape (M, {columns}), but has {tuple(tensor.shape)}")
    check_finite(name, tensor)
    return tensor


def deviations(name: str, value: ArrayLike, length: int, *, like: Tensor) -> Tensor:
    """Return standard deviations, one for all entries or one for each, as a tensor (length,)."""
    tensor = as_float_tensor(value).to(like)
    if tensor.shape not in ((), (length,)):
        raise ValueError(
            f"{name} must be one standard deviation or {length} of them, but has the shape {tuple(tensor.shape)}; "
            "give correlated noise as Gaussian(mean, cov)"
        )
    tensor = tensor.expand(length)
    check_finite(name, tensor)
    if bool((tensor < 0).any()):
        bad = int((tensor < 0).nonzero()[0])
        raise ValueError(f"{name} is a standard deviation and at least 0, but entry {bad} is {tensor[bad].item():g}")
    return tensor


def indices(dims: Dims, dim: int, *, device: torch.device) -> Tensor:
    """Return distinct coordinates of R^dim as an int64 tensor.

    >>> indices(1, 3, device=torch.device("cpu"))
    tensor([1])
    """
    index = torch.as_tensor(dims, device=device)
    if index.numel() and (index.is_floating_point() or index.dtype == torch.bool):
        raise TypeError(f"dims must be integers, the numbers of coordinates, but is {dims!r}")
    if index.ndim > 1:
        raise ValueError(f"dims must be one integer or a list of them, but has the shape {tuple(index.shape)}")
    index = index.long().reshape(-1)
    numbers = index.tolist()
    for number in numbers:
        if not 0 <= number < dim:
            raise ValueError(f"dims must lie in 0 to {dim - 1}, but contains {number}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"dims must be distinct, but is {numbers}")
    return index


def check_finite(name: str, value: Tensor) -> None:
    """Raise a ``ValueError`` that names the first entry that is infinite or NaN."""
    if not bool(value.isfinite().all()):
        bad = tuple((~value.isfinite()).nonzero()[0].tolist())
        place = f"entry {bad[0] if len(bad) == 1 else bad}" if bad else "it"
        raise ValueError(f"{name} must be finite, but {place} is {value[bad].item():g}")
