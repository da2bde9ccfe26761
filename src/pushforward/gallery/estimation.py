"""Plots of estimation and of Markov chains."""

import functools
import math
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pushforward import plots
from pushforward.data.builtin import moons
from pushforward.gallery.pen import Slider, bell, level_map, line
from pushforward.probability import Gaussian, GaussianMixture, divergence, estimate, noise
from pushforward.probability.estimation.estimate import CoinMixture, fit_coins, fit_uniform
from pushforward.probability.estimation.mixture_em import fit_mixture, start_mixture
from pushforward.probability.laws.markov import MarkovChain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["fitted_bell", "learned_bell", "likelihood", "em_coins", "mixture_components", "markov"]

TOSSES = 12
MOST_COMPONENTS = 12
CLIMB = 40  # steps of a bell that is learned
CHAIN = MarkovChain([[0.90, 0.15, 0.25], [0.075, 0.80, 0.25], [0.025, 0.05, 0.50]])


def fitted_bell(moment: float | None = None) -> "Figure":
    """Maximum likelihood: a bell curve slides over the data; its likelihood is largest at the mean of the data."""
    x = Gaussian([0.7], 0.8).sample(12, seed=3)
    best, means = estimate.fit_gaussian(x), line(-2.5, 4.0, 261)
    place = best.mean.item() if moment is None else -2.5 + 6.5 * moment
    law = Gaussian([place], best.cov)
    total = torch.stack([Gaussian([mean], best.cov).log_prob(x).sum() for mean in means.tolist()])
    grid = line(-4, 6, 501)
    canvas = plots.figure(10.0, 3.8)
    left = plots.panel(canvas, 1, 2, 1, "twelve numbers under a bell")
    bell(left, grid, law.log_prob(grid[:, None]).exp(), plots.SAMPLES)
    left.vlines(x[:, 0].numpy(), 0, law.log_prob(x).exp().numpy(), color=plots.INK, linewidth=1)
    left.plot(x[:, 0].numpy(), torch.zeros(len(x)).numpy(), "|", color=plots.INK, markersize=12)
    left.set_ylim(-0.02, 0.62)
    left.set_xlabel("x")
    right = plots.panel(canvas, 1, 2, 2, "sum of the log-densities")
    right.plot(means.numpy(), total.numpy(), color=plots.DATA, linewidth=1.6)
    right.plot([place], [law.log_prob(x).sum().item()], "o", color=plots.SAMPLES, markersize=7)
    right.axvline(best.mean.item(), color=plots.ACCENT, linewidth=1.2, linestyle="--", label="mean of the numbers")
    right.set_xlabel("mean of the bell")
    right.legend(frameon=False, fontsize=9, loc="lower left")
    return canvas


def learned_bell(
    moment: float | None = None, rate: Annotated[float, Slider("learning rate", 0.1, 0.5, 0.05)] = 0.4
) -> "Figure":
    """A Gaussian learned from data: steps up the gradient of the likelihood carry its bell curve onto the histogram.

    With m the mean and v the variance of the numbers, the mean log-density −log σ − (v + (m − μ)²) / (2σ²) + constant has the
    slopes (m − μ) / σ² in μ and (v + (m − μ)²) / σ² − 1 in log σ. The bell grows wide before it arrives and narrows.
    """
    x, path = Gaussian([1.3], 0.6**2).sample(500, seed=1), _learned_bell(rate)
    shown = CLIMB if moment is None else max(1, round(moment * CLIMB))
    laws = [Gaussian([mean], std**2) for mean, std in path.tolist()]
    heights = [law.log_prob(x).mean().item() for law in laws]
    grid = line(-6, 6, 601)
    canvas = plots.figure(10.0, 3.8)
    left = plots.panel(canvas, 1, 2, 1, f"500 numbers and the bell after {shown} steps")
    left.hist(x[:, 0].numpy(), bins=24, density=True, color=plots.DATA, alpha=0.45, label="data")
    for step in range(0, shown, 8):
        left.plot(grid.numpy(), laws[step].log_prob(grid[:, None]).exp().numpy(), color=plots.DATA, linewidth=0.9)
    bell(
        left,
        grid,
        laws[shown].log_prob(grid[:, None]).exp(),
        plots.SAMPLES,
        "N(x; {:.2f}, {:.2f}²)".format(*path[shown].tolist()),
    )
    left.set_xlim(-6, 6)
    left.set_ylim(0, 0.78)
    left.set_xlabel("x")
    left.legend(frameon=False, fontsize=9, loc="upper left")
    right = plots.panel(canvas, 1, 2, 2, "mean log-density of the data (nats)")
    right.plot(range(shown + 1), heights[: shown + 1], color=plots.SAMPLES, linewidth=1.8)
    right.plot([shown], [heights[shown]], "o", color=plots.SAMPLES, markersize=6)
    best = estimate.fit_gaussian(x).log_prob(x).mean().item()
    right.axhline(best, color=plots.ACCENT, linewidth=1.2, linestyle="--", label="mean and variance of the data")
    right.set_xlim(-1, CLIMB + 1)
    right.set_ylim(min(heights) - 0.2, best + 0.3)
    right.set_xlabel("step")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return canvas


def likelihood() -> "Figure":
    """Two likelihoods: a coin's has its maximum where the slope is 0, that of U(0, θ) at the edge, where it has no slope."""
    canvas = plots.figure(9.0, 3.6)
    heads, n = 7, 10
    bias = line(0.001, 0.999)
    left = plots.panel(canvas, 1, 2, 1, f"a coin: {heads} heads of {n}")
    values = (heads * bias.log() + (n - heads) * (-bias).log1p()).exp() * math.comb(n, heads)
    left.plot(bias.numpy(), values.numpy(), color=plots.SAMPLES, linewidth=1.8)
    left.axvline(heads / n, color=plots.ACCENT, linewidth=1.4, label=f"maximum: heads / n = {heads / n:g}")
    left.set_xlabel("bias")
    x = 3 * noise.uniform((), seed=4, purpose="likelihood", rows=8, dtype=torch.float64)
    top = fit_uniform(x)
    theta = line(top, 6)
    right = plots.panel(canvas, 1, 2, 2, f"U(0, θ): {len(x)} numbers")
    right.plot([0, top], [0, 0], color=plots.SAMPLES, linewidth=1.8)
    right.plot(theta.numpy(), theta.numpy() ** -len(x), color=plots.SAMPLES, linewidth=1.8)
    right.plot(x.numpy(), torch.zeros(len(x)).numpy(), "|", color=plots.INK, markersize=14)
    right.axvline(top, color=plots.ACCENT, linewidth=1.4, label=f"maximum: max x = {top:.2f}")
    right.set_xlabel("θ")
    for axes in (left, right):
        axes.set_ylabel("likelihood")
        axes.set_yticks([])
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend above the curve
        axes.legend(frameon=False, fontsize=9, loc="upper left" if axes is left else "upper right")
    return canvas


def em_coins(
    moment: float | None = None,
    first: Annotated[float, Slider("start of coin 1", 0.05, 0.95, 0.05)] = 0.15,
    second: Annotated[float, Slider("start of coin 2", 0.05, 0.95, 0.05)] = 0.55,
) -> "Figure":
    """EM on two coins: every step raises the likelihood, and the start decides which of two equal peaks is reached.

    With r_i the probability that row i is of coin 1 under the biases so far, the new bias of coin 1 is
    Σ r_i heads_i / Σ r_i tosses_i, and with 1 − r_i that of coin 2.
    """
    heads, surface, axis = _coins()
    canvas = plots.figure(9.4, 4.3)
    left, right = plots.panel(canvas, 1, 2, 1, "log-likelihood of the two biases"), plots.panel(canvas, 1, 2, 2)
    left.contourf(axis.numpy(), axis.numpy(), surface.numpy(), levels=30, cmap="Blues")
    left.grid(visible=False)
    for start, color in (((first, second), plots.ACCENT), ((0.95, 0.60), plots.GOOD), ((0.48, 0.52), plots.INK)):
        # The bound of each iteration belongs to the biases at its start.
        path, bounds = _climb(heads, start)
        shown = len(path) if moment is None else max(1, round(moment * len(path)))
        left.plot(*path[:shown].T.numpy(), "o-", color=color, markersize=3.5, linewidth=1.2)
        right.plot(
            range(shown),
            bounds[:shown],
            "o-",
            color=color,
            markersize=3.5,
            linewidth=1.2,
            label="start ({:g}, {:g})".format(*start),
        )
    left.plot([0, 1], [0, 1], color=plots.DATA, linewidth=0.8, linestyle=":")
    left.set_xlabel("bias of coin 1")
    left.set_ylabel("bias of coin 2")
    left.set_xlim(0.03, 0.97)
    left.set_ylim(0.03, 0.97)
    left.set_aspect("equal")
    right.set_xticks(range(0, 21, 5))
    right.set_xlim(-0.5, 20.5)
    right.set_ylim(float(surface.max()) - 60, float(surface.max()) + 4)
    right.set_title("it never falls", fontsize=10, color=plots.INK)
    right.set_xlabel("iteration")
    right.set_ylabel("log-likelihood (nats)")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return canvas


def mixture_components(components: Annotated[float, Slider("Gaussians", 1, MOST_COMPONENTS, 1)] = 5) -> "Figure":
    """EM for a mixture: more Gaussians follow the rows more closely, and rows set aside tell how many are enough.

    EM repeats r_k(x) = w_k N(x; m_k, S_k) / p(x); then m_k and S_k become the mean and the covariance of the rows
    weighted by r_k, and w_k the mean of r_k.
    """
    count = round(components)
    rows, aside = _two_moons()
    law = _mixture(count)
    canvas = plots.figure(10.4, 4.2)
    left = plots.panel(canvas, 1, 2, 1, f"{count} Gaussians" if count > 1 else "one Gaussian")
    level_map(left, law.log_prob, (-3, 3), (-2.2, 2.2))
    left.plot(*rows.T.numpy(), ".", color=plots.INK, markersize=2.5, alpha=0.5)
    left.plot(*law.means.T.numpy(), "o", color=plots.ACCENT, markersize=6)
    right = plots.panel(canvas, 1, 2, 2, "mean log-density (nats)")
    counts = range(1, MOST_COMPONENTS + 1)
    for x, color, label in ((rows, plots.DATA, "training rows"), (aside, plots.SAMPLES, "rows set aside")):
        values = [_mixture(k).log_prob(x).mean().item() for k in counts]
        right.plot(counts, values, "o-", color=color, markersize=3.5, linewidth=1.4, label=label)
        right.plot([count], [values[count - 1]], "o", color=plots.ACCENT, markersize=7)
    right.set_xlabel("number of Gaussians")
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return canvas


def markov(moment: float | None = None) -> "Figure":
    """A Markov chain forgets its start: all laws converge to the stationary one, at the rate of the second eigenvalue."""
    steps = 30
    shown = steps if moment is None else max(1, round(moment * steps))
    names = ("sun", "cloud", "rain")
    stationary = CHAIN.stationary()
    starts = torch.eye(3, dtype=torch.float64)
    laws = [torch.stack([CHAIN.step(start, k) for k in range(shown + 1)]) for start in starts]
    canvas = plots.figure(11.2, 3.8)
    left = plots.panel(canvas, 1, 3, 1, "T[next, now]: columns sum to 1")
    left.imshow(CHAIN.matrix.numpy(), cmap="Blues", vmin=0, vmax=1.1)
    for i in range(3):
        for j in range(3):
            left.text(j, i, f"{CHAIN.matrix[i, j].item():.3g}", ha="center", va="center", fontsize=10, color=plots.INK)
    left.set_xticks(range(3), names)
    left.set_yticks(range(3), names)
    left.grid(visible=False)
    middle = plots.panel(canvas, 1, 3, 2, "P(sun), from each start")
    right = plots.panel(canvas, 1, 3, 3, "distance to the stationary law")
    for law, name, color in zip(laws, names, (plots.ACCENT, plots.SAMPLES, plots.GOOD), strict=True):
        middle.plot(law[:, 0].numpy(), "o-", color=color, markersize=3, linewidth=1.2, label=f"from {name}")
        far = [divergence.total_variation(p, stationary).item() for p in law]
        right.semilogy(far, "o-", color=color, markersize=3, linewidth=1.2)
    middle.axhline(stationary[0].item(), color=plots.INK, linestyle="--", linewidth=1, label="stationary")
    middle.set_ylim(0, 1.05)
    middle.legend(frameon=False, fontsize=8)
    rate = CHAIN.second_eigenvalue
    right.semilogy(
        [0.6 * rate**k for k in range(steps + 1)], "--", color=plots.INK, linewidth=1, label=f"|λ₂|ᵗ, λ₂ = {rate:.2f}"
    )
    right.legend(frameon=False, fontsize=9)
    for axes in (middle, right):
        axes.set_xlim(-0.5, steps + 0.5)
        axes.set_xlabel("step")
    return canvas


@functools.cache
def _learned_bell(rate: float) -> Tensor:
    """Return mean and standard deviation of the bell after each step of gradient ascent, (CLIMB + 1, 2)."""
    x = Gaussian([1.3], 0.6**2).sample(500, seed=1)
    m, v = x.mean().item(), x.var(correction=0).item()
    mean, log_std, path = -2.5, math.log(1.5), list[tuple[float, float]]()
    for _ in range(CLIMB + 1):
        path.append((mean, math.exp(log_std)))
        precision = math.exp(-2 * log_std)
        slopes = (m - mean) * precision, (v + (m - mean) ** 2) * precision - 1
        mean, log_std = mean + rate * slopes[0], log_std + rate * slopes[1]
    return torch.tensor(path, dtype=torch.float64)


@functools.cache
def _coins() -> tuple[Tensor, Tensor, Tensor]:
    """Return heads per row (n,), the log-likelihood by the biases of coins 2 and 1 (101, 101), and its axis (101,)."""
    truth, rows = torch.tensor([0.3, 0.75], dtype=torch.float64), 40
    coin = (noise.uniform((), seed=1, purpose="which coin", rows=rows) < 0.5).long()
    tosses = noise.uniform((TOSSES,), seed=1, purpose="tosses", rows=rows, dtype=torch.float64)
    heads = (tosses < truth[coin][:, None]).sum(1)
    axis = line(0.03, 0.97, 101)
    # All pairs of coins at once; the joint law of one mixture of all biases has the weights 1 / 101 instead of 1 / 2.
    joint = CoinMixture(axis).log_joint(heads, TOSSES) + math.log(len(axis) / 2)
    surface = joint[:, None, :].logaddexp(joint[:, :, None]).sum(0)
    return heads, surface.clamp(min=surface.max() - 120), axis


def _climb(heads: Tensor, start: tuple[float, float]) -> tuple[Tensor, list[float]]:
    """Return the biases after each iteration of EM (at most 20) and their log-likelihoods."""
    coins, path = CoinMixture(start), [torch.tensor(start, dtype=torch.float64)]
    for _ in range(20):
        coins = fit_coins(heads, TOSSES, coins, fixed_weights=True, max_iterations=1).parameters
        path.append(coins.biases)
    return torch.stack(path), [CoinMixture(biases).log_likelihood(heads, TOSSES).sum().item() for biases in path]


@functools.cache
def _two_moons() -> tuple[Tensor, Tensor]:
    """Return rows to learn from and rows set aside, (150, 2) each."""
    points = torch.from_numpy(moons(300)[0]).double()
    return points[:150], points[150:]


@functools.cache
def _mixture(components: int) -> GaussianMixture:
    rows, _ = _two_moons()
    return fit_mixture(rows, start_mixture(rows, components, seed=0), floor=1e-3).parameters
