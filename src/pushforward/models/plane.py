"""What a model of points in the plane has learned, on a grid or along paths, for plots: arrays in the units of the data.

A grid is given by a square, (low, high) of each coordinate, and its number of points per side. Values are arrays (side, side),
rows from low to high y. The law of the data, where it is known, gives the same arrays exactly.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pushforward.diffusion import AbstractDenoiser, ExactDenoiser, Sampler
from pushforward.diffusion.prediction import from_denoised
from pushforward.diffusion.samplers.recording import RecordingSampler
from pushforward.models.base.density import DensityModel
from pushforward.models.base.model import GenerativeModel
from pushforward.models.denoising.base import Denoising
from pushforward.models.denoising.model import DenoisingModel
from pushforward.probability import GaussianMixture, noise
from pushforward.probability.laws.boxes import UniformMixture

__all__ = [
    "ExactAt",
    "Square",
    "critic",
    "density",
    "divergence",
    "field",
    "follows_law",
    "is_plane",
    "law_density",
    "paths",
    "scores_at_once",
]

Law = GaussianMixture | UniformMixture
_Floats = NDArray[np.float64]
_ERROR_ROWS = 2000
_MARGIN = 0.15


@dataclass(frozen=True)
class Square:
    """The part of the plane that a plot shows.

    >>> Square.around(np.array([[0.0, 0.0], [2.0, 1.0]])).grid(2).tolist()[0]
    [-0.3, -0.8]
    """

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, points: _Floats) -> "Square":
        """Return a square around points (N, 2), with a margin, without rare outliers."""
        low, high = (
            np.quantile(points.astype(float), [0.001, 0.999], axis=0) if len(points) > 1000 else (points.min(0), points.max(0))
        )
        half = float((high - low).max()) * (0.5 + _MARGIN) or 1.0
        (a, b), (c, d) = (((low + high) / 2)[i] + np.array([-half, half]) for i in range(2))
        return cls((round(float(a), 9), round(float(b), 9)), (round(float(c), 9), round(float(d), 9)))

    def grid(self, side: int) -> _Floats:
        """Return the points of a grid, (side * side, 2), x running first."""
        across, up = np.meshgrid(np.linspace(*self.x, side), np.linspace(*self.y, side))
        return np.stack((across.ravel(), up.ravel()), 1)


def is_plane(model: GenerativeModel) -> bool:
    """Whether the rows of a model are two real numbers."""
    space = model.space_
    return bool(space.kind.name == "vectors" and space.transform.shape == (2,) and not space.transform.integer.any())


def follows_law(model: Denoising) -> bool:
    """Whether the exact denoiser of the law of the data is what a model with a denoiser learns."""
    return bool(model.denoiser_.gaussian_source)


def scores_at_once(model: GenerativeModel) -> bool:
    """Whether the density of a model is exact, and costs at most one call of a network."""
    if not hasattr(model, "log_prob"):
        return False
    found = model.log_prob(np.zeros((1, 2), _dtype(model)))
    return bool(found.is_exact and found.nfe <= 1)


def paths(
    model: DenoisingModel, n: int, *, steps: int = 24, sampler: Sampler | None = None, seed: int = 0, **options: Any
) -> tuple[_Floats, _Floats]:
    """Return times (S,) from 1 to 0 and the states of n samples at them, (S, n, 2), of a model with a denoiser."""
    recording = RecordingSampler(model.sampler_ if sampler is None else sampler)
    model.sample(n, steps=steps, sampler=recording, seed=seed, batch_size=n, **options)
    states = [model.space_.transform.in_units(state.double()).numpy() for state in recording.states]
    return np.array(recording.times), np.stack(states)


@torch.no_grad()
def field(model: Denoising, points: _Floats, t: float) -> _Floats:
    """Return the direction in which the learned flow moves states (N, 2) at time t towards the data, per unit of time."""
    return _flow(model, model.denoiser_, points, t)


def _flow(model: Denoising, denoiser: AbstractDenoiser, points: _Floats, t: float) -> _Floats:
    time, states = _time(t), _scaled(model, points)
    with torch.no_grad():
        denoised = denoiser(states, time)
    velocity = from_denoised(denoised, states, time, schedule=denoiser.schedule, prediction="velocity")
    return np.asarray(-(velocity.double() * model.space_.transform.pick(model.space_.transform.scale)).numpy())


@dataclass(frozen=True)
class ExactAt:
    """The law of the data at one time of a model with a denoiser: its flow, and how far the model is from it.

    Attributes
    ----------
    t : float
    vectors : array (N, 2)
        :func:`field` of the exact denoiser at some points.
    states, truth : Tensor (M, 2)
        Scaled draws of the law with noise, and their exact denoised means.
    spread : float
        Standard deviation of the scaled law.
    """

    t: float
    vectors: _Floats
    states: Tensor
    truth: Tensor
    spread: float

    @classmethod
    def of(cls, model: Denoising, law: Law, points: _Floats, t: float) -> "ExactAt":
        """Return the law at time t in the schedule and units of a model, with its flow at points (N, 2)."""
        exact, time = _exact(model, law), _time(t)
        x = exact.law.sample(_ERROR_ROWS, seed=0)  # type: ignore[attr-defined]
        eps = noise.normal((2,), seed=0, purpose="states of a law", rows=len(x), dtype=torch.float64)
        states = exact.schedule.alpha(time) * x + exact.schedule.sigma(time) * eps
        spread = float((x - x.mean(0)).square().mean().sqrt())
        return cls(t, _flow(model, exact, points, t), states.float(), exact(states, time), spread)

    @torch.no_grad()
    def error(self, model: Denoising) -> float:
        """Return the root mean square error of the learned denoiser over states of the law, as a share of the law's spread."""
        learned = model.denoiser_(self.states, _time(self.t)).double()
        return float((learned - self.truth).square().mean().sqrt()) / self.spread


def _time(t: float) -> Tensor:
    return torch.tensor(min(max(t, 1e-3), 1 - 1e-3), dtype=torch.float64)


def _exact(model: Denoising, law: Law) -> ExactDenoiser:
    transform = model.space_.transform
    scale, shift = transform.pick(transform.scale), transform.pick(transform.shift)
    return ExactDenoiser(law.affine((1 / scale).diag(), -shift / scale), model.denoiser_.schedule)


def density(model: DensityModel, square: Square, side: int) -> _Floats:
    """Return the density of a model with ``score_samples`` on a grid."""
    points = square.grid(side)
    values: _Floats = np.exp(np.asarray(model.score_samples(points.astype(_dtype(model))), dtype=float))
    return values.reshape(side, side)


def law_density(law: Law, square: Square, side: int) -> _Floats:
    """Return the density of a law on a grid."""
    values: _Floats = law.log_prob(torch.from_numpy(square.grid(side))).exp().numpy()
    return values.reshape(side, side)


def divergence(model: DensityModel, law: Law, n: int = 1000) -> float:
    """Estimate KL(law || model) in nats from n draws of the law, for a model with ``score_samples``."""
    x = law.sample(n, seed=0)
    learned = np.asarray(model.score_samples(x.numpy().astype(_dtype(model))), dtype=float)
    return float(law.log_prob(x).numpy().mean() - learned.mean())


@torch.no_grad()
def critic(model: GenerativeModel, network: nn.Module, square: Square, side: int) -> _Floats:
    """Return the score of the critic of a GAN on a grid: high where it takes points for data, with median 0.

    A critic only compares data with generated rows, so its score is defined up to a constant.
    """
    states = _scaled(model, square.grid(side))
    conditions = model.space_.conditions
    known = None if conditions is None else torch.zeros(len(states), conditions.dim)
    scores = network(states, known)[:, 0].double()
    return np.asarray((scores - scores.median()).numpy()).reshape(side, side)


def _scaled(model: GenerativeModel, points: _Floats) -> Tensor:
    rows = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64))
    scaled: Tensor = model.space_.transform.forward(rows, dtype=torch.float32)
    return scaled


def _dtype(model: GenerativeModel) -> str:
    return str(model.space_.schema.dtypes[0])
