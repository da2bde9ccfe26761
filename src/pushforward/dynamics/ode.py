r"""Ordinary differential equations: the flow of a vector field, by explicit, adaptive and implicit methods.

The state x solves dx/dt = f(x, t). With h = s - t, one step from time t to time s is

    euler           x_s = x + h f(x, t)
    midpoint        x_s = x + h f(x + h/2 k1, t + h/2)
    heun            x_s = x + h/2 (k1 + k2),                    k2 = f(x + h k1, s)
    rk4             x_s = x + h/8 (k1 + 3 k2 + 3 k3 + k4)       Kutta's 3/8 rule
    implicit-euler  x_s = x + h f(x_s, s)
    dopri5          order 5 with an error estimate of order 4; the tolerances determine the steps

with k1 = f(x, t); for the 3/8 rule k2 = f(x + h k1/3, t + h/3), k3 = f(x + h (k2 - k1/3), t + 2h/3) and
k4 = f(x + h (k1 - k2 + k3), s). It calls f as often as the classic rule with weights 1/6 (1, 2, 2, 1), has the same order and
mostly a slightly smaller error. The global errors of the first five are of order h, h^2, h^2, h^4 and h.

Explicit and adaptive steps and the adjoint are those of torchdiffeq; implicit Euler is :mod:`pushforward.dynamics.implicit`.

References
----------
Ernst Hairer, Syvert P. Nørsett, Gerhard Wanner. Solving ordinary differential equations I: nonstiff problems. 1993.
J. R. Dormand, P. J. Prince. A family of embedded Runge-Kutta formulae. J. Comput. Appl. Math. 6, 1980.
Ricky T. Q. Chen et al. Neural ordinary differential equations. NeurIPS 2018. https://arxiv.org/abs/1806.07366
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from pushforward.dynamics.implicit import implicit_euler_step, negative_gradient

__all__ = ["Field", "Method", "Solution", "gradient_flow", "integrate"]

Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Method: TypeAlias = Literal["euler", "midpoint", "heun", "rk4", "dopri5", "implicit-euler"]

_TORCHDIFFEQ_NAMES = {"euler": "euler", "midpoint": "midpoint", "heun": "heun2", "rk4": "rk4", "dopri5": "dopri5"}


@dataclass(frozen=True, eq=False)
class Solution:
    """States of an ODE at given times.

    Attributes
    ----------
    times : Tensor (T,)
        float64, on the device of the states.
    states : Tensor (T, B, *D)
        ``states[0]`` is the initial state.
    evaluations : int
        Number of calls of the field on the whole batch. A Newton iteration of implicit Euler, which also computes the
        Jacobian, counts as one; calls of a later backward pass are not included.
    """

    times: Tensor
    states: Tensor
    evaluations: int


def integrate(
    field: Field,
    x: Tensor,
    times: Tensor | Sequence[float],
    method: Method = "dopri5",
    *,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    adjoint_parameters: Iterable[Tensor] | None = None,
) -> Solution:
    """Solve dx/dt = field(x, t) from ``x`` at ``times[0]`` through all of ``times``.

    Parameters
    ----------
    field : callable
        ``field(x, t)`` takes x (B, *D) and t () of x's dtype and returns dx/dt (B, *D). For ``implicit-euler`` a row of
        dx/dt must depend only on the same row of x.
    x : Tensor (B, *D)
        Initial state.
    times : Tensor (T,) or sequence of float
        At least two, strictly increasing or strictly decreasing. They get no gradient.
    method : str
        See the module docstring. All but ``dopri5`` take exactly one step from each time to the next.
    rtol, atol : float
        Tolerances of ``dopri5``, per step: the root mean square over a row of error / (atol + rtol |x|) is at most 1 in
        *every* row. All rows share the step lengths, so a row's result depends on the others within the tolerances.
    adjoint_parameters : iterable of Tensor, optional
        None: gradients backpropagate through the steps of the solver, whose memory grows with their number. Otherwise
        gradients solve the adjoint ODE da/dt = -a df/dx backward in time from the states at ``times``, the only ones kept;
        ``x`` and these tensors inside ``field`` get gradients.

    Raises
    ------
    ValueError
        If an argument is wrong, the state is no longer finite, the step length of ``dopri5`` falls to zero, or Newton's
        method fails; the last three errors name the time.

    >>> solution = integrate(lambda x, t: -x, torch.ones(1, 1), [0.0, 1.0])
    >>> round(solution.states[-1].item(), 4), solution.evaluations > 0
    (0.3679, True)
    >>> integrate(lambda x, t: -x, torch.ones(1, 1), [0.0, 0.5, 1.0], "euler").states.flatten().tolist()
    [1.0, 0.5, 0.25]
    """
    _check_state(x)
    times = _checked_times(times, x)
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r}, but must be one of {', '.join(map(repr, get_args(Method)))}")
    if method == "dopri5":
        _check_tolerances(rtol, atol, x)
    counted = _CountedField(field, adaptive=method == "dopri5")
    if method == "implicit-euler":
        if adjoint_parameters is not None:
            raise ValueError(
                "implicit-euler has no adjoint; omit adjoint_parameters (a step keeps the memory of one call), "
                "or choose another method"
            )
        states = _implicit(counted, x, times)
    else:
        states = _explicit(counted, x, times, method, rtol, atol, adjoint_parameters)
    _check_finite(states, times, method)
    return Solution(times, states, counted.calls)


def gradient_flow(
    potential: Callable[[Tensor], Tensor],
    x: Tensor,
    times: Tensor | Sequence[float],
    method: Method = "dopri5",
    *,
    rtol: float = 1e-6,
    atol: float = 1e-7,
) -> Solution:
    """Solve dx/dt = -grad F(x), along which dF/dt = -|grad F|^2 <= 0.

    ``euler`` is gradient descent with the learning rates ``times[i + 1] - times[i]``; ``implicit-euler`` is the proximal-point
    method, see :func:`pushforward.dynamics.implicit.proximal_step`.

    Parameters
    ----------
    potential : callable
        F, for each row independently: x (B, *D) to (B,), in torch operations.
    x, times, method, rtol, atol
        As in :func:`integrate`.

    >>> solution = gradient_flow(lambda x: x.square().sum(-1), torch.ones(1, 2), [0.0, 0.1, 0.2], "euler")
    >>> [round(value, 2) for value in solution.states[:, 0, 0].tolist()]
    [1.0, 0.8, 0.64]
    """
    return integrate(negative_gradient(potential), x, times, method, rtol=rtol, atol=atol)


class _CountedField:
    """The field with its arguments in torchdiffeq's order; it counts its calls and checks its steps."""

    def __init__(self, field: Field, *, adaptive: bool) -> None:
        self.field = field
        self.calls = 0
        if adaptive:
            # torchdiffeq finds these by name, the second for the adjoint's solve. Its own checks are `assert` statements;
            # without them (`python -O`) the solve would never end.
            self.callback_step = _check_step
            self.callback_step_adjoint = _check_step

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        change = self.field(x, t)
        if change.shape != x.shape or change.dtype != x.dtype:
            raise ValueError(
                f"the field must return a tensor like x, {x.dtype} of shape {tuple(x.shape)}, but returned "
                f"{change.dtype} of shape {tuple(change.shape)}"
            )
        return change


def _explicit(
    field: _CountedField,
    x: Tensor,
    times: Tensor,
    method: Method,
    rtol: float,
    atol: float,
    adjoint_parameters: Iterable[Tensor] | None,
) -> Tensor:
    # Imported here because it imports SciPy's integrators, which are slow to load.
    import torchdiffeq

    name = _TORCHDIFFEQ_NAMES[method]
    options = {"norm": _worst_row} if method == "dopri5" else {}
    states: Tensor
    if adjoint_parameters is None:
        states = torchdiffeq.odeint(field, x, times, method=name, rtol=rtol, atol=atol, options=options)
    else:
        parameters = tuple(adjoint_parameters)
        states = torchdiffeq.odeint_adjoint(
            field, x, times, method=name, rtol=rtol, atol=atol, options=options, adjoint_params=parameters
        )
    return states


def _implicit(field: _CountedField, x: Tensor, times: Tensor) -> Tensor:
    states = [x]
    for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        states.append(implicit_euler_step(lambda x, t: field(t, x), states[-1], t, s))
    return torch.stack(states)


def _worst_row(error: Tensor) -> Tensor:
    """Return the largest root mean square of a row; torchdiffeq's own norm lets many easy rows hide a hard one.

    It is detached, so that step lengths are constants of the backward pass. The error of a trial step with a NaN counts as
    infinite, so that the step is tried again shorter; a NaN here would end the solve.
    """
    worst = error.detach().square().flatten(1).mean(1).sqrt().amax()
    return worst.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _check_step(t: Tensor, x: Tensor, step: Tensor) -> None:
    if t + step == t:
        raise ValueError(
            f"dopri5 stopped at t = {t.item():.6g}: no step is short enough for the tolerances. The field or the solution "
            "is not finite near there, or the tolerances are too fine for the dtype of x; end before that time, loosen "
            "rtol and atol, or use float64"
        )


def _check_state(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, but is {x.dtype}; write x.double()")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"x must have the shape (B, *D) and at least one element, but has {tuple(x.shape)}")
    if not x.isfinite().all():
        bad = int((~x.isfinite().reshape(len(x), -1).all(1)).nonzero()[0])
        raise ValueError(f"row {bad} of the initial x is not finite")


def _checked_times(times: Tensor | Sequence[float], x: Tensor) -> Tensor:
    times = torch.as_tensor(times, dtype=torch.float64, device=x.device).detach()
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must have the shape (T,) with T >= 2, but has {tuple(times.shape)}")
    if not times.isfinite().all():
        raise ValueError(f"times must be finite, but times[{int((~times.isfinite()).nonzero()[0])}] is not")
    steps = times.diff()
    wrong = (steps.sign() * steps[0].sign() <= 0).nonzero()
    if len(wrong):
        i = int(wrong[0])
        direction = "rising" if steps[0] > 0 else "falling"
        raise ValueError(
            f"times must be strictly rising or strictly falling, but times[{i}] = {times[i].item():.6g} is followed by "
            f"{times[i + 1].item():.6g}" + (f" after a {direction} start" if i else "")
        )
    return times


def _check_tolerances(rtol: float, atol: float, x: Tensor) -> None:
    finest = 4 * torch.finfo(x.dtype).eps
    if not rtol >= finest:
        raise ValueError(
            f"rtol is {rtol}, but {x.dtype} resolves no less than rtol = {finest:.1e}; write that or more, or use float64"
        )
    if not atol > 0:
        raise ValueError(f"atol is {atol}, but must be above 0: a state may pass through 0")


def _check_finite(states: Tensor, times: Tensor, method: Method) -> None:
    finite = states.detach().isfinite().reshape(*states.shape[:2], -1).all(-1)
    if not finite.all():
        i, row = (int(index) for index in (~finite).nonzero()[0])
        raise ValueError(
            f"the state of row {row} is not finite at t = {times[i].item():.6g} (step {i} of {len(times) - 1}, {method}); "
            "take shorter steps or, if the problem is stiff, method='implicit-euler'"
        )
