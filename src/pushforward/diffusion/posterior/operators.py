r"""Linear measurements of rows: y = A x + b + noise.

An operator maps rows x (B, *D) to measurements (B, *M), linearly and row by row. Its adjoint is the pullback,

    <A x, v> = <x, A^T v>,

which automatic differentiation computes for every operator, so a new operator is only a function. Rows are vectors (B, D) or
images (B, C, H, W); measurements of images are images.

Noise is Gaussian with mean 0 (another mean is subtracted from y) and independent of x: a standard deviation, one per entry of
y, or a :class:`~pushforward.probability.Gaussian`, whose covariance R = L L^T is removed by measuring L^-1 y instead.
"""

import abc
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite, deviations
from pushforward.probability.counts import check_count
from pushforward.probability.laws.gaussian import Gaussian

__all__ = [
    "Blur",
    "Downsample",
    "Linear",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Observation",
    "Projection",
    "observe",
    "pullback",
]

_LARGEST_MATRIX = 10**6  # entries of a matrix whose least squares take less than a second


def pullback(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return ``function(x)``, and the product of its transposed Jacobian at x with any tensor like the value."""
    result: Any = torch.func.vjp(function, x)
    value, pull = result
    return value, lambda v: pull(v)[0]


class LinearOperator(CheckedFields, abc.ABC):
    """A linear map of rows; a new one defines ``__call__``."""

    @abc.abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return A x, (B, *M), for rows x (B, *D), differentiable in x."""

    def around(self, x: Tensor) -> "LinearOperator":
        """Return the derivative of the operator at rows x (B, *D): the operator itself, unless it is only nearly linear."""
        return self

    def adjoint(self, y: Tensor, like: Tensor) -> Tensor:
        """Return A^T y, with the shape of the rows ``like`` (B, *D)."""
        value, pull = pullback(self, torch.zeros_like(like))
        return pull(y.reshape(value.shape).to(value))


@dataclass(frozen=True, eq=False)
class Matrix(LinearOperator):
    """A matrix times the flattened row.

    Parameters
    ----------
    A : array (M, D)

    >>> Matrix([[1.0, 1.0]])(torch.tensor([[2.0, 3.0]]))
    tensor([[5.]])
    """

    A: Tensor

    def __init__(self, A: ArrayLike) -> None:
        A = as_float_tensor(A)
        if A.ndim != 2 or not A.numel():
            raise ValueError(f"A must be a matrix (M, D), but has the shape {tuple(A.shape)}")
        check_finite("A", A)
        object.__setattr__(self, "A", A)

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x."""
        flat = x.flatten(1)
        if flat.shape[1] != self.A.shape[1]:
            raise ValueError(
                f"A has the shape {tuple(self.A.shape)} and so measures rows of {self.A.shape[1]} elements, "
                f"but the rows have {flat.shape[1]}, the shape {tuple(x.shape[1:])}"
            )
        return flat @ self.A.to(flat).mT


@dataclass(frozen=True, eq=False)
class Linear(LinearOperator):
    """Any differentiable function of rows that is linear, or affine with its constant subtracted.

    Parameters
    ----------
    function : callable
        ``function(x)`` maps (B, *D) to (B, *M), each row independently.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Return function(x)."""
        return self.function(x)


@dataclass(frozen=True, eq=False)
class Mask(LinearOperator):
    """Inpainting: some elements of a row are seen. The measurement keeps the row's shape, with 0 for unseen elements.

    Parameters
    ----------
    seen : bool array (*D) or, one for each row, (B, *D)
        True where the element is known.

    >>> Mask([True, False])(torch.tensor([[2.0, 3.0]]))
    tensor([[2., 0.]])
    """

    seen: Tensor

    def __init__(self, seen: Tensor | Sequence[bool]) -> None:
        what = "a mask is an array of booleans, True where the element is known"
        try:
            mask = torch.as_tensor(seen)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{what}, got {seen!r}") from None
        if mask.dtype != torch.bool:
            raise TypeError(f"{what}, got {mask.dtype}; write mask > 0")
        object.__setattr__(self, "seen", mask)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x where it is seen, and 0 elsewhere."""
        if tuple(self.seen.shape) not in (tuple(x.shape[1:]), tuple(x.shape)):
            raise ValueError(f"the mask has the shape {tuple(self.seen.shape)}, but the rows have {tuple(x.shape[1:])}")
        return x * self.seen.to(x)

    def adjoint(self, y: Tensor, like: Tensor) -> Tensor:
        """Return ``self(y)``: the operator is its own adjoint."""
        return self(y.reshape(like.shape).to(like))


@dataclass(frozen=True)
class Downsample(LinearOperator):
    """Means of blocks of ``factor`` x ``factor`` pixels: super-resolution is its inverse problem.

    Parameters
    ----------
    factor : int
        Divisor of height and width.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        check_count("factor", self.factor)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the small images (B, C, H / factor, W / factor)."""
        _need_images(self, x)
        if x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise ValueError(f"factor={self.factor} does not divide the images of {x.shape[2]} x {x.shape[3]} pixels")
        return torch.nn.functional.avg_pool2d(x, self.factor)


@dataclass(frozen=True)
class Blur(LinearOperator):
    """Convolution with a Gaussian of standard deviation ``width`` pixels, over images that are dark (0) outside.

    Parameters
    ----------
    width : float
        Positive.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ValueError(f"the width of a blur must be positive, got {self.width}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the blurred images (B, C, H, W)."""
        _need_images(self, x)
        rows, columns = (_blur_matrix(size, self.width).to(x) for size in x.shape[2:])
        return rows @ x @ columns.mT


@dataclass(frozen=True)
class Projection(LinearOperator):
    """Sums of images along one axis, like a beam through the object: tomography with one or two angles.

    Parameters
    ----------
    along : "height" or "width"
        The summed axis.
    """

    along: str = "height"

    def __post_init__(self) -> None:
        if self.along not in ("height", "width"):
            raise ValueError(f"along must be 'height' or 'width', got {self.along!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return the sums, as images (B, C, 1, W) or (B, C, H, 1)."""
        _need_images(self, x)
        return x.sum(2 if self.along == "height" else 3, keepdim=True)


@dataclass(frozen=True, eq=False)
class Observation:
    """A checked measurement: y = A x + noise with noise of known standard deviations; see :func:`observe`.

    Attributes
    ----------
    operator : LinearOperator
    y : Tensor (1 or B, M)
        Flattened measurements, for all rows or row by row.
    std : Tensor (M,)
        Standard deviations, at least 0.
    whitening : Tensor (M, M) or None
        The factor of the flattened measurements of the operator.
    """

    operator: LinearOperator
    y: Tensor
    std: Tensor
    whitening: Tensor | None = None

    def measure(self, x: Tensor) -> Tensor:
        """Return A x, (B, M)."""
        y = self.operator(x).flatten(1)
        return y if self.whitening is None else y @ self.whitening.to(y).mT

    def pull(self, v: Tensor, like: Tensor) -> Tensor:
        """Return A^T v, shaped like the rows ``like``."""
        v = v if self.whitening is None else v @ self.whitening.to(v)
        return self.operator.adjoint(v, like)

    def residual(self, x: Tensor) -> Tensor:
        """Return y - A x, (B, M)."""
        return self.y.to(x) - self.measure(x)

    def around(self, x: Tensor) -> "Observation":
        """Return the observation with the derivative of its operator at rows x (B, *D) in place of the operator."""
        return replace(self, operator=self.operator.around(x))

    def variance(self, like: Tensor) -> Tensor:
        """Return the variances of the noise (M,), with the dtype and device of ``like``."""
        return self.std.to(like) ** 2

    def matrix(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        """Return A as a matrix (M, D) for rows of ``shape``, float64; it is measured on rows of ``dtype``."""
        size = math.prod(shape)
        return self.measure(torch.eye(size, dtype=dtype).reshape(size, *shape)).double().mT


def observe(
    A: LinearOperator,
    y: ArrayLike,
    noise: ArrayLike | Gaussian,
    shape: Sequence[int],
    b: ArrayLike | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> Observation:
    """Return the checked observation y = A x + b + noise of one row of ``shape``.

    Parameters
    ----------
    A : LinearOperator
    y : array
        As many entries as A x, in its shape or flat.
    noise : float, array or Gaussian
        Standard deviation (one, or one per entry of y; 0 is allowed), or the law of the noise.
    shape : tuple of int
    b : array, optional
        With the shape of y.
    dtype : torch.dtype
        Dtype of the rows on which A is tested.

    Raises
    ------
    ValueError
        If a shape does not fit, a standard deviation is negative, a number is not finite, A is not linear, or no row meets the
        entries of y without noise. (The last is tested where A has at most 10^6 entries.)

    >>> observe(Matrix([[1.0, 1.0]]), [5.0], 0.1, (2,)).residual(torch.tensor([[2.0, 2.0]]))
    tensor([[1.]])
    """
    A, constant = _linear_part(A, torch.zeros(1, *shape, dtype=dtype))
    measured = constant[0]
    values = as_float_tensor(y).double()
    check_finite("y", values)
    if values.numel() != measured.numel():
        raise ValueError(
            f"y has the shape {tuple(values.shape)}, {values.numel()} entries, but A measures {tuple(measured.shape)} of a row "
            f"of shape {tuple(shape)}, {measured.numel()} entries"
        )
    values = values.reshape(1, -1) - constant.reshape(1, -1).double()
    if b is not None:
        offset = as_float_tensor(b).double()
        check_finite("b", offset)
        if offset.numel() not in (1, values.numel()):
            raise ValueError(f"b has {offset.numel()} entries, but y has {values.numel()}")
        values = values - offset.reshape(1, -1)
    if isinstance(noise, Gaussian):
        return _whitened(A, values, noise)
    std = as_float_tensor(noise).double()
    std = deviations("noise", std.reshape(-1) if std.ndim else std, values.shape[1], like=values)
    seen = Observation(A, values, std)
    if bool((std == 0).any()) and not isinstance(A, Mask):  # elements of a row are always consistent
        _check_consistent(seen, shape, dtype)
    return seen


def _check_consistent(seen: Observation, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Raise if no row x has A x = y in the entries without noise."""
    if math.prod(shape) * len(seen.std) > _LARGEST_MATRIX:
        return
    exact = seen.std == 0
    A, y = seen.matrix(shape, dtype)[exact], seen.y[0, exact]
    gap = (A @ torch.linalg.lstsq(A, y[:, None], driver="gelsd").solution[:, 0] - y).abs().max()
    if bool(gap > (1e-6 if dtype == torch.float64 else 1e-4) * y.abs().max()):
        raise ValueError(
            f"no row meets all entries of y that have noise 0: the nearest misses one by {gap.item():g}; correct y, or give "
            "measurements that depend on each other some noise"
        )


def _whitened(A: LinearOperator, y: Tensor, noise: Gaussian) -> Observation:
    if noise.dim != y.shape[1]:
        raise ValueError(f"noise lives in {noise.dim} dimensions, but y has {y.shape[1]} entries")
    factor = noise.components.full_factor[0].double()
    whitening = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=factor.dtype), upper=False)
    return Observation(A, (y - noise.mean.double()) @ whitening.mT, torch.ones(len(factor), dtype=factor.dtype), whitening)


def _linear_part(A: LinearOperator, zero: Tensor) -> tuple[LinearOperator, Tensor]:
    constant = A(zero).detach()
    if not isinstance(A, Linear):
        return A, constant
    if constant.ndim == 0 or len(constant) != 1:
        raise ValueError(f"A must map rows {tuple(zero.shape)} to measurements (1, ...), but gave {tuple(constant.shape)}")
    one, two = (torch.sin(k * torch.arange(1.0, zero.numel() + 1).to(zero)).reshape(zero.shape) for k in (1, 2))
    values = A(torch.cat((one, two, one - 2 * two))).detach() - constant
    gap = (values[0] - 2 * values[1] - values[2]).abs().max()
    if not bool(gap <= 1e-4 * values.abs().max()):
        raise ValueError(f"A is not linear: A(u - 2 v) differs from A u - 2 A v by {gap.item():g}; use a linear measurement")
    function, offset = A.function, constant
    return Linear(lambda x: function(x) - offset.to(x)), constant


def _need_images(operator: LinearOperator, x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"{operator} measures images (C, H, W), but the rows have the shape {tuple(x.shape[1:])}")


@functools.lru_cache(maxsize=32)
def _blur_matrix(size: int, width: float) -> Tensor:
    """Return the convolution as a matrix (size, size), float64; its kernel sums to 1 and ends at four widths."""
    reach = math.ceil(4 * width)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / width) ** 2)
    kernel /= kernel.sum()
    offset = torch.arange(size)[:, None] - torch.arange(size)[None] + reach
    inside = (offset >= 0) & (offset <= 2 * reach)
    return torch.where(inside, kernel[offset.clamp(0, 2 * reach)], 0.0)
