"""Images as conditions, and the visible part of an image as a condition for the rest of it.

An encoded row is ``(present, C h w pixels, ...)``: the pixels follow the flag, channels first, so that a network finds the
image where :attr:`~pushforward.data.ConditionEncoder.image` says. Pixels are scaled to [-1, 1] as those of the data: shift is
the middle and scale half the width of the range of each channel. Zeros everywhere, the flag included, mean that there is no
image.

For a visible part, the first of the C channels is 1 where a pixel is visible, and the others are those of the data; hidden
pixels are 0. If all pixels are hidden, the row is zeros, "no condition".

A random mask hides, with equal probability,

- a rectangle, whose corners are two random pixels;
- all but such a rectangle;
- the part of the image beyond a random straight cut, on one of the four sides;
- each pixel with a probability that is uniform on [0, 1];

and in a tenth of the rows everything.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "MASK",
    "Image",
    "check_image",
    "check_scale_of",
    "describe",
    "few",
    "fit_images",
    "images_of",
    "mask_numbers",
    "random_mask",
    "with_pixels",
    "with_visible",
]

MASK = "mask"
"""The condition that means random masks."""
Image = tuple[int, int, int]
"""Channels, height and width."""

_MOST_STORED, _MOST_NUMBERS = 1024, 1 << 24
_WHOLE, _WAYS = 0.1, 4


def fit_images(array: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, C, h, w) of an array (N, h, w) or (N, h, w, C), and middle and half range of each channel (C,).

    Raises
    ------
    ValueError
        If the array has other dimensions or numbers that are not finite, or all its numbers are the same.
    """
    if array.ndim not in (3, 4) or not array.size:
        raise ValueError(f"condition images must have the shape (N, H, W) or (N, H, W, C), not {array.shape}.")
    x = _inward(array)
    low, high = (bound.double() for bound in (x.amin((0, 2, 3)), x.amax((0, 2, 3))))
    if bool((low == high).all()):
        raise ValueError("condition images have the same number in every pixel and carry no information; omit them.")
    return x, (low + high) / 2, torch.where(low == high, 1.0, (high - low) / 2)


def images_of(values: Any, n: int, image: Image) -> Tensor:
    """Return one image (1, C, h, w) or one per row (n, C, h, w), like those of training.

    Parameters
    ----------
    values : array, tensor or list
        One image for all rows or one per row: arrays (h, w) or (h, w, C), tensors (h, w) or (C, h, w).
    n : int
        Number of rows.
    image : (int, int, int)
        Channels, height and width in training.

    Raises
    ------
    ValueError
        If ``values`` are not numbers, or differ from the images of training in shape, or are neither one image nor ``n``.
    """
    channels, height, width = image
    first = isinstance(values, Tensor)
    array = values.detach().cpu().numpy() if first else np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"condition must be {describe(image)}, one or one per row, not an array of dtype {array.dtype}.")
    if array.shape in ((height, width), (channels, height, width) if first else (height, width, channels)):
        array = array[None]
    array = array.transpose(0, 2, 3, 1) if first and array.ndim == 4 else array
    if array.ndim not in (3, 4) or (array[..., None] if array.ndim == 3 else array).shape[1:] != (height, width, channels):
        raise ValueError(f"condition has shape {np.shape(values)}, but the model was trained with {describe(image)}.")
    if len(array) not in (1, n):
        raise ValueError(f"condition has {len(array)} images for {n} rows; pass one image, or one per row.")
    return _inward(array)


def with_pixels(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return encoded rows, float32 (n, 1 + C h w), of images (n, C, h, w)."""
    z = (x.float() - mean.float()[:, None, None]) / scale.float()[:, None, None]
    return torch.cat((torch.ones(len(z), 1), z.flatten(1)), 1)


def with_visible(z: Tensor, visible: Tensor) -> Tensor:
    """Return encoded rows (n, 1 + (1 + C) H W) of the visible pixels, bool (n, 1, H, W), of scaled images z (n, C, H, W)."""
    shown = torch.cat((visible.to(z.dtype), torch.where(visible, z, 0.0)), 1).flatten(1)
    return torch.cat((visible.flatten(1).any(1, keepdim=True).to(z.dtype), shown), 1)


def mask_numbers(height: int, width: int) -> int:
    """Return how many uniform numbers :func:`random_mask` needs per row."""
    return 6 + height * width


def random_mask(u: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels are visible, bool (B, 1, H, W), by uniform numbers u (B, :func:`mask_numbers`); see the module."""
    way, share, corners, each = u[:, 0], u[:, 1, None, None], u[:, 2:6], u[:, 6:].reshape(-1, height, width)
    sizes = torch.tensor([height, width, height, width], device=u.device)
    ends = (corners * sizes).long().reshape(-1, 2, 2)
    (top, left), (bottom, right) = (part[..., None, None].unbind(1) for part in (ends.amin(1), ends.amax(1)))
    rows, columns = torch.arange(height, device=u.device)[:, None], torch.arange(width, device=u.device)
    inside = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
    # A cut across rows or columns, of which the part before or after it is hidden.
    place, side = share * 2, corners[:, 0, None, None]
    across = torch.where(side < 0.5, (rows + 0.5) / height, (columns + 0.5) / width)
    before = across < place.remainder(1.0)
    beyond = torch.where(place < 1, before, ~before)
    number = ((way - _WHOLE) / (1 - _WHOLE) * _WAYS).floor()[:, None, None]
    hidden = torch.where(number == 0, inside, torch.where(number == 1, ~inside, torch.where(number == 2, beyond, each < share)))
    return ~(hidden | (number < 0))[:, None]


def few(x: Tensor) -> Tensor:
    """Return at most 1,024 of the images (N, C, h, w), evenly spaced, and fewer of large ones."""
    most = max(1, min(_MOST_STORED, _MOST_NUMBERS // x[0].numel()))
    if len(x) > most:
        return x[torch.linspace(0, len(x) - 1, most, dtype=torch.float64).long()]
    return x.clone()


def check_image(image: Any) -> None:
    """Raise a ValueError unless these are the channels, the height and the width of an image."""
    sound = isinstance(image, tuple) and len(image) == 3 and all(type(size) is int and 0 < size < 1 << 16 for size in image)
    if not sound or math.prod(image) > 1 << 28:
        raise ValueError(f"an image as a condition has channels, height and width, not {image!r}")


def check_scale_of(image: Image, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless rows of ``shape`` are images whose height and width are one multiple of those of ``image``."""
    if len(shape) != 3:
        raise ValueError(f"images as conditions belong to images, but the rows of X have the shape {shape}.")
    (_, height, width), (_, high, wide) = image, shape
    if height > high or high % height or wide % width or high // height != wide // width:
        raise ValueError(
            f"the condition images are {height}×{width}, but X holds images of {high}×{wide}; resize the conditions to this "
            "size or to an integer fraction of it, such as a half."
        )


def describe(image: Image) -> str:
    """Describe an image in words.

    >>> describe((3, 8, 8))
    'images of 8×8 with 3 channels'
    """
    channels, height, width = image
    return f"images of {height}×{width} with {channels} channel{'s' if channels > 1 else ''}"


def _inward(array: np.ndarray) -> Tensor:
    """Return images (N, h, w) or (N, h, w, C) channels first, of uint8 or float32."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int((~np.isfinite(array)).reshape(len(array), -1).any(1).argmax())
        raise ValueError(f"the condition image of row {row} has NaN or infinite pixels; give images without gaps.")
    kept = np.ascontiguousarray(array.astype(np.uint8 if array.dtype.kind == "b" or array.dtype == np.uint8 else np.float32))
    x = torch.from_numpy(kept)
    return x[:, None] if x.ndim == 3 else x.movedim(-1, 1).contiguous()
