r"""The flow map: a network that jumps from any time of a probability flow to any other in one call.

Clock and state. With s the standard deviation of the data and S = alpha^2 s^2 + sigma^2,

    theta = atan(sigma / (alpha s)) in [0, pi / 2],        u = x_t / sqrt(S) = cos(theta) x / s + sin(theta) z,

every schedule is the same rotation from data, u = x / s at theta = 0, to noise, and the raw output of an ``edm`` network is
-du / dtheta, the velocity of the flow with its sign changed. The map from angle a to angle b is

    X(u, a, b) = u + (a - b) F(u, a, b),

so X(u, a, a) = u exactly, and F(u, a, a) is the raw output of a denoiser, E[x | x_t] = s (cos(a) u + sin(a) F). Samples start
at the noise and reach theta = 0 in as many jumps as are asked for; the jump from 0 to the noise is the inverse of the sample.

F is a network of times and conditions that gets a - b and, for guidance, its scale w as further features of the condition.
Initially these have no effect, so a network with the weights of an ``edm`` teacher takes Euler steps of the teacher's flow.

Densities. Along the flow the log-density changes by the divergence of the velocity. A linear head on the last hidden state
predicts its integral, so a jump also returns

    L(u, a, b) = int_a^b div(du / dtheta) dtheta,          log p_a(u_a) = log p_b(u_b) + L(u_a, a, b).

References
----------
Nicholas Boffi, Michael Albergo, Eric Vanden-Eijnden. Flow map matching. 2024. https://arxiv.org/abs/2406.07507
Dongjun Kim et al. Consistency trajectory models. 2024. https://arxiv.org/abs/2310.02279
"""

import itertools
import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.schedule import Schedule, widen
from pushforward.diffusion.variances import WithVariances, with_variances

__all__ = ["FlowMapNetwork", "angle_of", "map_features", "time_of"]

_WAVES = 5  # frequencies 1 to 16 of a - b; higher ones make the map rough between the angles it is trained on


@runtime_checkable
class WithFeatures(Protocol):
    """A network whose last hidden state can be read, with ``width`` channels."""

    width: int

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor: ...
    def readout(self, features: Tensor, x: Tensor) -> Tensor: ...


def map_features(max_guidance: float) -> int:
    """Return how many features a flow map adds to the condition of its network."""
    return 2 * _WAVES + (3 if max_guidance > 1 else 0)


def angle_of(schedule: Schedule, t: Tensor, data_std: float) -> Tensor:
    """Return theta = atan(sigma / (alpha s)), with the shape and dtype of ``t``.

    >>> from pushforward.diffusion import StraightLine
    >>> angle_of(StraightLine(), torch.tensor([0.5, 1.0]), 1.0) * 4 / math.pi
    tensor([1., 2.])
    """
    return torch.atan2(schedule.sigma(t), schedule.alpha(t) * data_std)


def time_of(schedule: Schedule, angle: Tensor, data_std: float) -> Tensor:
    """Return the time of an angle, at least t_min and at most 1: the inverse of :func:`angle_of`, in float64.

    >>> from pushforward.diffusion import StraightLine
    >>> time_of(StraightLine(), torch.tensor([math.pi / 4, math.pi / 2]), 1.0).float()
    tensor([0.5000, 1.0000])
    """
    angle = angle.double()
    log_snr = -2 * (angle.tan().abs().clamp(min=1e-30) * data_std).log()
    return schedule.t_of_log_snr(log_snr).clamp(schedule.t_min, 1.0)


class FlowMapNetwork(AbstractDenoiser):
    """A network with two angles: the map X(u, a, b), and the denoiser that it contains.

    Parameters
    ----------
    network : nn.Module
        ``network(x, t, condition)`` with a condition of ``condition_dim`` + ``map_features(max_guidance)`` elements.
    schedule : Schedule
    condition_dim : int
        Length of a condition of the data, 0 for none.
    data_std : float
        s, the standard deviation of the scaled data.
    max_guidance : float
        The largest guidance scale; at 1 the map does not know guidance.
    gaussian_source : bool
        Whether the noise is Gaussian and independent of the data.
    density : bool
        Whether jumps also return the integral of the divergence; needs a network with ``features``.
    states : int
        Number of ``angles``.

    Attributes
    ----------
    high : float
        The angle of t = 1.
    angles : Tensor (states,)
        The angles that the network is trained at, 0 until they are set.

    >>> from pushforward.diffusion import Cosine
    >>> from pushforward.networks import MLPSpec
    >>> network = MLPSpec(width=16, depth=1).build((2,), condition_dim=map_features(1.0))
    >>> flow_map = FlowMapNetwork(network, Cosine())
    >>> flow_map.sample(torch.ones(5, 2), steps=1).shape, flow_map(torch.ones(5, 2), torch.tensor(0.5)).shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        condition_dim: int = 0,
        data_std: float = 1.0,
        max_guidance: float = 1.0,
        gaussian_source: bool = True,
        density: bool = False,
        states: int = 0,
    ) -> None:
        super().__init__()
        if not (0 < data_std < math.inf and 1 <= max_guidance < math.inf):
            raise ValueError(f"data_std must be positive and max_guidance at least 1, got {data_std} and {max_guidance}")
        self.network, self.schedule, self.data_std = network, schedule, float(data_std)
        self.condition_dim, self.max_guidance, self.gaussian_source = condition_dim, float(max_guidance), gaussian_source
        with torch.device("cpu"):  # also where a network is built on the meta device to learn its size
            one = torch.ones((), dtype=torch.float64)
            self.high = float(angle_of(schedule, one, self.data_std))
        self.head: nn.Linear | None = None
        if density:
            if not isinstance(network, WithFeatures):
                raise ValueError(
                    "the density of a flow map needs a network with `features` and `readout`, as MLP and UNet have"
                )
            self.head = nn.Linear(network.width, 1)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.register_buffer("angles", torch.zeros(states))
        self.register_buffer("waves", 2.0 ** torch.arange(_WAVES), persistent=False)

    angles: Tensor
    waves: Tensor

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t], from the map of an angle to itself, without guidance."""
        alpha, sigma = self.schedule.alpha(t) * self.data_std, self.schedule.sigma(t)
        root = (alpha**2 + sigma**2).sqrt()
        u = x_t / widen(root.to(x_t.dtype), x_t)
        raw, _ = self._raw(u, t, torch.zeros_like(t), condition, 1.0)
        cos, sin = (widen((part / root).to(x_t.dtype), x_t) for part in (alpha, sigma))
        return self.data_std * (cos * u + sin * raw)

    def jump(
        self, u: Tensor, a: Tensor, b: Tensor, condition: Tensor | None = None, scale: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return X(u, a, b) and, with a head, L(u, a, b) in nats, (B,).

        Parameters
        ----------
        u : Tensor (B, *D)
        a, b : Tensor () or (B,)
            Angles from 0 to ``high``.
        condition : Tensor (B, K), optional
        scale : Tensor (B,) or float
            The guidance scale w, from 1 to ``max_guidance``.
        """
        raw, hidden = self._raw(u, time_of(self.schedule, a, self.data_std).to(u), (a - b).to(u), condition, scale)
        moved = u + widen((a - b).to(u), u) * raw
        if self.head is None or hidden is None:
            return moved, None
        pooled = hidden if hidden.ndim == 2 else hidden.flatten(2).mean(2)
        return moved, (b - a).to(u) * u[0].numel() * self.head(pooled)[:, 0]

    @torch.no_grad()
    def sample(self, noise: Tensor, *, steps: int = 1, condition: Tensor | None = None, scale: Tensor | float = 1.0) -> Tensor:
        """Return the rows (B, *D) that ``steps`` jumps make of noise."""
        u = noise * math.sin(self.high)
        return self.data_std * self.travel(u, self.high, 0.0, steps, condition, scale)[0]

    def draw(self, noise: Tensor, condition: Tensor | None = None, scale: Tensor | float = 1.0) -> Tensor:
        """Return the rows of one jump from noise, with plain numbers as times, as a graph needs them."""
        u = noise * math.sin(self.high)
        raw, _ = self._raw(u, torch.ones(()), torch.full((), self.high), condition, scale)
        return self.data_std * (u + self.high * raw)

    @torch.no_grad()
    def encode(
        self, x: Tensor, *, steps: int = 1, condition: Tensor | None = None, scale: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return the noise of clean rows x (B, *D), the inverse of :meth:`sample`, and the integral of the divergence (B,)."""
        u, integral = self.travel(x / self.data_std, 0.0, self.high, steps, condition, scale)
        return u / math.sin(self.high), integral

    def split(self, given: Tensor | None) -> tuple[Tensor | None, Tensor | float]:
        """Return the condition and the guidance scale of rows (B, K + 1), or (B, K) for a map without guidance."""
        if given is None or self.max_guidance == 1:
            return given, 1.0
        return given[:, :-1], given[:, -1]

    def travel(
        self,
        u: Tensor,
        begin: float,
        end: float,
        steps: int,
        condition: Tensor | None = None,
        scale: Tensor | float = 1.0,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the state at the angle ``end`` after ``steps`` jumps, and the integral of the divergence.

        The jumps are nearly equal: between them are the nearest angles that the network is trained at, if there are enough.
        """
        total = None
        for a, b in itertools.pairwise(self._between(begin, end, steps).to(u.device)):
            u, change = self.jump(u, a, b, condition, scale)
            total = change if total is None or change is None else total + change
        return u, total

    def _between(self, begin: float, end: float, steps: int) -> Tensor:
        """Return ``steps`` + 1 angles from ``begin`` to ``end``."""
        even = torch.linspace(begin, end, steps + 1, dtype=torch.float64)
        if steps == 1 or not bool(self.angles.any()):
            return even
        known = self.angles.double().cpu()
        near = known[(even[1:-1, None] - known).abs().argmin(1)]
        chosen = torch.cat((even[:1], near, even[-1:]))
        return chosen if len(set(chosen.tolist())) == steps + 1 else even

    def _raw(
        self, u: Tensor, t: Tensor, delta: Tensor, condition: Tensor | None, scale: Tensor | float
    ) -> tuple[Tensor, Tensor | None]:
        """Return F and, with a head, the last hidden state."""
        rows = u.shape[0]  # not len, which would fix the size of a batch in an exported graph
        given = [u.new_zeros(rows, self.condition_dim) if condition is None else condition.to(u)] if self.condition_dim else []
        phase = delta.to(u).expand(rows)[:, None] * self.waves.to(u)
        given += [phase.sin(), phase.cos() - 1]
        if self.max_guidance > 1:
            share = (torch.as_tensor(scale, device=u.device).to(u).expand(rows)[:, None] - 1) / (self.max_guidance - 1)
            given += [share, (math.pi * share).sin(), (math.pi * share).cos() - 1]
        features, t = torch.cat(given, 1), t.to(u).expand(rows)
        if self.head is None or not isinstance(self.network, WithFeatures):
            if isinstance(self.network, WithVariances):
                return self._of_variances(self.network.parts(u, t, features), u, t), None
            raw: Tensor = self.network(u, t, features)
            return raw.to(u), None
        hidden = self.network.features(u, t, features)
        return self.network.readout(hidden, u).to(u), hidden.to(u)

    def _of_variances(self, parts: tuple[Tensor, Tensor], u: Tensor, t: Tensor) -> Tensor:
        """Return F of a network that predicts variances: u is x_t, scaled to unit variance."""
        root = ((self.schedule.alpha(t) * self.data_std) ** 2 + self.schedule.sigma(t) ** 2).sqrt()
        x_t = widen(root.to(u), u) * u
        return with_variances(parts, x_t, t, schedule=self.schedule, prediction="edm", data_std=self.data_std)
