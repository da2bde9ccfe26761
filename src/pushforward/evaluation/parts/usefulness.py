"""The usefulness of samples: how well a predictor trained on samples does, beside one trained on rows."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from pushforward.evaluation.figure import Figure
from pushforward.evaluation.parts.rows import Inputs
from pushforward.metrics.mixed.utility import utility
from pushforward.probability.domain import Domain

__all__ = ["usefulness"]


def usefulness(
    samples: ArrayLike, train: ArrayLike, held: ArrayLike, domains: Sequence[Domain], target: int, inputs: Inputs
) -> Figure:
    """Return how well boosted trees predict one column of held-out rows, all mixed rows under ``domains``."""
    result = utility(samples, train, held, domains, target, seed=inputs.seed)
    note = f"boosted trees predict {inputs.names[target]}; the floor is trained on as many training rows"
    unit = "AUC" if result.score == "AUC" else "R²"
    return Figure(
        "train on samples, test on rows", "table", result.synthetic, unit, "higher", "held-out", result.real, note=note
    )
