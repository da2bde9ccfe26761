"""Plots of diffusion, on laws with a known score and denoiser."""

import functools
import math
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pushforward import plots
from pushforward.data import open_data
from pushforward.diffusion import (
    DDIM,
    DDPM,
    RK4,
    Cosine,
    ExactDenoiser,
    Heun,
    LinearBeta,
    Sampler,
    Schedule,
    StraightLine,
    UniformGrid,
)
from pushforward.diffusion.samplers.benchmark import Problem, benchmark_law, benchmark_samplers, compare
from pushforward.gallery.pen import Slider, bare, level_map
from pushforward.probability import GaussianMixture, noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "noised_digit",
    "forward_diffusion",
    "reverse_diffusion",
    "probability_flow",
    "noise_to_data",
    "score_field",
    "sampler_errors",
]

SCHEDULE = Cosine()
LAW = GaussianMixture([0.35, 0.65], [[-1.4], [1.0]], covs=[0.03, 0.05])
STEPS = 200
PATHS = 20
REACH = 4.2  # no path goes farther
_SCHEDULES = (SCHEDULE, StraightLine(), LinearBeta())
_SCHEDULE = Slider.of("schedule", "cosine", "straight line", "linear beta")
_FLOWS = (RK4(), Heun(), DDIM())
COMPARED = ("UniPC 3", "DPM++ 2", "DPM++ 3", "DEIS 3", "DDIM", "Heun")


def noised_digit(moment: float | None = None, schedule: Annotated[float, _SCHEDULE] = 0) -> "Figure":
    """The forward process on images: x_t = α x + σ ε, from a digit at t = 0 to noise at t = 1."""
    shown = 8 if moment is None else max(1, round(8 * moment))
    digits = torch.as_tensor(open_data("digits").values)[[0, 13, 2]].double() / 8 - 1
    eps = noise.normal((8, 8), seed=4, purpose="noised digit", rows=3, dtype=torch.float64)
    canvas = plots.figure(10.4, 4.2)
    for column, t in enumerate(torch.linspace(0, 1, 8, dtype=torch.float64)[:shown]):
        alpha, sigma = _scales(t, _SCHEDULES[round(schedule)])
        for row, x in enumerate(alpha * digits + sigma * eps):
            axes = canvas.add_subplot(3, 8, 8 * row + column + 1)
            axes.imshow(x.numpy(), cmap="gray", vmin=-2, vmax=2)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"t = {t:.2f}\nα {alpha:.2f}  σ {sigma:.2f}", fontsize=8, color=plots.INK)
    return canvas


def forward_diffusion(moment: float | None = None, schedule: Annotated[float, _SCHEDULE] = 0) -> "Figure":
    """The forward diffusion: noise is added until only a Gaussian is left.

    The steps are exact: x_s = (alpha_s / alpha_t) x_t + sqrt(sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2) z for s > t.
    """
    times = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    chosen = _SCHEDULES[round(schedule)]
    return _tube(times, _forward_paths(chosen), "data", "noise", moment, chosen)


def reverse_diffusion(moment: float | None = None, steps: Annotated[float, Slider("steps", 4, 400, 4)] = STEPS) -> "Figure":
    """The reverse diffusion: with the score, the process of adding noise runs backwards, from a Gaussian to data.

    With few steps the ends miss the law of the data: each step takes the law of x_s given x_t for a Gaussian.
    """
    return _tube(*_backward_paths(DDPM(), round(steps)), "noise", "data", moment)


def probability_flow(
    moment: float | None = None,
    sampler: Annotated[float, Slider.of("sampler", "RK4", "Heun", "DDIM")] = 0,
    steps: Annotated[float, Slider("steps", 4, 400, 4)] = STEPS,
) -> "Figure":
    """The probability flow: the same laws at every time as the diffusion, without any noise.

    dx/dt = (α'/α) x − (σ σ' − σ² α'/α) ∇log p_t(x), whose score is exact here. RK4 calls it four times in a step,
    Heun twice, DDIM once.
    """
    return _tube(*_backward_paths(_FLOWS[round(sampler)], round(steps)), "noise", "data", moment)


def noise_to_data(moment: float | None = None) -> "Figure":
    """From noise to data: points drawn from a Gaussian follow the probability flow to two moons."""
    times, states = _moon_paths()
    shown = len(times) if moment is None else max(1, round(moment * len(times)))
    alpha, sigma = _scales(times[shown - 1])
    canvas = plots.figure(9.6, 4.6)
    left = plots.panel(canvas, 1, 2, 1, f"density and points at t = {times[shown - 1]:.2f}")
    # At t = 0 the ridges are thin; a little noise keeps them visible on the grid.
    level_map(left, MOONS.noised(float(alpha), max(float(sigma), 0.02)).log_prob, (-3, 3), (-3, 3))
    left.plot(*states[shown - 1].T.numpy(), ".", color=plots.ACCENT, markersize=3)
    right = plots.panel(canvas, 1, 2, 2, "paths of some points")
    right.plot(states[:shown, :40, 0].numpy(), states[:shown, :40, 1].numpy(), color=plots.DATA, linewidth=0.7)
    right.plot(*states[0, :40].T.numpy(), ".", color=plots.INK, markersize=4)
    right.plot(*states[shown - 1, :40].T.numpy(), ".", color=plots.ACCENT, markersize=5)
    bare(right)
    for axes in (left, right):
        axes.set_xlim(-3, 3)
        axes.set_ylim(-3, 3)
    return canvas


def score_field(t: Annotated[float, Slider("time on the right", 0.05, 0.95, 0.05)] = 0.7) -> "Figure":
    """The score of a mixture at three noise levels: details at low noise, only the direction to the mass at high noise.

    ∇log p_t(x) = (α E[x₀ | x_t = x] − x) / σ²: the arrows point to the mean of what x may have come from.
    """
    angle = torch.arange(5, dtype=torch.float64) * (2 * torch.pi / 5) + 0.3
    law = GaussianMixture([0.2] * 5, torch.stack((angle.cos(), angle.sin()), 1), covs=[0.01] * 5)
    axis = torch.linspace(-2.2, 2.2, 161, dtype=torch.float64)
    coarse = torch.linspace(-2.0, 2.0, 15, dtype=torch.float64)
    canvas = plots.figure(11.4, 4.1)
    for index, time in enumerate((0.15, 0.35, t)):
        alpha, sigma = SCHEDULE.alpha(torch.tensor(time)).item(), SCHEDULE.sigma(torch.tensor(time)).item()
        axes = plots.panel(canvas, 1, 3, index + 1, f"t = {time:g}   (alpha {alpha:.2f}, sigma {sigma:.2f})")
        fine = torch.cartesian_prod(axis, axis)
        density = law.noised(alpha, sigma).log_prob(fine).exp().reshape(161, 161).T
        axes.contourf(axis.numpy(), axis.numpy(), density.numpy(), levels=24, cmap="Blues")
        points = torch.cartesian_prod(coarse, coarse)
        score = law.noised(alpha, sigma).score(points)
        length = score.norm(dim=1, keepdim=True)
        arrows = score / length * length.sqrt() / length.sqrt().max()
        axes.quiver(*points.T, *arrows.T, color=plots.INK, scale=13, width=0.005)
        axes.set_aspect("equal")
        axes.grid(visible=False)
    return canvas


def sampler_errors() -> "Figure":
    """Error of samplers against the exact flow of a mixture fitted to digits, by network calls; the default is bold.

    The root mean square per dimension over 64 noises; ``pushforward bench samplers`` measures more of them.
    """
    problem = Problem.of_law(benchmark_law("digits"), rows=64, fine_steps=60)
    shown = {name: sampler for name, sampler in benchmark_samplers().items() if name in COMPARED}
    curves: dict[str, list[tuple[float, float]]] = {}
    for cell in compare(problem, shown, calls=(5, 8, 12, 20, 35)):
        curves.setdefault(cell.solver, []).append((cell.nfe, cell.error))
    return plots.error_curves(curves, bold="default", labels=("network calls", "root mean square error per dimension"))


@functools.cache
def _forward_paths(schedule: Schedule = SCHEDULE) -> Tensor:
    """Return states (STEPS + 1, PATHS) from data to noise."""
    alpha, sigma = _scales(torch.linspace(0, 1, STEPS + 1, dtype=torch.float64), schedule)
    ratio = alpha[1:] / alpha[:-1]
    spread = (sigma[1:] ** 2 - ratio**2 * sigma[:-1] ** 2).clamp(min=0).sqrt()
    x = LAW.sample(PATHS, seed=3)[:, 0]
    states = [x]
    for step in range(STEPS):
        z = noise.normal((), seed=3, purpose="forward diffusion", rows=PATHS, step=step, dtype=torch.float64)
        x = ratio[step] * x + spread[step] * z
        states.append(x)
    return torch.stack(states)


def _moons() -> GaussianMixture:
    """Return two half circles as a mixture of 24 narrow Gaussians."""
    angle = (torch.arange(12, dtype=torch.float64) + 0.5) * (math.pi / 12)
    upper = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), 1)
    means = torch.cat((upper, -upper)) * 1.2
    return GaussianMixture(torch.full((24,), 1 / 24, dtype=torch.float64), means, covs=torch.full((24,), 0.02))


MOONS = _moons()


@functools.cache
def _moon_paths() -> tuple[Tensor, Tensor]:
    """Return times (T,) and states (T, 400, 2) of the probability flow from noise to the moons."""
    start = noise.normal((2,), seed=0, purpose="noise to data", rows=400, dtype=torch.float64)
    times, states = [1.0], [start]

    def record(row: int, time: float, x: Tensor, denoised: Tensor) -> None:
        if time < times[-1]:
            times.append(time)
            states.append(x)

    RK4().run(ExactDenoiser(MOONS, SCHEDULE), start, times=UniformGrid()(SCHEDULE, 60), on_step=record)
    return torch.tensor(times, dtype=torch.float64), torch.stack(states)


@functools.cache
def _backward_paths(sampler: Sampler, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Return times (T,) and states (T, PATHS) from noise to data, starting at evenly spaced quantiles."""
    levels = (torch.arange(PATHS, dtype=torch.float64) + 0.5) / PATHS
    start = torch.special.ndtri(levels)[:, None]
    times, states = [1.0], [start]

    def record(row: int, time: float, x: Tensor, denoised: Tensor) -> None:
        if time < times[-1]:
            times.append(time)
            states.append(x)

    grid = UniformGrid()(SCHEDULE, steps)
    sampler.run(ExactDenoiser(LAW, SCHEDULE), start, times=grid, seed=1, on_step=record)
    return torch.tensor(times), torch.stack(states)[..., 0]


def _tube(times: Tensor, paths: Tensor, left: str, right: str, moment: float | None, schedule: Schedule = SCHEDULE) -> "Figure":
    """Draw paths over the density at each time, between the laws at the first and the last time."""
    canvas = plots.figure(9.6, 4.4)
    grid = canvas.add_gridspec(1, 3, width_ratios=(1, 6, 1))
    x = torch.linspace(-REACH, REACH, 501, dtype=torch.float64)
    across = torch.linspace(0, 1, 121, dtype=torch.float64)
    alpha, sigma = _scales(across, schedule)
    field = torch.stack(
        [LAW.noised(a, s).log_prob(x[:, None]).exp() for a, s in zip(alpha.tolist(), sigma.tolist(), strict=True)]
    )
    middle = canvas.add_subplot(grid[1])
    # The square root shows the wide law of the noise and the narrow peaks of the data on one scale.
    middle.pcolormesh(across.numpy(), x.numpy(), field.sqrt().T.numpy(), cmap="Blues", shading="gouraud", rasterized=True)
    shown = len(times) if moment is None else max(2, round(moment * len(times)))
    middle.plot(times[:shown], paths[:shown], color=plots.INK, linewidth=0.8, alpha=0.6)
    middle.plot(
        times[shown - 1].expand(PATHS), paths[shown - 1], "o", color=plots.ACCENT, markersize=4, clip_on=False, zorder=5
    )
    middle.set_xlim(float(times[0]), float(times[-1]))
    middle.set_ylim(-REACH, REACH)
    middle.set_xlabel("time t", color=plots.INK)
    middle.set_yticks([])
    middle.spines[:].set_visible(False)
    for column, edge, title in ((0, times[0], left), (2, times[-1], right)):
        side = canvas.add_subplot(grid[column], sharey=middle)
        a, s = (float(value) for value in _scales(edge, schedule))
        density = LAW.noised(a, s).log_prob(x[:, None]).exp()
        side.fill_betweenx(x, 0, density, color=plots.SAMPLES, alpha=0.3, linewidth=0)
        side.plot(density, x, color=plots.SAMPLES, linewidth=1.4)
        side.set_title(title, fontsize=11, color=plots.INK)
        side.set_axis_off()
        if column == 0:
            side.invert_xaxis()
    return canvas


def _scales(t: Tensor, schedule: Schedule = SCHEDULE) -> tuple[Tensor, Tensor]:
    return schedule.alpha(t), schedule.sigma(t)
