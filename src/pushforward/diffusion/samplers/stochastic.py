r"""Samplers of the reverse SDE: fresh noise at every step corrects errors of earlier steps.

They need noise that is Gaussian and independent of the data. With f = alpha_dot / alpha, g^2 = 2 sigma sigma_dot - 2 f sigma^2
and score = (alpha D - x) / sigma^2, every eta in [0, 1] gives a reverse process with the same marginals,

    dx = (f x - (1 + eta^2) / 2 g^2 score) dt + eta g dw,

from the probability-flow ODE at eta = 0 to the reverse SDE at eta = 1.

References
----------
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
Cheng Lu et al. DPM-Solver++. 2022. https://arxiv.org/abs/2211.01095
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pushforward.diffusion.samplers.ancestral import DDIM, EtaSampler
from pushforward.diffusion.samplers.coefficients import Scales, exponential_integrals
from pushforward.diffusion.samplers.grid import Grid, UniformGrid
from pushforward.diffusion.samplers.table import TableBuilder, TableSampler, check_falling
from pushforward.diffusion.schedule import Schedule
from pushforward.probability.counts import check_count

__all__ = ["AnnealedLangevin", "PredictorCorrector", "ReverseSDE", "StochasticDPMSolver"]

_MOST_LANGEVIN = 10_000


@dataclass(frozen=True)
class ReverseSDE(EtaSampler):
    """Euler-Maruyama on the reverse SDE in t, with a share ``eta`` of its noise.

    x_s = x_t + (s - t) (f x_t - (1 + eta^2) / 2 g^2 score) + eta g sqrt(t - s) z

    Where alpha = 0 the drift is infinite; a step from there is the limit of exact steps instead, as in DDIM.

    Parameters
    ----------
    eta : float
        0 is Euler on the probability-flow ODE, 1 the reverse SDE.
    grid : Grid

    >>> ReverseSDE(eta=0.5).order
    1
    """

    eta: float = 1.0

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        if self.eta > 0:
            check_falling(self, times)
        for t, s in itertools.pairwise(times):
            at = torch.tensor(t, dtype=torch.float64)
            alpha, sigma = schedule.alpha(at).item(), schedule.sigma(at).item()
            alpha_dot, sigma_dot = schedule.alpha_dot(at).item(), schedule.sigma_dot(at).item()
            if alpha == 0 and self.eta > 0:
                DDIM(eta=self.eta)._fill(builder, schedule, [t, s])
                continue
            slope_x, slope_d = sigma_dot / sigma, alpha_dot - alpha * sigma_dot / sigma
            noise = {}
            if self.eta > 0:
                g2 = 2 * sigma * (sigma_dot - alpha_dot / alpha * sigma)
                slope_x += 0.5 * self.eta**2 * g2 / sigma**2
                slope_d -= 0.5 * self.eta**2 * g2 * alpha / sigma**2
                noise = {0: self.eta * math.sqrt(max(g2, 0.0) * (t - s))}
            builder.row(t, s, {0: 1 + (s - t) * slope_x}, {0: (s - t) * slope_d}, noise)


@dataclass(frozen=True)
class StochasticDPMSolver(TableSampler):
    """DPM-Solver++ for the reverse SDE, order 1 or 2.

    With lambda = log_snr / 2, h = lambda_s - lambda_t and D the line through its last ``order`` values,

        x_s = (sigma_s / sigma_t) e^-h x_t + 2 alpha_s int e^(2 (lambda - lambda_s)) D d(lambda) + sigma_s sqrt(1 - e^-2h) z.

    Order 1 is DDPM with the variance beta-tilde.

    Parameters
    ----------
    order : int
        1 or 2.
    grid : Grid

    >>> StochasticDPMSolver(order=2).nfe(10)
    10
    """

    order: int = 2
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"the order of StochasticDPMSolver is 1 or 2, got {self.order!r}")

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        check_falling(self, times)
        scales = Scales.of(schedule, times)
        for k in range(len(times) - 1):
            begin, end = scales.lam[k : k + 2]
            nodes = [scales.lam[j] for j in range(k, max(k - self.order, -1), -1)]
            b = {j: 2 * scales.alpha[k + 1] * w for j, w in enumerate(exponential_integrals(nodes, begin, end, rate=2.0))}
            on_x = scales.sigma[k + 1] / scales.sigma[k] * math.exp(begin - end)
            fresh = scales.sigma[k + 1] * math.sqrt(-math.expm1(2 * (begin - end)))
            builder.row(times[k], times[k + 1], {0: on_x}, b, {0: fresh})


@dataclass(frozen=True)
class PredictorCorrector(TableSampler):
    """Steps of a predictor, each followed by Langevin steps at the new noise level.

    A Langevin step at time s leaves its law p_s nearly unchanged and moves the law of the state towards it,

        x <- x + delta score + sqrt(2 delta) z,          delta = 2 (snr sigma_s)^2,

    which is Song et al.'s step with the norm of the score replaced by its typical value sqrt(D) / sigma_s. Each costs one call,
    and biases the variance of x_s by a share of about snr^2.

    Parameters
    ----------
    predictor : TableSampler
        Starts anew at each step, so a multistep method has order 1. Its own grid is ignored.
    corrections : int
        Langevin steps after each predictor step, at least 1.
    snr : float
        Length of the Langevin steps, in (0, 0.7).
    grid : Grid

    >>> PredictorCorrector(corrections=2).nfe(10)  # nine steps of 1 + 2 calls, and the last call
    28
    """

    predictor: TableSampler = field(default=ReverseSDE())
    corrections: int = 1
    snr: float = 0.16
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        _check_langevin("corrections", self.corrections)
        if not 0 < self.snr < 0.7:
            raise ValueError(f"snr must lie between 0 and 0.7, where Langevin steps are stable, got {self.snr}")

    @property
    def order(self) -> int:
        """1: the predictor's error shrinks with the number of steps, the corrector's bias does not."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        check_falling(self, times)
        for t, s in itertools.pairwise(times):
            self.predictor._fill(builder, schedule, [t, s])
            _langevin_rows(builder, schedule, s, step=2 * self.snr**2, count=self.corrections)


@dataclass(frozen=True)
class AnnealedLangevin(TableSampler):
    """Langevin steps alone, at decreasing noise levels: the first sampler of score models.

    At each time s of the grid, from the highest noise to the lowest, ``n_steps`` times

        x <- x + h score + sqrt(2 h) z,          h = step sigma_s^2,

    and finally the denoised prediction. Nothing moves the state between levels, so the levels must be close, or ``n_steps``
    large. It suits the exploding path, where alpha = 1 and :class:`UniformGrid` makes the levels geometric. (Song and Ermon
    write alpha_i = epsilon sigma_i^2 / sigma_L^2 and use alpha_i / 2: step = epsilon / (2 sigma_L^2), which they set to 0.1,
    with 100 steps at each of 10 levels.) It is slower than a solver of the flow.

    Parameters
    ----------
    step : float
        Dimensionless, in (0, 1). The relative error of the variance is up to about step / 2.
    n_steps : int
        Langevin steps at each level, at least 1.
    grid : Grid

    References
    ----------
    Yang Song, Stefano Ermon. Generative modeling by estimating gradients of the data distribution. 2019.
    https://arxiv.org/abs/1907.05600
    Alexia Jolicoeur-Martineau et al. Adversarial score matching and improved sampling for image generation. 2021.
    https://arxiv.org/abs/2009.05475  (the denoised prediction at the end)

    >>> AnnealedLangevin(n_steps=3).nfe(10)  # nine levels below the first, and the last call
    28
    """

    step: float = 0.1
    n_steps: int = 5
    grid: Grid = field(default=UniformGrid())

    def __post_init__(self) -> None:
        if not 0 < self.step < 1:
            raise ValueError(f"step must lie between 0 and 1, where Langevin steps are stable, got {self.step}")
        _check_langevin("n_steps", self.n_steps)

    @property
    def order(self) -> int:
        """1, as for :class:`PredictorCorrector`."""
        return 1

    def _fill(self, builder: TableBuilder, schedule: Schedule, times: Sequence[float]) -> None:
        check_falling(self, times)
        for s in times[1:]:
            _langevin_rows(builder, schedule, s, step=self.step, count=self.n_steps)


def _langevin_rows(builder: TableBuilder, schedule: Schedule, s: float, *, step: float, count: int) -> None:
    """Append ``count`` steps x + h score + sqrt(2 h) z at time s, with h = step sigma^2 and score = (alpha D - x) / sigma^2."""
    at = torch.tensor(s, dtype=torch.float64)
    alpha, sigma = schedule.alpha(at).item(), schedule.sigma(at).item()
    for _ in range(count):
        builder.row(s, s, {0: 1 - step}, {0: step * alpha}, {0: sigma * math.sqrt(2 * step)})


def _check_langevin(name: str, count: int) -> None:
    """Raise a TypeError or ValueError unless this is a number of Langevin steps that a table can hold."""
    if check_count(name, count) > _MOST_LANGEVIN:
        raise ValueError(f"{name} must be at most {_MOST_LANGEVIN:,}, got {count}; more levels do more than more steps at each")
