"""A measure as it is reported: with its name and place, its noise floor, and what it was measured against."""

from dataclasses import dataclass
from typing import Literal

from pushforward.metrics.measure import Measure

__all__ = ["Figure", "Group"]

Group = Literal["samples", "density", "table", "memorization", "latent", "speed"]


@dataclass(frozen=True)
class Figure:
    """A measure with its name and place.

    Attributes
    ----------
    name : str
        Such as "sliced Wasserstein".
    group : Group
        The part of the report that it belongs to.
    measure : Measure
    unit : str
        "" for plain numbers.
    better : {"lower", "higher", "floor"} or None
        Which way is better; "floor": the nearer to the noise floor the better (a ratio of distances); None: it describes only.
    reference : {"train", "held-out"} or None
        The rows that samples were compared with, or whose density was taken.
    floor : Measure, optional
        The same number between training rows and held-out rows: what a perfect model would reach.
    space : str
        Where it was measured: "" for the rows themselves, else the name of the features. Unlike spaces are never compared.
    note : str
        What a reader must know, such as the kind of a density.
    """

    name: str
    group: Group
    measure: Measure
    unit: str = ""
    better: Literal["lower", "higher", "floor"] | None = None
    reference: Literal["train", "held-out"] | None = None
    floor: Measure | None = None
    space: str = ""
    note: str = ""
