"""Conversion of the library's objects to plain data and back, for ``model.json`` and recipes.

A frozen object is a mapping of its class, under ``name``, and its fields:

    {"name": "LinearBeta", "beta_min": 0.1, "beta_max": 20.0}

``"LinearBeta"`` alone means default fields. Only :data:`CLASSES` and families can be named, so reading a file runs no code.
Any other argument of a model, such as a user's network, is written as ``{"part": "ClassName"}`` and must be passed again when
the model is loaded. A model inside a model is a mapping of its name and its arguments, without those at None.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from pushforward import diffusion, networks, probability, training
from pushforward.data import Text
from pushforward.models.files.params import check_params, hints
from pushforward.models.files.registry import MODELS, is_family

__all__ = ["CLASSES", "from_plain", "is_model", "is_part", "near", "to_plain"]

_PACKAGES: tuple[ModuleType, ...] = (diffusion, networks, probability, training)
_PLAIN = (bool, int, float, str, type(None), Tensor)


def _is_data(hint: object) -> bool:
    """Whether a field of this type can be read from a file: plain data, tensors, or objects of the library."""
    if get_origin(hint) is Literal or hint in _PLAIN or hint is Ellipsis:
        return True
    if get_origin(hint) in (Union, UnionType, tuple):
        return all(map(_is_data, get_args(hint)))
    return isinstance(hint, type) and hint.__module__.startswith("pushforward.") and Protocol not in hint.__bases__


def _is_storable(value: object) -> bool:
    """Whether a value is a frozen dataclass whose fields are all data."""
    if not (isinstance(value, type) and dataclasses.is_dataclass(value)) or inspect.isabstract(value):
        return False
    types = get_type_hints(value)
    return value.__dataclass_params__.frozen and all(_is_data(types[field.name]) for field in dataclasses.fields(value))  # type: ignore[attr-defined]


CLASSES: dict[str, type] = dict(
    sorted(
        [(name, value) for package in _PACKAGES for name in package.__all__ if _is_storable(value := getattr(package, name))]
        + [(Text.__name__, Text)]
    )
)
"""Classes that a file may name: the exported frozen dataclasses whose fields are all data.

Their constructors only check their fields, so a file cannot choose code to run.
"""


def to_plain(value: Any) -> Any:
    """Return ``value`` as JSON data; an object from outside the library becomes ``{"part": name of its class}``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "values": value.tolist()}
    if isinstance(value, Mapping):
        return [[key, to_plain(item)] for key, item in value.items()]  # types of columns, which may have any name
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and CLASSES.get(type(value).__name__) is type(value):
        fields = dataclasses.fields(value)
        return {"name": type(value).__name__} | {field.name: to_plain(getattr(value, field.name)) for field in fields}
    if is_family(type(value)):
        params = {name: item for name, item in value.get_params(deep=False).items() if item is not None}
        return {"name": type(value).__name__} | {name: to_plain(item) for name, item in params.items()}
    return {"part": type(value).__name__}


def is_model(value: object) -> bool:
    """Whether plain data, or a name, describes a model."""
    name = value.get("name") if isinstance(value, dict) else value
    return isinstance(name, str) and name in MODELS


def is_part(value: object) -> bool:
    """Whether plain data represents an object that must be passed again."""
    return isinstance(value, dict) and "part" in value


def from_plain(value: Any, *, where: str = "value") -> Any:
    """Return the object that plain data describes.

    Parameters
    ----------
    value : plain data
    where : str
        Dotted name of the value, for messages.

    Raises
    ------
    ValueError
        If the class or a field is unknown (the message suggests the nearest), or a value has the wrong type or range.
    """
    if isinstance(value, str) and (value in CLASSES or is_model(value)):
        value = {"name": value}
    if isinstance(value, list):
        return tuple(from_plain(item, where=where) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return _tensor(value, where)
    if "name" not in value:
        raise ValueError(f"{where} needs the name of its class: add a line `name: ...`, one of {', '.join(CLASSES)}")
    cls = _class(value["name"], where)
    types = hints(cls) if is_model(value) else get_type_hints(cls)
    known = types if is_model(value) else {field.name: types[field.name] for field in dataclasses.fields(cls)}
    params = {key: from_plain(item, where=f"{where}.{key}") for key, item in value.items() if key != "name"}
    for key in params:
        if key not in known:
            listed = ", ".join(known) or "no parameters"
            raise ValueError(f"{where} ({cls.__name__}) has no {key!r}; it has {listed}{near(key, known)}")
    if is_model(value):
        check_params(cls, params)
        return cls(**params)
    try:
        checked = {key: _typed(item, known[key], f"{where}.{key}") for key, item in params.items()}
        return cls(**checked)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None


def _tensor(value: dict[str, Any], where: str) -> Tensor:
    dtype = getattr(torch, str(value["tensor"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{where} has no dtype {value['tensor']!r}")
    try:
        return torch.tensor(value.get("values"), dtype=dtype)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{where} holds no tensor of {value['tensor']}: {error}") from None


def _typed(value: object, hint: Any, where: str) -> object:
    if dataclasses.is_dataclass(hint):
        if isinstance(hint, type) and isinstance(value, hint):
            return value
        raise ValueError(f"{where}={value!r} must be a {getattr(hint, '__name__', hint)}")
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{where}={value!r}: {message[0].lower()}{message[1:]}") from None


def _class(name: object, where: str) -> type:
    if not isinstance(name, str):
        raise ValueError(f"{where}: the name of a class is text, not {name!r}")
    if name in CLASSES:
        return CLASSES[name]
    if name in MODELS:
        return MODELS[name]
    known = [*CLASSES, *MODELS]
    raise ValueError(f"{where}: there is no {name!r}; use one of {', '.join(known)}{near(str(name), known)}")


def near(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the nearest known word, or "" if none is near."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1)
    return f". Did you mean {lowered[close[0]]!r}?" if close else ""
