r"""Comparison of samplers: error against the exact probability flow, at equal numbers of network calls.

A :class:`Problem` holds noises z_i and the data x_i to which the exact flow maps them. A sampler that maps them to y_i has the
error

    sqrt( mean over rows i and dimensions d of (y_id - x_id)^2 ),

with the largest number of steps within the allowed calls. For a law with several modes, a noise near the border between two of
them may end in the wrong one; a few such rows dominate the error, which then depends on the noises. The median over the rows is
the error of a typical row and hardly depends on the noises.

Only deterministic samplers can be compared like this: the results of a stochastic one differ each time.

:func:`benchmark_law` returns the laws of the public table. They differ on purpose: a sampler that is good on only one of them
is tuned to that law.
"""

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser, ExactDenoiser, Law
from pushforward.diffusion.samplers.ancestral import DDIM
from pushforward.diffusion.samplers.calibrated import CalibratedSampler
from pushforward.diffusion.samplers.calibration import calibrate
from pushforward.diffusion.samplers.default import default_sampler
from pushforward.diffusion.samplers.grid import KarrasGrid, LogSNRGrid, UniformGrid, VPGrid, check_steps
from pushforward.diffusion.samplers.multistep import DEIS, AngleSolver, DPMSolver, UniPC
from pushforward.diffusion.samplers.quality import exact_flow
from pushforward.diffusion.samplers.runge_kutta import RK4, Heun
from pushforward.diffusion.samplers.table import Sampler, TableSampler
from pushforward.diffusion.schedule import DiscreteBeta, Schedule
from pushforward.probability import GaussianMixture
from pushforward.probability.counts import check_count
from pushforward.probability.noise import normal

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CALLS",
    "LAWS",
    "LawName",
    "Measurement",
    "Problem",
    "benchmark_law",
    "benchmark_samplers",
    "check_comparable",
    "compare",
    "steps_within",
]

LawName = Literal["digits", "photos", "broad", "spiky"]
LAWS: tuple[LawName, ...] = ("digits", "photos", "broad", "spiky")
CALLS = (5, 8, 10, 15, 20, 30, 50)

_SCHEDULE = DiscreteBeta()
_FITTED_TO = 2048


@dataclass(frozen=True)
class Measurement:
    """One cell of the table.

    Attributes
    ----------
    solver : str
    calls : int
        Network calls allowed: the column.
    steps : int
        Steps taken.
    nfe : int
        Network calls made, at most ``calls``.
    error : float
        Root mean square error per dimension.
    median : float
        Median over the rows of the root mean square error of each.
    """

    solver: str
    calls: int
    steps: int
    nfe: int
    error: float
    median: float


@dataclass(frozen=True, eq=False)
class Problem:
    """A denoiser, noises, and the data to which the flow maps them.

    Attributes
    ----------
    denoiser : AbstractDenoiser
    noise : Tensor (B, *D)
    exact : Tensor (B, *D)
    others : Tensor (N, *D)
        Other noises, for fitting.
    condition : Tensor (B, K), optional
    other_conditions : Tensor (N, K), optional
    """

    denoiser: AbstractDenoiser
    noise: Tensor
    exact: Tensor
    others: Tensor
    condition: Tensor | None = None
    other_conditions: Tensor | None = None

    @classmethod
    def of_law(
        cls, law: Law, *, schedule: Schedule = _SCHEDULE, rows: int = 128, seed: int = 0, fine_steps: int = 400
    ) -> "Problem":
        """Return the problem of a law with a known denoiser, in float64.

        Parameters
        ----------
        law : Law
        schedule : Schedule
        rows : int
            Number of noises, at least 1.
        seed : int
            Seed of the noises: those of ``torch.Generator().manual_seed(seed)``.
        fine_steps : int
            Steps of :func:`exact_flow`; 400 are accurate to about 1e-6 on the laws here.
        """
        check_count("rows", rows)
        # Torch's own stream: benchmarks/sampler_quality.py measures other libraries on these noises.
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(rows, law.dim, dtype=torch.float64, generator=generator)
        others = normal((law.dim,), seed=seed, purpose="benchmark-fit", rows=_FITTED_TO, dtype=torch.float64)
        exact = exact_flow(law, schedule, noise, steps=fine_steps)
        return cls(ExactDenoiser(law, schedule), noise, exact, others)

    def measure(self, name: str, sampler: Sampler, calls: int) -> Measurement:
        """Return the cell of one sampler with at most ``calls`` calls.

        >>> from pushforward.probability import Gaussian
        >>> from pushforward.diffusion import Heun
        >>> problem = Problem.of_law(Gaussian([0.0], 4.0), rows=8, fine_steps=100)
        >>> cell = problem.measure("heun", Heun(), 8)
        >>> cell.steps, cell.nfe
        (4, 7)
        """
        solver = check_comparable(sampler)
        steps = steps_within(solver, calls)
        result = solver.run(self.denoiser, self.noise, steps=steps, condition=self.condition)
        squares = (result.double() - self.exact.double()).square().flatten(1).mean(1)
        error, median = squares.mean().sqrt().item(), squares.median().sqrt().item()
        return Measurement(name, calls, steps, solver.nfe(steps), error, median)

    def calibrated(self, calls: int) -> Measurement:
        """Return the cell of the table of ``calls`` steps, at least 2, fitted to this denoiser on the other noises."""
        fitted = calibrate(self.denoiser, self.others, steps=calls, condition=self.other_conditions)
        return self.measure("calibrated", fitted.sampler, calls)


def compare(problem: Problem, samplers: Mapping[str, Sampler], calls: Iterable[int] = CALLS) -> Iterator[Measurement]:
    """Yield the cells of the default sampler, named "default", and of ``samplers``, one by one.

    Raises
    ------
    TypeError, ValueError
        If one of the samplers is stochastic or chooses its own steps, before any is run.

    >>> from pushforward.diffusion import DPMSolver
    >>> problem = Problem.of_law(benchmark_law("broad"), rows=16, fine_steps=100)
    >>> default, other = compare(problem, {"dpm": DPMSolver()}, calls=[10])
    >>> default.error < other.error
    True
    """
    for sampler in samplers.values():
        check_comparable(sampler)
    calls = tuple(calls)
    return _cells(problem, samplers, calls)


def _cells(problem: Problem, samplers: Mapping[str, Sampler], calls: tuple[int, ...]) -> Iterator[Measurement]:
    for allowed in calls:
        yield problem.measure("default", default_sampler(allowed), allowed)
    for name, sampler in samplers.items():
        for allowed in calls:
            yield problem.measure(name, sampler, allowed)


def check_comparable(sampler: Sampler) -> TableSampler:
    """Return a sampler whose results can be compared noise by noise at equal calls; raise for others."""
    if not isinstance(sampler, TableSampler):
        raise TypeError(f"{sampler} chooses its own number of calls, so it cannot be compared at equal calls")
    if isinstance(sampler, CalibratedSampler):  # has one grid, and no noise
        return sampler
    if sampler.table(_SCHEDULE, UniformGrid()(_SCHEDULE, 2)).stochastic:
        raise ValueError(
            f"{sampler} draws noise, so its results cannot be compared one by one with those of the exact flow; "
            "use a deterministic sampler, such as DPMSolver() or DDIM()"
        )
    return sampler


def steps_within(sampler: TableSampler, calls: int) -> int:
    """Return the largest number of steps with at most ``calls`` network calls.

    >>> steps_within(DPMSolver(), 8), steps_within(Heun(), 8), steps_within(RK4(), 8)
    (8, 4, 2)
    """
    check_steps(calls)
    return next(steps for steps in range(calls, 0, -1) if sampler.nfe(steps) <= calls)


def benchmark_samplers() -> dict[str, TableSampler]:
    """Return the samplers of the public table by name: one of each kind on ``VPGrid``, and some on other grids.

    >>> list(benchmark_samplers())[:3]
    ['Angle 2', 'Angle 4', 'UniPC 3']
    """
    grid = VPGrid()
    return {
        "Angle 2": AngleSolver(order=2),
        "Angle 4": AngleSolver(order=4),
        "UniPC 3": UniPC(order=3, grid=grid),
        "DPM++ 2": DPMSolver(order=2, grid=grid),
        "DPM++ 3": DPMSolver(order=3, grid=grid),
        "DEIS 3": DEIS(order=3, grid=grid),
        "DDIM": DDIM(grid=grid),
        "Heun": Heun(grid=grid),
        "RK4": RK4(grid=grid),
        "DPM++ 2, uniform": DPMSolver(order=2),
        "DPM++ 2, Karras": DPMSolver(order=2, grid=KarrasGrid()),
        "UniPC 2, log-SNR": UniPC(order=2, grid=LogSNRGrid()),
    }


@functools.cache
def benchmark_law(name: str) -> GaussianMixture:
    """Return a law of the public table.

    Parameters
    ----------
    name : str
        "digits": 30 Gaussians with diagonal covariances, fitted to scikit-learn's digits at x / 8 - 1, in 64 dimensions.
        "photos": 12 Gaussians fitted to grey patches of 8 x 8 pixels from scikit-learn's two photographs, standardized.
        "broad": two wide Gaussians in the plane. "spiky": twelve round spikes of variance 1e-3 in eight dimensions.

    Raises
    ------
    ValueError
        If there is no law of that name.

    >>> benchmark_law("spiky").dim
    8
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        return _fitted(load_digits().data / 8 - 1, 30, "diag", 2e-3)
    if name == "photos":
        return _fitted(_patches(), 12, "full", 1e-3)
    if name == "broad":
        covs = [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]]]
        return GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.5]], covs)
    if name == "spiky":  # NumPy's stream, for the same reason as the noises of a problem
        return GaussianMixture(np.full(12, 1 / 12), np.random.default_rng(0).normal(size=(12, 8)), np.full(12, 1e-3))
    raise ValueError(f"there is no law {name!r} to compare samplers on; use one of {', '.join(LAWS)}")


def _patches() -> "NDArray[np.float64]":
    from sklearn.datasets import load_sample_images

    size, apart = 8, 9
    windows = [
        np.lib.stride_tricks.sliding_window_view(image.astype(float).mean(2), (size, size))[::apart, ::apart]
        for image in load_sample_images().images
    ]
    patches = np.concatenate([window.reshape(-1, size * size) for window in windows])
    standardized: NDArray[np.float64] = (patches - patches.mean()) / patches.std()
    return standardized


def _fitted(x: "NDArray[np.float64]", count: int, kind: str, least: float) -> GaussianMixture:
    from sklearn.mixture import GaussianMixture as Fit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence does not matter: any mixture is a law
        fit = Fit(count, covariance_type=kind, reg_covar=least, random_state=0).fit(x)
    return GaussianMixture(fit.weights_ / fit.weights_.sum(), fit.means_, fit.covariances_)
