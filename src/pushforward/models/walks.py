"""Rows between two rows, and rows mixed from two: decoded from codes, for every model that encodes and decodes rows."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pushforward.data import ArrayLike, Condition, RowSpace, Values
from pushforward.models.base.codes import arc, as_rows
from pushforward.probability.counts import check_count

__all__ = ["interpolate", "mix"]


class Encodes(Protocol):
    """A fitted model with codes."""

    space_: RowSpace

    def transform(self, X: ArrayLike, *, condition: Condition = None) -> Values:
        """Return the codes of rows."""

    def inverse_transform(self, Z: ArrayLike, *, condition: Condition = None) -> Values:
        """Return the rows of codes."""


def interpolate(
    model: Encodes, a: ArrayLike, b: ArrayLike, n: int = 8, *, straight: bool = False, condition: Condition = None
) -> Values:
    """Return n rows that interpolate between rows a and b, decoded from points between their codes.

    Parameters
    ----------
    model : model with ``transform`` and ``inverse_transform``
        An autoencoder, PPCA, a flow, a model of flow matching or diffusion, a flow map, or a model in their codes.
    a, b : rows
        One row each, like the training data.
    n : int
        Number of rows, at least 2; the first and the last are those of the codes of a and b.
    straight : bool
        Whether the points lie on a line, as suits codes without a law such as those of ``Autoencoder``. By default they lie
        on an arc, as suits codes that are standard normal: these lie near a sphere, which a line leaves.
    condition : label or vector, optional
        The condition of all rows.

    Raises
    ------
    ValueError
        If the model has no codes, or its codes are integers, which cannot be interpolated.

    >>> import pushforward as pf
    >>> model = pf.NormalizingFlow(train_steps=5, random_state=0).fit("moons", condition=False)
    >>> pf.interpolate(model, [0.0, 1.0], [1.0, 0.0], 5).shape
    (5, 2)
    """
    check_count("n", n, 2)
    (start, end), shape = _codes(model, a, b, condition)
    if len(start) != 1 or len(end) != 1:
        raise ValueError(
            f"interpolate takes one row a and one row b, but got {len(start)} and {len(end)}; call it for each pair."
        )
    s = torch.linspace(0, 1, n, dtype=torch.float64)
    path = (1 - s[:, None]) * start + s[:, None] * end if straight else arc(start[0], end[0], s)
    return model.inverse_transform(path.reshape(n, *shape).numpy(), condition=condition)


def mix(model: Encodes, a: ArrayLike, b: ArrayLike, elements: Sequence[int] | slice, *, condition: Condition = None) -> Values:
    """Return the rows a with some elements of their codes taken from the rows b (style mixing).

    Parameters
    ----------
    model : model with ``transform`` and ``inverse_transform``
    a, b : rows
        As many of each, or one b for all a.
    elements : indices or slice
        The elements of the code that come from b, such as a level of ``HierarchicalVAE``. Codes that are shaped like images
        are counted as flat.
    condition : label, vector, or one of them per row, optional

    Raises
    ------
    ValueError
        If the model has no codes, the numbers of rows differ, or ``elements`` are not among those of a code.

    >>> import pushforward as pf
    >>> X = pf.open_data("moons").values
    >>> model = pf.NormalizingFlow(train_steps=5, random_state=0).fit(X)
    >>> mixed = pf.mix(model, X[:3], X[3:6], [0])
    >>> bool(abs(model.transform(mixed)[:, 0] - model.transform(X[3:6])[:, 0]).max() < 1e-4)
    True
    """
    (codes, others), shape = _codes(model, a, b, condition, integers=True)
    if len(others) not in (1, len(codes)):
        raise ValueError(f"b must have one row or as many as a, {len(codes)}, not {len(others)}.")
    mixed = codes.clone()
    try:
        mixed[:, elements] = others.expand(len(codes), -1)[:, elements]
    except (IndexError, TypeError) as error:
        raise ValueError(
            f"elements must be indices or a slice of the {codes.shape[1]} elements of a code, not {elements!r}."
        ) from error
    return model.inverse_transform(mixed.reshape(len(mixed), *shape).numpy(), condition=condition)


def _codes(
    model: Encodes, a: ArrayLike, b: ArrayLike, condition: Condition, *, integers: bool = False
) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    """Return the codes of a and of b as flat rows, and the shape of one code."""
    if not hasattr(model, "transform") or not hasattr(model, "inverse_transform"):
        raise ValueError(
            f"{type(model).__name__} has no codes of rows; take a model with transform and inverse_transform, such as VAE()."
        )
    codes: list[np.ndarray] = [
        np.asarray(model.transform(as_rows(model.space_.schema, row), condition=condition)) for row in (a, b)
    ]
    if not integers and np.issubdtype(codes[0].dtype, np.integer):
        raise ValueError(
            f"the codes of {type(model).__name__} are integers, which cannot be interpolated; use a VAE, or pf.mix."
        )
    kept = codes[0].dtype if np.issubdtype(codes[0].dtype, np.integer) else np.float64
    first, second = (torch.as_tensor(z.astype(kept)).reshape(len(z), -1) for z in codes)
    return (first, second), codes[0].shape[1:]
