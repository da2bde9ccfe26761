"""Plots of sampling: from uniform numbers to any law, and limits of many draws."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.gallery.pen import Slider, bare, bell, line
from pushforward.probability import Gaussian, GaussianMixture, draw, limits, noise
from pushforward.probability.laws.uniform import TabulatedDensity, Uniform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["box_muller", "inverse_cdf", "rejection", "importance", "large_numbers", "central_limit", "brownian"]

LAW = GaussianMixture([0.4, 0.6], [[-1.1], [0.9]], covs=[0.12, 0.3])


def box_muller(moment: float | None = None, points: Annotated[float, Slider("points", 50, 5000, 50)] = 1500) -> "Figure":
    """Box–Muller: two uniform numbers become an angle and a radius √(−2 ln v), and so two independent Gaussians.

    x = √(−2 ln v) cos 2πu and y = √(−2 ln v) sin 2πu.
    """
    n = round(points)
    shown = n if moment is None else min(n, max(10, round(n * moment)))
    u, v = (noise.uniform((), seed=0, purpose=name, rows=n, dtype=torch.float64)[:shown] for name in ("angle", "radius"))
    x, y = draw.box_muller(u, 1 - v)
    color: dict[str, Any] = {"c": (1 - v).numpy(), "cmap": "viridis", "vmin": 0, "vmax": 1, "s": 7, "linewidths": 0}
    canvas = plots.figure(11.2, 4.0)
    left = plots.panel(canvas, 1, 3, 1, "(u, v) uniform")
    left.scatter(u.numpy(), (1 - v).numpy(), **color)
    left.set_xlabel("u: the angle 2πu")
    left.set_ylabel("v: the radius √(−2 ln v)")
    bare(left)
    middle = plots.panel(canvas, 1, 3, 2, "(x, y) Gaussian")
    middle.scatter(x.numpy(), y.numpy(), **color)
    middle.set_xlim(-4, 4)
    middle.set_ylim(-4, 4)
    bare(middle)
    right = plots.panel(canvas, 1, 3, 3, "x and N(0, 1)")
    edges = np.linspace(-4, 4, 33).tolist()
    right.hist(x.numpy(), edges, density=True, color=plots.DATA, alpha=0.55)
    grid = line(-4, 4)
    bell(right, grid, Gaussian([0.0], 1.0).log_prob(grid[:, None]).exp(), plots.SAMPLES, fill=False)
    right.set_ylim(0, 0.6)
    return canvas


def inverse_cdf() -> "Figure":
    """Inverse CDF: evenly spaced heights, mapped by the inverse of the CDF, are dense where the density is high."""
    grid = line(-2.6, 3.0, 801)
    density = LAW.log_prob(grid[:, None]).exp()
    law = TabulatedDensity(grid, density)
    heights = (torch.arange(24, dtype=torch.float64) + 0.5) / 24
    quantiles = law.quantile(heights)
    canvas = plots.figure(7.0, 5.2)
    top, bottom = plots.panel(canvas, 2, 1, 1, "distribution function"), plots.panel(canvas, 2, 1, 2, "density")
    top.plot(grid.numpy(), law.cdf(grid).numpy(), color=plots.SAMPLES, linewidth=1.8)
    for height, x in zip(heights.tolist(), quantiles.tolist(), strict=True):
        top.plot([-2.6, x, x], [height, height, 0], color=plots.ACCENT, linewidth=0.7)
    top.set_ylim(0, 1.02)
    top.set_ylabel("u uniform")
    bell(bottom, grid, density, plots.SAMPLES)
    bottom.hist(law.sample(4000, seed=0)[:, 0].numpy(), 60, density=True, color=plots.DATA, alpha=0.5)
    bottom.plot(quantiles.numpy(), np.zeros(24), "|", color=plots.ACCENT, markersize=12)
    for axes in (top, bottom):
        axes.set_xlim(-2.6, 3.0)
    return canvas


def rejection() -> "Figure":
    """Rejection sampling: points spread evenly under a bound are accepted if they lie under the target."""
    box, low, high = Uniform([-2.6], [3.0]), -2.6, 3.0
    grid = line(low, high, 801)
    density = LAW.log_prob(grid[:, None]).exp()
    log_bound = math.log(1.02 * float(density.max()) * (high - low))
    accepted = draw.rejection(LAW.log_prob, box, log_bound, 400, seed=0)
    ceiling = math.exp(log_bound) / (high - low)
    # Points under the bound for display only; the sampler does not use them.
    x = box.sample(900, seed=5)[:, 0]
    height = ceiling * noise.uniform((), seed=5, purpose="height", rows=900, dtype=torch.float64)
    under = height <= LAW.log_prob(x[:, None]).exp()
    canvas = plots.figure(7.6, 4.2)
    axes = plots.panel(canvas, 1, 1, 1, f"{accepted.acceptance:.0%} of the proposals are accepted")
    axes.scatter(x[~under].numpy(), height[~under].numpy(), s=9, color=plots.DATA, alpha=0.7, linewidths=0, label="rejected")
    axes.scatter(x[under].numpy(), height[under].numpy(), s=9, color=plots.SAMPLES, alpha=0.8, linewidths=0, label="accepted")
    axes.plot(grid.numpy(), density.numpy(), color=plots.INK, linewidth=1.8, label="target p")
    axes.plot([low, high], [ceiling, ceiling], color=plots.ACCENT, linewidth=1.8, label="bound M q")
    axes.set_ylim(0, 1.25 * ceiling)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper center")
    return canvas


def importance() -> "Figure":
    """Importance sampling: a proposal narrower than the target puts all weight on a few draws, a wider one does not."""
    target, grid = Gaussian([0.0], 1.0), line(-5, 5)
    canvas = plots.figure(9.4, 3.9)
    for index, (std, title) in enumerate(((0.5, "too narrow"), (1.6, "wider than the target"))):
        proposal = Gaussian([0.3], std**2)
        weighted = draw.importance(target.log_prob, proposal, 300, seed=0)
        size = weighted.effective_sample_size
        axes = plots.panel(canvas, 1, 2, index + 1, f"{title}: 300 draws are worth {size:.0f}")
        bell(axes, grid, target.log_prob(grid[:, None]).exp(), plots.SAMPLES, "target")
        bell(axes, grid, proposal.log_prob(grid[:, None]).exp(), plots.DATA, "proposal", fill=False)
        weights = weighted.weights / weighted.weights.max()
        axes.vlines(weighted.samples[:, 0].numpy(), 0, -0.2 * weights.numpy(), color=plots.ACCENT, linewidth=1.0)
        axes.text(-4.8, -0.17, "weights", color=plots.ACCENT, fontsize=9)
        axes.set_xlim(-5, 5)
        axes.set_ylim(-0.22, 0.85)
        axes.legend(frameon=False, fontsize=9)
    return canvas


def large_numbers(draws: Annotated[float, Slider("draws", 100, 20_000, 100)] = 3000) -> "Figure":
    """The law of large numbers with its error bar: the error of the mean of n draws is about std / √n.

    Var[(x₁ + … + xₙ) / n] = σ² / n for independent draws of variance σ².
    """
    n, exact = round(draws), 0.5
    u = noise.uniform((6,), seed=2, purpose="large numbers", rows=n, dtype=torch.float64)
    result = limits.running_mean(-(1 - u).log() * exact)
    low, high = result.band(0.95)
    axis = torch.arange(1, n + 1).numpy()
    canvas = plots.figure(8.0, 4.0)
    axes = plots.panel(canvas, 1, 1, 1)
    axes.fill_between(axis[5:], low[5:, 0].numpy(), high[5:, 0].numpy(), color=plots.SAMPLES, alpha=0.2, linewidth=0)
    axes.plot(axis, result.mean[:, 1:].numpy(), color=plots.DATA, linewidth=0.8)
    axes.plot(axis, result.mean[:, 0].numpy(), color=plots.SAMPLES, linewidth=1.6, label="one running mean, its 95 % band")
    axes.axhline(exact, color=plots.ACCENT, linewidth=1.4, label="exact mean")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.2)
    axes.set_xlabel("draws of an exponential law")
    axes.legend(frameon=False, fontsize=9)
    return canvas


def central_limit(terms: Annotated[float, Slider("terms of the sums on the right", 1, 200, 1)] = 100) -> "Figure":
    """The central limit theorem: standardized sums of draws from any law of finite variance become Gaussian.

    zₙ = (x₁ + … + xₙ − n μ) / (σ √n) has mean 0 and variance 1 for every n, and converges in law to N(0, 1).
    """

    def exponential(rows: Tensor) -> Tensor:
        return -(1 - noise.uniform((), seed=1, purpose="exponential", rows=rows, dtype=torch.float64)).log()

    def coin(rows: Tensor) -> Tensor:
        return (noise.uniform((), seed=1, purpose="coin", rows=rows) < 0.2).double()

    laws = (("exponential", exponential, 1.0, 1.0), ("a coin of bias 0.2", coin, 0.2, 0.4))
    grid = line(-4, 4)
    canvas = plots.figure(11.2, 5.2)
    for row, (name, law, mean, std) in enumerate(laws):
        for column, n in enumerate((1, 3, 10, round(terms))):
            axes = plots.panel(canvas, 2, 4, 4 * row + column + 1, f"{name}, n = 1" if column == 0 else f"n = {n}")
            z = limits.standardized_sums(law, n, 6000, mean=mean, std=std)
            # Sums of coins lie on a lattice; bins centered on its points avoid artificial stripes.
            width = max(0.2, 1 / (std * math.sqrt(n))) if law is coin else 0.2
            lowest = -n * mean / (std * math.sqrt(n)) if law is coin else -4.0
            edges = lowest + width * (np.arange(math.floor((-4 - lowest) / width), math.ceil((4 - lowest) / width) + 1) - 0.5)
            axes.hist(z.numpy(), edges.tolist(), density=True, color=plots.DATA, alpha=0.6)
            bell(axes, grid, Gaussian([0.0], 1.0).log_prob(grid[:, None]).exp(), plots.SAMPLES, fill=False)
            _frame(axes)
    return canvas


def brownian(moment: float | None = None) -> "Figure":
    """From a random walk to a Wiener path: more and smaller steps, √t wide at every time t."""
    canvas = plots.figure(11.2, 3.8)
    t = line(0, 1)
    for index, steps in enumerate((10, 100, 1000)):
        shown = steps if moment is None else max(1, round(moment * steps))
        walks = limits.random_walk(steps, 40, seed=3)[: shown + 1]
        axes = plots.panel(canvas, 1, 3, index + 1, f"{steps} steps of ±1/√{steps}")
        time = np.arange(shown + 1) / steps
        axes.plot(time, walks[:, 5:].numpy(), color=plots.DATA, linewidth=0.5, alpha=0.7)
        axes.plot(time, walks[:, :3].numpy(), linewidth=1.3)
        for sign in (-2, 2):
            axes.plot(t.numpy(), sign * t.sqrt().numpy(), color=plots.INK, linewidth=1.2, linestyle="--")
        axes.set_xlim(0, 1)
        axes.set_ylim(-3, 3)
        axes.set_xlabel("time")
    return canvas


def _frame(axes: "Axes") -> None:
    axes.set_xlim(-4, 4)
    axes.set_ylim(0, 0.75)
    axes.set_yticks([])
