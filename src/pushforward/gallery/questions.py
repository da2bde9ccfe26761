"""Plots of bounds, guidance and posterior sampling, with the exact answers."""

import functools
import math
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pushforward import diffusion, plots
from pushforward.diffusion import (
    DPS,
    MMPS,
    Bins,
    DPMSolver,
    Exact,
    ExactDenoiser,
    Guided,
    LinearBeta,
    Matrix,
    PosteriorMethod,
    Replacement,
    Schedule,
    UniformGrid,
    observe,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.gallery import pen
from pushforward.probability import Gaussian, GaussianMixture, divergence, noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["variational_bound", "guidance", "posterior_sampling"]

SCHEDULE = LinearBeta()

CHAINS = (25, 75, 200)
INTEGERS = 17
COPIES = 60

RIGHT = Gaussian([0.8], 0.25)
BOTH = GaussianMixture([0.5, 0.5], [[-0.8], [0.8]], covs=[0.25, 0.25])
SCALES = (0.0, 1.0, 2.0, 4.0)
GUIDED_ROWS = 4_000

RING = GaussianMixture(
    torch.tensor([1.0, 3.0, 1.0, 3.0, 1.0, 1.0, 1.0]) / 11,
    torch.stack([torch.tensor([math.cos(2 * math.pi * k / 7 + 0.4), math.sin(2 * math.pi * k / 7 + 0.4)]) for k in range(7)]),
    covs=torch.full((7,), 0.03),
)
MEASURED, NOISE = 0.4, 0.2
POSTERIOR_ROWS = 600
PASSES = 60


def variational_bound() -> "Figure":
    """DDPM's bound over t: the bits of an integer that each step costs, and how close their sum is to the exact value.

    Data are integers from 0 to 16 with a known law, and the denoiser is exact. The last step decodes the integer with a single
    Gaussian, so the bound stays slightly above the exact value for any number of steps; for real numbers it converges.
    """
    canvas = plots.figure(10.6, 4.2)
    left = plots.panel(canvas, 1, 2, 1, "bits of each step")
    right = plots.panel(canvas, 1, 2, 2, "total bits, from noise to data")
    weights, _ = _integers()
    for steps, color in zip(CHAINS, (plots.DATA, plots.ACCENT, plots.SAMPLES), strict=True):
        times, terms, prior = _bits(steps)
        paid = int(terms.nonzero().max()) + 1
        left.plot(times[:paid], terms[:paid], color=color, linewidth=1.6)
        left.plot(times[paid - 1], terms[paid - 1], "o", color=color, markersize=5)
        total = torch.cat((prior[None], prior + terms.cumsum(0)))
        ends = torch.cat((times, torch.zeros(1, dtype=times.dtype)))
        right.plot(ends, total, color=color, linewidth=1.6, label=f"{steps} steps: {total[-1]:.2f} bits")
    exact = divergence.entropy(weights).item() / math.log(2)
    right.axhline(exact, color=plots.INK, linewidth=1.2, linestyle="--", label=f"exact: {exact:.2f} bits")
    left.set_yscale("log")
    left.set_ylim(1e-5, 3)
    right.set_ylim(0, None)
    for axes in (left, right):
        axes.set_xlim(1, 0)
        axes.set_xlabel("time t", color=plots.INK)
    right.legend(frameon=False, fontsize=9, loc="center left")
    return canvas


def guidance(scale: Annotated[float, pen.Slider("scale on the right", 0, 12, 0.5)] = SCALES[-1]) -> "Figure":
    """Guidance with scale w samples p(x) p(y | x)^w only for w = 0 and 1; above 1 the samples go farther out.

    The denoiser is D(x) + w (D(x, y) − D(x)), without and with the condition y.
    """
    canvas = plots.figure(11.4, 3.2)
    x = pen.line(-3.2, 4.2)
    for index, w in enumerate((*SCALES[:-1], scale)):
        axes = plots.panel(canvas, 1, len(SCALES), index + 1, f"w = {w:g}")
        pen.bell(axes, x, BOTH.log_prob(x[:, None]).exp(), plots.DATA, "p(x)")
        drawn = _guided(w)[:, 0].numpy()
        axes.hist(drawn, 90, range=(-3.2, 4.2), density=True, color=plots.SAMPLES, alpha=0.45, label="samples")
        pen.bell(axes, x, tilted(x, w), plots.ACCENT, "p(x) p(y | x)^w", fill=False)
        axes.set_ylim(0, 1.55)
        axes.set_yticks([])
        if index == 0:
            axes.legend(frameon=False, fontsize=8, loc="upper right")
    return canvas


def posterior_sampling() -> "Figure":
    """Rows given one measured coordinate: the exact posterior and three methods, each with 60 network passes."""
    methods: dict[str, PosteriorMethod] = {
        "exact": Exact(),
        "MMPS": MMPS(iterations=1),
        "RePaint": Replacement(repeats=3),
        "DPS": DPS(strength=0.3),
    }
    canvas = plots.figure(11.4, 3.3)
    for index, (name, method) in enumerate(methods.items()):
        drawn = _posterior(method)
        share, spread = (drawn[:, 1] > 0).double().mean().item(), drawn[:, 0].std().item()
        axes = plots.panel(canvas, 1, len(methods), index + 1, f"{name}\n{share:.0%} above, spread {spread:.2f}")
        pen.level_map(axes, RING.log_prob, (-1.7, 1.7), (-1.7, 1.7), cmap="Greys")
        axes.axvline(MEASURED, color=plots.ACCENT, linewidth=1.2, linestyle="--")
        axes.scatter(drawn[:, 0].numpy(), drawn[:, 1].numpy(), s=5, color=plots.SAMPLES, alpha=0.35, linewidths=0)
        axes.set_xlim(-1.7, 1.7)
        axes.set_ylim(-1.7, 1.7)
    return canvas


def tilted(x: Tensor, scale: float) -> Tensor:
    """Return the density of p(x) p(y | x)^scale, normalized over the evenly spaced numbers x (N,), for y = the right bell."""
    points = x[:, None]
    density = (BOTH.log_prob(points) * (1 - scale) + RIGHT.log_prob(points) * scale).exp()
    return density / torch.trapezoid(density, x)


class _Conditional(AbstractDenoiser):
    """The exact denoiser of ``BOTH``, or of ``RIGHT`` where the condition is not zero."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.both, self.right = ExactDenoiser(BOTH, schedule), ExactDenoiser(RIGHT, schedule)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t] or E[x | x_t, y]; without a condition the former."""
        both: Tensor = self.both(x_t, t)
        return both if condition is None else torch.where(condition > 0, self.right(x_t, t), both)


@functools.cache
def _guided(scale: float) -> Tensor:
    """Return rows (GUIDED_ROWS, 1) guided from ``BOTH`` to ``RIGHT``, starting at evenly spaced quantiles of the noise."""
    z = torch.special.ndtri((torch.arange(GUIDED_ROWS, dtype=torch.float64) + 0.5) / GUIDED_ROWS)[:, None]
    guided = Guided(_Conditional(SCHEDULE), scale)
    return DPMSolver(order=3).run(guided, z, steps=60, condition=torch.ones_like(z))


def _integers() -> tuple[Tensor, Tensor]:
    """Return the probabilities of the integers 0 to 16, and the centers of their intervals of equal width in [-2, 2]."""
    middles = (torch.arange(INTEGERS, dtype=torch.float64) + 0.5) * (4 / INTEGERS) - 2
    density = GaussianMixture([0.35, 0.65], [[-1.2], [0.7]], covs=[0.06, 0.2]).log_prob(middles[:, None]).exp()
    return density / density.sum(), middles


@functools.cache
def _bits(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the times of a chain (T,), the mean bits of each of its steps (T,), and those of its prior, ()."""
    weights, middles = _integers()
    law = GaussianMixture(weights, middles[:, None], covs=torch.full((INTEGERS,), 1e-12, dtype=torch.float64))
    # Each integer has equally many copies, weighted afterwards, so that only the noise is random.
    x, width = middles.repeat_interleave(COPIES)[:, None], 4 / INTEGERS
    low, high = x - width / 2, x + width / 2
    low[:COPIES], high[-COPIES:] = -math.inf, math.inf
    bins = Bins(low, high, torch.tensor([width], dtype=torch.float64))
    times = UniformGrid()(SCHEDULE, steps)
    bound = diffusion.variational_bound(ExactDenoiser(law, SCHEDULE), x, times, bins=bins)
    share = weights.repeat_interleave(COPIES) / (COPIES * math.log(2))
    return torch.tensor(bound.times), share @ torch.tensor(bound.terms), share @ torch.tensor(bound.prior)


@functools.cache
def _posterior(method: PosteriorMethod) -> Tensor:
    """Draw rows (POSTERIOR_ROWS, 2) of the ring given its first coordinate, with as many steps as ``PASSES`` allow."""
    z = noise.normal((2,), seed=0, purpose="posterior", rows=POSTERIOR_ROWS, dtype=torch.float64)
    seen = observe(Matrix([[1.0, 0.0]]), [MEASURED], NOISE, (2,))
    steps = next(steps for steps in range(PASSES, 0, -1) if method.passes(steps) <= PASSES)
    return method.run(ExactDenoiser(RING, SCHEDULE), seen, z, steps=steps, seed=1)
