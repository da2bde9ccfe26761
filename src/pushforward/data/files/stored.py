"""Rows that stay in a file or folder: arrays are mapped into memory, and images are decoded when they are needed."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pushforward.data.files.arrays import read_numpy
from pushforward.data.files.images import (
    IMAGE_ENDINGS,
    checked_images,
    classes_of,
    decode_one,
    image_files,
    listing,
    read_folder,
)
from pushforward.data.files.pixels import decode_image
from pushforward.data.stream import Stored
from pushforward.probability.memory import memory_bytes

__all__ = ["StoredArray", "StoredImages", "open_array", "open_images"]

_THREADS = 4
_MOST = 0.5  # share of the main memory for all rows


class StoredArray(Stored):
    """The rows of a .npy file, mapped into memory.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, _stamp(path)
        self._mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self.dtype = self._mapped.shape, self._mapped.dtype

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the rows with these numbers.

        Raises
        ------
        ValueError
            If the file has changed since it was opened.
        """
        _check_stamp(self._path, self._stamp)
        return np.asarray(self._mapped[numbers])


class StoredImages(Stored):
    """The images of a folder, decoded by a few threads.

    Parameters
    ----------
    folder : Path
    names : list of Path
        Files, relative to the folder.
    shape, dtype
        Of one image after decoding.
    size : int, optional
        Each image becomes its center square of this side.
    """

    def __init__(
        self, folder: Path, names: list[Path], shape: tuple[int, ...], dtype: "np.dtype[Any]", size: int | None = None
    ) -> None:
        self._folder, self._names, self._size = folder, names, size
        self._stamps = [_stamp(folder / name) for name in names]
        self.shape, self.dtype = (len(names), *shape), dtype

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the images with these numbers.

        Raises
        ------
        ValueError
            If one has changed since the folder was opened, or cannot be read any more.
        """
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)

        def fill(place: int, number: int) -> None:
            path = self._folder / self._names[number]
            _check_stamp(path, self._stamps[number])
            rows[place] = decode_one(path, self.shape[1:], self._size)

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(fill, range(len(numbers)), numbers.tolist()))
        return rows


def open_array(path: Path, stream: bool | None) -> Any:
    """Return the array of a .npy file, or its rows on disk: if ``stream`` is True, or None and they would fill the memory."""
    if stream is False or not _is_array_of_numbers(path):
        return read_numpy(path)
    stored = StoredArray(path)
    return stored if stream or _fills_memory(stored.shape, stored.dtype) else read_numpy(path)


def open_images(folder: Path, size: int | None, stream: bool | None) -> tuple[Any, np.ndarray | None]:
    """Return the images of a folder and their classes, as :func:`~pushforward.data.files.images.read_folder` does.

    They stay on disk as arrays do in :func:`open_array`. All are then decoded once, so that a broken one is found at once.
    """
    if stream is False or (stream is None and not _folder_fills_memory(folder, size)):
        return read_folder(folder, size)
    names, flat = listing(folder, IMAGE_ENDINGS, "image")
    shape, dtype = checked_images(((str(name), folder / name) for name in names), str(folder), size)
    return StoredImages(folder, names, shape, dtype, size), None if flat else classes_of(names)


def _is_array_of_numbers(path: Path) -> bool:
    """Whether a .npy file can be mapped; :func:`~pushforward.data.files.arrays.read_numpy` says what is wrong with others."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    return isinstance(mapped, np.memmap) and mapped.ndim > 1 and mapped.dtype.kind in "biuf"


def _folder_fills_memory(folder: Path, size: int | None) -> bool:
    """Whether the images of a folder would fill the memory, if all are like the first."""
    names = image_files(folder)
    try:
        first = decode_image(folder / names[0])[0] if names else np.empty(0, np.uint8)
    except Exception:  # Pillow raises many types for broken files, and reading the folder names them all
        return False
    shape = first.shape if size is None else (size, size, *first.shape[2:])
    return _fills_memory((len(names), *shape), first.dtype)


def _fills_memory(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> bool:
    there = memory_bytes()
    return there is not None and dtype.itemsize * math.prod(shape) > _MOST * there


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _check_stamp(path: Path, stamp: tuple[int, int]) -> None:
    if not path.exists() or _stamp(path) != stamp:
        what = "has changed" if path.exists() else "is gone"
        raise ValueError(f"{path} {what} since the data were opened; put the former file back, and resume.")
