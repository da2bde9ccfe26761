"""The interface of a kind of data: conversion of rows to tensors and back, plots, and files."""

import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pushforward.data.coding import SignalCoding
from pushforward.data.signal import Signal
from pushforward.data.stream import AnyRows
from pushforward.plots import Plot

__all__ = ["Channels", "Drawing", "FolderKind", "Kind", "Limits", "Structure"]

Structure = Literal["flat", "grid", "series", "points"]

Channels = Literal["first", "last"] | None
Limits: TypeAlias = tuple[Tensor, Tensor]
"""Smallest and largest possible value, broadcastable to the elements of a row (*D); infinite where there is none."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """Options of a plot of rows.

    Attributes
    ----------
    beside : array, optional
        Rows of the data to compare with, for kinds that plot them.
    names : sequence, optional
        Of the columns.
    labels : sequence, optional
        One per row, for kinds that show rows one by one, ``columns`` of them side by side.
    scale : (float, float), optional
        The values that are shown as black and as white.
    titles : (str, str)
        Of the rows and of those beside them.
    levels : sequence, optional
        For each column of a table the names of the levels of a category, or None.
    formats : sequence, optional
        For each column of a table the function from its numbers to text, or None for plain numbers.
    """

    beside: np.ndarray | None = None
    names: Sequence[str | int] | None = None
    labels: Sequence[Any] | None = None
    columns: int | None = None
    scale: tuple[float, float] | None = None
    titles: tuple[str, str] = ("samples", "data")
    levels: Sequence[Sequence[str] | None] | None = None
    formats: Sequence[Callable[[float], str] | None] | None = None


class Kind(abc.ABC):
    """One kind of data; a subclass is registered by :func:`~pushforward.data.kinds.register_kind`.

    Shapes. Inside the library rows are ``(N, *D)``: ``(N, D)`` if ``structure`` is "flat", ``(N, C, H, W)`` if it is "grid",
    ``(N, C, T)`` if it is "series", and ``(N, P, D)`` if it is "points". Outside they have the user's shape ``(N, *row)``.

    Attributes
    ----------
    name : str
        Value of the argument ``kind``.
    noun : str
        Word for the rows in messages.
    structure : "flat", "grid", "series" or "points"
        The type of network for the rows; "points" have no order, and some may be absent.
    has_columns : bool
        Whether each element is a column with its own name and unit. Otherwise all elements share one unit.
    unit : str
        Label of that unit in plots.
    keeps_constants : bool
        Whether constant elements stay in the tensors of a model, at a fixed value, to keep the shape.
    closed_ranges : bool
        Whether integers beyond the range of the data are impossible; otherwise they are unseen so far.
    learns_constants : bool
        Whether models of tokens learn elements that are the same in all training rows, because they may vary.
    in_parts : bool
        Whether a folder of samples holds Parquet files of many rows each, instead of one file per row.
    stays_on_disk : bool
        Whether rows can stay on disk in training, because all statistics of them are sums over parts.
    takes_frames : bool
        Whether a DataFrame can hold the rows.
    default_model : str
        Name of the family that suits such rows best.
    compared_models : tuple of str
        Names of the families that are compared by default, the fastest to train first, as far as they take the rows.
    ability : str
        The flag of families that learn such rows; "" if all do.
    flattens : bool
        Whether other families can learn arrays of such rows as flat vectors.
    has_distances : bool
        Whether the distance of two scaled rows says how much they differ.
    measures : tuple of str
        What :func:`~pushforward.evaluate` measures of samples, by the names of :mod:`pushforward.evaluation.parts`.
    ending : str
        Default file ending of samples.
    files : tuple of str
        Endings of further files that hold all samples; :meth:`FolderKind.file_bytes` writes them.
    density_dtype : torch.dtype
        dtype of log-densities: float64 where that is cheap.
    solver_steps : int
        Number of Runge-Kutta steps of the probability flow with which log-densities begin.
    drawn_singly : bool
        Whether a plot shows rows one by one, each with a label; otherwise all in one set of axes.
    shown, followed, drawn_while_training : int
        Numbers of rows in the plots of a report, in its paths from noise to data, and in the plots of a training run.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    structure: ClassVar[Structure] = "flat"
    has_columns: ClassVar[bool] = True
    unit: ClassVar[str] = "data units"
    keeps_constants: ClassVar[bool] = False
    closed_ranges: ClassVar[bool] = False
    learns_constants: ClassVar[bool] = False
    in_parts: ClassVar[bool] = False
    stays_on_disk: ClassVar[bool] = False
    takes_frames: ClassVar[bool] = False
    default_model: ClassVar[str] = "flow-matching"
    compared_models: ClassVar[tuple[str, ...]] = ("ppca", "gmm", "vae", "gan", "normalizing-flow", "diffusion", "flow-matching")
    ability: ClassVar[str] = ""
    flattens: ClassVar[bool] = True
    has_distances: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = ("distances", "features", "memorization")
    ending: ClassVar[str] = "csv"
    files: ClassVar[tuple[str, ...]] = ()
    density_dtype: ClassVar[torch.dtype] = torch.float64
    drawn_singly: ClassVar[bool] = False
    solver_steps: ClassVar[int] = 32
    shown: ClassVar[int] = 2000
    followed: ClassVar[int] = 256
    drawn_while_training: ClassVar[int] = 1000

    def of(self, signal: Signal | None) -> "Kind":
        """Return the kind of rows of which this is known; the same for all kinds but signals."""
        return self

    @abc.abstractmethod
    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Whether an array of this shape, rows first, is of this kind by default."""

    def suggestion(self, shape: tuple[int, ...]) -> str:
        """Return when to choose this kind for an array that no kind recognizes, such as "if ..."; "" if never."""
        return ""

    def gathered(self, values: Any, name: str = "X") -> Any:
        """Return rows that came in a form of this kind alone, such as a list of sets, in one container."""
        return values

    @abc.abstractmethod
    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return the position of the channels in an array of this shape; ValueError if it does not fit this kind."""

    def internal_shape(self, row: tuple[int, ...], channels: Channels) -> tuple[int, ...]:
        """Return the shape of a row inside the library, from the user's; by default they are the same."""
        return row

    def inward(self, rows: Tensor, channels: Channels) -> Tensor:
        """Return rows (N, *D) from rows in the user's layout, (N, *row)."""
        return rows

    def outward(self, rows: Tensor, row: tuple[int, ...], channels: Channels) -> Tensor:
        """Return rows in the user's layout, (N, *row), from rows (N, *D)."""
        return rows

    def mask(self, known: Tensor, channels: Channels) -> Tensor:
        """Convert a mask of known entries in the user's layout, (N, *row), to one of elements, (N, *D)."""
        return self.inward(known, channels)

    def measured(self, values: Tensor, channels: Channels) -> Tensor:
        """Convert a measurement of one row, laid out like a row of any size, to the library's layout."""
        return values

    def whole_mask(self, known: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the mask of a row (*D) from one that may be smaller, such as one for all channels."""
        return known

    @abc.abstractmethod
    def describe(self, shape: tuple[int, ...]) -> str:
        """Describe rows (N, *D) of this shape in words, such as "images of 8×8 with 1 channel"."""

    def units(self, x: Tensor) -> Tensor:
        """Return the parts of rows x (N, *D) that share one scaling: the rows, or for points all points (M, 1, D)."""
        return x

    def absent(self, rows: Tensor) -> Tensor | None:
        """Return which elements of rows (N, *D) do not exist, as sets have different sizes; None if all do."""
        return None

    @abc.abstractmethod
    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and scale (*D), float64, of rows x (N, *D) whose elements lie in [low, high]."""

    def ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ranges that integers are clipped to, broadcastable to (*D), from those of the elements."""
        return low, high

    def coding(self, x: Tensor) -> SignalCoding | None:
        """Return the map from rows x (N, *D) to the coordinates that are scaled, if they are not their elements."""
        return None

    def reopening(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return the arguments with which :func:`~pushforward.data.open_data` opens other data as rows of this shape (*D)."""
        return {}

    def view(self, rows: np.ndarray, channels: Channels) -> np.ndarray:
        """Return rows for plots and files: here (N, D)."""
        return rows.reshape(len(rows), -1)

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as :meth:`view` gives them as a report shows them: points (N, D) or images (N, H, W[, C])."""
        return rows

    def compared(self, x: np.ndarray) -> np.ndarray:
        """Return rows x (N, *D) in data units as they are compared, vectors or images (N, C, H, W)."""
        return x

    @abc.abstractmethod
    def draw(self, rows: np.ndarray, drawing: Drawing) -> Plot:
        """Draw rows as :meth:`view` gives them."""

    def pairs(self, rows: Tensor, others: Tensor, columns: int) -> Tensor | None:
        """Return rows with their ``others`` below them, for a grid with ``columns``; None if they are plotted as two sets."""
        return None

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Raise a ValueError if the format of ``path``, by its ending, cannot hold such rows; no ending means a folder."""
        if path.suffix == ".txt":
            raise ValueError(f"{path}: a .txt file holds texts, but the samples are {self.name}; use .csv, .npy, .npz or .png.")
        if not path.suffix:
            raise ValueError(
                f"{path} has no ending, which means a folder of images, but the samples are {self.name}; use .csv, .parquet, "
                ".npy, .npz or .png."
            )

    def frame(self, rows: np.ndarray) -> Any:
        """Return rows from :meth:`view` as a DataFrame for a .csv or .parquet file."""
        import pandas as pd  # heavy

        return pd.DataFrame(rows, columns=[f"x{index}" for index in range(rows.shape[1])])


class FolderKind(Kind):
    """A kind whose rows can be the files of a folder."""

    @abc.abstractmethod
    def encoded(self, rows: Any, scale: tuple[float, float] | None, names: Sequence[str] | None) -> tuple[str, Iterable[bytes]]:
        """Return the ending of the files of a folder, without its dot, and the contents of one file per row.

        ``rows`` are those of :meth:`view`; ``scale`` are the values that are written as black and as white, and ``names`` those
        of the coordinates of points. :meth:`check_file` allows a folder.
        """

    def file_bytes(self, rows: np.ndarray, ending: str) -> bytes:
        """Return a file with all rows, of an ending in ``files``, without its dot; :meth:`check_file` allows it."""
        raise ValueError(f"{self.noun} are not written to one .{ending} file.")
