"""Images: each row is a grid of pixels with any number of channels.

Arrays are channels last, ``(N, H, W)`` or ``(N, H, W, C)``, and tensors channels first, ``(N, H, W)`` or ``(N, C, H, W)``.
Integers with three dimensions and any data with four are images. They are scaled to [-1, 1]: shift is the middle and scale half
the width of each channel's range.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from pushforward import plots
from pushforward._messages import Argument, naming
from pushforward.data.kinds.channelled import Channelled
from pushforward.data.kinds.kind import Channels, Drawing, Structure
from pushforward.data.kinds.png import png_bytes
from pushforward.data.kinds.registry import register_kind
from pushforward.data.stream import AnyRows

__all__ = ["Images"]

_IMAGES, _VECTORS = Argument("kind", "images"), Argument("kind", "vectors")
_USUAL = (1, 3, 4)  # numbers of channels that a PNG holds
_LAYOUTS = {"torch": "(N, C, H, W)", "numpy": "(N, H, W, C)"}


@register_kind
class Images(Channelled):
    """Grids of pixels, ``(N, C, H, W)`` inside the library."""

    name: ClassVar[str] = "images"
    noun: ClassVar[str] = "images"
    structure: ClassVar[Structure] = "grid"
    axes: ClassVar[int] = 2
    unit: ClassVar[str] = "pixel values"
    closed_ranges: ClassVar[bool] = True
    stays_on_disk: ClassVar[bool] = True
    ending: ClassVar[str] = "png"
    shown: ClassVar[int] = 64
    followed: ClassVar[int] = 8
    drawn_while_training: ClassVar[int] = 64

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Whether there are four dimensions, or three of integers."""
        return len(shape) == 4 or (len(shape) == 3 and integer)

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Suggest grey images for three dimensions."""
        return "if each row is a grey image" if len(shape) == 3 else ""

    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return "first" for tensors and "last" for arrays of four dimensions."""
        if container == "pandas":
            message = f"{_IMAGES} was requested, but a DataFrame has no height and width: reshape it first, "
            raise naming(ValueError(message + "e.g. frame.to_numpy().reshape(-1, 28, 28)."), _IMAGES)
        if len(shape) not in (3, 4):
            message = f"{_IMAGES} needs 3 or 4 dimensions, (N, H, W) or {_LAYOUTS[container]}, but the shape is {shape}; "
            raise naming(ValueError(f"{message}reshape the data, or set {_VECTORS}."), _IMAGES, _VECTORS)
        if len(shape) == 3:
            return None
        channels: Channels = "first" if container == "torch" else "last"
        _warn_if_channels_look_wrong(shape, channels)
        return channels

    def describe(self, shape: tuple[int, ...]) -> str:
        """Return for example "images of 8×8 with 1 channel"."""
        channels, height, width = shape
        return f"images of {height}×{width} with {channels} channel{'s' if channels > 1 else ''}"

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return the middle and half the width of the range of each channel of x + u."""
        low, high = self.ranges(low, high)
        top = high + integer.double()
        shape = x.shape[1:]
        return (low / 2 + top / 2).expand(shape).clone(), (top / 2 - low / 2).expand(shape).clone()

    def ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range of each channel, (C, 1, 1)."""
        return low.amin((1, 2), keepdim=True), high.amax((1, 2), keepdim=True)

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Plot images in a grid, pixel for pixel."""
        return plots.image_grid(rows, columns=drawing.columns, labels=drawing.labels, scale=drawing.scale)

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Allow folders and Parquet files for 1, 3 or 4 channels, Parquet files only of uint8 or uint16, and no CSV files."""
        if path.suffix in (".csv", ".txt"):
            what = "CSV" if path.suffix == ".csv" else "text"
            raise ValueError(f"{path}: a {what} file does not hold images; use .npy, .npz, .parquet, .png or a folder.")
        if path.suffix not in ("", ".parquet"):
            return
        if row[0] not in _USUAL:
            raise ValueError(
                f"{path}: a PNG holds 1, 3 or 4 channels, but the samples have {row[0]}; use .npy or .npz "
                "(a .png grid shows the channels side by side)."
            )
        if path.suffix == ".parquet" and dtype not in ("uint8", "uint16"):
            raise ValueError(f"{path}: a PNG holds uint8 or uint16, but the samples are {dtype}; use .npy or .npz.")

    def encoded(self, rows: Any, scale: tuple[float, float] | None, names: Sequence[str] | None) -> tuple[str, Iterable[bytes]]:
        """Return one PNG per image; unsigned integers with 8 or 16 bits are unchanged."""
        return "png", map(png_bytes, _png_values(rows, scale))

    def frame(self, rows: np.ndarray) -> Any:
        """Return a column of PNG bytes, in the convention of the `datasets` library."""
        import pandas as pd  # heavy

        return pd.DataFrame({"image": [{"bytes": png_bytes(image), "path": None} for image in rows]})


def _warn_if_channels_look_wrong(shape: tuple[int, ...], channels: Channels) -> None:
    if channels == "last" and shape[1] in _USUAL and min(shape[2:]) > max(_USUAL):
        warnings.warn(
            f"An array of shape {shape} is read channels last, as images of {shape[1]}×{shape[2]} with {shape[3]} channels; "
            "if the channels come first, pass X.transpose(0, 2, 3, 1) or a tensor.",
            stacklevel=5,
        )
    if channels == "first" and shape[3] in _USUAL and min(shape[1:3]) > max(_USUAL):
        warnings.warn(
            f"A tensor of shape {shape} is read channels first, as images of {shape[2]}×{shape[3]} with {shape[1]} channels; "
            "if the channels come last, pass X.permute(0, 3, 1, 2) or an array.",
            stacklevel=5,
        )


def _png_values(images: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    if images.dtype.kind == "u" and images.dtype.itemsize <= 2:
        return images.astype(images.dtype.newbyteorder("="))
    if images.dtype == bool:
        return images.astype(np.uint8) * 255
    values = images.astype(np.float64)
    low, high = scale if scale is not None else (float(values.min()), float(values.max()))
    return np.asarray((255 * ((values - low) / ((high - low) or 1.0)).clip(0, 1)).round().astype(np.uint8))
