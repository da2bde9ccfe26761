"""The plot of what a model makes that training draws on the way and at the end."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pushforward import plots

if TYPE_CHECKING:
    from pushforward.models.base.model import GenerativeModel

__all__ = ["plot_of_pairs", "plot_of_rows", "plot_of_samples"]

SEED = 0
_IMAGES, _POINTS, _KNOWN, _PER_CLASS, _CLASSES = 64, 1000, 2000, 10, 10


def plot_of_samples(model: "GenerativeModel", rows: Tensor) -> plots.Plot:
    """Draw the same samples every time: images, a row of them for each class, or a cloud of points beside the data.

    Parameters
    ----------
    model : GenerativeModel
    rows : Tensor (N, *D)
        Scaled training rows.
    """
    encoder = model.space_.conditions
    images = model.space_.schema.kind == "images"
    if encoder is not None and encoder.kind == "labels" and images:
        labels = [label for label in encoder.classes[:_CLASSES] for _ in range(_PER_CLASS)]
        z = model._generate(len(labels), encoder.encode(labels, len(labels)), seed=SEED)
        return plot_of_rows(model, z, rows, columns=_PER_CLASS, labels=labels)
    n = _IMAGES if images else _POINTS
    return plot_of_rows(model, model._generate(n, model._conditions_for_sampling(None, n, SEED), seed=SEED), rows)


def plot_of_rows(
    model: "GenerativeModel",
    z: Tensor,
    rows: Tensor,
    *,
    columns: int | None = None,
    labels: list[Any] | None = None,
    titles: tuple[str, str] = ("samples", "data"),
) -> plots.Plot:
    """Draw scaled rows z (n, *D): images in a grid, vectors beside scaled training ``rows``."""
    transform = model.space_.transform
    values = np.asarray(transform.inverse(z))
    if model.space_.schema.kind == "images":
        images = values.transpose(0, 2, 3, 1)
        scale = (float(transform.low.min()), float(transform.high.max()))
        return plots.image_grid(
            images[..., 0] if images.shape[-1] == 1 else images, columns=columns, labels=labels, scale=scale
        )
    known = np.asarray(transform.inverse(rows[:_KNOWN]))
    if known.shape[1] == 2:
        return plots.scatter_grid(values, known, names=model.space_.schema.columns, titles=titles)
    return plots.columns_grid(values, known, names=model.space_.schema.columns)


def plot_of_pairs(model: "GenerativeModel", z: Tensor, rows: Tensor) -> plots.Plot:
    """Draw scaled reconstructions z (n, *D) of rows: images each under its own row, vectors beside the rows."""
    if model.space_.schema.kind != "images":
        return plot_of_rows(model, z, rows, titles=("reconstructions", "data"))
    columns = min(_PER_CLASS, len(rows))
    whole = len(rows) // columns * columns
    pairs = torch.stack([part[:whole].reshape(-1, columns, *part.shape[1:]) for part in (rows, z)], dim=1)
    return plot_of_rows(model, pairs.flatten(0, 2), rows, columns=columns)
