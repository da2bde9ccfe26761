"""Encoding of conditions as one float tensor: labels, vectors, tables or images, with gaps and the null condition of guidance.

A row is ``(present, features)``. Column 0 is 1 if there is a condition. The row of zeros means "no condition": it encodes a
missing label, ``None``, and the null condition of classifier-free guidance, so a condition is dropped by multiplying its row
by 0.

- *Labels* (text, booleans, integers that count as classes) have one 0/1 feature per class, in sorted order.
- *Vectors* are standardized. If entries were missing (NaN) in training, a gap is encoded as 0, and a second set of 0/1 features
  marks the observed entries.
- *Tables* are columns of any types (:mod:`pushforward.data.columns`). A number, a date or a duration is standardized, a
  category or a boolean has one 0/1 feature per level. The features of a gap are 0, and one 0/1 feature per column marks the
  observed ones, whether or not entries were missing in training: a model that drops conditions in training also drops single
  columns (:func:`~pushforward.data.conditions.features.keep_parts`), and so learns the law without any part of a condition.
- *Images*, and the visible part of an image under a *mask*, are pixels (:mod:`pushforward.data.conditions.images`).

Integers count as classes if at most 20 are distinct, or if they run 0, 1, ..., k - 1 without a gap and have 10 rows each on
average; ``kind`` overrides this. Floats are vectors, except for whole numbers of which some are missing: NumPy and pandas hold
integers with gaps in this way. :mod:`pushforward.data.conditions.values` says what is a table.
"""

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pushforward.data.checks import Condition, Facts, enumerate_names, is_frame
from pushforward.data.columns import Table
from pushforward.data.columns.given import Given, named_values, read_given, unknown_name
from pushforward.data.conditions import images
from pushforward.data.conditions.features import expanded, parts_of, statistics, thinned
from pushforward.data.conditions.reading import frame_of, given_of, positional
from pushforward.data.conditions.state import check_state
from pushforward.data.conditions.values import (
    MOST_CLASSES,
    ConditionKind,
    Label,
    as_condition_array,
    as_label,
    as_numbers,
    column_names,
    conditions_of,
    kind_of_array,
)
from pushforward.probability import noise

__all__ = ["ConditionEncoder"]


@dataclass(frozen=True, eq=False)
class ConditionEncoder:
    """Encoder of labels, real vectors, tables or images, fitted to the training conditions by :meth:`fit`.

    Parameters
    ----------
    kind : {"labels", "vector", "table", "images", "mask"}
    classes : tuple of str, int or bool
        The labels in the order of their features; empty for all but labels.
    mean, scale : Tensor
        float64 ``(F,)``, statistics of the observed entries, 0 and 1 for the levels of a table; of images the middle and half
        the range of each channel ``(C,)``; empty for labels and masks.
    gaps : bool
        Whether conditions were missing in training: labels, entries of vectors, or all columns of a table at once.
    rows : Tensor
        The law of :meth:`draw`. Labels: int64 ``(classes + 1,)``, the count of each label, gaps last. Vectors and tables:
        float64 ``(R, C)``, the training conditions as numbers, at most 65,536, evenly spaced. Images: uint8 or float32
        ``(R, C, h, w)``, at most 1,024. Masks: empty.
    columns : tuple of str or None
        Names of the columns that the conditions came in; a DataFrame is then read by these names, in any order.
    table : Table or None
        The columns of a table.
    image : (int, int, int), optional
        Channels, height and width of the pixels behind the flag of an encoded condition.

    >>> encoder = ConditionEncoder.fit(["cat", "dog", "cat"])
    >>> encoder.encode("dog", 1), encoder.encode(None, 1)
    (tensor([[1., 0., 1.]]), tensor([[0., 0., 0.]]))
    >>> encoder = ConditionEncoder.fit({"sex": ["f", "m", "f"], "age": [30, 40, 50]})
    >>> encoder.encode({"sex": "m", "age": 40}, 1), encoder.encode("sex=f", 1)
    (tensor([[1., 0., 1., 0., 1., 1.]]), tensor([[1., 1., 0., 0., 1., 0.]]))
    """

    kind: ConditionKind
    classes: tuple[Label, ...]
    mean: Tensor
    scale: Tensor
    gaps: bool
    rows: Tensor
    columns: tuple[str, ...] | None = None
    table: Table | None = None
    image: images.Image | None = None

    @classmethod
    def fit(
        cls,
        values: Condition,
        *,
        kind: Literal["labels", "vector"] | None = None,
        columns: tuple[str, ...] | None = None,
        table: Table | None = None,
    ) -> "ConditionEncoder":
        """Fit to the training conditions.

        Parameters
        ----------
        values : array, tensor, Series, DataFrame, mapping or list
            Labels ``(N,)``, numbers ``(N,)``, vectors ``(N, F)``, cells of columns ``(N, C)``, or images ``(N, h, w)`` or
            ``(N, h, w, C)``, of tensors ``(N, C, h, w)``. None and NaN are gaps, which images cannot have.
        kind : {"labels", "vector"} or None
            None applies the rules of the module docstring.
        columns : tuple of str, optional
            Names of the columns of ``values``; default those of a DataFrame.
        table : Table, optional
            Types of the columns, if they are known.

        Raises
        ------
        ValueError
            If the values are infinite, all missing, all the same number, or more than 1,000 different labels, or a column of a
            table says nothing about new rows, such as a name.
        """
        if kind not in (None, "labels", "vector"):
            raise ValueError(f"kind of a condition must be 'labels', 'vector' or None, not {kind!r}.")
        found = conditions_of(values, table) if kind is None else None
        if found is not None and found.table is not None:
            encoder = cls._fit_table(found.array, found.table)
        else:
            array = as_condition_array(values) if found is None else found.array
            fit = {"labels": cls._fit_labels, "vector": cls._fit_vector, "images": cls._fit_images}
            encoder = fit[kind or kind_of_array(array)](array)
        return replace(encoder, columns=columns or column_names(values))

    @classmethod
    def of_visible(cls, image: images.Image) -> "ConditionEncoder":
        """Return the encoder of the visible part of images with these channels, height and width."""
        channels, *size = image
        none = torch.empty(0, dtype=torch.float64)
        return cls("mask", (), none, none, True, none, image=(1 + channels, size[0], size[1]))

    @classmethod
    def _fit_images(cls, array: np.ndarray) -> "ConditionEncoder":
        x, mean, scale = images.fit_images(array)
        return cls("images", (), mean, scale, False, images.few(x), image=(x.shape[1], x.shape[2], x.shape[3]))

    @classmethod
    def _fit_labels(cls, array: np.ndarray) -> "ConditionEncoder":
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
        return cls("labels", classes, torch.empty(0), torch.empty(0), bool(counts[-1]), counts)

    @classmethod
    def _fit_vector(cls, array: np.ndarray) -> "ConditionEncoder":
        numbers = as_numbers(array)
        numbers = numbers.reshape(len(numbers), -1)
        observed = ~numbers.isnan()
        if not bool(observed.any(0).all()):
            raise ValueError(f"condition column {int((~observed.any(0)).int().argmax())} is missing in every row; omit it.")
        mean, scale, constant = statistics(numbers)
        if bool(constant.all()):
            raise ValueError("condition is the same number in every row and carries no information; omit it.")
        return cls("vector", (), mean, scale, not bool(observed.all()), thinned(numbers))

    @classmethod
    def _fit_table(cls, cells: np.ndarray, table: Table) -> "ConditionEncoder":
        given = {column.name: cells[:, index].tolist() for index, column in enumerate(table.columns)}
        numbers = torch.from_numpy(read_given(table.columns, given))
        mean, scale, constant = statistics(numbers)
        if bool((constant & ~numbers.isnan().any(0)).all()):
            raise ValueError("condition is the same in every row and carries no information; omit it.")
        levels = torch.tensor([domain.type == "category" for domain in table.domains])
        parts = parts_of(table)
        mean, scale = (values[parts] for values in (mean.where(~levels, 0.0), scale.where(~levels, 1.0)))
        return cls("table", (), mean, scale, bool(numbers.isnan().all(1).any()), thinned(numbers), None, table)

    @property
    def has_classes(self) -> bool:
        """Whether conditions are labels."""
        return self.kind == "labels"

    @property
    def has_masks(self) -> bool:
        """Whether conditions are visible parts of the rows themselves."""
        return self.kind == images.MASK

    @property
    def dim(self) -> int:
        """Number of columns K of an encoded condition, the flag included."""
        if self.kind == "labels":
            return 1 + len(self.classes)
        if self.image is not None:
            return 1 + math.prod(self.image)
        flags = 0 if self.parts is None else int(self.parts[-1]) + 1
        return 1 + len(self.mean) + flags

    @functools.cached_property
    def parts(self) -> Tensor | None:
        """Number of the column that each feature belongs to, int64 ``(F,)``, if flags mark the observed columns; else None."""
        if self.table is not None:
            return parts_of(self.table)
        return torch.arange(len(self.mean)) if self.kind == "vector" and self.gaps else None

    @property
    def names(self) -> tuple[str | int, ...]:
        """Names of the columns of the conditions; none if they came without."""
        return (self.columns if self.table is None else self.table.names) or ()

    @property
    def words(self) -> list[str]:
        """The levels of the categories of a table as text."""
        return [] if self.table is None else [level for column in self.table.columns for level in column.words]

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
        if self.has_masks:
            raise ValueError(
                "the condition of this model is the visible part of the image itself: omit condition, and fill the rest by "
                "impute(X, mask=...)"
            )
        if self.image is not None:
            return images.with_pixels(images.images_of(values, n, self.image), self.mean, self.scale).expand(n, -1)
        values = self.parse(values) if isinstance(values, str) else values
        if self.table is not None:
            return self._features(self._numbers(self.table, values, n).expand(n, -1))
        values = self.by_name(values)
        return self._encode_labels(values, n) if self.kind == "labels" else self._encode_vector(values, n)

    def parse(self, text: str) -> Any:
        """Return what a text means: values by name, as in "sex=Female,age=40", a label, the numbers of a vector, or a cell."""
        if self.kind == "labels":
            known = any(match(text, label) for match in (_same, _same_text) for label in self.classes)
            values = None if known else named_values(text, self.columns or ())
            return text if values is None else next(iter(values.values()))
        names = self.names
        values = named_values(text, names, self.words)
        if values is None and len(names) > 1:
            if "=" in text:
                raise unknown_name(text.partition("=")[0].strip(), names)
            if self.table is not None:
                raise ValueError(f"condition {text!r} must name its columns, as in {self.example!r}.")
        if values is None:
            return _numbers_in(text) if self.table is None else text
        return values

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
            instead = "a label" if self.kind == "labels" else f"{len(self.mean)} numbers"
            raise ValueError(f"the model was trained on conditions without names; pass {instead} instead of a mapping.")
        unnamed = is_frame(values) and self.columns is None
        return None if not names or unnamed else given_of(values, names)

    def plain(self, values: Any) -> np.ndarray:
        """Return one condition per row in the types of training: its labels or cells, with None in gaps, or numbers.

        >>> ConditionEncoder.fit([0, 1, None]).plain([1.0, float("nan"), "0"])
        array([1, None, 0], dtype=object)
        """
        values = self.parse(values) if isinstance(values, str) else values
        if self.table is not None:
            return self.table.cells(self._numbers(self.table, values).numpy())
        array = as_condition_array(self.by_name(values))
        if self.kind != "labels" or array.ndim != 1:
            return array
        labels = np.empty(len(array), dtype=object)
        labels[:] = [(*self.classes, None)[self._index(value)] for value in array]
        return labels

    def features(self, encoded: Tensor) -> Tensor:
        """Return the standardized numbers and the levels (n, F) of encoded conditions (n, K), float64, NaN in gaps."""
        size = len(self.mean)
        numbers = encoded[:, 1 : 1 + size].double()
        observed = (encoded[:, :1] > 0).expand_as(numbers)
        if self.parts is not None:
            observed = observed & (encoded[:, 1 + size :] > 0)[:, self.parts]
        return torch.where(observed, numbers, torch.nan)

    def refuse_parts(self, encoded: Tensor) -> None:
        """Raise a ValueError if encoded conditions (n, K) lack a column of a table that was never missing in training."""
        if self.table is None:
            return
        lacking = ~(encoded[:, 1 + len(self.mean) :] > 0).all(0) & ~torch.tensor(self.table.gaps)
        if bool(lacking.any()):
            name = self.table.names[int(lacking.int().argmax())]
            raise ValueError(
                f"condition lacks {name!r}, but this model was trained without dropping conditions (condition_dropout=0) and "
                f"has no law without {name!r}; give it, or train with condition_dropout=0.1"
            )

    def describe_image(self) -> str:
        """Describe the image of a condition in words."""
        if self.image is None:
            return ""
        if self.has_masks:
            return "the visible part of the image under random masks"
        return images.describe(self.image)

    @property
    def example(self) -> str:
        """A condition as one writes it on the command line; "" for vectors."""
        if self.kind == "labels":
            return str(self.classes[0])
        if self.table is None:
            return ""
        whole = self.rows[(~self.rows.isnan()).sum(1).argmax()]
        cells = zip(self.table.names, self.table.cells(whole[None].numpy())[0], strict=True)
        return ",".join(f"{name}={cell}" for name, cell in cells if cell is not None)

    def draw(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` from the training conditions, float32 ``(n, K)``; of masks, all hidden."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((), seed=seed, purpose="condition", rows=rows, dtype=torch.float64)
        if self.kind == "labels":
            edges = self.rows.cumsum(0).double() / self.rows.sum()
            return self._one_hot(torch.searchsorted(edges, u, right=True))
        if self.has_masks:
            return self.encode(None, n)
        drawn = self.rows[(u * len(self.rows)).long()]
        return self._features(drawn) if self.image is None else images.with_pixels(drawn, self.mean, self.scale)

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data for JSON and as tensors for safetensors; :meth:`from_state` restores it exactly."""
        tensors = {"mean": self.mean, "scale": self.scale, "rows": self.rows}
        columns = None if self.columns is None else list(self.columns)
        facts = {"kind": self.kind, "classes": list(self.classes), "gaps": self.gaps, "columns": columns}
        image = None if self.image is None else list(self.image)
        return facts | {"table": None if self.table is None else self.table.to_json(), "image": image}, tensors

    @classmethod
    def from_state(cls, facts: Facts, tensors: dict[str, Tensor]) -> "ConditionEncoder":
        """Return the encoder from the output of :meth:`state`; ValueError if its parts do not fit each other."""
        columns = None if facts["columns"] is None else tuple(facts["columns"])
        table = None if facts["table"] is None else Table.from_json(facts["table"])
        classes = tuple(facts["classes"])
        image: Any = None if facts["image"] is None else tuple(facts["image"])
        encoder = cls(facts["kind"], classes, gaps=facts["gaps"], columns=columns, table=table, image=image, **tensors)
        check_state(**vars(encoder))
        return encoder

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

    def _encode_vector(self, values: Any, n: int) -> Tensor:
        size = len(self.mean)
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

    def _numbers(self, table: Table, values: Any, n: int | None = None) -> Tensor:
        """Return cells of a table, by name or by position, as numbers (1, C) or (n, C)."""
        given, names = self._given(values), table.names
        if given is None:
            rows = positional(values, len(names))
            if any(len(row) != len(names) for row in rows):
                raise ValueError(
                    f"condition has rows of {len(rows[0])} values; pass one for each of {enumerate_names(names, 30)}, in this "
                    f"order, or name them, as in {self.example!r}."
                )
            given = {name: [row[index] for row in rows] for index, name in enumerate(names)}
        return torch.from_numpy(read_given(table.columns, given, n))

    def _features(self, numbers: Tensor) -> Tensor:
        """Return rows for conditions (n, C) in their own units."""
        observed = ~numbers.isnan()
        wide = numbers if self.table is None else expanded(self.table, numbers)
        parts = [torch.ones(len(numbers), 1, dtype=torch.float32), ((wide - self.mean) / self.scale).nan_to_num().float()]
        if self.parts is not None:
            parts.append(observed.float())
        rows = torch.cat(parts, 1)
        # A row of gaps alone is the null row.
        return rows * observed.any(1, keepdim=True)


def _same(label: object, known: object) -> bool:
    return label == known and isinstance(label, str) == isinstance(known, str)


def _same_text(label: object, known: object) -> bool:
    return str(label).strip().lower() == str(known).strip().lower()


def _numbers_in(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"condition {text!r} is not a number; this model was trained on numbers as its condition.") from None
