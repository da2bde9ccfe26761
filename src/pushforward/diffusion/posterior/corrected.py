"""Methods that correct E[x | x_t] by a linear map of the residual, and work with any sampler."""

import abc
import itertools
import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.guidance import signal_time
from pushforward.diffusion.posterior.chain import Chain
from pushforward.diffusion.posterior.krylov import root, solve, solve_isotropic
from pushforward.diffusion.posterior.method import InverseProblem, PosteriorMethod
from pushforward.diffusion.posterior.moments import TOP_LEVEL, moments, top_time
from pushforward.diffusion.posterior.operators import Observation
from pushforward.diffusion.samplers.ancestral import DDIM
from pushforward.diffusion.samplers.grid import SinhGrid
from pushforward.diffusion.samplers.table import Sampler
from pushforward.diffusion.schedule import widen
from pushforward.probability.counts import check_count

__all__ = ["MMPS", "DiffPIR", "PiGDM", "PosteriorDenoiser"]


_ROOTS = 2  # products with V in a draw of N(0, V)


@dataclass(frozen=True)
class _Corrected(PosteriorMethod):
    """Base of methods that correct D by a linear map of the residual and run a sampler with the corrected denoiser."""

    def _follow(self, sampler: Sampler, problem: InverseProblem) -> Tensor:
        p = problem
        posterior = PosteriorDenoiser(p.denoiser, p.observation, self)
        return sampler.run(posterior, p.noise, steps=p.steps, condition=p.condition, seed=p.seed, first=p.first)

    @property
    @abc.abstractmethod
    def cost(self) -> int:
        """Network passes per row of one correction."""

    def passes(self, steps: int) -> int:
        """``cost`` per step."""
        return steps * self.cost

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
        self.calls = method.cost * denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t, y]."""
        return self.method._correct(self, x_t, t, condition)

    def take(self, rows: Tensor) -> "PosteriorDenoiser":
        """Return the denoiser of some rows of the batch."""
        y = self.observation.y
        observation = replace(self.observation, y=y[rows.to(y.device)]) if len(y) > 1 else self.observation
        return PosteriorDenoiser(self.denoiser.take(rows), observation, self.method)


@dataclass(frozen=True)
class MMPS(_Corrected):
    """Moment matching: x given x_t is approximated by the Gaussian with the exact mean D and covariance V. The default.

    Each step draws x from the law of this Gaussian given y, and adds fresh noise to it for the next state,

        x = D + u + V A^T (R + A V A^T)^-1 (y - n - A (D + u)),    u ~ N(0, V),  n ~ N(0, R),      x_s = alpha_s x + sigma_s z,

    (decoupled annealing with Matheron's rule). If x given x_t is Gaussian, as for Gaussian data, every x_s has the right law,
    whatever the number of steps. For other data the error made at one noise level is forgotten at lower ones, where the
    approximation is better: the final error is about half that of a sampler of the corrected flow.

    Parameters
    ----------
    sampler : Sampler, optional
        Runs on the denoiser E[x | x_t, y] in place of these draws, and costs ``1 + iterations`` passes per step. DDIM and DDPM
        give draws that are too narrow unless steps are many, and deterministic samplers do not correct errors.
    iterations : int
        Conjugate-gradient iterations, at least 1; each is one backward pass through the network. Many measurements with little
        noise need more (5 to 10); more iterations than measurements are useless.

    References
    ----------
    Bingliang Zhang et al. Improving diffusion inverse problem solving with decoupled noise annealing. 2024.
    https://arxiv.org/abs/2407.01521

    >>> from pushforward.diffusion import ExactDenoiser, LinearBeta, Matrix, observe
    >>> from pushforward.probability import Gaussian, noise
    >>> law = Gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
    >>> seen = observe(Matrix([[1.0, 0.0]]), [2.0], 0.1, (2,))
    >>> z = noise.normal((2,), seed=0, purpose="doc", rows=2000, dtype=torch.float64)
    >>> x = MMPS(iterations=1).run(ExactDenoiser(law, LinearBeta()), seen, z, steps=10, seed=0)
    >>> [round(value, 1) for value in x.mean(0).tolist()], [round(value, 1) for value in x.std(0).tolist()]
    ([2.0, 1.8], [0.1, 0.4])
    """

    sampler: Sampler | None = None
    iterations: int = 3

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations)

    def passes(self, steps: int) -> int:
        """3 + iterations per step; 1 + iterations with a sampler."""
        return steps * (self.cost + (_ROOTS if self.sampler is None else 0))

    @property
    def cost(self) -> int:
        """1 + iterations."""
        return 1 + self.iterations

    def _run(self, problem: InverseProblem) -> Tensor:
        if self.sampler is not None:
            return self._follow(self.sampler, problem)
        denoiser, seen, chain = problem.denoiser, problem.observation, Chain(problem)
        std = denoiser.data_std
        grid = SinhGrid(center=0.5 * std, sigma_min=0.01 * std, sigma_max=TOP_LEVEL * std)
        times = grid(denoiser.schedule, problem.steps)
        times[0] = top_time(denoiser)
        x_t = problem.noise * denoiser.schedule.sigma(times[0]).item()
        for t, s in itertools.pairwise(times):
            denoised, covariance = moments(denoiser, x_t, t, problem.condition)
            x = denoised + root(covariance, chain.draw(), _ROOTS)
            residual = seen.residual(x) - seen.std.to(x) * chain.draw(tuple(seen.std.shape))
            x = x + solve(seen.around(x), residual, covariance, x, self.iterations)[1]
            if s > 0:
                x_t = chain.noised(x, s)
        return x

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        denoised, covariance = moments(posterior.denoiser, x_t, t, condition)
        seen = posterior.observation
        return denoised + solve(seen.around(denoised), seen.residual(denoised), covariance, x_t, self.iterations)[1]


@dataclass(frozen=True)
class PiGDM(_Corrected):
    """Pseudoinverse guidance: in the likelihood the covariance of x given x_t is approximated by r^2 times the identity.

    Parameters
    ----------
    sampler : Sampler
    data_std : float, optional
        Standard deviation s of the data; default that of the denoiser.
    """

    sampler: Sampler = field(default=DDIM(eta=1.0))
    data_std: float | None = None

    @property
    def cost(self) -> int:
        """2: forward and backward."""
        return 2

    def _run(self, problem: InverseProblem) -> Tensor:
        return self._follow(self.sampler, problem)

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        denoised, covariance = moments(posterior.denoiser, x_t, t, condition)
        std = posterior.denoiser.data_std if self.data_std is None else self.data_std
        t = signal_time(posterior.schedule, t)
        alpha, sigma = posterior.schedule.alpha(t), posterior.schedule.sigma(t)
        r2 = widen((sigma**2 * std**2 / (alpha**2 * std**2 + sigma**2)).to(x_t.dtype), x_t)
        seen = posterior.observation
        near = seen.around(denoised)
        v, _ = solve_isotropic(near, seen.residual(denoised), r2, x_t)
        return denoised + covariance.times(near.pull(v, x_t))


@dataclass(frozen=True)
class DiffPIR(_Corrected):
    """Plug and play: D is moved to the minimizer of |y - A x|^2 / R + |x - D|^2 / v, v = (sigma / alpha)^2 / pull.

    Parameters
    ----------
    sampler : Sampler
    pull : float
        Positive; larger trusts the denoiser more and the measurement less.
    """

    sampler: Sampler = field(default=DDIM(eta=1.0))
    pull: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.pull < math.inf:
            raise ValueError(f"pull must be positive, got {self.pull}")

    @property
    def cost(self) -> int:
        """1: no backward pass."""
        return 1

    def _run(self, problem: InverseProblem) -> Tensor:
        return self._follow(self.sampler, problem)

    def _correct(self, posterior: PosteriorDenoiser, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        t = signal_time(posterior.schedule, t)
        denoised = posterior.denoiser(x_t, t, condition)
        v = widen((posterior.schedule.noise_level(t) ** 2 / self.pull).to(x_t.dtype), x_t)
        seen = posterior.observation
        residual, near = seen.residual(denoised), seen.around(denoised)
        corrected: Tensor = denoised + solve_isotropic(near, residual, v, x_t)[1]
        return corrected
