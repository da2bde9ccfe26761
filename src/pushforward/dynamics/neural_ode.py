r"""Neural ODEs: a network as the vector field of dx/dt = network(x, t).

The gradient of a loss L at the end is computed in one of two ways. ``unroll`` backpropagates through every step of the
solver: exact for the computed numbers, with a memory that grows with the number of steps. ``adjoint`` solves the adjoint
equations backward in time,

    da/dt = -a df/dx,     dL/dtheta = int_{t_begin}^{t_end} a df/dtheta dt,     a(t_end) = dL/dx(t_end),

and recomputes x between the output times, whose states are the only ones kept: its memory does not depend on the number of
steps between them. Both agree as the tolerances go to 0.

References
----------
Ricky T. Q. Chen et al. Neural ordinary differential equations. NeurIPS 2018. https://arxiv.org/abs/1806.07366
Hans Georg Bock, Karl-Josef Plitt. A multiple shooting algorithm for direct solution of optimal control problems. IFAC 1984.
"""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from pushforward.dynamics.ode import Method, Solution, integrate
from pushforward.probability import noise

__all__ = ["Autonomous", "Gradient", "NeuralODE", "fit_trajectories"]

Gradient: TypeAlias = Literal["unroll", "adjoint"]


class Autonomous(nn.Module):
    """A network of x alone as a field that does not depend on time: network(x, t) = body(x).

    >>> Autonomous(nn.Linear(2, 2))(torch.zeros(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return body(x), whatever the time."""
        change: Tensor = self.body(x)
        return change


class NeuralODE(nn.Module):
    """The flow of a network's vector field.

    Parameters
    ----------
    network : nn.Module
        ``network(x, t)`` takes x (B, *D) and t (B,) and returns dx/dt (B, *D). Wrap a network of x alone in
        :class:`Autonomous`. It must be a fixed function of x and t: no dropout, no batch statistics.
    method : str
        As in :func:`pushforward.dynamics.ode.integrate`.
    gradient : {"unroll", "adjoint"}
        "adjoint" needs an explicit method. Its gradients carry the solver's error, and for a strongly contracting field the
        backward solve is unstable: compare both once on your problem.
    rtol, atol : float
        Tolerances of ``dopri5``, forward and adjoint.

    >>> model = NeuralODE(Autonomous(nn.Tanh()), method="rk4")
    >>> solution = model(torch.full((1, 1), 0.5), torch.tensor([0.0, 1.0]))
    >>> solution.states.shape, solution.evaluations
    (torch.Size([2, 1, 1]), 4)
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method = "dopri5",
        *,
        gradient: Gradient = "unroll",
        rtol: float = 1e-6,
        atol: float = 1e-7,
    ) -> None:
        super().__init__()
        if method not in get_args(Method):
            raise ValueError(f"method is {method!r}, but must be one of {', '.join(map(repr, get_args(Method)))}")
        if gradient not in get_args(Gradient):
            raise ValueError(f"gradient is {gradient!r}, but must be one of {', '.join(map(repr, get_args(Gradient)))}")
        if gradient == "adjoint" and method == "implicit-euler":
            raise ValueError("implicit-euler has no adjoint; write gradient='unroll', or choose an explicit method")
        self.network = network
        self.method: Method = method
        self.gradient: Gradient = gradient
        self.rtol = rtol
        self.atol = atol

    def forward(self, x: Tensor, times: Tensor) -> Solution:
        """Solve from ``x`` (B, *D) at ``times[0]`` through ``times``.

        ``times`` is (T,), or (T, B) with one column for each row, all increasing or all decreasing. With columns every
        interval is a separate solve, in the unit time u of t = times[i] + u (times[i + 1] - times[i]).
        """
        if times.ndim != 2:
            return self._solve(x, times, torch.zeros((), dtype=x.dtype), torch.ones((), dtype=x.dtype))
        if times.shape[1] != len(x) or len(times) < 2:
            raise ValueError(f"times must have the shape (T,) or (T, {len(x)}) with T >= 2, but has {tuple(times.shape)}")
        times = times.to(device=x.device, dtype=torch.float64)
        steps = times.diff(dim=0)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise ValueError("the columns of times must be all strictly rising or all strictly falling")
        states, evaluations = [x], 0
        for start, step in zip(times[:-1], steps, strict=True):
            part = self._solve(states[-1], torch.tensor([0.0, 1.0]), start.to(x.dtype), step.to(x.dtype))
            states.append(part.states[-1])
            evaluations += part.evaluations
        return Solution(times, torch.stack(states), evaluations)

    def _solve(self, x: Tensor, times: Tensor, start: Tensor, step: Tensor) -> Solution:
        """Solve dx/du = step * network(x, start + step u) at the times u; ``start`` and ``step`` are () or (B,)."""
        start, step = start.to(x.device).expand(len(x)), step.to(x.device).expand(len(x))
        scale = step.reshape(-1, *[1] * (x.ndim - 1))

        def field(x: Tensor, u: Tensor) -> Tensor:
            change: Tensor = self.network(x, start + step * u)
            return scale * change

        parameters = None
        if self.gradient == "adjoint":
            parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return integrate(field, x, times, self.method, rtol=self.rtol, atol=self.atol, adjoint_parameters=parameters)


def fit_trajectories(
    model: NeuralODE,
    times: Tensor,
    trajectories: Tensor,
    *,
    steps: int,
    seed: int,
    window: int = 10,
    batch: int = 64,
    learning_rate: float = 1e-2,
) -> Tensor:
    """Train a Neural ODE, in place, on noisy time series by shooting over short random windows.

    Each step draws ``batch`` windows of ``window`` observations, solves from a window's first observation through its times,
    and minimizes the mean squared distance to the other observations. Short windows keep the loss smooth where one long
    solve would make it rugged. Noise in the first observation shifts the whole window, so windows must be long enough for
    the motion to exceed the noise. Adam's learning rate decays to 0 along a half cosine.

    Parameters
    ----------
    model : NeuralODE
    times : Tensor (T,)
        Strictly increasing; they need not be evenly spaced.
    trajectories : Tensor (N, T, *D)
        Observed at the same times, in the dtype and on the device of the model.
    steps : int
        Number of optimization steps.
    seed : int
        Determines the windows.
    window : int
        Observations in a window, from 2 to T.
    batch : int
        Windows per step.
    learning_rate : float

    Returns
    -------
    Tensor (steps,)
        The loss of every step, on the model's device. With noise of variance s^2 in all observations, a perfect fit ends
        near 2 s^2, or between s^2 and 2 s^2 where the flow contracts.

    Raises
    ------
    ValueError
        If an argument is wrong, or the loss is not finite (the error names the step).

    >>> times = torch.linspace(0.0, 2.0, 9)
    >>> decay = torch.exp(-times)[None, :, None]
    >>> body = nn.Linear(1, 1, bias=False)
    >>> model = NeuralODE(Autonomous(body), method="rk4")
    >>> body.weight = nn.Parameter(torch.zeros(1, 1))
    >>> losses = fit_trajectories(model, times, decay, steps=200, seed=0, window=5, learning_rate=0.05)
    >>> bool(losses[-1] < 1e-6), round(body.weight.item(), 2)
    (True, -1.0)
    """
    _check_series(times, trajectories, steps, window, batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    offsets = torch.arange(window, device=trajectories.device)
    times = times.to(trajectories.device)
    losses = []
    for i in range(steps):
        series, first = _draw_windows(len(trajectories), len(times) - window + 1, batch, seed, i, trajectories.device)
        index = first + offsets[:, None]
        solution = model(trajectories[series, first], times[index])
        loss = (solution.states[1:] - trajectories[series, index[1:]]).square().mean()
        if not loss.isfinite():
            raise ValueError(
                f"the loss is not finite at step {i}; lower the learning rate ({learning_rate}) or the window ({window})"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def _draw_windows(series: int, starts: int, batch: int, seed: int, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the trajectory and the first time of each window, (batch,) each, uniformly with replacement."""
    u = noise.uniform((2,), seed=seed, purpose="trajectory windows", rows=batch, step=step, dtype=torch.float64, device=device)
    return (u[:, 0] * series).long(), (u[:, 1] * starts).long()


def _check_series(times: Tensor, trajectories: Tensor, steps: int, window: int, batch: int) -> None:
    if times.ndim != 1 or trajectories.ndim < 3 or trajectories.shape[1] != len(times) or not len(trajectories):
        raise ValueError(
            "times must have the shape (T,) and trajectories (N, T, *D) with N >= 1, but they have "
            f"{tuple(times.shape)} and {tuple(trajectories.shape)}"
        )
    if not trajectories.isfinite().all():
        raise ValueError(
            f"{int((~trajectories.isfinite()).sum())} of the values in trajectories are not finite; omit their times"
        )
    if not (times.diff() > 0).all():
        raise ValueError("times must be strictly rising")
    if not 2 <= window <= len(times):
        raise ValueError(f"window is {window}, but must be from 2 to the number of times, {len(times)}")
    if steps < 1 or batch < 1:
        raise ValueError(f"steps and batch must be at least 1, but are {steps} and {batch}")
