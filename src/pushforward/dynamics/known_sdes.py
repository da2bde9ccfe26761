r"""Two SDEs with solutions in closed form, to test methods against.

    Ornstein-Uhlenbeck           dx = rate (mean - x) dt + scale dW
    geometric Brownian motion    dx = drift x dt + volatility x dW

References
----------
George E. Uhlenbeck, Leonard S. Ornstein. On the theory of the Brownian motion. Physical Review, 1930.
Bernt Oksendal. Stochastic differential equations, chapter 5. Springer, 2003.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.dynamics.sde import SDE, WienerPath

__all__ = ["GeometricBrownian", "OrnsteinUhlenbeck"]


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """The equation dx = rate (mean - x) dt + scale dW, coordinate by coordinate; rate > 0, scale >= 0.

    The law at time t from a fixed start is Gaussian, and it converges to N(mean, scale^2 / (2 rate)).

    >>> law = OrnsteinUhlenbeck(rate=1.0, mean=0.0, scale=1.0)
    >>> law.stationary_variance, round(law.transition_variance(1.0), 4)
    (0.5, 0.4323)
    """

    rate: float
    mean: float
    scale: float

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, but is {self.rate:g}")
        if not self.scale >= 0:
            raise ValueError(f"scale must be at least 0, but is {self.scale:g}")

    @property
    def sde(self) -> SDE:
        """The equation, for :func:`~pushforward.dynamics.sde.integrate`."""
        return SDE(lambda x, t: self.rate * (self.mean - x), lambda x, t: self.scale)

    @property
    def stationary_variance(self) -> float:
        """Variance of the stationary law, scale^2 / (2 rate)."""
        return self.scale**2 / (2 * self.rate)

    def transition_mean(self, x: Tensor, t: float) -> Tensor:
        """E[x(t) | x(0) = x] = mean + (x - mean) exp(-rate t), elementwise."""
        return self.mean + (x - self.mean) * math.exp(-_elapsed(t) * self.rate)

    def transition_variance(self, t: float) -> float:
        """Var[x(t) | x(0)] = scale^2 (1 - exp(-2 rate t)) / (2 rate)."""
        return -math.expm1(-2 * self.rate * _elapsed(t)) * self.stationary_variance


@dataclass(frozen=True)
class GeometricBrownian:
    """The equation dx = drift x dt + volatility x dW, coordinate by coordinate; x stays positive if it starts so.

    By Ito's formula the drift of log x is drift - volatility^2 / 2:
    x(t) = x exp((drift - volatility^2 / 2) t + volatility W_t).

    >>> law = GeometricBrownian(drift=0.05, volatility=0.2)
    >>> round(law.transition_mean(torch.ones(()), 1.0).item(), 4), round(law.log_drift, 4)
    (1.0513, 0.03)
    """

    drift: float
    volatility: float

    @property
    def sde(self) -> SDE:
        """The equation, for :func:`~pushforward.dynamics.sde.integrate`."""
        return SDE(lambda x, t: self.drift * x, lambda x, t: self.volatility * x)

    @property
    def log_drift(self) -> float:
        """Drift of log x, drift - volatility^2 / 2; log x(t) is N(log x + log_drift t, volatility^2 t)."""
        return self.drift - 0.5 * self.volatility**2

    def transition_mean(self, x: Tensor, t: float) -> Tensor:
        """E[x(t) | x(0) = x] = x exp(drift t), elementwise."""
        return x * math.exp(self.drift * _elapsed(t))

    def transition_variance(self, x: Tensor, t: float) -> Tensor:
        """Var[x(t) | x(0) = x] = x^2 exp(2 drift t) (exp(volatility^2 t) - 1), elementwise."""
        return self.transition_mean(x, t) ** 2 * math.expm1(self.volatility**2 * t)

    def along(self, x: Tensor, path: WienerPath) -> Tensor:
        """Exact solution (T, B, *D) from ``x`` (B, *D) at the first time, driven by the given Wiener path."""
        elapsed = (path.times - path.times[0]).to(x).reshape(-1, *[1] * x.ndim)
        return x * torch.exp(self.log_drift * elapsed + self.volatility * path.values.to(x))


def _elapsed(t: float) -> float:
    if not t >= 0:
        raise ValueError(f"t is the time that passed and at least 0, but is {t:g}")
    return t
