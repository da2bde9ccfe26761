"""Labels as conditions: text, booleans, and integers that count as classes.

Each class has one 0/1 feature, in sorted order.
"""

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import enumerate_names
from pushforward.data.columns.given import named_values
from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.values import MOST_CLASSES, ConditionKind, Label, as_condition_array, as_label

__all__ = ["Labels"]


@dataclass(frozen=True, eq=False)
class Labels(ConditionEncoder):
    """Encoder of labels."""

    kind: ClassVar[ConditionKind] = "labels"
    has_classes: ClassVar[bool] = True

    @classmethod
    def of(cls, array: np.ndarray) -> "Labels":
        """Return the encoder of training labels (N,); for errors see :func:`~pushforward.data.fit_conditions`."""
        if array.ndim != 1:
            raise ValueError(f"labels must be one per row, (N,), but the condition has shape {array.shape}.")
        labels = [as_label(value) for value in array]
        distinct = {label for label in labels if label is not None}
        if not distinct:
            raise ValueError("condition has no label: every entry is missing.")
        if len(distinct) > MOST_CLASSES:
            raise ValueError(
                f"condition has {len(distinct)} different labels, more than {MOST_CLASSES}: "
                "if they are quantities pass them as floats; if they are names, group them."
            )
        classes = tuple(sorted(distinct, key=lambda label: (isinstance(label, str), label)))
        index_of = {label: index for index, label in enumerate(classes)}
        counts = torch.zeros(len(classes) + 1, dtype=torch.int64)
        for label in labels:
            counts[index_of[label] if label is not None else -1] += 1
        return cls(bool(counts[-1]), counts, torch.empty(0), torch.empty(0), classes)

    @property
    def dim(self) -> int:
        """Number of columns of an encoded label: the flag, and one per class."""
        return 1 + len(self.classes)

    @property
    def example(self) -> str:
        """The first class."""
        return str(self.classes[0])

    def parse(self, text: str) -> Any:
        """Return the label of a text, or its value if it names the column, as in "species=cat"."""
        known = any(match(text, label) for match in (_same, _same_text) for label in self.classes)
        values = None if known else named_values(text, self.columns or ())
        return text if values is None else next(iter(values.values()))

    def plain(self, values: Any) -> np.ndarray:
        """Return one label per row in the types of training, with None in gaps.

        >>> Labels.of(np.array([0, 1, None], dtype=object)).plain([1.0, float("nan"), "0"])
        array([1, None, 0], dtype=object)
        """
        array = as_condition_array(self.by_name(self.parse(values) if isinstance(values, str) else values))
        if array.ndim != 1:
            return array
        labels = np.empty(len(array), dtype=object)
        labels[:] = [(*self.classes, None)[self._index(value)] for value in array]
        return labels

    def _encoded(self, values: Any, n: int) -> Tensor:
        values = self.by_name(self.parse(values) if isinstance(values, str) else values)
        single = isinstance(values, str | bytes) or np.ndim(values) == 0
        entries = [values.item() if isinstance(values, Tensor) else values] if single else list(as_condition_array(values))
        if len(entries) not in (1, n):
            raise ValueError(f"condition has {len(entries)} labels for {n} rows; pass one label, or one per row.")
        if any(np.ndim(entry) > 0 for entry in entries):
            raise ValueError(f"condition must hold labels, one per row, but has shape {np.shape(values)}.")
        index = torch.tensor([self._index(entry) for entry in entries], dtype=torch.int64)
        return self._one_hot(index.expand(n) if len(entries) == 1 else index)

    def _drawn(self, u: Tensor) -> Tensor:
        edges = self.rows.cumsum(0).double() / self.rows.sum()
        return self._one_hot(torch.searchsorted(edges, u, right=True))

    def _unnamed(self) -> str:
        return "a label"

    def _one_hot(self, index: Tensor) -> Tensor:
        """Return rows for class indices; the index after the last class gives the null row."""
        rows = torch.zeros(len(index), self.dim + 1, dtype=torch.float32)
        rows[torch.arange(len(index)), index + 1] = 1.0
        rows[:, 0] = (index < len(self.classes)).float()
        return rows[:, :-1]

    def _index(self, value: object) -> int:
        label = as_label(value)
        if label is None:
            return len(self.classes)
        for match in (_same, _same_text):
            for index, known in enumerate(self.classes):
                if match(label, known):
                    return index
        close = difflib.get_close_matches(str(label), [str(known) for known in self.classes], n=1)
        hint = f" Did you mean {close[0]!r}?" if close and isinstance(label, str) else ""
        raise ValueError(
            f"condition {label!r} is not a label of the training data ({enumerate_names(self.classes, 30)}).{hint}"
        )


def _same(label: Label, known: Label) -> bool:
    return label == known and isinstance(label, str) == isinstance(known, str)


def _same_text(label: Label, known: Label) -> bool:
    return str(label).strip().lower() == str(known).strip().lower()
