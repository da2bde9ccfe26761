"""Decode one image with Pillow into an array: upright, with all its levels.

Grey stays grey; palettes, CMYK and the like become RGB; transparency is kept. Pixels have 8 or 16 bits, as in the file, and the
orientation mark of a camera is applied. With a ``size`` the center square is cut out and resized.

Pillow holds 16 bits for grey images only: of 16-bit colors its unpackers keep the high byte. If the order of the bytes is
declared the other way round, the same unpackers keep the low byte, so colors are decoded twice: value = 256 high + low.
"""

import io
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["decode_image", "to_square"]

_ORIENTATION = 0x0112  # Exif tag
_BITS, _PLANAR = 0x0102, 0x011C  # TIFF tags: bits per channel; 2 if each channel has a plane of its own
_GREY16 = re.compile(r"I;1[26][BLNR]?")
_COLORS16 = re.compile(r"(RGB|RGBX|RGBA);16([BLN])")
_OTHERS16 = re.compile(r"[A-Za-z]{2,4};16[BLN]")
_NATIVE = {"little": "L", "big": "B"}[sys.byteorder]
_OTHER_ORDER = {"L": "B", "B": "L"}


def decode_image(content: Path | bytes | None) -> tuple[np.ndarray, int]:
    """Return the first image of a file, ``(H, W)`` or ``(H, W, C)``, and the number of pages or frames that the file holds.

    Raises
    ------
    OSError, ValueError, SyntaxError, TypeError
        If there is no image, or Pillow cannot read it without loss of levels.
    """
    if content is None or (isinstance(content, Path) and not content.is_file()):
        raise ValueError("missing")
    # Pillow maps the pixels of some files into memory, and scrambles those with an orientation mark; it does not map bytes.
    data = content if isinstance(content, bytes) else content.read_bytes()
    with _opened(data) as image:
        # The other frames of an MPO file, which cameras and phones write as .jpg, are previews of the same image.
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        pixels = _pixels(image, data)
        return _upright(pixels, image.getexif().get(_ORIENTATION, 1)), pages


def to_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the center square of an image (H, W[, C]), resized to (size, size[, C]) by Lanczos filters, in its dtype."""
    from PIL import Image  # heavy

    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    if side == size:
        return square
    if square.dtype == np.uint8:
        return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
    # Pillow resizes other numbers of one channel only, as float32.
    planes = square[..., None] if square.ndim == 2 else square
    resized = [
        np.asarray(Image.fromarray(planes[..., plane].astype(np.float32)).resize((size, size), Image.Resampling.LANCZOS))
        for plane in range(planes.shape[-1])
    ]
    made = np.stack(resized, -1).reshape(size, size, *square.shape[2:])
    if square.dtype.kind in "iu":
        limits = np.iinfo(square.dtype)
        made = made.round().clip(limits.min, limits.max)
    return made.astype(square.dtype)


def _opened(data: bytes) -> Any:
    from PIL import Image  # heavy

    return Image.open(io.BytesIO(data))


def _pixels(image: Any, data: bytes) -> np.ndarray:
    layout = _layout(image)
    colors = _COLORS16.fullmatch(layout)
    if image.format == "PPM" and (values := _deep_netpbm(image, data)) is not None:
        return values
    if image.mode.startswith("I;16") or _GREY16.fullmatch(layout):
        return np.asarray(image).astype(np.uint16)
    if layout == "LA;16B":
        stored = _as_layout(image, "RGBA").astype(np.uint16)  # the four bytes of each pixel
        grey_and_alpha: np.ndarray = 256 * stored[..., ::2] + stored[..., 1::2]
        return grey_and_alpha[..., [0, 0, 0, 1]]
    if colors and not _has_planes(image):
        order = _NATIVE if colors[2] == "N" else colors[2]
        low = f"{colors[1]};16{_OTHER_ORDER[order]}"
        with _opened(data) as again:
            return np.asarray(256 * np.asarray(image).astype(np.uint16) + _as_layout(again, low))
    if _OTHERS16.fullmatch(layout) or _has_planes(image):
        planes = " in separate planes" if _has_planes(image) else ""
        raise ValueError(f"16 bits per channel as {layout}{planes}, of which only 8 can be read; save it as a 16-bit RGB PNG")
    mode = _plain_mode(image)
    return np.asarray(image if mode == image.mode else image.convert(mode))


def _layout(image: Any) -> str:
    """Return how the pixels stand in the file, as Pillow names it: its raw mode, such as "RGB;16B"."""
    arguments = image.tile[0][3] if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _as_layout(image: Any, layout: str) -> np.ndarray:
    """Return the pixels of an image that is not loaded yet, unpacked as if they stood in the file in another layout."""
    for index, tile in enumerate(image.tile):
        arguments = layout if isinstance(tile[3], str) else (layout, *tile[3][1:])
        parts = (*tile[:3], arguments)
        image.tile[index] = parts if type(tile) is tuple else type(tile)(*parts)
    return np.asarray(image)


def _has_planes(image: Any) -> bool:
    """Whether an image is a TIFF with more than 8 bits in one plane per channel, which Pillow reads with 8 bits."""
    return image.format == "TIFF" and bool(image.tag_v2.get(_PLANAR) == 2) and max(image.tag_v2.get(_BITS, (8,))) > 8


def _deep_netpbm(image: Any, data: bytes) -> np.ndarray | None:
    """Return the values of a PGM or PPM file with more than 256 levels, which Pillow rescales, or None if it has fewer."""
    decoder, _, start, arguments = image.tile[0]
    largest = 65535 if arguments == "I;16B" else arguments[1] if decoder.startswith("ppm") else 255
    if not isinstance(largest, int) or largest < 256:
        return None
    shape = (image.height, image.width) if image.mode in ("L", "I") else (image.height, image.width, 3)
    count = math.prod(shape)
    if decoder == "ppm_plain":
        return np.array(re.sub(rb"#.*", b"", data[start:]).split()[:count], dtype=np.uint16).reshape(shape)
    return np.frombuffer(data, ">u2", count, start).astype(np.uint16).reshape(shape)


def _plain_mode(image: Any) -> str:
    if image.mode in ("L", "RGB", "RGBA", "I", "F"):
        return str(image.mode)
    if image.mode == "1":
        return "L"
    if image.mode in ("LA", "PA") or "transparency" in image.info:
        return "RGBA"
    return "RGB"


def _upright(pixels: np.ndarray, mark: int) -> np.ndarray:
    """Return the pixels turned as the orientation mark says; marks 5 to 8 exchange rows and columns."""
    if mark in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if mark in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if mark in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
