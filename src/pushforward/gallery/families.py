"""A diagram of each family of models: the way from noise to a row, and the way back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pushforward import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["families", "latent_chains"]

_COLUMNS = 4
_DRAWS, _READS, _FIXED = plots.ACCENT, plots.SAMPLES, plots.DATA


@dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes with its label, and the height at which it passes (0 is straight)."""

    start: str
    end: str
    label: str = ""
    color: str = _DRAWS
    bend: float = 0.0


@dataclass(frozen=True)
class Diagram:
    """Boxes with their places in [0, 3] x [-1, 1], arrows between them, and what is known of the density."""

    name: str
    boxes: dict[str, tuple[float, float]]
    arrows: tuple[Arrow, ...]
    density: str


def _pair(draws: str, reads: str, *, noise: str = "z", fixed: bool = False) -> tuple[Arrow, ...]:
    """Return the arrows of a model with a way from noise to rows, above, and a way back, below."""
    return (Arrow(noise, "x", draws, bend=0.45), Arrow("x", noise, reads, _FIXED if fixed else _READS, bend=0.45))


_CODER = {"x": (0.0, 0.0), "z": (1.5, 0.0), "x̂": (3.0, 0.0)}
_CODES = (Arrow("x", "z", "encoder", _READS), Arrow("z", "x̂", "decoder"))
_ENDS = {"z": (0.0, 0.0), "x": (3.0, 0.0)}
_DIAGRAMS = (
    Diagram("PPCA", _ENDS, _pair("a plane, plus noise", "Bayes, exactly"), "exact"),
    Diagram("GMM", {"k": (0.0, 0.0), "x": (3.0, 0.0)}, _pair("a Gaussian", "Bayes, exactly", noise="k"), "exact"),
    Diagram(
        "Circuit",
        {"s₁": (0.0, 0.6), "s₂": (1.5, 0.6), "s₃": (3.0, 0.6), "x₁": (0.0, -0.6), "x₂": (1.5, -0.6), "x₃": (3.0, -0.6)},
        (
            Arrow("s₁", "s₂", "tree"),
            Arrow("s₂", "s₃"),
            *(Arrow(f"s{k}", f"x{k}") for k in "₁₂₃"),
        ),
        "exact",
    ),
    Diagram("Autoencoder", _CODER, _CODES, "none, and it draws no rows"),
    Diagram("VAE", {**_CODER, "N(0, I)": (1.5, 0.95)}, (*_CODES, Arrow("N(0, I)", "z")), "lower bound"),
    Diagram(
        "HierarchicalVAE",
        {"z₁": (0.0, 0.0), "z₂": (1.5, 0.0), "x": (3.0, 0.0)},
        (
            Arrow("z₁", "z₂", "details"),
            Arrow("z₂", "x", "decoder"),
            Arrow("x", "z₂", "", _READS, bend=0.35),
            Arrow("x", "z₁", "encoder", _READS, bend=0.95),
        ),
        "lower bound",
    ),
    Diagram(
        "VQVAE",
        {"x": (0.0, 0.0), "3 7 1": (1.5, 0.0), "x̂": (3.0, 0.0), "law of codes": (1.5, 0.95)},
        (Arrow("x", "3 7 1", "encoder", _READS), Arrow("3 7 1", "x̂", "decoder"), Arrow("law of codes", "3 7 1")),
        "lower bound",
    ),
    Diagram(
        "GAN",
        {"z": (0.0, -0.5), "G(z)": (1.5, -0.5), "x": (1.5, 0.6), "critic": (3.0, 0.05)},
        (Arrow("z", "G(z)", "generator"), Arrow("G(z)", "critic", "", _READS), Arrow("x", "critic", "", _READS)),
        "none",
    ),
    Diagram("NormalizingFlow", _ENDS, _pair("an invertible network", "its inverse"), "exact"),
    Diagram("CNF", _ENDS, _pair("an ODE", "the same, backwards"), "exact, up to the solver"),
    Diagram(
        "Diffusion",
        {"noise": (0.0, 0.0), "x_t": (1.5, 0.0), "x": (3.0, 0.0)},
        (
            Arrow("noise", "x_t", "denoise", bend=0.45),
            Arrow("x_t", "x", "step by step", bend=0.45),
            Arrow("x", "x_t", "add noise", _FIXED, bend=0.45),
            Arrow("x_t", "noise", "", _FIXED, bend=0.45),
        ),
        "by the flow, or a bound",
    ),
    Diagram("FlowMatching", _ENDS, _pair("mean velocity, in steps", "a straight line", fixed=True), "by the flow"),
    Diagram("FlowMap", _ENDS, _pair("one jump", "one jump"), "an estimate"),
    Diagram(
        "MaskedDiffusion",
        {"_ _ _": (0.0, 0.0), "_ a _": (1.5, 0.0), "c a t": (3.0, 0.0)},
        (
            Arrow("_ _ _", "_ a _", "unmask", bend=0.45),
            Arrow("_ a _", "c a t", "", bend=0.45),
            Arrow("c a t", "_ a _", "mask", _FIXED, bend=0.45),
            Arrow("_ a _", "_ _ _", "", _FIXED, bend=0.45),
        ),
        "lower bound",
    ),
    Diagram(
        "Autoregressive",
        {"c": (0.0, 0.0), "c a": (1.5, 0.0), "c a t": (3.0, 0.0)},
        (Arrow("c", "c a", "next"), Arrow("c a", "c a t", "next")),
        "exact",
    ),
    Diagram(
        "Latent",
        {**_CODER, "any model": (1.5, 0.95)},
        (*_CODES, Arrow("any model", "z")),
        "a bound, if the coder has one",
    ),
)


_CHAIN = {"x": (0.0, -0.2), "h₁": (1.0, -0.2), "h₂": (2.0, -0.2), "h₃": (3.0, -0.2)}
_STEPS = tuple(zip(_CHAIN, list(_CHAIN)[1:], strict=False))
_DOWN = tuple(Arrow(above, below, f"p({below}|{above})", bend=0.3) for below, above in _STEPS)
_ASIDE = tuple(Arrow("x", level, color=_READS, bend=bend) for level, bend in (("h₁", 0.3), ("h₂", 0.75), ("h₃", 1.3)))


def _up(color: str) -> tuple[Arrow, ...]:
    """Return the arrows of a Markov encoder, from each level to the one above."""
    return tuple(Arrow(below, above, f"q({above}|{below})", color, bend=0.3) for below, above in _STEPS)


_CHAINS = (
    Diagram("a Markov encoder learns each step", _CHAIN, (*_DOWN, *_up(_READS)), ""),
    Diagram("a ladder sees the row at every level", _CHAIN, (*_DOWN, *_ASIDE), ""),
    Diagram("diffusion only adds noise", _CHAIN, (*_DOWN, *_up(_FIXED)), ""),
)


def latent_chains() -> "Figure":
    """Encoders of a chain of latents: learned step by step, learned from the row, or fixed. Orange arrows draw the row."""
    canvas = plots.figure(11.4, 2.8)
    for index, diagram in enumerate(_CHAINS):
        _draw(canvas.add_subplot(1, len(_CHAINS), index + 1), diagram)
    return canvas


def families() -> "Figure":
    """The families of models: how each draws a row (orange), reads one (blue), or only adds noise to it (gray)."""
    canvas = plots.figure(12.4, 8.6)
    for index, diagram in enumerate(_DIAGRAMS):
        _draw(canvas.add_subplot(len(_DIAGRAMS) // _COLUMNS, _COLUMNS, index + 1), diagram)
    canvas.set_layout_engine("constrained", h_pad=0.16)
    return canvas


def _draw(axes: "Axes", diagram: Diagram) -> None:
    axes.set(xlim=(-0.6, 3.6), ylim=(-1.2, 1.2))
    axes.set_axis_off()
    axes.set_title(diagram.name, fontsize=10, color=plots.INK)
    if diagram.density:
        axes.text(1.5, -1.05, f"density: {diagram.density}", ha="center", va="center", fontsize=8, color=plots.INK, alpha=0.75)
    for arrow in diagram.arrows:
        _arrow(axes, diagram.boxes, arrow)
    for label, (x, y) in diagram.boxes.items():
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": plots.INK, "linewidth": 0.8}
        axes.text(x, y, label, ha="center", va="center", fontsize=9, color=plots.INK, bbox=box)


def _arrow(axes: "Axes", boxes: dict[str, tuple[float, float]], arrow: Arrow) -> None:
    (x0, y0), (x1, y1) = boxes[arrow.start], boxes[arrow.end]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    style = {
        "arrowstyle": "-|>",
        "color": arrow.color,
        "linewidth": 1.5,
        "shrinkA": 14,
        "shrinkB": 14,
        # The height of an arc is half its curvature times its length, to the left of its direction.
        "connectionstyle": f"arc3,rad={-2 * arrow.bend / length * 0.6:.3f}",
    }
    axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)
    side = 1 if x1 >= x0 else -1
    height = side * (arrow.bend * 0.55 + 0.24)
    axes.text((x0 + x1) / 2, (y0 + y1) / 2 + height, arrow.label, ha="center", va="center", fontsize=8, color=plots.INK)
