"""Read images with Pillow, from folders whose sub-folders are classes and from encoded bytes in tables.

All images of a data set become one array ``(N, H, W)`` or ``(N, H, W, C)``. Grey stays grey; palettes, CMYK and the like become
RGB; transparency is kept. If grey, RGB and RGBA are mixed, all are converted to the one with the most channels, with a warning.
"""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pushforward.data.checks import enumerate_names

__all__ = ["decode_images", "read_folder"]

_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"))
_NAMED = 5


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all images of a folder in the order of their paths, and their classes.

    Images are either in the folder itself (no classes) or in its sub-folders, at any depth (the class is the name of the first
    sub-folder). Hidden files and files with other endings are ignored.

    Raises
    ------
    ValueError
        If there is no image, one is broken, sizes differ, or images are both in the folder and in sub-folders.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and _visible(path, folder))
    if not paths:
        endings = ", ".join(sorted(_SUFFIXES))
        raise ValueError(f"{folder} and its sub-folders hold no image ({endings}); is it the right folder?")
    relative = [path.relative_to(folder) for path in paths]
    flat = [path for path in relative if len(path.parts) == 1]
    if flat and len(flat) < len(relative):
        nested = next(path for path in relative if len(path.parts) > 1)
        raise ValueError(
            f"{folder} holds images directly ({flat[0]}) and in sub-folders ({nested}), so their classes are unclear; "
            "put all images into sub-folders, or none."
        )
    images = decode_images(((str(name), path) for name, path in zip(relative, paths, strict=True)), str(folder))
    return images, None if flat else np.array([path.parts[0] for path in relative], dtype=object)


def decode_images(encoded: Iterable[tuple[str, Path | bytes | None]], source: str) -> np.ndarray:
    """Decode named files or bytes into one array.

    Parameters
    ----------
    encoded : iterable of (name, path or bytes)
        Names are used in messages; None instead of bytes counts as broken.
    source : str
        Origin of the images, for messages.

    Raises
    ------
    ValueError
        If images are broken, or sizes differ.
    """
    names: list[str] = []
    arrays: list[np.ndarray] = []
    broken: list[str] = []
    count = 0
    for name, content in encoded:
        count += 1
        try:
            arrays.append(_decode(content))
            names.append(name)
        except (OSError, ValueError, SyntaxError, TypeError) as error:
            broken.append(f"{name} ({_reason(error)})")
            if len(broken) == count == _NAMED:
                break
    if broken:
        shown = "; ".join(broken[:_NAMED]) + (f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else "")
        what = "does not hold images" if not arrays else f"has {len(broken)} broken among {count} images"
        raise ValueError(f"{source} {what}: {shown}. Remove or replace {'it' if len(broken) == 1 else 'them'}.")
    _check_same_size(names, arrays, source)
    return np.stack(_same_channels(names, arrays, source))


def _visible(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()


def _decode(content: Path | bytes | None) -> np.ndarray:
    from PIL import Image

    if content is None:
        raise ValueError("missing")
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        mode = _plain_mode(image)
        return np.asarray(image if mode == image.mode else image.convert(mode))


def _plain_mode(image: Any) -> str:
    if image.mode in ("L", "RGB", "RGBA", "I", "I;16", "F"):
        return str(image.mode)
    if image.mode == "1":
        return "L"
    if image.mode in ("LA", "PA") or "transparency" in image.info:
        return "RGBA"
    return "RGB"


def _reason(error: Exception) -> str:
    return "not an image that Pillow can read" if type(error).__name__ == "UnidentifiedImageError" else str(error)


def _check_same_size(names: list[str], arrays: list[np.ndarray], source: str) -> None:
    height, width = arrays[0].shape[:2]
    different = [index for index, array in enumerate(arrays) if array.shape[:2] != (height, width)]
    if different:
        other = arrays[different[0]].shape
        raise ValueError(
            f"{source} holds images of different sizes: {names[0]} is {width}×{height} (width×height), "
            f"{names[different[0]]} is {other[1]}×{other[0]}; {len(different)} of {len(arrays)} differ from the first. "
            f"Resize them first, e.g. with Pillow: Image.open(path).resize(({width}, {height})).save(path)."
        )


def _same_channels(names: list[str], arrays: list[np.ndarray], source: str) -> list[np.ndarray]:
    depths = {str(array.dtype): name for name, array in zip(names, arrays, strict=True)}
    if len(depths) > 1:
        examples = ", ".join(f"{name} is {depth}" for depth, name in sorted(depths.items()))
        raise ValueError(f"{source} mixes bit depths: {examples}. Save all images with the same number of bits.")
    channels = [1 if array.ndim == 2 else array.shape[2] for array in arrays]
    most = max(channels)
    converted = [name for name, count in zip(names, channels, strict=True) if count < most]
    if converted:
        words = {1: "grey", 3: "RGB", 4: "RGBA"}
        warnings.warn(
            f"{source} mixes {' and '.join(words[count] for count in sorted(set(channels)))} images; all are read as "
            f"{words[most]} (converted: {enumerate_names(converted, 2)}).",
            stacklevel=4,
        )
    return [_with_channels(array, most) for array in arrays] if converted else arrays


def _with_channels(array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] == 3 and channels == 4:
        opaque = np.full((*array.shape[:2], 1), 255, dtype=array.dtype)
        array = np.concatenate((array, opaque), axis=2)
    return array
