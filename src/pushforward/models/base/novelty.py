"""Are the samples copies? Distances to the nearest training row, of samples and of rows that training never saw.

A model that has learned the law puts its samples about as far from the training rows as fresh rows are. One that returns
training rows puts them nearer: the ratio of the two median distances falls from about 1 to 0.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

if TYPE_CHECKING:
    from pushforward.models.base.model import GenerativeModel, Prepared

__all__ = ["measure_novelty", "novelty"]

_SEED = 0
_ROWS = 500


def measure_novelty(model: "GenerativeModel", prepared: "Prepared") -> dict[str, float] | None:
    """Compare samples of a model with its training rows; None without held-out rows, or if the model does not sample."""
    if prepared.held_out is None or not hasattr(model, "sample"):
        return None
    aside = model._clean(prepared.held_out[0])
    n = min(len(aside), _ROWS)
    z = model._generate(n, model._conditions_for_sampling(None, n, _SEED), seed=_SEED)
    # As rows are given out, integers whole: what lies beyond the range of the data is on its edge.
    samples = model.space_.transform.forward(model.space_.transform.inverse(z), dtype=torch.float32)
    return novelty(samples, model._clean(prepared.x), aside[:n])


def novelty(samples: Tensor, train: Tensor, held_out: Tensor) -> dict[str, float]:
    """Return median Euclidean distances to the nearest training row, in scaled units, and their ratio.

    Parameters
    ----------
    samples, train, held_out : Tensor (n, *D)
        Scaled rows.

    Returns
    -------
    dict
        ``samples``, ``held_out`` and ``ratio`` = samples / held_out.

    >>> train = torch.tensor([[0.0], [1.0], [2.0]])
    >>> novelty(torch.tensor([[0.25]]), train, torch.tensor([[1.5]]))
    {'samples': 0.25, 'held_out': 0.5, 'ratio': 0.5}
    """
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(_flat(train))

    def median(rows: Tensor) -> float:
        return float(np.median(index.kneighbors(_flat(rows))[0]))

    distances = {"samples": median(samples), "held_out": median(held_out)}
    ratio = distances["samples"] / distances["held_out"] if distances["held_out"] > 0 else float("inf")
    return distances | {"ratio": ratio}


def _flat(rows: Tensor) -> np.ndarray:
    return np.asarray(rows.detach().cpu().flatten(1).to(torch.float32))
