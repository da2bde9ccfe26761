"""The encoder that suits the conditions of training, and encoders from files.

Integers count as classes if at most 20 are distinct, or if they run 0, 1, ..., k - 1 without a gap and have 10 rows each on
average; ``kind`` overrides this. Floats are vectors, except for whole numbers of which some are missing: NumPy and pandas hold
integers with gaps in this way. :mod:`pushforward.data.conditions.values` says what is a table.
"""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from pushforward.data.checks import Condition, Facts
from pushforward.data.columns import Table
from pushforward.data.conditions.cells import Cells
from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.labels import Labels
from pushforward.data.conditions.pixels import Images, Visible
from pushforward.data.conditions.state import check_state
from pushforward.data.conditions.values import as_condition_array, column_names, conditions_of, kind_of_array
from pushforward.data.conditions.vectors import Vectors

__all__ = ["fit_conditions", "restored_conditions"]


def fit_conditions(
    values: Condition,
    *,
    kind: Literal["labels", "vector"] | None = None,
    columns: tuple[str, ...] | None = None,
    table: Table | None = None,
) -> ConditionEncoder:
    """Return the encoder of these conditions of training.

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

    >>> encoder = fit_conditions(["cat", "dog", "cat"])
    >>> encoder.encode("dog", 1), encoder.encode(None, 1)
    (tensor([[1., 0., 1.]]), tensor([[0., 0., 0.]]))
    >>> encoder = fit_conditions({"sex": ["f", "m", "f"], "age": [30, 40, 50]})
    >>> encoder.encode({"sex": "m", "age": 40}, 1), encoder.encode("sex=f", 1)
    (tensor([[1., 0., 1., 0., 1., 1.]]), tensor([[1., 1., 0., 0., 1., 0.]]))
    """
    if kind not in (None, "labels", "vector"):
        raise ValueError(f"kind of a condition must be 'labels', 'vector' or None, not {kind!r}.")
    found = conditions_of(values, table) if kind is None else None
    encoder: ConditionEncoder
    if found is not None and found.table is not None:
        encoder = Cells.in_columns(found.array, found.table)
    else:
        array = as_condition_array(values) if found is None else found.array
        kinds = {encoder.kind: encoder.of for encoder in (Labels, Vectors, Images)}
        encoder = kinds[kind or kind_of_array(array)](array)
    return replace(encoder, columns=columns or column_names(values))


def restored_conditions(facts: Facts, tensors: dict[str, Tensor]) -> ConditionEncoder:
    """Return the encoder from the output of its ``state``; ValueError if its parts do not fit each other."""
    named: Facts = {name: None if facts[name] is None else tuple(facts[name]) for name in ("classes", "columns", "image")}
    table = None if facts["table"] is None else Table.from_json(facts["table"])
    fields: Facts = named | {"gaps": facts["gaps"], "table": table} | tensors
    check_state(kind=facts["kind"], **fields)
    [encoder] = [kind for kind in (Labels, Vectors, Cells, Images, Visible) if kind.kind == facts["kind"]]
    return encoder(**fields)
