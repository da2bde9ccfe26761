r"""Implicit Euler steps, stable for stiff fields; for a gradient field the step is the proximal step.

One step from time t to time s solves, with h = s - t,

    r(y) = y - x - h f(y, s) = 0

by Newton's method, y <- y - (I - h J)^-1 r(y) with J = df/dy. On dx/dt = lambda x it multiplies by 1/(1 - h lambda), at
most 1 in absolute value for every h > 0 and Re lambda <= 0; the factor of explicit Euler is 1 + h lambda, which for real
lambda < 0 exceeds 1 in absolute value once h |lambda| > 2.

For f = -grad F a root of r is a stationary point of F(y) + |y - x|^2 / (2 h). If that function is convex, the root is *the*
minimum, the proximal step: so it is for convex F, or for h < 1/L where the eigenvalues of F's Hessian are above -L. For a
longer step on another F it may be a local minimum or a saddle point.

References
----------
Ernst Hairer, Gerhard Wanner. Solving ordinary differential equations II: stiff and differential-algebraic problems. 1996.
Neal Parikh, Stephen Boyd. Proximal algorithms. Foundations and Trends in Optimization 1, 2014.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["implicit_euler_step", "negative_gradient", "proximal_step"]

_MAX_ITERATIONS = 100

_Factors: TypeAlias = tuple[Tensor, Tensor]


def implicit_euler_step(field: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: float, s: float) -> Tensor:
    """Return the y that solves y = x + (s - t) field(y, s).

    Newton's method starts at x. Each row has its own Jacobian and its own step factor: the factor halves while the row's
    residual does not fall and returns to 1 once it does. A row stops once its full Newton correction c is small,
    max|c| <= eps^(3/4) (1 + max|y|). One last correction of all rows is recorded for gradients. Its derivative

        dy = (I - h J)^-1 (dx + h df)

    is that of the implicit function theorem, so gradients with respect to x and to the parameters of the field are exact, at
    the memory of one call of the field. Second derivatives are not.

    Parameters
    ----------
    field : callable
        ``field(y, s)`` takes y (B, *D) and s () and returns (B, *D), differentiably. Row i of the result must depend only
        on row i of y.
    x : Tensor (B, *D)
    t, s : float
        Times at the start and at the end; s < t is a step backward.

    Raises
    ------
    ValueError
        If Newton's method fails, with the time, the row, its residual and the step.

    >>> y = implicit_euler_step(lambda y, s: -1000.0 * y, torch.ones(1, 1, dtype=torch.float64), 0.0, 0.1)
    >>> round(y.item(), 6)
    0.009901
    """
    h = s - t
    end = torch.tensor(s, dtype=x.dtype, device=x.device)
    y, factors = _newton(field, x.detach(), end, h)
    residual = y - x - h * field(y, end)
    correction = torch.linalg.lu_solve(*factors, residual.flatten(1).unsqueeze(-1))
    solution: Tensor = y - correction.reshape(x.shape)
    return solution


def proximal_step(potential: Callable[[Tensor], Tensor], x: Tensor, step: float) -> Tensor:
    """Return argmin_y F(y) + |y - x|^2 / (2 step) for convex F or a short step, otherwise a stationary point.

    It is one step of implicit Euler on dx/dt = -grad F(x).

    Parameters
    ----------
    potential : callable
        F, for each row independently: x (B, *D) to (B,), in torch operations, twice differentiable.
    x : Tensor (B, *D)
    step : float
        Above 0.

    Raises
    ------
    ValueError
        If the step is not positive and finite, or Newton's method fails.

    >>> proximal_step(lambda y: y.square().sum(-1), torch.ones(1, 2, dtype=torch.float64), 0.5).tolist()
    [[0.5, 0.5]]
    """
    if not (step > 0 and math.isfinite(step)):
        raise ValueError(f"the step of a proximal step must be above 0 and finite, but is {step}")
    return implicit_euler_step(negative_gradient(potential), x, 0.0, step)


def negative_gradient(potential: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the field -grad F(x) of a potential F: x (B, *D) to (B,), each row independently. The field is differentiable.

    >>> negative_gradient(lambda x: x.square().sum(-1))(torch.ones(1, 2), torch.tensor(0.0)).tolist()
    [[-2.0, -2.0]]
    """

    def total(x: Tensor) -> Tensor:
        values = potential(x)
        if values.shape != x.shape[:1]:
            raise ValueError(f"the potential must return one number per row, ({len(x)},), but returned {tuple(values.shape)}")
        return values.sum()

    def field(x: Tensor, t: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(total)(x)
        return -gradient

    return field


def _newton(field: Callable[[Tensor, Tensor], Tensor], x: Tensor, end: Tensor, h: float) -> tuple[Tensor, _Factors]:
    """Return y near a root of y - x - h field(y, end) and the factors of I - h J at y, without gradient."""
    tolerance = torch.finfo(x.dtype).eps ** 0.75
    start = x.flatten(1)
    y, trial = start, start
    size = torch.full_like(start[:, 0], torch.inf)
    factor = torch.ones_like(size)
    correction = torch.zeros_like(start)
    done = torch.zeros_like(size, dtype=torch.bool)
    for _ in range(_MAX_ITERATIONS):
        value, factors = _linearize(field, trial.reshape(x.shape), end, h)
        residual = trial - start - h * value.flatten(1)
        trial_size = residual.norm(dim=1)
        # False for a residual that is not finite, so a row that overflowed goes back.
        better = (trial_size < size) & ~done
        y = torch.where(better[:, None], trial, y)
        size = torch.where(better, trial_size, size)
        fresh = torch.linalg.lu_solve(*factors, residual.unsqueeze(-1)).squeeze(-1)
        correction = torch.where(better[:, None], fresh, correction)
        factor = torch.where(better, 1.0, factor / 2)
        done |= correction.abs().amax(1) <= tolerance * (1 + y.abs().amax(1))
        done &= size < torch.inf
        if done.all():
            # Rows that are done are evaluated at their y again, so the factors are those at y for every row.
            return y.reshape(x.shape), factors
        trial = torch.where(done[:, None], y, y - factor[:, None] * correction)
    row = int((~done).nonzero()[0])
    raise ValueError(
        f"Newton's method failed in the implicit Euler step to t = {end.item():.6g}, step {h:.3g}: after {_MAX_ITERATIONS} "
        f"iterations {int((~done).sum())} of {len(done)} rows have not converged, the first of them row {row} with residual "
        f"{size[row].item():.3g}. Take shorter steps, and check that the field is finite and smooth there"
    )


def _linearize(field: Callable[[Tensor, Tensor], Tensor], y: Tensor, end: Tensor, h: float) -> tuple[Tensor, _Factors]:
    """Return field(y, end) and the LU factors of I - h J by row, (B, n, n), without gradient."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        value = field(y, end)
        flat = value.flatten(1)
        batch, n = flat.shape
        jacobian = flat.new_zeros(batch, n, n)
        if value.requires_grad:
            # Rows are independent, so the gradient of a column's sum over rows holds that column's gradient in each row.
            columns = torch.eye(n, dtype=flat.dtype, device=flat.device)[:, None].expand(n, batch, n)
            (rows,) = torch.autograd.grad(flat, y, columns, is_grads_batched=True, allow_unused=True)
            if rows is not None:
                jacobian = rows.reshape(n, batch, n).transpose(0, 1)
    matrix = torch.eye(n, dtype=flat.dtype, device=flat.device) - h * jacobian
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix.detach())
    return value.detach(), (factors, pivots)
