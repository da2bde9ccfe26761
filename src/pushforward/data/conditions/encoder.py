"""What all encoders of conditions share: one float tensor for labels, vectors, tables or images.

A row is ``(present, features)``. Column 0 is 1 if there is a condition. The row of zeros means "no condition": it encodes a
missing label, ``None``, and the null condition of classifier-free guidance, so a condition is dropped by multiplying its row
by 0.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Condition, Facts, is_frame
from pushforward.data.columns import Table
from pushforward.data.columns.given import Given
from pushforward.data.conditions.images import Image
from pushforward.data.conditions.reading import frame_of, given_of
from pushforward.data.conditions.values import ConditionKind, Label
from pushforward.probability import noise

__all__ = ["ConditionEncoder"]


@dataclass(frozen=True, eq=False)
class ConditionEncoder(abc.ABC):
    """Encoder of conditions; :func:`~pushforward.data.fit_conditions` returns the one that suits those of training.

    Parameters
    ----------
    gaps : bool
        Whether conditions were missing in training: labels, entries of vectors, or all columns of a table at once.
    rows : Tensor
        The law of :meth:`draw`. Labels: int64 ``(classes + 1,)``, the count of each label, gaps last. Vectors and tables:
        float64 ``(R, C)``, the training conditions as numbers, at most 65,536, evenly spaced. Images: uint8 or float32
        ``(R, C, h, w)``, at most 1,024. Masks: empty.
    mean, scale : Tensor
        float64 ``(F,)``, statistics of the observed entries, 0 and 1 for the levels of a table; of images the middle and half
        the range of each channel ``(C,)``; empty for labels and masks.
    classes : tuple of str, int or bool
        The labels in the order of their features; empty for all but labels.
    columns : tuple of str or None
        Names of the columns that the conditions came in; a DataFrame is then read by these names, in any order.
    table : Table or None
        The columns of a table.
    image : (int, int, int), optional
        Channels, height and width of the pixels behind the flag of an encoded condition.
    """

    kind: ClassVar[ConditionKind]
    has_classes: ClassVar[bool] = False
    """Whether conditions are labels."""
    has_masks: ClassVar[bool] = False
    """Whether conditions are visible parts of the rows themselves."""

    gaps: bool
    rows: Tensor
    mean: Tensor
    scale: Tensor
    classes: tuple[Label, ...] = ()
    columns: tuple[str, ...] | None = None
    table: Table | None = None
    image: Image | None = None

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of columns K of an encoded condition, the flag included."""

    @property
    def parts(self) -> Tensor | None:
        """Number of the column that each feature belongs to, int64 ``(F,)``, if flags mark the observed columns; else None."""
        return None

    @property
    def names(self) -> tuple[str | int, ...]:
        """Names of the columns of the conditions; none if they came without."""
        return self.columns or ()

    @property
    def words(self) -> list[str]:
        """The levels of the categories of a table as text."""
        return []

    @property
    def example(self) -> str:
        """A condition as one writes it on the command line; "" where there is no short one."""
        return ""

    def encode(self, values: Condition, n: int) -> Tensor:
        """Return ``n`` encoded rows, float32 ``(n, K)``.

        Parameters
        ----------
        values : label, number, vector, image, None, or one of these per row; for columns with names also values by name
            One condition applies to all rows. None gives null rows. Text is also converted to labels of other types, so that
            "3" is the class 3, to numbers ("0.5" or "0.5, 1.2" for a vector), and to values by name ("sex=Female,age=40").
            Values by name are a mapping, a Series or a DataFrame. A column that is left out is a gap, except in a DataFrame or
            Series that has other columns instead.
        n : int
            Number of rows.

        Raises
        ------
        ValueError
            For a label or level that is not in the training data, infinities, a gap in a vector if training had no gaps, any
            number of conditions other than 1 and ``n``, an unknown name, a DataFrame without the columns of training, and
            images of another size.
        """
        if values is None:
            return torch.zeros(n, self.dim, dtype=torch.float32)
        return self._encoded(values, n)

    @abc.abstractmethod
    def _encoded(self, values: Any, n: int) -> Tensor:
        """Return ``n`` encoded rows (n, K) of conditions that are not None."""

    def parse(self, text: str) -> Any:
        """Return what a text means: values by name, as in "sex=Female,age=40", a label, the numbers of a vector, or a cell."""
        return text

    def by_name(self, values: Any) -> Any:
        """Return values by name as a DataFrame of the columns of training, with gaps where one is left out; all else as it is.

        Values by name are a mapping, a DataFrame, or a Series that is one row of it.

        Raises
        ------
        ValueError
            If a column is unknown, or missing in a DataFrame or Series that has other columns.
        """
        given = self._given(values)
        if given is None:
            return values
        names = self.names
        return values[list(names)] if is_frame(values) and len(given) == len(names) else frame_of(given, names)

    def _given(self, values: Any) -> Given | None:
        """Return values by name of column; None if they have no names, or the training conditions had none."""
        names = self.names
        if isinstance(values, Mapping) and not names:
            message = "the model was trained on conditions without names"
            raise ValueError(f"{message}; pass {self._unnamed()} instead of a mapping.")
        unnamed = is_frame(values) and self.columns is None
        return None if not names or unnamed else given_of(values, names)

    def _unnamed(self) -> str:
        """Return what a condition without names is, in words."""
        return f"{len(self.mean)} numbers"

    def plain(self, values: Any) -> np.ndarray:
        """Return one condition per row in the types of training: its labels or cells, with None in gaps, or numbers."""
        return np.asarray(values)

    def features(self, encoded: Tensor) -> Tensor:
        """Return the standardized numbers and the levels (n, F) of encoded conditions (n, K), float64, NaN in gaps."""
        size = len(self.mean)
        numbers = encoded[:, 1 : 1 + size].double()
        observed = (encoded[:, :1] > 0).expand_as(numbers)
        if self.parts is not None:
            observed = observed & (encoded[:, 1 + size :] > 0)[:, self.parts]
        return torch.where(observed, numbers, torch.nan)

    def refuse_parts(self, encoded: Tensor) -> None:  # noqa: B027 - conditions that are no table have no parts
        """Raise a ValueError if encoded conditions (n, K) lack a column of a table that was never missing in training."""

    def describe_image(self) -> str:
        """Describe the image of a condition in words; "" where there is none."""
        return ""

    def draw(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` from the training conditions, float32 ``(n, K)``; of masks, all hidden."""
        rows = torch.arange(first, first + n)
        return self._drawn(noise.uniform((), seed=seed, purpose="condition", rows=rows, dtype=torch.float64))

    @abc.abstractmethod
    def _drawn(self, u: Tensor) -> Tensor:
        """Return encoded training conditions by uniform numbers u (n,)."""

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data for JSON and as tensors for safetensors.

        :func:`~pushforward.data.restored_conditions` restores it exactly.
        """
        tensors = {"mean": self.mean, "scale": self.scale, "rows": self.rows}
        columns = None if self.columns is None else list(self.columns)
        facts = {"kind": self.kind, "classes": list(self.classes), "gaps": self.gaps, "columns": columns}
        image = None if self.image is None else list(self.image)
        return facts | {"table": None if self.table is None else self.table.to_json(), "image": image}, tensors
