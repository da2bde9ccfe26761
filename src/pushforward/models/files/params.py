"""Validation of constructor arguments by their annotations, for Python, recipes and the command line.

The annotation of a parameter specifies its values: a type, a ``Literal`` or a class of the library, with limits from
``annotated_types`` (``Annotated[int, Ge(1)]``). Arguments are stored unconverted.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, AllowInfNan, ConfigDict, TypeAdapter, ValidationError

from pushforward.training.process.devices import check_device

__all__ = ["Count", "DeviceName", "Seconds", "Share", "Size", "check_params", "hints"]


def _usable(name: str) -> str:
    check_device(name)
    return name


Count = Annotated[int, Ge(1)]
Size = Annotated[int, Ge(1), Le(1 << 16)]
Seconds = Annotated[float, Gt(0), AllowInfNan(False)]
Share = Annotated[float, Ge(0), Lt(1)]
DeviceName = Annotated[str, AfterValidator(_usable)]

_CONFIG = ConfigDict(arbitrary_types_allowed=True, strict=True)


@functools.cache
def hints(cls: type) -> dict[str, object]:
    """Return the annotations of the constructor of ``cls``, with their limits."""
    annotations = get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    return {name: annotations[name] for name in inspect.signature(cls).parameters if name in annotations}


def check_params(cls: type, params: Mapping[str, object]) -> None:
    """Raise a TypeError or ValueError for the first parameter whose value its annotation does not allow."""
    for name, hint in hints(cls).items():
        if name in params:
            _check(cls.__name__, name, params[name], hint)


def _check(owner: str, name: str, value: object, hint: object) -> None:
    plain = value.item() if isinstance(value, np.generic) else value
    try:
        _adapter(hint).validate_python(plain)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        wrong_type = all(problem["type"].endswith("_type") or problem["type"].startswith("is_") for problem in problems)
        reasons = "; or ".join(dict.fromkeys(_sentence(problem["msg"]) for problem in problems))
        shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
        raise (TypeError if wrong_type else ValueError)(f"{owner}: {name}={shown} is not allowed: {reasons}.") from None


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return message.replace("input should be", "it should be")


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[object]:
    return TypeAdapter(hint, config=None if _owns_config(hint) else _CONFIG)


def _owns_config(hint: object) -> bool:
    return isinstance(hint, type) and hasattr(hint, "__pydantic_config__")
