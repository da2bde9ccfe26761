"""Files of point clouds: ``.ply``, where coordinates have names, and ``.xyz``, a line of numbers per point."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["PLY_TYPES", "ply_bytes", "xyz_bytes"]

PLY_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
"""NumPy's types of the types of a .ply file."""

_COLORS = ("red", "green", "blue", "alpha", "r", "g", "b")


def xyz_bytes(points: np.ndarray) -> bytes:
    """Return a .xyz file of points (P, D), one line each, with all their digits."""
    lines = (" ".join(map(_digits, point)) for point in points)
    return ("\n".join(lines) + "\n").encode()


def ply_bytes(points: np.ndarray, names: Sequence[str]) -> bytes:
    """Return points (P, D) as binary .ply with these properties; colors as bytes if they lie in 0 to 255."""
    kind = "double" if points.dtype == np.float64 else "float"
    types = ["uchar" if name in _COLORS and _are_bytes(column) else kind for name, column in zip(names, points.T, strict=True)]
    table = np.empty(len(points), dtype=[(name, "<" + PLY_TYPES[kind]) for name, kind in zip(names, types, strict=True)])
    for name, kind, column in zip(names, types, points.T, strict=True):
        table[name] = np.rint(column) if kind == "uchar" else column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {kind} {name}" for kind, name in zip(types, names, strict=True)]
    return "\n".join([*lines, "end_header", ""]).encode("ascii") + table.tobytes()


def _are_bytes(column: np.ndarray) -> bool:
    return bool(column.max() > 1) and bool(column.min() > -0.5) and bool(column.max() < 255.5)


def _digits(number: Any) -> str:
    return np.format_float_positional(number, trim="0") if isinstance(number, np.floating) else str(number)
