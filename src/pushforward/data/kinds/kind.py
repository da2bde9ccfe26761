"""What a kind of data is: how rows of it become tensors and back, how a few of them are drawn, and how files hold them."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pushforward.plots import Plot

__all__ = ["Channels", "Drawing", "Kind"]

Channels = Literal["first", "last"] | None


@dataclass(frozen=True, eq=False)
class Drawing:
    """How rows are drawn.

    Attributes
    ----------
    beside : array, optional
        Rows of the data to draw them beside, where the kind does so.
    names : sequence, optional
        Of the columns.
    labels : sequence, optional
        One per row, for kinds that show rows one by one; ``columns`` of them side by side.
    scale : (float, float), optional
        The values that are drawn as black and as white.
    titles : (str, str)
        Of the rows and of those beside them.
    """

    beside: np.ndarray | None = None
    names: Sequence[str | int] | None = None
    labels: Sequence[Any] | None = None
    columns: int | None = None
    scale: tuple[float, float] | None = None
    titles: tuple[str, str] = ("samples", "data")


class Kind(abc.ABC):
    """One kind of data; a subclass in a file of its own, registered by :func:`~pushforward.data.kinds.register_kind`.

    Shapes. Inside the library rows are ``(N, *D)``: ``(N, D)`` where ``structure`` is "flat", ``(N, C, H, W)`` where it is
    "grid". Outside they have the user's own shape ``(N, *row)``.

    Attributes
    ----------
    name : str
        What ``kind=`` says.
    noun : str
        What a message calls the rows.
    structure : "flat" or "grid"
        Which networks suit the rows.
    has_columns : bool
        Whether each element is a column with a name and a unit of its own. Otherwise all elements share one unit.
    unit : str
        What a plot writes for that unit.
    keeps_constants : bool
        Whether elements that never change stay in the tensors of a model, at a fixed value, since the shape needs them.
    takes_frames : bool
        Whether a DataFrame can hold the rows.
    ending : str
        File ending of samples where the user names no file.
    density_dtype : torch.dtype
        In what log-densities are computed: float64 where that is cheap.
    solver_steps : int
        Runge-Kutta steps of the probability flow in log-densities, by default.
    drawn_singly : bool
        Whether a plot shows rows one by one, so that each can have a label; otherwise all in one set of axes.
    shown, followed, drawn_while_training : int
        Numbers of rows that a report draws, that it follows from noise to data, and that a run draws on the way.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    structure: ClassVar[Literal["flat", "grid"]] = "flat"
    has_columns: ClassVar[bool] = True
    unit: ClassVar[str] = "data units"
    keeps_constants: ClassVar[bool] = False
    takes_frames: ClassVar[bool] = False
    ending: ClassVar[str] = "csv"
    density_dtype: ClassVar[torch.dtype] = torch.float64
    drawn_singly: ClassVar[bool] = False
    solver_steps: ClassVar[int] = 32
    shown: ClassVar[int] = 2000
    followed: ClassVar[int] = 256
    drawn_while_training: ClassVar[int] = 1000

    @abc.abstractmethod
    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Whether an array of this shape, rows first, is of this kind if nobody says otherwise."""

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Return when to choose this kind for an array that no kind recognizes, such as "if ..."; "" if it cannot be meant."""
        return ""

    @abc.abstractmethod
    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return where the channels stand in an array of this shape; ValueError if it cannot be of this kind."""

    @abc.abstractmethod
    def internal_shape(self, row: tuple[int, ...], channels: Channels) -> tuple[int, ...]:
        """Return the shape of a row inside the library, from the user's."""

    @abc.abstractmethod
    def inward(self, rows: Tensor, channels: Channels) -> Tensor:
        """Return rows (N, *D) from rows in the user's layout, (N, *row)."""

    @abc.abstractmethod
    def outward(self, rows: Tensor, row: tuple[int, ...], channels: Channels) -> Tensor:
        """Return rows in the user's layout, (N, *row), from rows (N, *D)."""

    def mask(self, known: Tensor, channels: Channels) -> Tensor:
        """Return which elements (N, *D) are known from which entries (N, *row) of the user are."""
        return self.inward(known, channels)

    def measured(self, values: Tensor, channels: Channels) -> Tensor:
        """Return what was measured of one row, laid out like a row of any size, in the library's layout."""
        return values

    def whole_mask(self, known: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the mask of a row (*D) from one that may say less, such as one for all channels."""
        return known

    @abc.abstractmethod
    def describe(self, shape: tuple[int, ...]) -> str:
        """Return in words what rows (N, *D) of this shape are, such as "images of 8×8 with 1 channel"."""

    @abc.abstractmethod
    def scaling(self, x: Tensor, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and scale (*D), float64, of rows x (N, *D) whose elements lie in [low, high]."""

    def ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ranges that samples of integers are kept in, from those of the elements: broadcastable to (*D)."""
        return low, high

    def view(self, rows: np.ndarray, channels: Channels) -> np.ndarray:
        """Return rows as plots and files take them: here (N, D)."""
        return rows.reshape(len(rows), -1)

    @abc.abstractmethod
    def draw(self, rows: np.ndarray, drawing: Drawing) -> Plot:
        """Draw rows as :meth:`view` gives them."""

    def pairs(self, rows: Tensor, others: Tensor, columns: int) -> Tensor | None:
        """Return rows with their ``others`` below them, for a grid of so many columns; None if they are drawn as two sets."""
        return None

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Raise a ValueError if the format of ``path``, by its ending, cannot hold such rows; no ending means a folder."""
        if not path.suffix:
            raise ValueError(
                f"{path} has no ending and so means a folder of images, but the samples are {self.name}; use .csv, .parquet, "
                ".npy, .npz or .png."
            )

    def write_folder(
        self, path: Path, rows: np.ndarray, folders: Sequence[str] | None, scale: tuple[float, float] | None
    ) -> None:
        """Write one file per row, in ``folders`` by name; only kinds whose :meth:`check_file` allows it are asked."""
        raise NotImplementedError

    def frame(self, rows: np.ndarray) -> Any:
        """Return rows (as :meth:`view` gives them) as a DataFrame for a .csv or .parquet file."""
        import pandas as pd  # heavy

        return pd.DataFrame(rows, columns=[f"x{index}" for index in range(rows.shape[1])])
