"""The options of guidance that ``sample``, ``impute`` and ``inpaint`` share, besides the scale."""

from typing import Annotated, Any

import typer

__all__ = ["By", "Interval", "Negative", "guided_by"]

Interval = Annotated[
    str,
    typer.Option(
        metavar="LOW,HIGH",
        help="Noise levels, sigma / alpha (noise over signal), where the scale applies; elsewhere it is 1. "
        "0,inf is everywhere.",
    ),
]
Negative = Annotated[
    str, typer.Option(metavar="VALUE", help="A condition to move away from. Default: the law without a condition.")
]
By = Annotated[
    str,
    typer.Option(
        metavar="KIND", help="condition, or classifier: the one of `pushforward fit-classifier`; --condition gives its label."
    ),
]


def guided_by(interval: str, negative: str, guidance: str) -> dict[str, Any]:
    """Return these options as arguments of a model's verbs, None for absent ones.

    >>> guided_by("0.2,5", "", "condition")
    {'guidance_interval': (0.2, 5.0), 'negative_condition': None, 'guidance': None}
    """
    if guidance not in ("condition", "classifier"):
        raise ValueError(f"--guidance must be condition or classifier, got {guidance!r}")
    return {
        "guidance_interval": _levels(interval),
        "negative_condition": negative or None,
        "guidance": None if guidance == "condition" else guidance,
    }


def _levels(text: str) -> tuple[float, float] | None:
    """Parse noise levels such as "0.2,5"."""
    if not text:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--guidance-interval is two noise levels such as 0.2,5, not {text!r}") from None
    return low, high
