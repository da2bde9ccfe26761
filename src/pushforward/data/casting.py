"""Numbers in the dtypes of containers: which are integers, what they can hold, and conversion of arrays and tensors to them."""

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Values, is_frame

__all__ = ["cast_array", "cast_tensor", "is_dtype", "is_integer", "limits_of", "refuse_non_finite", "to_tensor"]


def is_integer(dtype: str) -> bool:
    """Whether a dtype with this name, of NumPy, torch or pandas, holds integers or booleans."""
    lowered = dtype.lower()
    if lowered[:1] in "<>=|" and lowered[:1]:
        return lowered[1] in "iub"
    return lowered.startswith(("int", "uint", "bool"))


def is_dtype(name: object, container: str) -> bool:
    """Whether a container can hold numbers of the dtype with this name, such as "float32", or "Int64" in a DataFrame."""
    if not isinstance(name, str):
        return False
    if container == "torch":
        return isinstance(getattr(torch, name, None), torch.dtype) and not getattr(torch, name).is_complex
    if container == "pandas":
        name = "bool" if name.lower().startswith("bool") else name.lower().split("[")[0]
    try:
        return np.dtype(name).kind in "iubf"
    except TypeError:
        return False


def limits_of(dtype: str) -> tuple[float, float]:
    """Return the smallest and the largest integer of a dtype; infinite for real numbers."""
    if not is_integer(dtype):
        return -math.inf, math.inf
    if "bool" in dtype.lower():
        return 0.0, 1.0
    limits = np.iinfo(np.dtype(dtype.lower().split("[")[0]))
    return float(limits.min), float(limits.max)


def to_tensor(values: Values, dtype: torch.dtype) -> Tensor:
    """Return a copy of values in any container as a tensor of float32 or float64, NaN in gaps."""
    if isinstance(values, Tensor):
        return values.to(dtype, copy=True)
    numpy_dtype = np.float32 if dtype == torch.float32 else np.float64
    array = cast(Any, values).to_numpy(dtype=numpy_dtype, na_value=np.nan) if is_frame(values) else cast(np.ndarray, values)
    return torch.from_numpy(np.array(array, dtype=numpy_dtype, order="C"))


def refuse_non_finite(array: np.ndarray) -> None:
    """Raise a ValueError if numbers that are to be integers are NaN or infinite."""
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise ValueError(f"{count} values are NaN or infinite and have no integer value; the samples have diverged.")


def cast_array(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return floats in a dtype: clipped to its finite range, for integers also rounded to the nearest."""
    if dtype.kind not in "iub":
        top = np.finfo(dtype).max
        return array.clip(-top, top).astype(dtype) if np.finfo(array.dtype).max > top else array.astype(dtype)
    refuse_non_finite(array)
    if dtype.kind == "b":
        return np.asarray(np.rint(array) > 0)
    limits = np.iinfo(dtype)
    wide = np.rint(array.astype(np.float64))
    # Float64 cannot hold the largest 64-bit integers; use the nearest number below.
    top = float(limits.max) if limits.bits < 64 else np.nextafter(float(limits.max), 0.0)
    return np.asarray(np.clip(wide, float(limits.min), top).astype(dtype))


def cast_tensor(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return floats in a dtype, as :func:`cast_array` does."""
    if dtype.is_floating_point:
        return rows.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
    name = str(dtype).removeprefix("torch.")
    return torch.from_numpy(np.ascontiguousarray(cast_array(rows.numpy(), np.dtype(name))))
