"""Checks of the state of an encoder of conditions that was read from a file, which may hold anything."""

from typing import Any, get_args

import torch
from torch import Tensor

from pushforward.data.columns import Table
from pushforward.data.conditions.features import MOST_ROWS, sizes_of
from pushforward.data.conditions.images import check_image
from pushforward.data.conditions.values import MOST_CLASSES, ConditionKind

__all__ = ["check_state"]


def check_state(
    *,
    kind: Any,
    classes: tuple[Any, ...],
    mean: Tensor,
    scale: Tensor,
    gaps: Any,
    rows: Tensor,
    columns: tuple[Any, ...] | None,
    table: Table | None,
    image: Any,
) -> None:
    """Raise a ValueError if the fields of a :class:`~pushforward.data.ConditionEncoder` do not fit each other."""
    if kind not in get_args(ConditionKind) or not isinstance(gaps, bool):
        raise ValueError(
            f"a condition has one of the kinds {', '.join(get_args(ConditionKind))}, and gaps or none, not {kind!r} and "
            f"{gaps!r}"
        )
    if any(type(label) not in (str, int, bool) for label in classes) or len(set(classes)) < len(classes):
        raise ValueError("the classes of a condition must be different words, integers or booleans")
    if scale.shape != mean.shape or mean.ndim != 1 or not bool(mean.isfinite().all() & (scale > 0).all()):
        raise ValueError("mean and scale of a condition must be as many finite numbers, and scales above 0")
    if not bool(scale.isfinite().all()):
        raise ValueError("the scale of a condition has infinities")
    if (table is None) is (kind == "table"):
        raise ValueError("a condition of kind 'table', and no other, has the types of its columns")
    if (image is None) is (kind in ("images", "mask")):
        raise ValueError("a condition of kind 'images' or 'mask', and no other, has the size of its images")
    if image is not None:
        _check_images(kind, classes, mean, gaps, rows, columns, image)
        return
    width = 1 if kind == "labels" else len(mean) if table is None else len(table.columns)
    if columns is not None and (len(columns) != width or any(type(name) is not str for name in columns)):
        raise ValueError(f"a condition of {width} columns has that many names, not {columns!r}")
    if kind == "labels":
        sound = rows.dtype == torch.int64 and rows.shape == (len(classes) + 1,) and len(mean) == 0 < len(classes)
        sound = sound and len(classes) <= MOST_CLASSES and bool((rows >= 0).all()) and 0 < int(rows.sum()) < 1 << 53
    else:
        sound = rows.dtype == mean.dtype == scale.dtype == torch.float64 and not classes and len(mean) > 0
        sound = sound and rows.ndim == 2 and rows.shape[1] == width and 0 < len(rows) <= MOST_ROWS
        sound = sound and not bool(rows.isinf().any()) and (table is not None or gaps or not bool(rows.isnan().any()))
    if not sound:
        raise ValueError(f"condition.rows are {rows.dtype} of shape {tuple(rows.shape)}, which are no training conditions")
    if table is not None:
        _check_table(table, columns, len(mean), rows)


def _check_images(
    kind: str, classes: tuple[Any, ...], mean: Tensor, gaps: bool, rows: Tensor, columns: tuple[Any, ...] | None, image: Any
) -> None:
    check_image(image)
    stored = kind == "images"
    sound = not classes and columns is None and gaps is not stored and len(mean) == stored * image[0]
    if stored:
        sound = sound and rows.dtype in (torch.uint8, torch.float32) and rows.shape[1:] == image and len(rows) > 0
        sound = sound and bool(rows.isfinite().all())
    if not sound or mean.dtype != torch.float64 or (not stored and (rows.numel() > 0 or image[0] < 2)):
        raise ValueError(f"condition.rows of shape {tuple(rows.shape)} are no images of {image} with their scaling")


def _check_table(table: Table, columns: tuple[Any, ...] | None, features: int, rows: Tensor) -> None:
    sizes = sizes_of(table)
    if columns not in (None, table.names) or max(sizes) > MOST_CLASSES or sum(sizes) != features:
        raise ValueError(f"a condition of the columns {columns!r} has {features} features, which are not those of its table")
    for column, values in zip(table.columns, rows.unbind(1), strict=True):
        known, top = values[~values.isnan()], column.domain.high
        if column.domain.type == "category" and not bool(((known >= 0) & (known <= top) & (known == known.round())).all()):
            raise ValueError(f"condition column {column.name!r} has rows of levels that it does not have")
