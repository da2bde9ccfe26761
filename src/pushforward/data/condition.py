"""Encoding of conditions, labels or real vectors, as one float tensor, with gaps and the null condition of guidance.

A row is ``(present, features)``. Column 0 is 1 if there is a condition. The row of zeros means "no condition": it encodes a
missing label, ``None``, and the null condition of classifier-free guidance, so a condition is dropped by multiplying its row
by 0.

- *Labels* (text, booleans, integers that count as classes) have one 0/1 feature per class, in sorted order.
- *Vectors* are standardized. If entries were missing (NaN) in training, a gap is encoded as 0, and a second set of 0/1 features
  marks the observed entries.

Integers count as classes if at most 20 are distinct, or if they run 0, 1, ..., k - 1 without a gap and have 10 rows each on
average; ``kind`` overrides this. Floats are vectors, except for whole numbers of which some are missing: NumPy and pandas hold
integers with gaps in this way.
"""

import difflib
import sys
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Condition, Facts, enumerate_names, is_frame
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
    columns : tuple of str or None
        Names of the columns that the conditions came in; a DataFrame is then read by these names, in any order.

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
    columns: tuple[str, ...] | None = None

    @classmethod
    def fit(
        cls, values: Condition, *, kind: ConditionKind | None = None, columns: tuple[str, ...] | None = None
    ) -> "ConditionEncoder":
        """Fit to the training conditions.

        Parameters
        ----------
        values : array, tensor, Series, DataFrame or list
            Labels ``(N,)``, numbers ``(N,)`` or vectors ``(N, F)``. None and NaN are gaps.
        kind : {"labels", "vector"} or None
            None applies the rule of the module docstring.
        columns : tuple of str, optional
            Names of the columns of ``values``; default those of a DataFrame.

        Raises
        ------
        ValueError
            If the values are infinite, all missing, all the same number, or more than 1,000 different labels.
        """
        if kind not in (None, "labels", "vector"):
            raise ValueError(f"kind of a condition must be 'labels', 'vector' or None, not {kind!r}.")
        array = as_condition_array(values)
        kind = kind or _decide_kind(array)
        encoder = cls._fit_labels(array) if kind == "labels" else cls._fit_vector(array)
        return replace(encoder, columns=columns or column_names(values))

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
            For a label that is not in the training data, infinities, NaN if training had no gaps, any number of conditions
            other than 1 and ``n``, and a DataFrame without the columns of training.
        """
        if values is None:
            return torch.zeros(n, self.dim, dtype=torch.float32)
        values = self.by_name(values)
        return self._encode_labels(values, n) if self.kind == "labels" else self._encode_vector(values, n)

    def by_name(self, values: Any) -> Any:
        """Return a DataFrame, or a Series that is one row of it, with the columns in the order of training; all else as it is.

        Raises
        ------
        ValueError
            If a column is missing.
        """
        if self.columns is None or not (is_frame(values) or (len(self.columns) > 1 and _is_named_row(values))):
            return values
        names = list(values.columns if is_frame(values) else values.index)
        missing = [name for name in self.columns if name not in names]
        if missing:
            raise ValueError(
                f"condition has the columns {enumerate_names(names)}, but not {enumerate_names(missing)}, with which the model "
                "was trained; rename them, or pass an array with the columns in the order of training, "
                f"{enumerate_names(self.columns, 30)}."
            )
        return values[list(self.columns)]

    def plain(self, values: Any) -> np.ndarray:
        """Return one condition per row in the types of training: its labels, with None in gaps, or numbers.

        >>> ConditionEncoder.fit([0, 1, None]).plain([1.0, float("nan"), "0"])
        array([1, None, 0], dtype=object)
        """
        array = as_condition_array(self.by_name(values))
        if self.kind == "vector" or array.ndim != 1:
            return array
        labels = np.empty(len(array), dtype=object)
        labels[:] = [(*self.classes, None)[self._index(value)] for value in array]
        return labels

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
        columns = None if self.columns is None else list(self.columns)
        return {"kind": self.kind, "classes": list(self.classes), "gaps": self.gaps, "columns": columns}, tensors

    @classmethod
    def from_state(cls, facts: Facts, tensors: dict[str, Tensor]) -> "ConditionEncoder":
        """Return the encoder from the output of :meth:`state`; ValueError if its parts do not fit each other."""
        columns = None if facts["columns"] is None else tuple(facts["columns"])
        encoder = cls(kind=facts["kind"], classes=tuple(facts["classes"]), gaps=facts["gaps"], columns=columns, **tensors)
        encoder._check()
        return encoder

    def _check(self) -> None:
        """Raise a ValueError if the parts do not fit each other: a file may hold anything."""
        classes, mean, rows, gaps = self.classes, self.mean, self.rows, self.gaps
        if self.kind not in ("labels", "vector") or not isinstance(gaps, bool):
            raise ValueError(f"a condition has kind 'labels' or 'vector', and gaps or none, not {self.kind!r} and {gaps!r}")
        if any(type(label) not in (str, int, bool) for label in classes) or len(set(classes)) < len(classes):
            raise ValueError("the classes of a condition must be different words, integers or booleans")
        if self.scale.shape != mean.shape or mean.ndim != 1 or not bool(mean.isfinite().all() & (self.scale > 0).all()):
            raise ValueError("mean and scale of a condition must be as many finite numbers, and scales above 0")
        if not bool(self.scale.isfinite().all()):
            raise ValueError("the scale of a condition has infinities")
        width = 1 if self.kind == "labels" else len(mean)
        if self.columns is not None and (len(self.columns) != width or any(type(name) is not str for name in self.columns)):
            raise ValueError(f"a condition of {width} columns has that many names, not {self.columns!r}")
        if self.kind == "labels":
            sound = rows.dtype == torch.int64 and rows.shape == (len(classes) + 1,) and len(mean) == 0 < len(classes)
            sound = sound and len(classes) <= _MOST_CLASSES and bool((rows >= 0).all()) and 0 < int(rows.sum()) < 1 << 53
        else:
            sound = rows.dtype == mean.dtype == self.scale.dtype == torch.float64 and not classes and len(mean) > 0
            sound = sound and rows.ndim == 2 and rows.shape[1] == len(mean) and 0 < len(rows) <= _MOST_ROWS
            sound = sound and not bool(rows.isinf().any()) and (gaps or not bool(rows.isnan().any()))
        if not sound:
            raise ValueError(f"condition.rows are {rows.dtype} of shape {tuple(rows.shape)}, which are no training conditions")

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


def column_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a DataFrame, if all are text; None for anything else."""
    return tuple(values.columns) if is_frame(values) and all(isinstance(name, str) for name in values.columns) else None


def _is_named_row(values: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.Series) and all(isinstance(name, str) for name in values.index)


def _from_pandas(values: Any) -> np.ndarray:
    """Return a Series, Index or DataFrame as an array; missing entries of numbers become NaN, those of whole numbers None."""
    from pandas.api import types

    if values.ndim == 2 and values.shape[1] == 1:
        values = values.iloc[:, 0]
    dtypes = values.dtypes if values.ndim == 2 else [values.dtype]
    numeric = all(types.is_numeric_dtype(dtype) for dtype in dtypes)
    floating = any(types.is_float_dtype(dtype) for dtype in dtypes)
    if numeric and bool(np.asarray(values.isna()).any()):
        if floating or values.ndim == 2:
            return np.asarray(values.to_numpy(dtype=float, na_value=np.nan))
        return np.asarray(values.to_numpy(dtype=object, na_value=None))
    array = np.asarray(values.to_numpy())
    return array.astype(float if floating else np.int64) if numeric and array.dtype == object else array


def _decide_kind(array: np.ndarray) -> ConditionKind:
    if array.ndim > 1:
        return "vector"
    if array.dtype.kind == "b":
        return "labels"
    present = array[~np.array([_is_gap(value) for value in array.tolist()], dtype=bool)]
    if array.dtype.kind == "O" and not all(isinstance(value, Real) and not isinstance(value, bool) for value in present):
        return "labels"
    numbers = present.astype(np.float64)
    floats = array.dtype.kind == "f" or (len(present) > 0 and all(isinstance(value, float) for value in present))
    if len(present) == 0 or (numbers != np.floor(numbers)).any() or (floats and len(present) == len(array)):
        return "vector" if floats else "labels"
    distinct = np.unique(numbers)
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
