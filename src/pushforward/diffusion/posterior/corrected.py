"""Methods that correct E[x | x_t] by a linear map of the residual, and work with any sampler."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.guidance import signal_time
from pushforward.diffusion.posterior.method import FREE_ITERATIONS, InverseProblem, PosteriorMethod, solve
from pushforward.diffusion.posterior.operators import Observation, pullback
from pushforward.diffusion.samplers.ancestral import DDIM
from pushforward.diffusion.samplers.table import Sampler
from pushforward.diffusion.schedule import widen
from pushforward.probability.counts import check_count

__all__ = ["MMPS", "DiffPIR", "PiGDM", "PosteriorDenoiser"]


@dataclass(frozen=True)
class _Corrected(PosteriorMethod):
    """Base of methods that correct D by a linear map of the residual and run a sampler with the corrected denoiser."""

    sampler: Sampler = field(default=DDIM(eta=1.0))

    def _run(self, problem: InverseProblem) -> Tensor:
        p = problem
        posterior = PosteriorDenoiser(p.denoiser, p.observation, self)
        return self.sampler.run(posterior, p.noise, steps=p.steps, condition=p.condition, seed=p.seed, first=p.first)

    @abc.abstractmethod
    def _correct(self, posterior: "PosteriorDenoiser", x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return the method's E[x | x_t, y]."""


class PosteriorDenoiser(AbstractDenoiser):
    """The denoiser of the law of x given y, as approximated by a method.

    Parameters
    ----------
    denoiser : AbstractDenoiser
    observation : Observation
    method : MMPS, PiGDM or DiffPIR
    """

    def __init__(self, denoiser: AbstractDenoiser, observation: Observation, method: _Corrected) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.observation = observation
        self.method = method
        self.calls = method.passes(1) * denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t, y]."""
        return self.method._correct(self, x_t, signal_time(self.schedule, t), condition)

    def take(self, rows: Tensor) -> "PosteriorDenoiser":
        """Return the denoiser of some rows of the batch."""
        y = self.observation.y
        observation = replace(self.observation, y=y[rows.to(y.device)]) if len(y) > 1 else self.observation
        return PosteriorDenoiser(self.denoiser.take(rows), observation, self.method)

    def linearized(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return D, and the product of a row with V = Cov[x | x_t] = (sigma^2 / alpha) J^T."""
        denoised, pull = pullback(lambda x: self.denoiser(x, t, condition), x_t)
        factor = widen((self.schedule.sigma(t) ** 2 / self.schedule.alpha(t)).to(x_t.dtype), x_t)
        return denoised, lambda v: factor * pull(v)


@dataclass(frozen=True)
class MMPS(_Corrected):
    """Moment matching: p(y | x_t) is approximated by the Gaussian with the exact mean and covariance. The default.

    Its remaining error at 40 passes per row is mostly that of the Gaussian in place of p(y | x_t), which gives the modes of a
    posterior wrong weights; more steps hardly reduce it.

    Parameters
    ----------
    sampler : Sampler
        Fresh noise corrects errors, so the default is better than ``DDIM(eta=0.0)``.
    iterations : int
        Conjugate-residual iterations, at least 1; each is one backward pass through the network. Many measurements with little
        noise need more (5); more iterations than measurements are useless.

    >>> from pushforward.diffusion import ExactDenoiser, LinearBeta, Matrix, observe
    >>> from pushforward.probability import Gaussian, noise
    >>> law = Gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
    >>> seen = observe(Matrix([[1.0, 0.0]]), [2.0], 0.1, (2,))
    >>> z = noise.normal((2,), seed=0, purpose="doc", rows=2000, dtype=torch.float64)
    >>> x = MMPS(iterations=1).run(ExactDenoiser(law, LinearBeta()), seen, z, steps=50, seed=0)
    >>> [round(value, 1) for value in x.mean(0).tolist()]
    [2.0, 1.8]
    """

    iterations: int = 3

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    def passes(self, steps: int) -> int:
        """1 + iterations per step."""
        return steps * (1 + self.iterations)

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        denoised, covariance = posterior.linearized(x_t, t, condition)
        seen = posterior.observation
        return denoised + solve(seen, seen.residual(denoised), covariance, x_t, self.iterations)[1]


@dataclass(frozen=True)
class PiGDM(_Corrected):
    """Pseudoinverse guidance: in the likelihood the covariance of x given x_t is approximated by r^2 times the identity.

    Parameters
    ----------
    sampler : Sampler
    data_std : float, optional
        Standard deviation s of the data; default that of the denoiser, otherwise 1.
    """

    data_std: float | None = None

    def passes(self, steps: int) -> int:
        """2 per step."""
        return 2 * steps

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        denoised, covariance = posterior.linearized(x_t, t, condition)
        std = float(getattr(posterior.denoiser, "data_std", 1.0)) if self.data_std is None else self.data_std
        alpha, sigma = posterior.schedule.alpha(t), posterior.schedule.sigma(t)
        r2 = widen((sigma**2 * std**2 / (alpha**2 * std**2 + sigma**2)).to(x_t.dtype), x_t)
        seen = posterior.observation
        v, _ = solve(seen, seen.residual(denoised), lambda u: r2 * u, x_t, FREE_ITERATIONS)
        return denoised + covariance(seen.pull(v, x_t))


@dataclass(frozen=True)
class DiffPIR(_Corrected):
    """Plug and play: D is moved to the minimizer of |y - A x|^2 / R + |x - D|^2 / v, v = (sigma / alpha)^2 / pull.

    Parameters
    ----------
    sampler : Sampler
    pull : float
        Positive; larger trusts the denoiser more and the measurement less.
    """

    pull: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.pull < math.inf:
            raise ValueError(f"pull must be positive, got {self.pull}")

    def passes(self, steps: int) -> int:
        """1 per step."""
        return steps

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        denoised = posterior.denoiser(x_t, t, condition)
        v = widen((posterior.schedule.noise_level(t) ** 2 / self.pull).to(x_t.dtype), x_t)
        seen = posterior.observation
        corrected: Tensor = denoised + solve(seen, seen.residual(denoised), lambda u: v * u, x_t, FREE_ITERATIONS)[1]
        return corrected
