"""Tokens: each row is a text, as a sequence of tokens from one vocabulary.

Rows are (N, L) inside the library (:mod:`pushforward.data.text`); plots and files show the texts.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import plots
from pushforward.data.kinds.kind import Channels, Drawing, FolderKind
from pushforward.data.kinds.registry import register_kind
from pushforward.data.stream import AnyRows

__all__ = ["Tokens"]

_FORMATS = (".txt", ".csv", ".parquet", ".png")


@register_kind
class Tokens(FolderKind):
    """Texts as rows of tokens, ``(N, L)``."""

    name: ClassVar[str] = "tokens"
    noun: ClassVar[str] = "texts"
    has_columns: ClassVar[bool] = False
    unit: ClassVar[str] = "tokens"
    keeps_constants: ClassVar[bool] = True
    closed_ranges: ClassVar[bool] = True
    learns_constants: ClassVar[bool] = True
    default_model: ClassVar[str] = "autoregressive"
    compared_models: ClassVar[tuple[str, ...]] = ("autoregressive", "masked-diffusion")
    ability: ClassVar[str] = "takes_texts"
    flattens: ClassVar[bool] = False
    has_distances: ClassVar[bool] = False
    measures: ClassVar[tuple[str, ...]] = ("texts",)
    ending: ClassVar[str] = "txt"
    density_dtype: ClassVar[torch.dtype] = torch.float32
    drawn_singly: ClassVar[bool] = True
    shown: ClassVar[int] = 24
    followed: ClassVar[int] = 0
    drawn_while_training: ClassVar[int] = 16

    def recognizes(self, shape: tuple[int, ...], integer: bool) -> bool:
        """Return False: texts are no arrays of numbers."""
        return False

    def channels(self, shape: tuple[int, ...], container: str) -> Channels:
        """Return None: texts have no channels."""
        if len(shape) != 2:
            raise ValueError(
                f"kind='tokens' is for texts, a list of str, or rows of their tokens (N, L), not of shape {shape}."
            )
        return None

    def describe(self, shape: tuple[int, ...]) -> str:
        """Return for example "texts of 64 tokens"."""
        return f"texts of {shape[0]} tokens"

    def scaling(self, x: AnyRows, low: Tensor, high: Tensor, integer: Tensor) -> tuple[Tensor, Tensor]:
        """Return 0 and 1: tokens have no scale."""
        return torch.zeros_like(low), torch.ones_like(low)

    def ranges(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return one range for all positions, (1,)."""
        return low.amin(0, keepdim=True), high.amax(0, keepdim=True)

    def view(self, rows: np.ndarray, channels: Channels) -> np.ndarray:
        """Return the texts as they are, (N,)."""
        return rows

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Return the texts as an array of strings."""
        return rows.astype(str)

    def draw(self, rows: np.ndarray, drawing: Drawing) -> plots.Plot:
        """Show the texts one below the other."""
        return plots.text_panel(rows.tolist(), labels=drawing.labels)

    def check_file(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Allow .txt, .csv, .parquet, .png and folders."""
        if path.suffix and path.suffix not in _FORMATS:
            raise ValueError(f"{path}: texts are written as {', '.join(_FORMATS)}, or as a folder of .txt files.")

    def encoded(self, rows: Any, scale: tuple[float, float] | None, names: Sequence[str] | None) -> tuple[str, Iterable[bytes]]:
        """Return one .txt file per text."""
        return "txt", (text.encode() for text in rows.tolist())

    def frame(self, rows: np.ndarray) -> Any:
        """Return a column of texts."""
        import pandas as pd  # heavy

        return pd.DataFrame({"text": rows})
