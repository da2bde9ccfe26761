r"""Continuous normalizing flows: rows that a learned vector field carries to noise.

A row x is the state at t = 0 of the ordinary differential equation

    dx/dt = f(x, t, condition),          z = x_1,          d log p_t(x_t) / dt = - tr df/dx,

so that log p(x) = log N(z; 0, I) + int_0^1 tr df/dx dt, and a draw is z ~ N(0, I) carried back from t = 1 to 0. No structure
is asked of f, but its trace must be found: exactly by one pullback per element, or without bias by v^T (df/dx) v with random
signs v.

The loss is -log p(x), in the mean over rows and signs, with two penalties that keep the paths straight and so the steps few,

    kinetic * int |f|^2 dt + jacobian * int |v^T df/dx|^2 dt,

the squared length of the paths and, in the mean over v, the squared Frobenius norm of the Jacobian. The equation is solved by a
fixed number of Runge-Kutta steps of order 4, with gradients through all of them. What these few steps make of a field that is
too rough for them looks better than it is, so the held-out loss, densities and samples take twice as many.

References
----------
Ricky T. Q. Chen et al. Neural ordinary differential equations. 2018. https://arxiv.org/abs/1806.07366
Will Grathwohl et al. FFJORD: free-form continuous dynamics for scalable reversible generative models. 2019.
https://arxiv.org/abs/1810.01367
Chris Finlay et al. How to train your neural ODE: the world of Jacobian and kinetic regularization. 2020.
https://arxiv.org/abs/2002.02798
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from pushforward import dynamics
from pushforward.diffusion.likelihood import EXACT_UP_TO, Divergence, LogProb
from pushforward.diffusion.trace import exact_trace, probed_trace, rademacher
from pushforward.models.arguments import check_count
from pushforward.models.base import Prepared
from pushforward.models.invertible import FlowTask, InvertibleModel, standard_log_prob
from pushforward.models.trained import Count, Seconds, Share, TrainedModel
from pushforward.networks import MLPSpec, UNetSpec, default_spec
from pushforward.networks.flows import Bijection
from pushforward.probability import noise
from pushforward.training import TrainingSettings

__all__ = ["CNF", "ODEFlow"]

_REFINED = 2
_SLOWNESS = 100.0
_CONVOLVED_FROM = 32  # side of pictures; a U-Net takes too long even for 8 x 8 pixels
Rates = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class ODEFlow(Bijection):
    """The flow of dx/dt = network(x, t / 100, condition) from t = 0 to 1.

    The networks of this library know times by waves up to 1000 rad; a hundredth of that is what a few steps can follow.

    Parameters
    ----------
    network : nn.Module
    steps : int
        Runge-Kutta steps, of four calls each.

    >>> from pushforward.networks import MLPSpec
    >>> z, log_det = ODEFlow(MLPSpec(width=8, depth=1).build((2,), 0), steps=4)(torch.ones(3, 2))
    >>> z.shape, log_det.tolist()
    (torch.Size([3, 2]), [0.0, 0.0, 0.0])
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def field(self, t: Tensor, condition: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return x -> dx/dt at time t ()."""

        def at(x: Tensor) -> Tensor:
            return torch.as_tensor(self.network(x, (t / _SLOWNESS).expand(len(x)), condition))

        return at

    def solve(self, x: Tensor, rates: Rates, size: int, *, steps: int, backward: bool = False) -> tuple[Tensor, Tensor]:
        """Solve from t = 0 to 1, or ``backward``, for x and ``size`` integrals (B, size) whose rates come with dx/dt."""
        elements = x[0].numel()

        def field(state: Tensor, t: Tensor) -> Tensor:
            velocity, rate = rates(state[:, :elements].reshape(x.shape), t)
            return torch.cat((velocity.flatten(1), rate), dim=1)

        times = torch.linspace(float(backward), float(not backward), steps + 1, dtype=torch.float64)
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
        """Return z and the integral of the trace (B,), exact or (P, B) by each of the ``signs`` (P, B, *D)."""

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


class _CNFTask(FlowTask):
    """The negative log-density of each row by one random sign per element, and in training the penalties."""

    def __init__(self, flow: ODEFlow, shape: tuple[int, ...], *, kinetic: float, jacobian: float, **common: Any) -> None:
        super().__init__(flow, **common)
        self.shape, self.kinetic, self.jacobian = shape, kinetic, jacobian

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        u = noise.uniform(self.shape, seed=seed, purpose="probe", rows=rows, step=steps[:, None], device=rows.device)
        return (torch.where(u < 0.5, -1.0, 1.0),)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        flow, signs = self.flow, numbers[0]
        assert isinstance(flow, ODEFlow)

        def rates(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            velocity, pull = torch.func.vjp(flow.field(t, condition), x)[:2]
            pulled = pull(signs)[0].flatten(1)
            speed, stretch = velocity.flatten(1).square().sum(1), pulled.square().sum(1)
            return velocity, torch.stack(((pulled * signs.flatten(1)).sum(1), speed, stretch), dim=1)

        with torch.autocast(x.device.type, enabled=False):
            z, integrals = flow.solve(x, rates, 3, steps=flow.steps if self.training else _REFINED * flow.steps)
        log_det, kinetic, jacobian = integrals.unbind(1)
        loss = -standard_log_prob(z) - log_det - self.offset
        return loss + self.kinetic * kinetic + self.jacobian * jacobian if self.training else loss


class CNF(InvertibleModel):
    r"""Continuous normalizing flow: a vector field that carries data to noise, trained by the density itself.

    A step of training solves the equation, with many calls of the network. Flow matching learns such a field without solving it
    and is much faster; this family learns by the likelihood itself. It is meant for vectors of few columns; pictures work, but
    slowly.

    Parameters
    ----------
    network : MLPSpec or UNetSpec, optional
        Size of the field's network. Default by the shape of the data.
    solver_steps : int
        Runge-Kutta steps in training; all else takes twice as many.
    kinetic, jacobian : float
        Weights of the squared speed and of the squared Jacobian along the paths.

    Other parameters are those of :class:`~pushforward.models.trained.TrainedModel`.

    Attributes
    ----------
    network_, training_
        The arguments with their defaults filled in.
    flow_ : ODEFlow
        The trained field, solved in the steps that densities and samples take.

    References
    ----------
    Will Grathwohl et al. FFJORD: free-form continuous dynamics for scalable reversible generative models. 2019.
    https://arxiv.org/abs/1810.01367

    Examples
    --------
    >>> import pushforward as pf
    >>> X = pf.open_data("moons").values
    >>> model = pf.CNF(train_steps=2, random_state=0).fit(X)
    >>> model.sample(4, seed=0).shape, model.transform(X[:3]).shape, model.log_prob(X[:3]).kind
    ((4, 2), (3, 2), 'exact')
    """

    fitted: ClassVar[tuple[str, ...]] = ("network", *TrainedModel.fitted)
    core: ClassVar[str] = "flow_"

    flow_: ODEFlow
    network_: MLPSpec | UNetSpec

    def __init__(
        self,
        *,
        network: MLPSpec | UNetSpec | None = None,
        solver_steps: Count = 6,
        kinetic: Annotated[float, Ge(0)] = 0.03,
        jacobian: Annotated[float, Ge(0)] = 0.03,
        condition_dropout: Share = 0.1,
        train_steps: Count | None = None,
        training: TrainingSettings | None = None,
        max_time: Seconds | None = None,
        held_out: Share = 0.1,
        kind: Literal["vectors", "pictures"] | None = None,
        device: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.solver_steps = solver_steps
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.condition_dropout = condition_dropout
        self.train_steps = train_steps
        self.training = training
        self.max_time = max_time
        self.held_out = held_out
        self.kind = kind
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def log_prob(
        self,
        X: Any,
        *,
        condition: Any = None,
        divergence: Divergence | None = None,
        probes: int = 2,
        steps: int | None = None,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return the log-density of each row in nats, in data units, with its kind, errors and cost.

        Parameters
        ----------
        X, condition, draws, seed, first, batch_size, bits_per_dim
            As in :meth:`pushforward.NormalizingFlow.log_prob`.
        divergence : {"exact", "hutchinson"}, optional
            Default "exact" for rows of up to 32 elements. "hutchinson" is an estimate with a standard error.
        probes : int
            Random probes per row, for "hutchinson"; its standard error needs 2.
        steps : int, optional
            Runge-Kutta steps, at least 2, of four network calls each; half as many more measure ``numerical_error``. Default
            twice ``solver_steps``.

        Returns
        -------
        LogProb

        Examples
        --------
        >>> import pushforward as pf
        >>> model = pf.CNF(train_steps=2, random_state=0).fit("moons")
        >>> model.log_prob(np.zeros((3, 2)), divergence="hutchinson").kind
        'estimate'
        """
        if divergence not in (None, "exact", "hutchinson"):
            raise ValueError(f"divergence must be 'exact', 'hutchinson' or None (by the size of a row), got {divergence!r}")
        check_count("probes", probes)
        steps = _REFINED * self.solver_steps if steps is None else steps
        check_count("steps", steps, 2)
        density = functools.partial(self._log_prob, divergence=divergence, probes=probes, steps=steps)
        found = self._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return found.in_bits_per_dim() if bits_per_dim else found

    @torch.no_grad()
    def _log_prob(
        self,
        learned: Any,
        z: Tensor,
        *,
        condition: Tensor | None,
        varies: Tensor | None,
        seed: int,
        first: int,
        divergence: Divergence | None = None,
        probes: int = 2,
        steps: int = 16,
    ) -> LogProb:
        z = self._filled(z, varies, seed, first)
        exact = (divergence or ("exact" if z[0].numel() <= EXACT_UP_TO else "hutchinson")) == "exact"
        signs = None if exact else rademacher(z, probes, seed=seed, first=first)
        fine, coarse = (
            (standard_log_prob(latent) + log_det).cpu().double().reshape(-1, len(z)).numpy()
            for latent, log_det in (learned.with_traces(z, condition, signs, steps=n) for n in (steps, steps // 2))
        )
        found = self._found(z, fine.mean(0), nfe=4 * (steps + steps // 2))
        found = replace(found, numerical_error=np.abs((fine - coarse).mean(0)))
        if exact:
            return found
        unknown = np.full(len(z), np.nan)
        spread = fine.std(0, ddof=1) / math.sqrt(probes) if probes > 1 else unknown
        return replace(found, kind="estimate" if found.kind == "exact" else found.kind, standard_error=spread)

    def _defaults(self, prepared: Prepared) -> dict[str, Any]:
        shape = self.transform_.shape
        small = len(shape) == 1 or max(shape[1:]) < _CONVOLVED_FROM
        network = MLPSpec(width=64 if math.prod(shape) <= 8 else 256, depth=2) if small else default_spec(shape)
        return {"network": network, "training": _default_training(shape)}

    def _network(self) -> ODEFlow:
        return ODEFlow(self.network_.build(self.transform_.shape, self._condition_dim), _REFINED * self.solver_steps)

    def _task(self, network: nn.Module, prepared: Prepared) -> _CNFTask:
        assert isinstance(network, ODEFlow)
        return _CNFTask(
            ODEFlow(network.network, self.solver_steps),
            self.transform_.shape,
            kinetic=self.kinetic,
            jacobian=self.jacobian,
            offset=self._offset(),
            condition_dropout=self.condition_dropout,
            width=self.transform_.dequantization + self._constant_width,
        )


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return what did well on points in the plane and, for a minute or two, on eight-by-eight digits."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0)
    if len(shape) == 1:
        return replace(common, steps=600, batch_size=128, learning_rate=5e-3, ema=0.1, evaluations=10)
    return replace(common, steps=600, batch_size=64, learning_rate=4e-3, ema=0.1, evaluations=10)
