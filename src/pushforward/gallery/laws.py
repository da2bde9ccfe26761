"""Plots of densities, of Gaussians and their calculus, and of information."""

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.gallery.pen import Slider, bare, bell, level_map, line
from pushforward.probability import Gaussian, GaussianMixture, divergence
from pushforward.probability.estimation.classify import BayesClassifier, fit_logistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "kinds_of_laws",
    "bell_curve",
    "gaussian_density",
    "gaussian_samples",
    "densities",
    "gaussian_product",
    "conditioning",
    "posterior",
    "ellipsoid",
    "shell",
    "kl",
    "maximum_entropy",
    "bayes_classifier",
]


def kinds_of_laws() -> "Figure":
    """Laws with mass on single values (above) and with a density (below), each with its mean and one standard deviation."""
    canvas = plots.figure(11.2, 5.0)
    counts = torch.arange(0, 13, dtype=torch.float64)
    ways = torch.tensor([math.comb(12, k) for k in range(13)], dtype=torch.float64)
    masses = (
        ("a coin: heads with probability 0.7", counts[:2], torch.tensor([0.3, 0.7])),
        ("a die: each face 1/6", counts[1:7], torch.full((6,), 1 / 6)),
        ("heads of 12 tosses (binomial)", counts, ways * 0.7**counts * 0.3 ** (12 - counts)),
        ("calls in an hour (Poisson)", counts, (counts * math.log(3) - 3 - torch.lgamma(counts + 1)).exp()),
    )
    for index, (title, values, mass) in enumerate(masses):
        axes = plots.panel(canvas, 2, 4, index + 1, title)
        axes.bar(values.numpy(), mass.numpy(), width=0.55, color=plots.SAMPLES)
        axes.set_xticks(values[:: max(1, len(values) // 6)].tolist())
        mean = (values * mass).sum().item()
        _moments(axes, mean, ((values - mean) ** 2 * mass).sum().sqrt().item())
    mixture = GaussianMixture([0.4, 0.6], [[-1.5], [1.2]], covs=[0.2, 0.5])
    x = line(-4, 4, 801)
    bells = (
        ("uniform on [−1, 2]", torch.where((x > -1) & (x < 2), 1 / 3, 0.0), 0.5, math.sqrt(9 / 12)),
        ("waiting time (exponential)", torch.where(x > 0, (-x.clamp(min=0)).exp(), 0.0), 1.0, 1.0),
        ("Gaussian", Gaussian([0.0], 1.0).log_prob(x[:, None]).exp(), 0.0, 1.0),
        ("mixture of two Gaussians", mixture.log_prob(x[:, None]).exp(), mixture.mean.item(), mixture.variance.sqrt().item()),
    )
    for index, (title, density, mean, std) in enumerate(bells):
        axes = plots.panel(canvas, 2, 4, index + 5, title)
        bell(axes, x, density, plots.SAMPLES)
        _moments(axes, mean, std)
    return canvas


def bell_curve(moment: float | None = None) -> "Figure":
    """The Gaussian N(μ, σ²): μ moves the bell curve, σ widens and lowers it; 68 % of its area lies within μ ± σ."""
    x = line(-6, 6, 601)
    turn = 0.0 if moment is None else math.sin(2 * math.pi * moment)
    canvas = plots.figure(10.0, 3.8)
    for index, (title, laws) in enumerate(
        (
            ("the mean changes", [(mu + 2 * turn, 1.0) for mu in (-2.0, 0.0, 2.0)]),
            ("the variance changes", [(0.0, std * math.exp(0.4 * turn)) for std in (0.5, 1.0, 2.0)]),
        )
    ):
        axes = plots.panel(canvas, 1, 2, index + 1, title)
        for (mu, std), color in zip(laws, (plots.GOOD, plots.SAMPLES, plots.ACCENT), strict=True):
            density = Gaussian([mu], std**2).log_prob(x[:, None]).exp()
            bell(axes, x, density, color, f"μ = {mu:.2g}, σ = {std:.2g}", fill=False)
            inside = (x >= mu - std) & (x <= mu + std)
            axes.fill_between(x.numpy(), 0, density.numpy(), where=inside.numpy(), color=color, alpha=0.2, linewidth=0)
        axes.set_xlim(-6, 6)
        axes.set_ylim(0, 1.25 if index else 0.55)
        axes.set_xlabel("x")
        axes.legend(frameon=False, fontsize=9, loc="upper right")
    return canvas


def gaussian_samples() -> "Figure":
    """Draws from Gaussians in N dimensions, each a curve over the index of the coordinate: the covariance sets the shape."""
    canvas = plots.figure(11.2, 3.6)
    place = torch.arange(60, dtype=torch.float64)
    near = (-0.5 * ((place[:, None] - place) / 8) ** 2).exp() + 1e-6 * torch.eye(60, dtype=torch.float64)
    walk = torch.minimum(place[:, None], place) / 20 + 1 / 20
    laws = (
        ("N = 60, independent", torch.eye(60, dtype=torch.float64)),
        ("neighbors are alike", near),
        ("sums of independent steps", walk),
    )
    for index, (title, cov) in enumerate(laws):
        axes = plots.panel(canvas, 1, 3, index + 1, title)
        law = Gaussian(torch.zeros(60, dtype=torch.float64), cov)
        width = 2 * law.variance.sqrt()
        axes.fill_between(place.numpy(), -width.numpy(), width.numpy(), color=plots.FAINT, linewidth=0)
        axes.plot(place.numpy(), law.sample(4, seed=2).T.numpy(), linewidth=1.3)
        axes.set_ylim(-4.4, 4.4)
        axes.set_xlabel("coordinate")
    return canvas


def gaussian_density(
    mean: Annotated[float, Slider("mean", -3.0, 3.0, 0.1)] = 0.0,
    std: Annotated[float, Slider("standard deviation", 0.3, 3.0, 0.05)] = 1.0,
) -> "Figure":
    """The bell curve N(x; μ, σ²): the mean moves it, σ widens and flattens it, and the area stays 1.

    p(x) = exp(−(x − μ)² / (2σ²)) / (σ √(2π)). About 68 % of the mass lies within σ of the mean, and 95 % within 2σ.
    """
    law, x = Gaussian([mean], std**2), line(-8, 8, 801)
    density = law.log_prob(x[:, None]).exp()
    canvas = plots.figure(8.0, 4.2)
    axes = plots.panel(canvas, 1, 1, 1)
    bell(axes, x, density, plots.SAMPLES, f"N(x; {mean:.2g}, {std**2:.3g})", fill=False)
    for reach, alpha in ((2.0, 0.15), (1.0, 0.25)):
        within = (x - mean).abs() <= reach * std
        share = 2 * torch.special.ndtr(torch.tensor(reach)).item() - 1
        axes.fill_between(
            x[within].numpy(),
            0,
            density[within].numpy(),
            color=plots.SAMPLES,
            alpha=alpha,
            linewidth=0,
            label=f"{share:.1%} within {reach:g}σ",
        )
    axes.axvline(mean, color=plots.ACCENT, linewidth=1.2)
    axes.set_xlim(-8, 8)
    axes.set_ylim(0, 1.4)
    axes.set_xlabel("x")
    axes.legend(frameon=False, fontsize=9)
    return canvas


def densities() -> "Figure":
    """A joint density with its marginals and one conditional: a density may exceed 1, only its area is 1."""
    law = GaussianMixture(
        [0.6, 0.4], [[-0.35, 0.1], [0.5, 0.75]], [[[0.04, 0.02], [0.02, 0.05]], [[0.02, -0.01], [-0.01, 0.02]]]
    )
    x, y, seen = line(-1.1, 1.1), line(-0.8, 1.3), 0.6
    canvas = plots.figure(7.4, 6.4)
    grid = canvas.add_gridspec(2, 2, width_ratios=(3, 1.3), height_ratios=(1.3, 3))
    middle = canvas.add_subplot(grid[1, 0])
    level_map(middle, law.log_prob, (-1.1, 1.1), (-0.8, 1.3))
    middle.set_aspect("auto")
    middle.axvline(seen, color=plots.ACCENT, linewidth=1.5)
    middle.set_xlabel("x")
    middle.set_ylabel("y")
    middle.text(-1.05, 1.18, "joint p(x, y)", color=plots.INK)
    top = canvas.add_subplot(grid[0, 0], sharex=middle)
    bell(top, x, law.marginal([0]).log_prob(x[:, None]).exp(), plots.SAMPLES)
    top.axhline(1, color=plots.DATA, linewidth=0.8, linestyle=":")
    top.set_title("marginal p(x) = ∫ p(x, y) dy", fontsize=10, color=plots.INK)
    side = canvas.add_subplot(grid[1, 1], sharey=middle)
    marginal = law.marginal([1]).log_prob(y[:, None]).exp()
    conditional = law.condition([0], [seen]).log_prob(y[:, None]).exp()
    for density, color, name in ((marginal, plots.SAMPLES, "p(y)"), (conditional, plots.ACCENT, f"p(y | x = {seen:g})")):
        side.plot(density, y, color=color, label=name)
        side.fill_betweenx(y.numpy(), 0, density.numpy(), color=color, alpha=0.18, linewidth=0)
    side.axvline(1, color=plots.DATA, linewidth=0.8, linestyle=":")
    side.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (top, side):
        axes.spines[["top", "right"]].set_visible(False)
    return canvas


def gaussian_product() -> "Figure":
    """The product of two Gaussian densities is a Gaussian times a factor: narrower than both, between them, and smaller."""
    x = line(-4, 5)
    left, right = Gaussian([-0.5], 1.0), Gaussian([1.0], 0.5)
    product, log_factor = left.product(right)
    shape = product.log_prob(x[:, None]).exp()
    canvas = plots.figure(7.6, 4.0)
    axes = plots.panel(canvas, 1, 1, 1)
    bell(axes, x, left.log_prob(x[:, None]).exp(), plots.DATA, "N(x; −0.5, 1)")
    bell(axes, x, right.log_prob(x[:, None]).exp(), plots.GOOD, "N(x; 1, 0.5)")
    bell(axes, x, shape, plots.SAMPLES, f"N(x; {product.mean.item():.3g}, {product.cov.item():.3g})", fill=False)
    bell(axes, x, shape * log_factor.exp(), plots.ACCENT, f"their product = {log_factor.exp().item():.3g} × that Gaussian")
    axes.set_xlabel("x")
    axes.legend(frameon=False, fontsize=9)
    return canvas


def conditioning(
    moment: float | None = None, correlation: Annotated[float, Slider("correlation", -0.95, 0.95, 0.05)] = 0.8
) -> "Figure":
    """Conditioning a Gaussian: all slices of the joint law are Gaussians of one width, with their means on a line.

    For standard coordinates of correlation ρ, y given x is N(ρ x, 1 − ρ²).
    """
    law = Gaussian([0.0, 0.0], [[1.0, correlation], [correlation, 1.0]])
    value = 1.5 if moment is None else -2 + 4 * moment
    y = line(-3.2, 3.2)
    canvas = plots.figure(8.4, 4.6)
    grid = canvas.add_gridspec(1, 2, width_ratios=(1.5, 1))
    left = canvas.add_subplot(grid[0])
    level_map(left, law.log_prob, (-3.2, 3.2), (-3.2, 3.2))
    left.axvline(value, color=plots.ACCENT, linewidth=1.6)
    ends = [-3.2, 3.2]
    left.plot(ends, [law.condition([0], [end]).mean.item() for end in ends], color=plots.INK, linestyle="--", linewidth=1)
    left.set_xlabel("x")
    left.set_ylabel("y")
    left.set_title("joint law, and E[y | x] (dashed)", fontsize=10, color=plots.INK)
    right = canvas.add_subplot(grid[1], sharey=left)
    conditional = law.condition([0], [value])
    for one, color, name in ((law.marginal([1]), plots.DATA, "p(y)"), (conditional, plots.ACCENT, f"p(y | x = {value:+.1f})")):
        density = one.log_prob(y[:, None]).exp()
        right.plot(density, y, color=color, linewidth=1.8, label=name)
        right.fill_betweenx(y.numpy(), 0, density.numpy(), color=color, alpha=0.18, linewidth=0)
    right.set_xlim(0, 1.35 if abs(correlation) > 0.85 else 0.75)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return canvas


def posterior() -> "Figure":
    """Bayes in the plane: a prior of three clusters, one noisy measurement of x + y, and the exact posterior."""
    prior = GaussianMixture(
        [0.4, 0.3, 0.3],
        [[-1.2, -0.8], [1.3, 0.2], [-0.4, 1.4]],
        [[[0.3, 0.1], [0.1, 0.2]], [[0.15, -0.1], [-0.1, 0.3]], [[0.3, 0.0], [0.0, 0.08]]],
    )
    A, y, spread = [[1.0, 1.0]], [1.2], 0.35
    square = (-3.0, 3.0)

    def likelihood(x: Tensor) -> Tensor:
        return Gaussian(y, spread**2).log_prob(x.sum(1, keepdim=True))

    seen = prior.observe(A, y, spread)
    canvas = plots.figure(11.4, 4.2)
    panels = (
        (prior.log_prob, "prior p(x)", "Greys"),
        (likelihood, "likelihood p(y | x), y = x₁ + x₂ + noise", "Oranges"),
        (seen.log_prob, "posterior p(x | y)", "Blues"),
    )
    for index, (log_prob, title, cmap) in enumerate(panels):
        level_map(plots.panel(canvas, 1, 3, index + 1, title), log_prob, square, square, cmap=cmap)
    return canvas


def ellipsoid() -> "Figure":
    """Level sets of a Gaussian are ellipses: eigenvectors give the axes, square roots of the eigenvalues their lengths."""
    law = Gaussian([0.5, 0.2], [[2.0, 1.1], [1.1, 1.0]])
    points = law.sample(700, seed=0)
    turn = line(0, 2 * math.pi, 200)
    circle = torch.stack((turn.cos(), turn.sin()), 1)
    canvas = plots.figure(6.4, 5.2)
    axes = plots.panel(canvas, 1, 1, 1)
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=7, color=plots.DATA, alpha=0.6, linewidths=0)
    for mass, color in ((0.5, plots.SAMPLES), (0.9, plots.GOOD), (0.99, plots.ACCENT)):
        level = law.principal_axes(law.shell().quantile(mass))
        ring = law.mean + (circle * level.lengths) @ level.directions
        axes.plot(*ring.T.numpy(), color=color, linewidth=1.6, label=f"holds {mass:.0%}")
    one, center = law.principal_axes(), law.mean.tolist()
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    for direction, length in zip(one.directions, one.lengths, strict=True):
        x, y = (law.mean + direction * length).tolist()
        axes.annotate("", (x, y), (center[0], center[1]), arrowprops={"arrowstyle": "-|>", "color": plots.INK, "lw": 1.8})
        axes.annotate(f"√λ = {length:.2f}", (x, y), (6, 4), textcoords="offset points", fontsize=9, color=plots.INK, bbox=box)
    bare(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return canvas


def shell() -> "Figure":
    """The mass of a Gaussian in N dimensions: it lies in a thin shell of radius √N, though its density is highest at 0."""
    canvas = plots.figure(8.6, 4.2)
    left, right = plots.panel(canvas, 1, 2, 1, "law of the radius |x|"), plots.panel(canvas, 1, 2, 2, "|x| / √N")
    r = line(0.005, 12.5, 900)
    colors = (plots.DATA, plots.GOOD, plots.SAMPLES, plots.ACCENT)
    for dim, color in zip((1, 3, 20, 100), colors, strict=True):
        law = Gaussian(torch.zeros(dim, dtype=torch.float64), 1.0)
        density = law.shell().log_prob(r).exp()
        bell(left, r, density, color, f"N = {dim}")
        bell(right, r / math.sqrt(dim), density * math.sqrt(dim), color)
        left.plot(law.sample(30, seed=1).norm(dim=1).numpy(), np.full(30, -0.03), "|", color=color, markersize=7)
    left.set_xlim(0, 12.5)
    right.set_xlim(0, 2.5)
    left.legend(frameon=False, fontsize=9)
    return canvas


def kl() -> "Figure":
    """KL is not symmetric: the Gaussian of least KL(p‖q) covers both modes of p, that of least KL(q‖p) only one."""
    p = GaussianMixture([0.6, 0.4], [[-1.6], [1.8]], covs=[0.35, 0.25])
    x = line(-7, 7, 1401)
    log_p = p.log_prob(x[:, None])
    cover = Gaussian(p.mean, p.covariance)  # the moments of p, which minimize KL(p || q)
    candidates = torch.cartesian_prod(line(-3, 3, 61), line(0.3, 2.5, 45))
    means, stds = candidates[:, :1], candidates[:, 1:]
    log_q = -(((x - means) / stds) ** 2) / 2 - (stds * math.sqrt(2 * math.pi)).log()
    mean, std = candidates[((log_q - log_p) * log_q.exp()).sum(1).argmin()]
    seek = Gaussian(mean[None], std**2)
    canvas = plots.figure(8.0, 3.8)
    axes = plots.panel(canvas, 1, 1, 1)
    bell(axes, x, log_p.exp(), plots.DATA, "p")
    for q, color, name in (
        (cover, plots.SAMPLES, "argmin KL(p‖q): covers"),
        (seek, plots.ACCENT, "argmin KL(q‖p): seeks a mode"),
    ):
        bell(axes, x, q.log_prob(x[:, None]).exp(), color, name, fill=False)
    axes.set_xlim(-5, 5)
    axes.set_xlabel("x")
    axes.set_ylabel("density")
    axes.legend(frameon=False, fontsize=9)
    return canvas


def maximum_entropy() -> "Figure":
    """The most uncertain die with a given mean: maximum entropy tilts the probabilities of the faces exponentially."""
    faces = torch.arange(1, 7, dtype=torch.float64)
    canvas = plots.figure(8.6, 3.6)
    for index, mean in enumerate((2.5, 3.5, 4.5)):
        p = divergence.maximum_entropy(faces[:, None], [mean]).probabilities
        axes = plots.panel(canvas, 1, 3, index + 1, f"mean {mean:g}: entropy {divergence.entropy(p).item():.3f} nats")
        axes.bar(faces.numpy(), p.numpy(), color=plots.SAMPLES, width=0.7)
        axes.axvline(mean, color=plots.ACCENT, linewidth=1.6)
        axes.set_ylim(0, 0.45)
        axes.set_xticks(range(1, 7))
        axes.set_xlabel("face")
    return canvas


def bayes_classifier() -> "Figure":
    """Generative and discriminative classifiers: Bayes' boundary from known laws is the best, a fit estimates it."""
    laws = [Gaussian([-0.8, -0.3], [[0.9, 0.4], [0.4, 0.6]]), Gaussian([1.0, 0.6], [[0.4, -0.2], [-0.2, 0.8]])]
    truth = BayesClassifier(laws)
    x, labels = truth.sample(160, seed=2)
    fits = {
        "Bayes": (truth, plots.INK, "-"),
        "logistic, linear": (fit_logistic(x, labels), plots.GOOD, "--"),
        "logistic, quadratic": (fit_logistic(x, labels, features=_quadratic), plots.SAMPLES, "-."),
    }
    across, up = line(-3.4, 3.4, 161), line(-3.0, 3.0, 161)
    points = torch.cartesian_prod(across, up)
    canvas = plots.figure(7.4, 5.6)
    axes = plots.panel(canvas, 1, 1, 1)
    share = truth.posterior(points)[:, 1].reshape(161, 161).T
    axes.pcolormesh(across.numpy(), up.numpy(), share.numpy(), cmap="RdBu", vmin=-0.6, vmax=1.6, rasterized=True)
    for label, marker, color in ((0, "o", "#b91c1c"), (1, "s", plots.SAMPLES)):
        a, b = x[labels == label].T.numpy()
        axes.scatter(a, b, s=16, marker=marker, color=color, linewidths=0.4, edgecolors="white")
    for name, (classifier, color, style) in fits.items():
        odds = classifier.log_odds(points).reshape(161, 161).T
        axes.contour(across.numpy(), up.numpy(), odds.numpy(), levels=[0.0], colors=[color], linestyles=style, linewidths=2)
        wrong = truth.error_rate(20_000, seed=3, of=classifier).value
        axes.plot([], [], color=color, linestyle=style, linewidth=2, label=f"{name}: {wrong:.1%} wrong")
    axes.set_xlim(-3.4, 3.4)
    axes.set_ylim(-3.0, 3.0)
    bare(axes)
    axes.legend(fontsize=9, loc="upper left", framealpha=0.9, edgecolor="white")
    return canvas


def _moments(axes: "Axes", mean: float, std: float) -> None:
    axes.axvline(mean, color=plots.ACCENT, linewidth=1.6)
    axes.axvspan(mean - std, mean + std, color=plots.ACCENT, alpha=0.1, linewidth=0)
    axes.set_yticks([])


def _quadratic(x: Tensor) -> Tensor:
    return torch.cat((x, x**2, x[:, :1] * x[:, 1:]), 1)
