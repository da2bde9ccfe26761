"""Plots of ordinary and stochastic differential equations, and of Markov chain sampling."""

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.dynamics import langevin as chains
from pushforward.dynamics import ode, sde
from pushforward.dynamics.known_sdes import GeometricBrownian
from pushforward.gallery.pen import Slider, bare, bell, level_map, line
from pushforward.probability import GaussianMixture
from pushforward.probability.laws.energy import EnergyLaw
from pushforward.probability.laws.uniform import Uniform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["vector_field", "euler_vs_rk4", "stiff", "gradient_flow", "strong_order", "boltzmann", "langevin", "langevin_bias"]

MIXTURE = GaussianMixture(
    [0.3, 0.3, 0.4],
    [[-1.6, 1.0], [1.5, 1.2], [0.0, -1.4]],
    [[[0.25, 0.1], [0.1, 0.2]], [[0.3, -0.15], [-0.15, 0.3]], [[0.6, 0.0], [0.0, 0.15]]],
)


def vector_field(moment: float | None = None) -> "Figure":
    """A vector field and its flow: arrows give the velocity at each point, and a disk of points is carried along."""

    def swing(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack((x[:, 1], -x[:, 0].sin()), 1)

    span = 4.0
    end = span if moment is None else span * moment
    angle = line(0, 2 * math.pi, 121)
    ring = torch.stack((-1.6 + 0.5 * angle.cos(), 0.9 + 0.5 * angle.sin()), 1)
    starts = torch.cat((ring, torch.tensor([[-1.6, 0.9]], dtype=torch.float64)))
    times = line(0, end, max(2, round(60 * end / span) + 1))
    path = ode.integrate(swing, starts, times, "rk4").states
    canvas = plots.figure(8.4, 4.8)
    axes = plots.panel(canvas, 1, 1, 1, f"a pendulum, time {end:.1f}")
    grid = torch.cartesian_prod(line(-3.4, 3.4, 18), line(-2.6, 2.6, 13))
    axes.quiver(*grid.T.numpy(), *swing(grid, times).T.numpy(), color=plots.DATA, width=0.0028, scale=42)
    for row in (0, 30, 60, 90, -1):
        axes.plot(*path[:, row].T.numpy(), color=plots.SAMPLES, linewidth=0.9)
    for index, color in ((0, plots.DATA), (-1, plots.ACCENT)):
        axes.fill(*path[index, :-1].T.numpy(), color=color, alpha=0.5, linewidth=0)
    axes.set_xlim(-3.4, 3.4)
    axes.set_ylim(-2.6, 2.6)
    axes.set_xlabel("angle")
    axes.set_ylabel("velocity of the angle")
    bare(axes)
    return canvas


def euler_vs_rk4(steps: Annotated[float, Slider("steps", 12, 160, 4)] = 40) -> "Figure":
    """Euler and Runge–Kutta on a circle: Euler spirals out, Runge–Kutta returns; their errors fall as h and h⁴.

    Euler steps from x to x + h f(x); on dx/dt = (−x₂, x₁) each step lengthens the radius by √(1 + h²).
    """

    def turn(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack((-x[:, 1], x[:, 0]), 1)

    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    canvas = plots.figure(9.4, 4.4)
    left, right = (
        plots.panel(canvas, 1, 2, 1, f"two turns, {round(steps)} steps"),
        plots.panel(canvas, 1, 2, 2, "error after two turns"),
    )
    angle = line(0, 2 * math.pi)
    left.plot(angle.cos().numpy(), angle.sin().numpy(), color=plots.FAINT, linewidth=5)
    counts = [40, 80, 160, 320, 640, 1280]
    methods: tuple[tuple[ode.Method, str, int], ...] = (
        ("euler", plots.ACCENT, 1),
        ("heun", plots.GOOD, 2),
        ("rk4", plots.SAMPLES, 4),
    )
    for method, color, order in methods:
        path = ode.integrate(turn, start, line(0, 4 * math.pi, round(steps) + 1), method).states[:, 0]
        left.plot(*path.T.numpy(), "o-", color=color, markersize=3, linewidth=1, label=method)
        errors = [
            (ode.integrate(turn, start, line(0, 4 * math.pi, n + 1), method).states[-1] - start).norm().item() for n in counts
        ]
        right.loglog(counts, errors, "o-", color=color, markersize=4, label=f"{method}: order {order}")
        guide = [errors[-1] * (counts[-1] / n) ** order for n in counts]
        right.loglog(counts, guide, color=color, linewidth=0.8, linestyle=":")
    left.set_xlim(-3.2, 3.2)
    left.set_ylim(-3.2, 3.2)
    bare(left)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    right.set_xlabel("steps")
    right.legend(frameon=False, fontsize=9)
    return canvas


def stiff() -> "Figure":
    """A stiff problem: explicit Euler explodes with a step at which implicit Euler is stable."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        return -50 * (x - t.cos())

    start = torch.zeros(1, 1, dtype=torch.float64)
    fine = line(0, 2, 401)
    truth = ode.integrate(field, start, fine, "rk4").states[:, 0, 0]
    methods: tuple[tuple[ode.Method, str, str], ...] = (
        ("euler", plots.ACCENT, "explicit"),
        ("implicit-euler", plots.SAMPLES, "implicit"),
    )
    canvas = plots.figure(9.6, 3.9)
    for index, steps in enumerate((48, 60)):
        times = line(0, 2, steps + 1)
        axes = plots.panel(canvas, 1, 2, index + 1, f"h = {2 / steps:.3f}: explicit Euler is stable below 2/50 = 0.04")
        axes.plot(fine.numpy(), truth.numpy(), color=plots.DATA, linewidth=4, alpha=0.6, label="solution")
        for method, color, name in methods:
            path = ode.integrate(field, start, times, method).states[:, 0, 0]
            axes.plot(times.numpy(), path.numpy(), "o-", color=color, markersize=3, linewidth=1, label=f"{name} Euler")
        axes.set_ylim(-3, 3)
        axes.set_xlabel("time")
        axes.legend(frameon=False, fontsize=9)
    return canvas


def gradient_flow(moment: float | None = None) -> "Figure":
    """Gradient flow is orthogonal to the levels of F; gradient descent is its explicit Euler method, and may zigzag."""

    def potential(x: Tensor) -> Tensor:
        return 0.5 * (0.25 * x[..., 0] ** 2 + 3 * x[..., 1] ** 2)

    start = torch.tensor([[-2.7, 1.25]], dtype=torch.float64)
    canvas = plots.figure(8.2, 4.4)
    axes = plots.panel(canvas, 1, 1, 1)
    across, up = line(-3, 3, 121), line(-1.6, 1.6, 121)
    level = potential(torch.cartesian_prod(across, up)).reshape(121, 121).T.sqrt()
    axes.contour(across.numpy(), up.numpy(), level.numpy(), levels=14, colors=plots.DATA, linewidths=0.8)
    runs: tuple[tuple[float, ode.Method, str, str], ...] = (
        (0.6, "euler", plots.ACCENT, "gradient descent, step 0.6"),
        (0.1, "euler", plots.GOOD, "gradient descent, step 0.1"),
        (0.6, "implicit-euler", plots.INK, "proximal steps of 0.6"),
        (0.06, "midpoint", plots.SAMPLES, "gradient flow"),
    )
    for step, method, color, name in runs:
        count = round(12 / step)
        path = ode.gradient_flow(potential, start, line(0, 12, count + 1), method).states[:, 0]
        shown = len(path) if moment is None else max(2, round(moment * len(path)))
        style = "-" if method == "midpoint" else "o-"
        axes.plot(*path[:shown].T.numpy(), style, color=color, markersize=3, linewidth=1.3, label=name)
    bare(axes)
    axes.legend(fontsize=9, loc="lower right", framealpha=0.9, edgecolor="white")
    return canvas


def strong_order() -> "Figure":
    """Two methods on one Wiener path: halving the step reduces the error of Euler–Maruyama by √2, of Milstein by 2."""
    law = GeometricBrownian(drift=0.3, volatility=1.0)
    path = sde.wiener(line(0, 1, 1025), 2000, 1, seed=1)
    x = torch.ones(2000, 1, dtype=torch.float64)
    exact = law.along(x, path)[..., 0]
    canvas = plots.figure(9.6, 4.0)
    left, right = plots.panel(canvas, 1, 2, 1, "one path, 32 steps"), plots.panel(canvas, 1, 2, 2, "mean error at time 1")
    row = int(exact[-1].argsort()[1900])
    left.plot(path.times.numpy(), exact[:, row].numpy(), color=plots.DATA, linewidth=1.6, label="exact")
    factors = [128, 64, 32, 16, 8, 4]
    methods: tuple[tuple[sde.Method, str], ...] = (("euler-maruyama", plots.ACCENT), ("milstein", plots.SAMPLES))
    for method, color in methods:
        coarse = path.coarsen(32)
        states = sde.integrate_along(law.sde, x, coarse, method=method).states[:, row, 0]
        left.plot(coarse.times.numpy(), states.numpy(), "o-", color=color, markersize=3, linewidth=1, label=method)
        errors = [
            (sde.integrate_along(law.sde, x, path.coarsen(factor), method=method).end[:, 0] - exact[-1]).abs().mean().item()
            for factor in factors
        ]
        steps = [1024 / factor for factor in factors]
        slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        right.loglog(steps, errors, "o-", color=color, markersize=4, label=f"{method}: slope {slope:.2f}")
    left.set_xlabel("time")
    right.set_xlabel("steps")
    left.legend(frameon=False, fontsize=9)
    right.legend(frameon=False, fontsize=9)
    return canvas


def boltzmann() -> "Figure":
    """An energy and its Boltzmann law: low energy is likely, and the score −∇E needs no partition function."""
    law = EnergyLaw(lambda x: 2 * (x[..., 0] ** 2 - 1) ** 2 + 0.5 * x[..., 0], dim=1)
    normal = law.normalized([[-4.0, 4.0]])
    x = line(-1.9, 1.8)[:, None]
    canvas = plots.figure(11.2, 3.6)
    panels = (
        ("energy E(x)", -law.log_unnormalized(x), plots.INK),
        (f"exp(−E(x)) / Z,  Z = {math.exp(normal.log_partition.value):.3f}", normal.log_prob(x).exp(), plots.SAMPLES),
        ("score −E′(x)", law.score(x)[:, 0], plots.ACCENT),
    )
    for index, (title, values, color) in enumerate(panels):
        axes = plots.panel(canvas, 1, 3, index + 1, title)
        bell(axes, x[:, 0], values, color, fill=index == 1)
        axes.set_xlabel("x")
        if index == 2:
            axes.axhline(0, color=plots.DATA, linewidth=0.8)
    return canvas


def langevin(
    moment: float | None = None,
    step: Annotated[float, Slider("step", 0.002, 0.2, 0.002)] = 0.02,
    temperature: Annotated[float, Slider("temperature", 0.1, 3.0, 0.1)] = 1.0,
) -> "Figure":
    """Langevin chains follow the score and added noise: they soon settle in a cluster, and rarely change clusters.

    One step is x + h ∇log p(x) + √(2hT) z. At temperature T the chains approach p^(1/T), apart from the bias of h. The
    shares of the clusters are means of the responsibilities; under the law, which is that of T = 1, these are the weights.
    """
    steps = 300
    shown = steps if moment is None else max(1, round(moment * steps))
    start = Uniform([-2.2, -2.2], [2.2, 2.2]).sample(400, seed=0)
    states = [start]
    chains.unadjusted(
        lambda x: MIXTURE.score(x) / temperature,
        start,
        step * temperature,
        shown,
        seed=0,
        on_step=lambda k, x: states.append(x),
    )
    path = torch.stack(states)
    shares, exact = (
        " / ".join(f"{share:.2f}" for share in law) for law in (MIXTURE.responsibilities(path[-1]).mean(0), MIXTURE.weights)
    )
    canvas = plots.figure(10.0, 4.8)
    left = plots.panel(canvas, 1, 2, 1, "three chains")
    found = f"400 chains after {shown} steps: {shares} in the clusters,\nunder the law {exact}"
    right = plots.panel(canvas, 1, 2, 2, found)
    for axes in (left, right):
        level_map(axes, MIXTURE.log_prob, (-3.6, 3.6), (-3.2, 3.2))
        axes.set_xlim(-3.6, 3.6)
        axes.set_ylim(-3.2, 3.2)
    for chain, color in zip((0, 1, 7), (plots.ACCENT, plots.GOOD, plots.INK), strict=True):
        left.plot(*path[:, chain].T.numpy(), color=color, linewidth=0.8)
        left.plot(*path[0, chain].tolist(), "o", color=color, markersize=6)
    right.scatter(path[-1, :, 0].numpy(), path[-1, :, 1].numpy(), s=6, color=plots.ACCENT, linewidths=0)
    return canvas


def langevin_bias() -> "Figure":
    """Unadjusted Langevin is biased at every fixed step; a Metropolis test of each step removes the bias."""
    law = GaussianMixture([0.5, 0.5], [[-1.2], [1.2]], covs=[0.3, 0.3])
    start = law.sample(6000, seed=1)
    x = line(-3.5, 3.5)
    exact = law.log_prob(x[:, None]).exp()
    edges = np.linspace(-3.5, 3.5, 57).tolist()
    canvas = plots.figure(11.2, 3.6)
    for index, step in enumerate((0.3, 0.1)):
        plain = chains.unadjusted(law.score, start, step, 60, seed=2).samples[:, 0]
        axes = plots.panel(canvas, 1, 3, index + 1, f"unadjusted, step {step:g}")
        axes.hist(plain.numpy(), edges, density=True, color=plots.ACCENT, alpha=0.45)
        bell(axes, x, exact, plots.INK, fill=False)
    adjusted = chains.mala(law.log_prob, law.score, start, 0.3, 60, seed=2)
    axes = plots.panel(canvas, 1, 3, 3, f"adjusted, step 0.3: {adjusted.acceptance.mean().item():.0%} accepted")
    axes.hist(adjusted.samples[:, 0].numpy(), edges, density=True, color=plots.SAMPLES, alpha=0.45)
    bell(axes, x, exact, plots.INK, fill=False)
    return canvas
