r"""The flow of a learned vector field, and its two training losses.

A row x is the state at t = 0 of dx/dt = f(x, t, condition), its latent z the state at t = 1. :class:`MatchingTask` is the loss
of flow matching: with x from the data, z ~ N(0, I), t uniform on (0, 1) and x_t = (1 - t) x + t z,

    |f(x_t, t) - (z - x)|^2.

It needs one call of f, and its minimum is f = E[z - x | x_t], which transports the law of the data to N(0, I). Noise is
assigned to the rows of a batch, among rows with the same condition, so that the sum of |z - x|^2 is minimal. This preserves the
laws of rows and of noise, and lines cross less, so the paths of f are straighter and need fewer steps.

As t falls to 0 this field becomes as sharp as the finest detail of the data, for images of integers the width of one. The
solver's steps can therefore end at t = (k / n)^p, short near the data, and matching draws its t from the same law, as u^p.

:class:`LikelihoodTask` is -log p(x) = -log N(z; 0, I) - int_0^1 tr df/dx dt through the solver, with penalties on the paths
(:mod:`pushforward.models.flows.cnf`).

References
----------
Yaron Lipman et al. Flow matching for generative modeling. 2023. https://arxiv.org/abs/2210.02747
Alexander Tong et al. Improving and generalizing flow-based generative models with minibatch optimal transport. 2024.
https://arxiv.org/abs/2302.00482
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pushforward import diffusion, dynamics
from pushforward.diffusion.coupling import assignment
from pushforward.diffusion.trace import exact_trace, probed_trace
from pushforward.models.base.task import RowTask, uniform
from pushforward.models.flows.base import FlowTask, standard_log_prob
from pushforward.networks.flows import Bijection
from pushforward.probability import noise

__all__ = ["REFINED", "LikelihoodTask", "MatchingTask", "ODEFlow"]

REFINED = 2  # times as many steps outside training
_SLOWNESS = 100.0
Rates = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class ODEFlow(Bijection):
    """The flow of dx/dt = network(x, t / 100, condition) from t = 0 to 1.

    The networks of this library embed times by waves of up to 1000 rad; few steps can resolve a hundredth of that.

    Parameters
    ----------
    network : nn.Module
    steps : int
        Runge-Kutta steps, of four calls each.
    power : float
        The steps end at t = (k / steps)^power, k = 1 .. steps; above 1 they are short near the data and long near the noise.

    >>> from pushforward.networks import MLPSpec
    >>> z, log_det = ODEFlow(MLPSpec(width=8, depth=1).build((2,), 0), steps=4)(torch.ones(3, 2))
    >>> z.shape, log_det.tolist()
    (torch.Size([3, 2]), [0.0, 0.0, 0.0])
    """

    def __init__(self, network: nn.Module, steps: int, power: float = 1.0) -> None:
        super().__init__()
        self.network, self.steps, self.power = network, steps, power

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return dx/dt of rows x (B, *D) at their times t (B,)."""
        return torch.as_tensor(self.network(x, t / _SLOWNESS, condition))

    def field(self, t: Tensor, condition: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return x -> dx/dt at time t ()."""
        return lambda x: self.velocity(x, t.expand(len(x)), condition)

    def solve(self, x: Tensor, rates: Rates, size: int, *, steps: int, backward: bool = False) -> tuple[Tensor, Tensor]:
        """Solve from t = 0 to 1, or ``backward``, for x and integrals (B, size), whose integrands ``rates`` returns too."""
        elements = x[0].numel()

        def field(state: Tensor, t: Tensor) -> Tensor:
            velocity, rate = rates(state[:, :elements].reshape(x.shape), t)
            return torch.cat((velocity.flatten(1), rate), dim=1)

        times = torch.linspace(float(backward), float(not backward), steps + 1, dtype=torch.float64) ** self.power
        state = torch.cat((x.flatten(1), x.new_zeros(len(x), size)), dim=1)
        end = dynamics.integrate(field, state, times, "rk4").states[-1]
        return end[:, :elements].reshape(x.shape), end[:, elements:]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z and log |dz/dx|, with exact traces."""
        return self.with_traces(x, condition, None, steps=self.steps)

    def latent(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return z alone."""
        return self.solve(x, self._alone(condition), 0, steps=self.steps)[0]

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from z."""
        return self.solve(y, self._alone(condition), 0, steps=self.steps, backward=True)[0]

    def with_traces(self, x: Tensor, condition: Tensor | None, signs: Tensor | None, *, steps: int) -> tuple[Tensor, Tensor]:
        """Return z and the integral of the trace: exact (B,), or one estimate (P, B) for each of the ``signs`` (P, B, *D)."""

        def rates(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            field = self.field(t, condition)
            if signs is None:
                velocity, trace = exact_trace(field, x)
                return velocity, trace.unsqueeze(1)
            velocity, traces = probed_trace(field, x, signs)
            return velocity, traces.T

        z, integrals = self.solve(x, rates, 1 if signs is None else len(signs), steps=steps)
        return z, integrals[:, 0] if signs is None else integrals.T

    def _alone(self, condition: Tensor | None) -> Rates:
        return lambda x, t: (self.field(t, condition)(x), x.new_zeros(len(x), 0))


class LikelihoodTask(FlowTask):
    """The negative log-density per row, estimated with one random sign per element; in training plus the penalties."""

    def __init__(
        self,
        flow: ODEFlow,
        shape: tuple[int, ...],
        *,
        kinetic: float,
        jacobian: float,
        offset: float,
        condition_dropout: float,
        width: Tensor,
    ) -> None:
        super().__init__(flow, offset=offset, condition_dropout=condition_dropout, width=width)
        self.shape, self.kinetic, self.jacobian = shape, kinetic, jacobian

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return signs (S, B, *D)."""
        u = uniform(self.shape, rows, steps, seed, "probe")
        return (torch.where(u < 0.5, -1.0, 1.0).to(u.dtype),)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return -log p(x | condition), (B,), estimated with one sign per element; in training plus the penalties."""
        flow, signs = self.flow, numbers[0]
        assert isinstance(flow, ODEFlow)

        def rates(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            velocity, pull = torch.func.vjp(flow.field(t, condition), x)[:2]
            pulled = pull(signs)[0].flatten(1)
            speed, stretch = velocity.flatten(1).square().sum(1), pulled.square().sum(1)
            return velocity, torch.stack(((pulled * signs.flatten(1)).sum(1), speed, stretch), dim=1)

        with torch.autocast(x.device.type, enabled=False):
            z, integrals = flow.solve(x, rates, 3, steps=flow.steps if self.training else REFINED * flow.steps)
        log_det, kinetic, jacobian = integrals.unbind(1)
        loss = -standard_log_prob(z) - log_det - self.offset
        return loss + self.kinetic * kinetic + self.jacobian * jacobian if self.training else loss


class MatchingTask(RowTask):
    """The squared error of the field on the straight lines from rows to noise, summed over elements.

    Parameters
    ----------
    flow : ODEFlow
        The flow to train.
    shape : tuple of int
        Of a row.
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition" in training.
    width : Tensor (*D)
        Of the uniform noise on each element, 0 where there is none.
    """

    coupled = True

    def __init__(self, flow: ODEFlow, shape: tuple[int, ...], *, condition_dropout: float, width: Tensor) -> None:
        super().__init__(condition_dropout=condition_dropout, dequantization=width)
        self.flow, self.shape = flow, shape

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return times (S, B), stratified over the batch, and noise (S, B, *D)."""
        t = diffusion.stratified(uniform((), rows, steps, seed, "time"), rows, total) ** self.flow.power
        return t, noise.normal(self.shape, seed=seed, purpose="noise", rows=rows, step=steps[:, None], device=rows.device)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return |f(x_t, t) - (z - x)|^2, (B,)."""
        t, z = numbers
        z = z[assignment(x, z, condition)]
        at = diffusion.widen(t, x)
        velocity = self.flow.velocity((1 - at) * x + at * z, t, condition)
        return (velocity - (z - x)).square().flatten(1).sum(1)
