"""Read images from folders, whose sub-folders are classes, and from encoded bytes in tables.

All images of a data set become one array ``(N, H, W)`` or ``(N, H, W, C)``. If grey, RGB and RGBA are mixed, all are converted
to the one with the most channels. A warning says so, and names and counts what is left out: files with other endings, pages
after the first, and sub-folders without an image.
"""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import enumerate_names
from pushforward.data.files.pixels import decode_image, to_square

__all__ = [
    "IMAGE_ENDINGS",
    "checked_images",
    "classes_of",
    "decode_images",
    "decode_one",
    "has_files",
    "image_files",
    "listing",
    "read_folder",
    "read_images",
    "read_partners",
]

IMAGE_ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp", ".avif"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".tga"),
)
_NAMED, _USUAL = 5, 64


def read_folder(folder: Path, size: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all images of a folder in the order of their paths, and their classes.

    Images are either in the folder itself (no classes) or in its sub-folders, at any depth (the class is the name of the first
    sub-folder). Sub-folders may be symbolic links. Hidden files and folders are ignored; a warning counts the files with other
    endings and names the sub-folders without an image. With a ``size`` each becomes its center square of this side.

    Raises
    ------
    ValueError
        If there is no image, one is broken, sizes differ, or images are both in the folder and in sub-folders.
    """
    images, flat = listing(folder, IMAGE_ENDINGS, "image")
    rows = decode_images(((str(name), folder / name) for name in images), str(folder), size)
    return rows, None if flat else classes_of(images)


def listing(folder: Path, endings: tuple[str, ...], noun: str) -> tuple[list[Path], bool]:
    """Return the files of a folder with these endings, relative to it and in order, and whether none is in a sub-folder.

    Raises
    ------
    ValueError
        If there is none, or some are in the folder itself and others in sub-folders.
    """
    found, others = _found(folder, endings, noun)
    flat = [path for path in found if len(path.parts) == 1]
    if flat and len(flat) < len(found):
        nested = next(path for path in found if len(path.parts) > 1)
        raise ValueError(
            f"{folder} holds {noun}s directly ({flat[0]}) and in sub-folders ({nested}), so their classes are unclear; "
            f"put all {noun}s into sub-folders, or none."
        )
    _warn_of_left_out(folder, found, others, endings, noun)
    return found, bool(flat)


def _found(folder: Path, endings: tuple[str, ...], noun: str) -> tuple[list[Path], list[Path]]:
    """Return the files of a folder with these endings and all others, relative to it and in order; ValueError without any."""
    files = sorted(path.relative_to(folder) for path in _files_of(folder))
    found = [path for path in files if path.suffix.lower() in endings]
    others = [path for path in files if path.suffix.lower() not in endings]
    if not found:
        held = f", only {_counted(others)}" if others else ""
        raise ValueError(f"{folder} and its sub-folders hold no {noun} ({', '.join(endings)}){held}; is it the right folder?")
    return found, others


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder and its sub-folders, relative to it and in order, without any check."""
    files = sorted(path.relative_to(folder) for path in _files_of(folder))
    return [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]


def classes_of(files: list[Path]) -> np.ndarray:
    """Return the classes of files, the names of their first sub-folders."""
    return np.array([path.parts[0] for path in files], dtype=object)


def has_files(folder: Path, endings: tuple[str, ...]) -> bool:
    """Whether a folder or its sub-folders have a file with one of these endings."""
    return any(path.suffix.lower() in endings for path in _files_of(folder))


def read_images(path: Path, size: int | None = None) -> np.ndarray:
    """Return the images of a folder in the order of their paths, those of a .npy file, or one image, (N, H, W[, C]).

    With a ``size``, those that are not already squares of an integer fraction of it become their center squares of this side.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such path, or it holds no images.
    """
    if path.is_dir():
        files = listing(path, IMAGE_ENDINGS, "image")[0]
        return decode_images(((str(name), path / name) for name in files), str(path), size, fractions=True)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file and no folder, so it holds no images for the condition")
    if path.suffix.lower() == ".npy":
        array: np.ndarray = np.load(path, allow_pickle=False)
        return array
    return decode_images([(path.name, path)], str(path), size, fractions=True)


def read_partners(folder: Path, beside: Path, size: int | None = None) -> np.ndarray:
    """Return the images of a folder whose relative names, without their endings, are those of the images in ``beside``.

    A warning counts the images without a partner in ``beside``; ``size`` as in :func:`read_images`.

    Raises
    ------
    ValueError
        If one is missing or there are two with its name, an image is broken, or sizes differ.
    """
    partners: dict[Path, Path] = {}
    for path in _found(folder, IMAGE_ENDINGS, "image")[0]:
        twin = partners.setdefault(path.with_suffix(""), path)
        if twin != path:
            raise ValueError(f"{folder} holds two images of one name, {str(twin)!r} and {str(path)!r}; remove one of them.")
    wanted = [path.with_suffix("") for path in _found(beside, IMAGE_ENDINGS, "image")[0]]
    missing = [name for name in wanted if name not in partners]
    if missing:
        raise ValueError(
            f"{folder} has no image for {len(missing)} of the {len(wanted)} images in {beside}: "
            f"{enumerate_names(map(str, missing))} (with any ending); add them, or remove those without a partner."
        )
    spare = sorted(map(str, set(partners) - set(wanted)))
    if spare:
        warnings.warn(
            f"{folder}: left out {len(spare)} of {len(partners)} images, which have no partner in {beside}: "
            f"{enumerate_names(spare)}.",
            stacklevel=5,
        )
    encoded = ((str(partners[name]), folder / partners[name]) for name in wanted)
    return decode_images(encoded, str(folder), size, fractions=True)


def decode_images(
    encoded: Iterable[tuple[str, Path | bytes | None]], source: str, size: int | None = None, *, fractions: bool = False
) -> np.ndarray:
    """Decode named files or bytes into one array.

    Parameters
    ----------
    encoded : iterable of (name, path or bytes)
        Names are used in messages; None instead of bytes counts as broken.
    source : str
        Origin of the images, for messages.
    size : int, optional
        Each image becomes its center square of this side.
    fractions : bool
        Whether squares whose side is an integer fraction of ``size`` stay as they are.

    Raises
    ------
    ValueError
        If images are broken, or sizes differ.
    """
    named = _decoded(encoded, source, size, fractions=fractions)
    most = _most_channels(named, source)
    return np.stack([_with_channels(image, most) for image in named.values()])


def checked_images(
    encoded: Iterable[tuple[str, Path | bytes | None]], source: str, size: int | None = None
) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Return the shape and the dtype that :func:`decode_images` gives to each image, without keeping the images."""
    named = _decoded(encoded, source, size, kept=False)
    first = _with_channels(next(iter(named.values())), _most_channels(named, source))
    return first.shape, first.dtype


def decode_one(path: Path, shape: tuple[int, ...], size: int | None = None) -> np.ndarray:
    """Return an image of a folder whose images have this shape after decoding."""
    image = decode_image(path)[0]
    image = image if size is None else to_square(image, size)
    return _with_channels(image, shape[2] if len(shape) > 2 else 1)


def _decoded(
    encoded: Iterable[tuple[str, Path | bytes | None]],
    source: str,
    size: int | None,
    *,
    fractions: bool = False,
    kept: bool = True,
) -> dict[str, np.ndarray]:
    """Return images of one size by name; unless they are ``kept``, zeros that take no memory have their places."""
    pages: dict[str, int] = {}
    arrays: list[np.ndarray] = []
    broken: list[str] = []
    count = 0
    for name, content in encoded:
        count += 1
        try:
            image, pages[name] = decode_image(content)
            fits = size is None or (fractions and image.shape[0] == image.shape[1] and size % image.shape[0] == 0)
            image = image if size is None or fits else to_square(image, size)
            arrays.append(image if kept else np.broadcast_to(image.dtype.type(0), image.shape))
        except Exception as error:  # Pillow raises many types for broken files
            broken.append(f"{name} ({_reason(error)})")
            if len(broken) == count == _NAMED:
                break
    if broken:
        shown = "; ".join(broken[:_NAMED]) + (f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else "")
        what = "does not hold images" if not arrays else f"has {len(broken)} broken among {count} images"
        raise ValueError(f"{source} {what}: {shown}. Remove or replace {'it' if len(broken) == 1 else 'them'}.")
    _warn_of_pages(source, pages)
    _check_same_size(list(pages), arrays, source)
    return dict(zip(pages, arrays, strict=True))


def _files_of(folder: Path) -> list[Path]:
    """Return the visible files of a folder and of its sub-folders, which may be symbolic links."""
    files: list[Path] = []
    for path in _visible(folder):
        files += _files_below(path, {folder.resolve()}) if path.is_dir() else [path]
    return files


def _files_below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    if folder.resolve() in seen:  # links can form a circle
        return
    seen.add(folder.resolve())
    for path in _visible(folder):
        if path.is_dir():
            yield from _files_below(path, seen)
        else:
            yield path


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _warn_of_left_out(folder: Path, found: list[Path], others: list[Path], endings: tuple[str, ...], noun: str) -> None:
    if others:
        warnings.warn(
            f"{folder}: left out {len(others)} of {len(found) + len(others)} files, {_counted(others)}. "
            f"{noun.capitalize()}s end in {', '.join(endings)}; save other {noun}s as {endings[0]}.",
            stacklevel=5,
        )
    folders = {path.name for path in _visible(folder) if path.is_dir()}
    empty = sorted(folders - {path.parts[0] for path in found})
    if empty and len(empty) < len(folders):
        warnings.warn(
            f"{folder}: left out {len(empty)} of {len(folders)} sub-folders, which hold no {noun} and so are no classes: "
            f"{enumerate_names(empty)}.",
            stacklevel=5,
        )


def _counted(paths: list[Path]) -> str:
    """Return the number of paths with each ending and the first of them, such as "2 .txt ('a.txt')"."""
    by_ending: dict[str, list[Path]] = {}
    for path in sorted(paths):
        by_ending.setdefault(path.suffix.lower(), []).append(path)
    listed = [
        f"{len(same)} {ending or 'without an ending'} ({str(same[0])!r})"
        for ending, same in sorted(by_ending.items(), key=lambda item: -len(item[1]))
    ]
    return ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more endings" if len(listed) > _NAMED else "")


def _warn_of_pages(source: str, pages: dict[str, int]) -> None:
    several = {name: count for name, count in pages.items() if count > 1}
    if several:
        name, count = next(iter(several.items()))
        warnings.warn(
            f"{source}: left out {sum(several.values()) - len(several)} pages or frames after the first in {len(several)} of "
            f"{len(pages)} images ({name!r} has {count}). To learn them too, save each as a file of its own, "
            "e.g. with Pillow: image.seek(1); image.save('page-1.png').",
            stacklevel=5,
        )


def _reason(error: Exception) -> str:
    return "not an image that Pillow can read" if type(error).__name__ == "UnidentifiedImageError" else str(error)


def _check_same_size(names: list[str], arrays: list[np.ndarray], source: str) -> None:
    height, width = arrays[0].shape[:2]
    different = [index for index, array in enumerate(arrays) if array.shape[:2] != (height, width)]
    if different:
        other = arrays[different[0]].shape
        size = Argument("size", min(_USUAL, *(min(array.shape[:2]) for array in arrays)))
        message = (
            f"{source} holds images of different sizes: {names[0]} is {width}×{height} (width×height), "
            f"{names[different[0]]} is {other[1]}×{other[0]}; {len(different)} of {len(arrays)} differ from the first. "
            f"Set {size} to cut out the center square of each and resize it to this side."
        )
        raise naming(ValueError(message), size)


def _most_channels(named: dict[str, np.ndarray], source: str) -> int:
    """Return the largest number of channels, with a warning if there are several; ValueError if bit depths differ."""
    names, arrays = list(named), list(named.values())
    depths = {str(array.dtype): name for name, array in zip(names, arrays, strict=True)}
    if len(depths) > 1:
        examples = ", ".join(f"{name} is {depth}" for depth, name in sorted(depths.items()))
        raise ValueError(f"{source} mixes bit depths: {examples}. Save all images with the same number of bits.")
    channels = [1 if array.ndim == 2 else array.shape[2] for array in arrays]
    most = max(channels)
    converted = [name for name, count in zip(names, channels, strict=True) if count < most]
    if converted:
        words = {1: "grey", 3: "RGB", 4: "RGBA"}
        mixed = [f"{channels.count(count)} {words[count]}" for count in sorted(set(channels))]
        warnings.warn(
            f"{source} mixes {', '.join(mixed[:-1])} and {mixed[-1]} images; all are read as {words[most]} "
            f"(converted: {enumerate_names(converted, 2)}).",
            stacklevel=4,
        )
    return most


def _with_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) with this number of channels, a grey image of one without the axis of channels."""
    if channels == 1:
        return array
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] == 3 and channels == 4:
        opaque = np.full((*array.shape[:2], 1), np.iinfo(array.dtype).max, dtype=array.dtype)
        array = np.concatenate((array, opaque), axis=2)
    return array
