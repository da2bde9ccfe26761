"""The few rows that plots are drawn from: samples, held-out rows, paths from noise to data."""

from typing import Any

import numpy as np

from pushforward.evaluation.collection import Collection
from pushforward.evaluation.parts.rows import Material, Side
from pushforward.evaluation.watch import paths

__all__ = ["keep_paths", "keep_rows", "plane", "shown"]

_IMAGES, _ROWS, _CLASSES, _PER_CLASS = 64, 2000, 10, 8


def keep_rows(material: Material, found: Collection) -> None:
    """Keep a few samples and held-out rows to look at."""
    assert material.samples is not None
    samples, rows = material.samples, material.held
    if material.images:
        both = _by_class(samples, rows)
        if both is not None:
            found.arrays["class_labels"] = np.array([str(label) for label in both[0]])
            picked = both[1], both[2]
        else:
            picked = np.arange(min(_IMAGES, len(samples))), np.arange(min(_IMAGES, len(rows)))
    else:
        picked = np.arange(min(_ROWS, len(samples))), np.arange(min(_ROWS, len(rows)))
    found.arrays["samples"] = shown(material, samples, picked[0])
    found.arrays["rows"] = shown(material, rows, picked[1])
    if not material.images:
        flat = np.concatenate([found.arrays["samples"], found.arrays["rows"]])
        if flat.shape[1] > 2:
            scaled = [material.scaling(side.x)[index] for side, index in zip((samples, rows), picked, strict=True)]
            mapped = plane(np.concatenate([scaled[1], scaled[0]]), fitted=len(scaled[1]))
            found.arrays["plane_rows"], found.arrays["plane_samples"] = mapped[: len(scaled[1])], mapped[len(scaled[1]) :]


def _by_class(samples: Side, rows: Side) -> tuple[list[Any], np.ndarray, np.ndarray] | None:
    """Return labels, and numbers of equally many samples and rows of each, if there are enough."""
    if samples.condition is None or rows.condition is None:
        return None
    known = {label for label in samples.condition if label is not None}
    labels = sorted(known, key=lambda label: (isinstance(label, str), label))[:_CLASSES]
    given = [[str(label) for label in side] for side in (samples.condition, rows.condition)]
    of = [[np.flatnonzero(np.array(side) == str(label))[:_PER_CLASS] for label in labels] for side in given]
    each = min((len(index) for side in of for index in side), default=0)
    if each < 3 or len(labels) < 2:
        return None
    of_samples, of_rows = (np.concatenate([index[:each] for index in side]) for side in of)
    return labels, of_samples, of_rows


def keep_paths(material: Material, found: Collection) -> None:
    """Follow a few samples from noise to data."""
    times, states = paths(material.model, 8 if material.images else 256, seed=material.seed)
    if material.images:
        found.arrays["path_states"] = states if states.shape[-1] != 1 else states[..., 0]
    else:
        flat = states.reshape(len(states), states.shape[1], -1)
        if flat.shape[2] > 2:
            flat = plane(flat[::-1].reshape(-1, flat.shape[2]), fitted=flat.shape[1]).reshape(*flat.shape[:2], 2)[::-1]
        if flat.shape[2] == 2:
            found.arrays["path_states"] = flat
    found.arrays["path_times"] = times


def shown(material: Material, side: Side, index: np.ndarray) -> np.ndarray:
    """Return rows as plots are drawn from them: (n, H, W[, C]) or (n, D), in data units."""
    x = side.x[np.asarray(index)].numpy()
    if not material.images:
        return x
    x = np.moveaxis(x, 1, -1)
    return x[..., 0] if x.shape[-1] == 1 else x


def plane(rows: np.ndarray, *, fitted: int | None = None) -> np.ndarray:
    """Return the first two principal components of rows (n, D), fitted to the first ``fitted`` of them, as (n, 2).

    >>> plane(np.array([[0.0, 0.0, 3.0], [0.0, 0.0, -3.0], [0.0, 1.0, 0.0]])).shape
    (3, 2)
    """
    rows = rows.astype(np.float64)
    center = rows[:fitted].mean(axis=0)
    axes = np.linalg.svd(rows[:fitted] - center, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # the same map every time
    flat = (rows - center) @ axes.T
    return flat if flat.shape[1] == 2 else np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
