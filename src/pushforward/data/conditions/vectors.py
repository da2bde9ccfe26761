"""Vectors of numbers as conditions.

They are standardized. If entries were missing (NaN) in training, a gap is encoded as 0, and a second set of 0/1 features marks
the observed entries.
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.columns.given import named_values, unknown_name
from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.features import statistics, thinned
from pushforward.data.conditions.values import ConditionKind, as_condition_array, as_numbers

__all__ = ["Vectors"]


@dataclass(frozen=True, eq=False)
class Vectors(ConditionEncoder):
    """Encoder of vectors of numbers."""

    kind: ClassVar[ConditionKind] = "vector"

    @classmethod
    def of(cls, array: np.ndarray) -> "Vectors":
        """Return the encoder of training conditions (N,) or (N, F); for errors see :func:`~pushforward.data.fit_conditions`."""
        numbers = as_numbers(array)
        numbers = numbers.reshape(len(numbers), -1)
        observed = ~numbers.isnan()
        if not bool(observed.any(0).all()):
            raise ValueError(f"condition column {int((~observed.any(0)).int().argmax())} is missing in every row; omit it.")
        mean, scale, constant = statistics(numbers)
        if bool(constant.all()):
            raise ValueError("condition is the same number in every row and carries no information; omit it.")
        return cls(not bool(observed.all()), thinned(numbers), mean, scale)

    @property
    def dim(self) -> int:
        """Number of columns of an encoded vector: the flag, the features, and the flags of the columns."""
        return 1 + len(self.mean) + (0 if self.parts is None else int(self.parts[-1]) + 1)

    @functools.cached_property
    def parts(self) -> Tensor | None:
        """The number of each entry, int64 ``(F,)``, if entries were missing in training; else None."""
        return torch.arange(len(self.mean)) if self.gaps else None

    def parse(self, text: str) -> Any:
        """Return values by name, as in "a=1,b=2", or the numbers of a text."""
        names = self.names
        values = named_values(text, names)
        if values is None and len(names) > 1 and "=" in text:
            raise unknown_name(text.partition("=")[0].strip(), names)
        return _numbers_in(text) if values is None else values

    def plain(self, values: Any) -> np.ndarray:
        """Return one vector per row."""
        return as_condition_array(self.by_name(self.parse(values) if isinstance(values, str) else values))

    def _encoded(self, values: Any, n: int) -> Tensor:
        values, size = self.by_name(self.parse(values) if isinstance(values, str) else values), len(self.mean)
        numbers = as_numbers(as_condition_array(values))
        if numbers.ndim == 0 or (numbers.ndim == 1 and size > 1):
            numbers = numbers.reshape(1, -1)
        elif numbers.ndim == 1:
            numbers = numbers.reshape(-1, 1)
        if numbers.ndim != 2 or numbers.shape[1] != size or len(numbers) not in (1, n):
            what = "a number" if size == 1 else f"{size} numbers"
            raise ValueError(f"condition has shape {tuple(np.shape(values))} for {n} rows; pass {what}, or {what} per row.")
        if not self.gaps and bool(numbers.isnan().any()):
            raise ValueError(
                "condition has NaN, but the training conditions had no gaps, so the model has not learned them; pass every "
                "number, or condition=None."
            )
        return self._features(numbers.expand(n, size))

    def _drawn(self, u: Tensor) -> Tensor:
        return self._features(self.rows[(u * len(self.rows)).long()])

    def _features(self, numbers: Tensor) -> Tensor:
        """Return rows for conditions (n, C) in their own units."""
        observed = ~numbers.isnan()
        standardized = ((self._wide(numbers) - self.mean) / self.scale).nan_to_num().float()
        parts = [torch.ones(len(numbers), 1, dtype=torch.float32), standardized]
        if self.parts is not None:
            parts.append(observed.float())
        # A row of gaps alone is the null row.
        return torch.cat(parts, 1) * observed.any(1, keepdim=True)

    def _wide(self, numbers: Tensor) -> Tensor:
        """Return the features (n, F) of numbers (n, C), before they are standardized."""
        return numbers


def _numbers_in(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"condition {text!r} is not a number; this model was trained on numbers as its condition.") from None
