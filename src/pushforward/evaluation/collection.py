"""What the parts of an evaluation have found so far."""

from dataclasses import dataclass, field

import numpy as np

from pushforward.evaluation.figure import Figure

__all__ = ["Collection"]


@dataclass(eq=False)
class Collection:
    """Figures, the arrays that plots are drawn from, and parts that do not apply, with the reason."""

    figures: list[Figure] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
