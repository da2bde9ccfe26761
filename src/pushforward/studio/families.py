"""What each family promises, in the words of its card."""

from dataclasses import dataclass
from typing import Any

from pushforward.models.files.registry import family_names

__all__ = ["CARDS", "Family", "cards"]


@dataclass(frozen=True)
class Family:
    """A card: the idea in a few words, and what a trained model can do."""

    name: str
    title: str
    idea: str
    promises: tuple[str, ...]
    steps: bool = True
    """Whether training takes steps, which time or number limit."""


CARDS = (
    Family(
        "flow-matching",
        "Flow matching",
        "Learns the way from noise to data along straight lines",
        ("draws in steps", "density", "codes", "given a part"),
    ),
    Family(
        "diffusion",
        "Diffusion",
        "Removes noise step by step, under any schedule",
        ("draws in steps", "density", "codes", "given a part"),
    ),
    Family(
        "circuit",
        "Circuit",
        "Hidden states of all columns, linked in trees",
        ("draws", "exact density", "given a part exactly"),
        steps=False,
    ),
    Family(
        "gmm",
        "Gaussian mixture",
        "A few Gaussians, found by EM",
        ("draws", "exact density", "given a part exactly"),
        steps=False,
    ),
    Family("normalizing-flow", "Normalizing flow", "An invertible network", ("draws in one call", "exact density", "codes")),
    Family("gan", "GAN", "A generator against a critic", ("draws in one call",)),
    Family("vae", "VAE", "An autoencoder whose codes have a known law", ("draws in one call", "bound of the density", "codes")),
    Family(
        "cnf", "Continuous flow", "An ODE, trained by flow matching, then by likelihood", ("draws in steps", "density", "codes")
    ),
    Family(
        "masked-diffusion",
        "Masked diffusion",
        "Uncovers values one by one, in any order",
        ("draws in steps", "bound of the density", "given a part"),
    ),
    Family(
        "autoregressive",
        "Autoregressive",
        "Draws values one after the other",
        ("draws in steps", "exact density", "continues a beginning"),
    ),
    Family("latent", "Latent", "A coder, and a model as the law of its codes", ("draws in steps", "codes")),
    Family("hierarchical-vae", "Hierarchical VAE", "A chain of codes", ("draws in one call", "bound of the density", "codes")),
    Family("vqvae", "VQ-VAE", "Codes of whole numbers with a learned law", ("draws", "bound of the density", "codes")),
    Family("flow-map", "Flow map", "The flow in a few jumps", ("draws in one to four calls", "codes")),
    Family(
        "ppca", "PPCA", "A plane with noise around it", ("draws", "exact density", "codes", "given a part exactly"), steps=False
    ),
    Family("autoencoder", "Autoencoder", "Compresses a row and restores it; it draws nothing new", ("codes",)),
)


def cards(default: str) -> list[Family]:
    """Return all families, the default for the data first; those of other packages last."""
    known = {card.name for card in CARDS}
    others = [Family(name, name, "From another package", ()) for name in family_names() if name not in known]
    return sorted((*CARDS, *others), key=lambda card: card.name != default)


def finest(values: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe without what was left empty, inner mappings too."""
    kept = {name: finest(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in kept.items() if value not in (None, "", {}, [])}
