"""Grids of images, pixel for pixel, as one Pillow image."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pushforward.plots.style import INK

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_grid"]


def image_grid(
    images: np.ndarray,
    *,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    scale: tuple[float, float] | None = None,
    width: int = 900,
) -> "Image":
    """Return images side by side, each pixel enlarged to a square of whole screen pixels.

    Parameters
    ----------
    images : array
        ``(N, H, W)`` grey, ``(N, H, W, 3)`` RGB, ``(N, H, W, 4)`` RGBA on white, or ``(N, H, W, C)`` with any other C, whose
        channels are shown side by side as grey images.
    columns : int, optional
        Images in a row; by default the grid is about square.
    labels : sequence, optional
        One per image, written under it.
    scale : (float, float), optional
        Values shown as black and as white, for all images; by default the smallest and the largest.
    width : int
        Width to fill, in pixels. Larger images are not shrunk.
    """
    from PIL import Image

    tiles = _to_bytes(np.asarray(images), scale)
    count, height, across = tiles.shape[:3]
    columns = min(columns or max(1, round(math.sqrt(count * height / across))), count)
    lines = -(-count // columns)
    factor = max(1, int(width * 0.97) // (columns * across))
    gap = min(12, max(2, round(0.03 * factor * min(height, across))))
    caption = 0 if labels is None else max(14, min(22, round(0.28 * factor * across)))
    step_x, step_y = factor * across + gap, factor * height + gap + caption
    grid = Image.new("RGB", (columns * step_x + gap, lines * step_y + gap), "white")
    for index, tile in enumerate(tiles):
        x, y = gap + index % columns * step_x, gap + index // columns * step_y
        enlarged = Image.fromarray(tile).resize((factor * across, factor * height), Image.Resampling.NEAREST)
        grid.paste(enlarged, (x, y))
    if labels is not None:
        _write_captions(grid, labels, columns, gap, (step_x, step_y), caption)
    return grid


def _to_bytes(images: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    """Return uint8 tiles ``(N, H, W)`` or ``(N, H, W, 3)``."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images must be (N, H, W) or (N, H, W, C) with at least one image, not of shape {images.shape}.")
    values = images.astype(np.float32)
    low, high = scale if scale is not None else (float(np.nanmin(values)), float(np.nanmax(values)))
    if not low <= high:
        raise ValueError(f"scale must be (black, white) with black below white, not {(low, high)}.")
    unit = np.nan_to_num(((values - low) / (high - low if high > low else 1.0)).clip(0, 1))
    if unit.ndim == 4 and unit.shape[3] == 4:
        unit = unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:])
    elif unit.ndim == 4 and unit.shape[3] != 3:
        separated = np.pad(unit, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1.0)
        unit = separated.transpose(0, 1, 3, 2).reshape(*unit.shape[:2], -1)[:, :, :-1]
    return np.asarray((unit * 255).round().astype(np.uint8))


def _write_captions(
    grid: "Image", labels: Sequence[object], columns: int, gap: int, step: tuple[int, int], caption: int
) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(size=max(9, caption - 5))
    for index, label in enumerate(labels):
        x = gap + index % columns * step[0] + (step[0] - gap) / 2
        y = gap + (index // columns + 1) * step[1] - gap - caption / 2
        draw.text((x, y), str(label), fill=INK, font=font, anchor="mm")
