"""A plot of Neural ODEs trained on noisy time series."""

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pushforward import plots
from pushforward.dynamics import (
    Autonomous,
    DampedPendulum,
    NeuralODE,
    Spiral,
    fit_trajectories,
    integrate,
    noisy_trajectories,
    ode,
)
from pushforward.gallery.pen import bare, line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["neural_ode"]

FIELDS: dict[str, tuple[ode.Field, tuple[str, str]]] = {
    "a damped pendulum": (DampedPendulum(frequency=1.5, damping=0.15), ("angle", "angular velocity")),
    "a spiral": (Spiral(decay=0.12, frequency=1.2), ("x", "y")),
}
STARTS = torch.tensor(
    [[2.2, 0.0], [-1.4, 1.2], [0.4, -2.4], [1.0, 1.0], [0.6, 0.0], [-0.3, -0.6], [0.0, 0.4], [-2.0, 0.5]], dtype=torch.float64
)
SEEN, ALL = 8.0, 20.0


def neural_ode() -> "Figure":
    """Neural ODEs learn two systems from short, noisy series, and extrapolate long after the series end."""
    canvas = plots.figure(10.6, 8.2)
    grid = canvas.add_gridspec(2, 2, width_ratios=(1.7, 1))
    times = line(0, ALL, 401)
    for row, (title, (field, names)) in enumerate(FIELDS.items()):
        seen, model = _learned(title)
        with torch.no_grad():
            guess = model(STARTS, times).states
        truth = integrate(field, STARTS, times).states
        left, right = canvas.add_subplot(grid[row, 0]), canvas.add_subplot(grid[row, 1])
        left.set_title(title, fontsize=10, color=plots.INK)
        left.axvspan(0, SEEN, color=plots.FAINT, linewidth=0)
        left.plot(times.numpy(), truth[:, 0, 0].numpy(), color=plots.DATA, linewidth=4, alpha=0.6, label="truth")
        left.plot(times.numpy(), guess[:, 0, 0].numpy(), color=plots.SAMPLES, linewidth=1.6, label="Neural ODE")
        left.plot(line(0, SEEN, 81).numpy(), seen[0, :, 0].numpy(), ".", color=plots.ACCENT, markersize=4, label="observations")
        left.set_xlabel("time (the shaded part was observed)")
        left.set_ylabel(names[0])
        left.set_ylim(-2.6, 3.0)
        left.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False, fontsize=9, ncols=3, loc="upper right")
        _phase(right, model, truth, guess)
        right.set_xlabel(names[0])
        right.set_ylabel(names[1])
    return canvas


def _phase(axes: "Axes", model: NeuralODE, truth: Tensor, guess: Tensor) -> None:
    for row in range(4):
        axes.plot(*truth[:, row].T.numpy(), color=plots.DATA, linewidth=3, alpha=0.5)
        axes.plot(*guess[:, row].T.numpy(), color=plots.SAMPLES, linewidth=1.1)
    across = torch.cartesian_prod(line(-2.4, 2.4, 13), line(-3.0, 3.0, 13))
    with torch.no_grad():
        arrows = model.network(across, torch.zeros(len(across)).double())
    axes.quiver(*across.T.numpy(), *arrows.T.numpy(), color=plots.INK, alpha=0.35, width=0.004)
    axes.set_title("the learned field", fontsize=10, color=plots.INK)
    axes.spines[["top", "right"]].set_visible(False)
    bare(axes)


@functools.cache
def _learned(title: str) -> tuple[Tensor, NeuralODE]:
    """Return noisy series of one of the fields (8, 81, 2), and the model trained on them."""
    times = line(0, SEEN, 81)
    seen = noisy_trajectories(FIELDS[title][0], STARTS, times, noise=0.05, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 2)).double()
    model = NeuralODE(Autonomous(network), method="heun")
    fit_trajectories(model, times, seen, steps=120, seed=0, window=12, batch=48, learning_rate=0.04)
    return seen, model
