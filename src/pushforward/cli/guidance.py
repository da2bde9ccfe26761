"""The options of guidance that ``sample``, ``impute`` and ``inpaint`` share."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from pushforward.models.base.guidance import Guidance

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
        metavar="KIND", help="condition, or classifier (of `pushforward fit-classifier`), whose label --condition gives."
    ),
]


def guided_by(scale: float | None, interval: str, negative: str, by: str) -> "Guidance | None":
    """Return the guidance that these options mean, or None if none of them was given.

    >>> guided_by(2.0, "0.2,5", "", "condition")
    Guidance(scale=2.0, by='condition', interval=(0.2, 5.0), negative=None)
    """
    # Deferred, because it imports torch.
    from pushforward.models.base.guidance import Guidance

    if by not in ("condition", "classifier"):
        raise ValueError(f"--guidance must be condition or classifier, got {by!r}")
    kind: Literal["condition", "classifier"] = "classifier" if by == "classifier" else "condition"
    guidance = Guidance(1.0 if scale is None else scale, by=kind, interval=_levels(interval), negative=negative or None)
    return None if guidance == Guidance() else guidance


def _levels(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--guidance-interval is two noise levels such as 0.2,5, not {text!r}") from None
    return low, high
