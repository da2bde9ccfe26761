"""Encoding of conditions, labels or real vectors, as one float tensor, with gaps and the null condition of guidance.

A row is ``(present, features)``. Column 0 is 1 if there is a condition. The row of zeros means "no condition": it encodes a
missing label, ``None``, and the null condition of classifier-free guidance, so a condition is dropped by multiplying its row
by 0.

- *Labels* (text, booleans, integers that count as classes) have one 0/1 feature per class, in sorted order.
- *Vectors* are standardized. If entries were missing (NaN) in training, a gap is encoded as 0, and a second set of 0/1 features
  marks the observed entries.

Integers count as classes if at most 20 are distinct, or if they run 0, 1, ..., k - 1 without a gap and have 10 rows each on
average; ``kind`` overrides this. Floats are always vectors.
"""

import difflib
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Condition, Facts, enumerate_names
from pushforward.probability import noise

__all__ = ["ConditionEncoder", "ConditionKind"]

ConditionKind = Literal["labels", "vector"]
Label: TypeAlias = str | int | bool

_FEW = 20
_MOST_CLASSES = 1000
_MOST_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class ConditionEncoder:
    """Encoder of labels or real vectors, fitted to the training conditions by :meth:`fit`.

    Parameters
    ----------
    kind : {"labels", "vector"}
    classes : tuple of str, int or bool
        The labels in the order of their features; empty for vectors.
    mean, scale : Tensor
        float64 ``(F,)``, statistics of the observed entries; empty for labels.
    gaps : bool
        Whether entries of vectors were missing in training.
    rows : Tensor
        The law of :meth:`draw`. Labels: int64 ``(classes + 1,)``, the count of each label, gaps last. Vectors: float64
        ``(R, F)``, the training conditions, at most 65,536, evenly spaced.

    >>> encoder = ConditionEncoder.fit(["cat", "dog", "cat"])
    >>> encoder.encode("dog", 1), encoder.encode(None, 1)
    (tensor([[1., 0., 1.]]), tensor([[0., 0., 0.]]))
    """

    kind: ConditionKind
    classes: tuple[Label, ...]
    mean: Tensor
    scale: Tensor
    gaps: bool
    rows: Tensor

    @classmethod
    def fit(cls, values: Condition, *, kind: ConditionKind | None = None) -> "ConditionEncoder":
        """Fit to the training conditions.

        Parameters
        ----------
        values : array, tensor, Series, DataFrame or list
            Labels ``(N,)``, numbers ``(N,)`` or vectors ``(N, F)``. None and NaN are gaps.
        kind : {"labels", "vector"} or None
            None applies the rule of the module docstring.

        Raises
        ------
        ValueError
            If the values are infinite, all missing, all the same number, or more than 1,000 different labels.
        """
        if kind not in (None, "labels", "vector"):
            raise ValueError(f"kind of a condition must be 'labels', 'vector' or None, not {kind!r}.")
        array = as_condition_array(values)
        kind = kind or _decide_kind(array)
        return cls._fit_labels(array) if kind == "labels" else cls._fit_vector(array)

    @classmethod
    def _fit_labels(cls, array: np.ndarray) -> "ConditionEncoder":
        if array.ndim != 1:
            raise ValueError(f"labels must be one per row, (N,), but the condition has shape {array.shape}.")
        labels = [_plain(value) for value in array]
        distinct = {label for label in labels if label is not None}
        if not distinct:
            raise ValueError("condition has no label: every entry is missing.")
        if len(distinct) > _MOST_CLASSES:
            raise ValueError(
                f"condition has {len(distinct)} different labels, more than {_MOST_CLASSES}: "
                "if they are quantities pass them as floats; if they are names, group them."
            )
        classes = tuple(sorted(distinct, key=lambda label: (isinstance(label, str), label)))
        index_of = {label: index for index, label in enumerate(classes)}
        counts = torch.zeros(len(classes) + 1, dtype=torch.int64)
        for label in labels:
            counts[index_of[label] if label is not None else -1] += 1
        return cls("labels", classes, torch.empty(0), torch.empty(0), bool(counts[-1]), counts)

    @classmethod
    def _fit_vector(cls, array: np.ndarray) -> "ConditionEncoder":
        numbers = _as_numbers(array)
        numbers = numbers.reshape(len(numbers), -1)
        observed = ~numbers.isnan()
        if not bool(observed.any(0).all()):
            raise ValueError(f"condition column {int((~observed.any(0)).int().argmax())} is missing in every row; omit it.")
        count = observed.sum(0)
        mean = numbers.nan_to_num().sum(0) / count
        scale = (((numbers - mean).nan_to_num().square().sum(0)) / count).sqrt()
        low, high = numbers.nan_to_num(nan=torch.inf).amin(0), numbers.nan_to_num(nan=-torch.inf).amax(0)
        if bool((low == high).all()):
            raise ValueError("condition is the same number in every row and carries no information; omit it.")
        scale = torch.where(low == high, 1.0, scale)
        if len(numbers) > _MOST_ROWS:
            numbers = numbers[torch.linspace(0, len(numbers) - 1, _MOST_ROWS, dtype=torch.float64).long()]
        return cls("vector", (), mean, scale, not bool(observed.all()), numbers.clone())

    @property
    def has_classes(self) -> bool:
        """Whether conditions are labels rather than numbers."""
        return self.kind == "labels"

    @property
    def dim(self) -> int:
        """Number of columns K of an encoded condition, the flag included."""
        if self.kind == "labels":
            return 1 + len(self.classes)
        return 1 + len(self.mean) * (2 if self.gaps else 1)

    def encode(self, values: Condition, n: int) -> Tensor:
        """Return ``n`` encoded rows, float32 ``(n, K)``.

        Parameters
        ----------
        values : label, number, vector, None, or one of these per row
            One condition applies to all rows. None gives null rows. Text is also converted to labels of other types, so that
            "3" is the class 3, and to numbers ("0.5" or "0.5, 1.2" for a vector).
        n : int
            Number of rows.

        Raises
        ------
        ValueError
            For a label that is not in the training data, infinities, NaN if training had no gaps, and any number of conditions
            other than 1 and ``n``.
        """
        if values is None:
            return torch.zeros(n, self.dim, dtype=torch.float32)
        return self._encode_labels(values, n) if self.kind == "labels" else self._encode_vector(values, n)

    def draw(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` from the training conditions, float32 ``(n, K)``."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((), seed=seed, purpose="condition", rows=rows, dtype=torch.float64)
        if self.kind == "labels":
            edges = self.rows.cumsum(0).double() / self.rows.sum()
            return self._one_hot(torch.searchsorted(edges, u, right=True))
        return self._features(self.rows[(u * len(self.rows)).long()])

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data for JSON and as tensors for safetensors; :meth:`from_state` restores it exactly."""
        tensors = {"mean": self.mean, "scale": self.scale, "rows": self.rows}
        return {"kind": self.kind, "classes": list(self.classes), "gaps": self.gaps}, tensors

    @classmethod
    def from_state(cls, facts: Facts, tensors: dict[str, Tensor]) -> "ConditionEncoder":
        """Return the encoder from the output of :meth:`state`."""
        return cls(kind=facts["kind"], classes=tuple(facts["classes"]), gaps=facts["gaps"], **tensors)

    def _encode_labels(self, values: Any, n: int) -> Tensor:
        single = isinstance(values, str | bytes) or np.ndim(values) == 0
        entries = [values.item() if isinstance(values, Tensor) else values] if single else list(as_condition_array(values))
        if len(entries) not in (1, n):
            raise ValueError(f"condition has {len(entries)} labels for {n} rows; pass one label, or one per row.")
        if any(np.ndim(entry) > 0 for entry in entries):
            raise ValueError(f"condition must hold labels, one per row, but has shape {np.shape(values)}.")
        index = torch.tensor([self._index(entry) for entry in entries], dtype=torch.int64)
        return self._one_hot(index.expand(n) if len(entries) == 1 else index)

    def _one_hot(self, index: Tensor) -> Tensor:
        """Return rows for class indices; the index after the last class gives the null row."""
        rows = torch.zeros(len(index), self.dim + 1, dtype=torch.float32)
        rows[torch.arange(len(index)), index + 1] = 1.0
        rows[:, 0] = (index < len(self.classes)).float()
        return rows[:, :-1]

    def _index(self, value: object) -> int:
        label = _plain(value)
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

    def _encode_vector(self, values: Any, n: int) -> Tensor:
        size = len(self.mean)
        if isinstance(values, str):
            values = _numbers_in(values)
        numbers = _as_numbers(as_condition_array(values))
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

    def _features(self, numbers: Tensor) -> Tensor:
        """Return rows for conditions (n, F) in their own units."""
        observed = ~numbers.isnan()
        parts = [torch.ones(len(numbers), 1, dtype=torch.float32), ((numbers - self.mean) / self.scale).nan_to_num().float()]
        if self.gaps:
            parts.append(observed.float())
        rows = torch.cat(parts, 1)
        # A row of gaps alone is the null row.
        return rows * observed.any(1, keepdim=True)


def as_condition_array(values: Any) -> np.ndarray:
    """Return conditions as an array: numbers unchanged, everything else as objects; a single column of labels is flattened."""
    if isinstance(values, Tensor):
        array = values.detach().cpu().numpy()
    elif hasattr(values, "to_numpy"):
        array = _from_pandas(values)
    elif isinstance(values, list | tuple) and any(value is None or isinstance(value, str) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    else:
        array = np.asarray(values)
    if array.dtype.kind in "UST":
        array = array.astype(object)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"condition must be real numbers or labels, not an array of dtype {array.dtype}.")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind != "f" else array


def _from_pandas(values: Any) -> np.ndarray:
    """Return a Series, Index or DataFrame as an array; numbers with missing entries become floats with NaN."""
    from pandas.api import types

    dtypes = values.dtypes if getattr(values, "ndim", 1) == 2 else [values.dtype]
    numeric = all(types.is_numeric_dtype(dtype) for dtype in dtypes)
    if numeric and bool(np.asarray(values.isna()).any()):
        return np.asarray(values.to_numpy(dtype=float, na_value=np.nan))
    array = np.asarray(values.to_numpy())
    if numeric and array.dtype == object:
        return array.astype(float if any(types.is_float_dtype(dtype) for dtype in dtypes) else np.int64)
    return array


def _decide_kind(array: np.ndarray) -> ConditionKind:
    if array.dtype.kind == "f" or array.ndim > 1:
        return "vector"
    if array.dtype.kind == "O":
        present = [value for value in array.tolist() if not _is_gap(value)]
        return "vector" if present and all(isinstance(value, float) for value in present) else "labels"
    if array.dtype.kind == "b":
        return "labels"
    distinct = np.unique(array)
    counting = len(distinct) <= _MOST_CLASSES and distinct[0] == 0 and distinct[-1] == len(distinct) - 1
    return "labels" if len(distinct) <= _FEW or (counting and len(array) >= 10 * len(distinct)) else "vector"


def _plain(value: object) -> Label | None:
    """Return a label as str, int or bool, or None for a gap."""
    value = value.item() if isinstance(value, np.generic | Tensor) else value
    if _is_gap(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str | bool | int):
        return value
    raise ValueError(f"a label must be text, an integer or a boolean, not {value!r} ({type(value).__name__}).")


def _is_gap(value: object) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _same(label: object, known: object) -> bool:
    return label == known and isinstance(label, str) == isinstance(known, str)


def _same_text(label: object, known: object) -> bool:
    return str(label).strip().lower() == str(known).strip().lower()


def _numbers_in(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"condition {text!r} is not a number; this model was trained on numbers as its condition.") from None


def _as_numbers(array: np.ndarray) -> Tensor:
    """Return float64 numbers with NaN for gaps; raise for text, complex numbers and infinities."""
    if array.dtype.kind == "O":
        array = np.array([np.nan if _is_gap(value) else value for value in array.ravel()], dtype=object).reshape(array.shape)
    try:
        numbers = torch.from_numpy(np.array(array, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"condition must be numbers: {error}.") from None
    if bool(numbers.isinf().any()):
        raise ValueError(f"condition contains {int(numbers.isinf().sum())} infinities; all numbers must be finite.")
    return numbers
