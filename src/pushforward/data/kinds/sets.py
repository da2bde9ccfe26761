"""Sets of points: each row is P points with D coordinates, whose order means nothing.

Arrays are ``(N, P, D)``; sets of different sizes are a list of arrays ``(P_i, D)``. Floats with three dimensions could also be
flat rows, so such data are sets only if ``kind="sets"`` says so. Inside the library absent points are NaN
(:mod:`pushforward.data.points`). All points share one scaling: shift is the mean and scale the standard deviation of each
coordinate over all points of all sets, so that it treats all orders alike.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward._messages import Argument, naming
from pushforward.data.kinds.clouds import ply_bytes, xyz_bytes
from pushforward.data.kinds.kind import Channels, Drawing, FolderKind, Structure
from pushforward.data.kinds.registry import register_kind
from pushforward.data.kinds.vectors import Vectors
from pushforward.data.points import PointSets, absent_points
from pushforward.data.stream import AnyRows

__all__ = ["Sets"]

_SETS, _VECTORS = Argument("kind", "sets"), Argument("kind", "vectors")


@register_kind
class Sets(FolderKind):
    """Sets of points, ``(N, P, D)`` inside the library, NaN in absent points."""

    name: ClassVar[str] = "sets"
    noun: ClassVar[str] = "sets"
    structure: ClassVar[Structure] = "points"
    has_columns: ClassVar[bool] = False
    keeps_constants: ClassVar[bool] = True
    ability: ClassVar[str] = "takes_points"
    has_distances: ClassVar[bool] = False
    measures: ClassVar[tuple[str, ...]] = ("sets",)
    ending: ClassVar[str] = "npz"
    density_dtype: ClassVar[torch.dtype] = torch.float32
    drawn_singly: ClassVar[bool] = True
    solver_steps: ClassVar[int] = 16
    shown: ClassVar[int] = 12
    followed: ClassVar[int] = 3
    drawn_while_training: ClassVar[int] = 12

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Return False: an array does not say whether the order of its lines means something."""
        return False

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Suggest sets for three dimensions."""
        return "if each row is a set of points in no order" if len(shape) == 3 else ""

    def gathered(self, values: Any, name: str = "X") -> Any:
        """Return a sequence of sets of different sizes as :class:`PointSets`, and sets of one size as an array."""
        if isinstance(values, PointSets):
            return PointSets.of(values, name)
        listed = isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.dtype == object)
        if not listed or not len(values):
            return values
        shapes = {tuple(np.shape(part)) for part in values}
        if len(shapes) > 1:
            return PointSets.of(values, name)
        return torch.stack(list(values)) if isinstance(values[0], Tensor) else np.stack([np.asarray(part) for part in values])

    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return None: sets have no channels."""
        if container == "pandas" or len(shape) != 3:
            what = "a DataFrame is one table" if container == "pandas" else f"the shape is {shape}"
            message = f"{_SETS} needs an array (N, P, D) of N sets of P points, or a list of N arrays (P, D), but {what}; "
            raise naming(ValueError(f"{message}reshape the data, or set {_VECTORS}."), _SETS, _VECTORS)
        return None

    def describe(self, shape: tuple[int, ...]) -> str:
        """Return for example "sets of 128 points in 3 coordinates"."""
        points, coordinates = shape
        return f"sets of {points} points in {coordinates} coordinate{'s' if coordinates > 1 else ''}"

    def units(self, x: Tensor) -> Tensor:
        """Return all points that are present as rows (M, 1, D)."""
        return x.flatten(0, 1)[~absent_points(x).flatten()][:, None]

    def absent(self, rows: Tensor) -> Tensor:
        """Return which elements belong to absent points, (N, P, D)."""
        return absent_points(rows)[..., None].expand(rows.shape)

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each coordinate, over all points."""
        return Vectors().scaling(x, low, high, integer)

    def view(self, rows: np.ndarray, channels: Channels) -> np.ndarray:
        """Return the rows (N, P, D)."""
        return rows

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Return one small image per set, (N, 48, 48), of its points from a fixed view, all in one frame."""
        return plots.set_pictures(rows)

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Draw each set as a scatter plot, those of more than two coordinates by the first three in space."""
        return plots.set_grid(rows, columns=drawing.columns, labels=drawing.labels, names=drawing.names)

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Allow all but tables."""
        if path.suffix in (".csv", ".parquet"):
            raise ValueError(f"{path}: a table does not hold sets of points; use .npz, .npy, .png, .gif or a folder.")

    def encoded(self, rows: Any, scale: tuple[float, float] | None, names: Sequence[str] | None) -> tuple[str, Iterable[bytes]]:
        """Return one file per set: .ply where the coordinates have names, as in such files, else .xyz."""
        if names is None:
            return "xyz", map(xyz_bytes, rows)
        return "ply", (ply_bytes(points, names) for points in rows)
