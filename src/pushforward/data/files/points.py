"""Read point clouds: ``.ply`` (ASCII and binary, of either byte order) and ``.xyz`` (a line of numbers per point).

Of a .ply file the scalar properties of its ``vertex`` element are read, such as x, y, z, nx, ny, nz, red, green and blue.
Faces and all other elements are left out: meshes are not sets of points. An .xyz file has one point per line, its numbers
separated by spaces, tabs or commas; a first line with the number of points alone and text lines are skipped, as in files of
molecules and of scanners.

References
----------
Greg Turk. The PLY polygon file format. 1994.
"""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pushforward.data.checks import enumerate_names
from pushforward.data.kinds.clouds import PLY_TYPES
from pushforward.data.points import PointSets

__all__ = ["POINT_ENDINGS", "holds_points", "read_point_folder", "read_points", "split_by_size"]

POINT_ENDINGS = (".ply", ".xyz")
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MOST_HEADER, _NAMED = 1000, 5


def holds_points(folder: Path) -> bool:
    """Whether a folder or one of its sub-folders has a point cloud in it."""
    return any(path.suffix.lower() in POINT_ENDINGS for path in _files(folder))


def read_point_folder(folder: Path) -> tuple[PointSets, np.ndarray | None]:
    """Return the point clouds of a folder in the order of their paths, and their classes.

    They are either in the folder itself (no classes) or in its sub-folders, at any depth (the class is the name of the first).
    Hidden files and folders are ignored; a warning counts the files with other endings.

    Raises
    ------
    ValueError
        If a file is broken or has no points, the coordinates of two differ, or files are both in the folder and in sub-folders.
    """
    files = _files(folder)
    clouds = [path for path in files if path.suffix.lower() in POINT_ENDINGS]
    flat = [path for path in clouds if path.parent == folder]
    if flat and len(flat) < len(clouds):
        nested = next(path for path in clouds if path.parent != folder)
        raise ValueError(
            f"{folder} holds point clouds directly ({flat[0].name}) and in sub-folders ({nested.relative_to(folder)}), so "
            "their classes are unclear; put all files into sub-folders, or none."
        )
    if len(clouds) < len(files):
        others = [str(path.relative_to(folder)) for path in files if path not in set(clouds)]
        warnings.warn(
            f"{folder}: left out {len(others)} of {len(files)} files that are no .ply or .xyz: {enumerate_names(others, 3)}.",
            stacklevel=4,
        )
    sets, names, broken = [], [], []
    for path in clouds:
        try:
            points, columns = read_points(path)
            sets.append(points)
            names.append(columns)
        except (ValueError, OSError) as error:
            broken.append(f"{path.relative_to(folder)} ({error})")
    if broken:
        shown = "; ".join(broken[:_NAMED]) + (f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else "")
        raise ValueError(
            f"{folder} has {len(broken)} broken among {len(clouds)} point clouds: {shown}. Remove or replace "
            f"{'it' if len(broken) == 1 else 'them'}."
        )
    shapes = [(columns, points.shape[1]) for points, columns in zip(sets, names, strict=True)]
    odd = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        raise ValueError(
            f"{folder}: {clouds[0].relative_to(folder)} has points of {_said(names[0], sets[0])}, but "
            f"{clouds[odd].relative_to(folder)} of {_said(names[odd], sets[odd])}; keep the same coordinates in all."
        )
    labels = None if flat else np.array([path.relative_to(folder).parts[0] for path in clouds], dtype=object)
    return PointSets(sets, names[0]), labels


def read_points(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the points (P, D) of a file and the names of their coordinates, if it has them.

    Raises
    ------
    ValueError
        If the file is broken, empty, or has a number that is not finite.
    """
    points, names = _read_ply(path) if path.suffix.lower() == ".ply" else (_read_xyz(path), None)
    if not len(points):
        raise ValueError("it has no points")
    if not np.isfinite(points).all():
        line = int((~np.isfinite(points)).any(1).argmax())
        raise ValueError(f"point {line} has a number that is not finite")
    return points, names


def split_by_size(points: np.ndarray, sizes: np.ndarray) -> PointSets:
    """Return sets of points from the points of all, one after the other, and their sizes; ValueError if they do not fit."""
    fits = points.ndim == 2 and sizes.ndim == 1 and sizes.dtype.kind in "iu" and len(sizes) and int(sizes.min()) > 0
    if not fits or int(sizes.sum()) != len(points):
        raise ValueError(
            f"sizes has shape {sizes.shape} and sums to {sizes.sum()}, but the points have shape {points.shape}: it must hold "
            "the number of points of each set, and the points of all sets follow each other"
        )
    return PointSets(np.split(points, np.cumsum(sizes)[:-1]))


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _said(names: tuple[str, ...] | None, points: np.ndarray) -> str:
    return f"{points.shape[1]} coordinates" if names is None else ", ".join(names)


def _read_xyz(path: Path) -> np.ndarray:
    lines: list[list[float]] = []
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, text in enumerate(texts, 1):
        words = text.replace(",", " ").replace(";", " ").split()
        if not words or words[0].startswith(("#", "//")):
            continue
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            if lines and not _is_count(lines):
                raise ValueError(f"line {number} is no point: {text[:40]!r}") from None
            continue  # a heading or a comment
        if lines and len(numbers) != len(lines[0]):
            if not _is_count(lines):
                raise ValueError(f"line {number} has {len(numbers)} numbers, but the first point has {len(lines[0])}")
            lines = []
        lines.append(numbers)
    return np.array(lines, dtype=np.float64).reshape(len(lines), -1)


def _is_count(lines: list[list[float]]) -> bool:
    """Whether the lines so far are the number of points alone."""
    return len(lines) == 1 and len(lines[0]) == 1


def _read_ply(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    with path.open("rb") as file:
        form, elements = _header(file)
        for name, count, properties in elements:
            if name == "vertex":
                return _vertices(file, form, count, properties)
            if form != "ascii":
                raise ValueError(f"the element {name!r} stands before the vertices, which is not supported")
            for _ in range(count):
                file.readline()
    raise ValueError("it has no element 'vertex'")


def _vertices(file: BinaryIO, form: str, count: int, properties: list[tuple[str, str]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the vertices that follow in a .ply file."""
    lists = [column for column, kind in properties if kind == "list"]
    if lists:
        raise ValueError(f"the vertices have the list {lists[0]!r}, which is not supported")
    if not properties:
        raise ValueError("the vertices have no properties")
    names = tuple(column for column, _ in properties)
    if form == "ascii":
        texts = [file.readline().split() for _ in range(count)]
        if any(len(words) < len(names) for words in texts):
            raise ValueError(f"it ends before its {count} points do")
        return np.array([words[: len(names)] for words in texts], dtype=np.float64).reshape(count, len(names)), names
    dtype = np.dtype([(column, _ORDERS[form] + PLY_TYPES[kind]) for column, kind in properties])
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise ValueError(f"it ends before its {count} points do")
    table = np.frombuffer(content, dtype=dtype, count=count)
    wide = any(dtype[column].itemsize > 4 or (dtype[column].kind != "f" and dtype[column].itemsize == 4) for column in names)
    return np.stack([table[column] for column in names], 1).astype(np.float64 if wide else np.float32), names


def _header(file: BinaryIO) -> tuple[str, list[tuple[str, int, list[tuple[str, str]]]]]:
    """Return the format of a .ply file, and its elements with their numbers and properties."""
    if file.readline().strip() != b"ply":
        raise ValueError("it does not begin with 'ply'")
    form, elements = "", list[tuple[str, int, list[tuple[str, str]]]]()
    for _ in range(_MOST_HEADER):
        words = file.readline().decode("ascii", errors="replace").split()
        if words == ["end_header"]:
            break
        if words[:1] == ["format"] and len(words) == 3:
            form = words[1]
        elif words[:1] == ["element"] and len(words) == 3 and words[2].isdigit():
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"] and elements and len(words) >= 3:
            kind = words[1]
            if kind != "list" and kind not in PLY_TYPES:
                raise ValueError(f"its property {words[-1]!r} has the unknown type {kind!r}")
            elements[-1][2].append((words[-1], kind))
        elif words[:1] not in (["comment"], ["obj_info"]):
            raise ValueError(f"its header has the line {' '.join(words)[:40]!r}")
    else:
        raise ValueError("its header has no end")
    if form not in _ORDERS:
        raise ValueError(f"its format is {form!r}, not one of {', '.join(_ORDERS)}")
    return form, elements
