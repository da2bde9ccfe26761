"""Types of the fields of frozen dataclasses, checked before anything is done with them."""

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin

__all__ = ["CheckedFields", "check_instance"]


class CheckedFields:
    """Base of frozen dataclasses: a field of the wrong type is a TypeError that says what to pass.

    Numbers, tuples and objects of pushforward are checked, by the annotations of their fields; the rest is left to the
    class, and so are ranges: its ``__post_init__`` meets values of the right types alone.
    """

    def __new__(cls, *values: object, **named: object) -> Self:
        """Check the arguments, which are none where an object is copied or unpickled."""
        if dataclasses.is_dataclass(cls):
            for name, value in [*zip(_hints(cls), values, strict=False), *named.items()]:
                if name in _hints(cls):
                    _check(cls, name, value, _hints(cls)[name])
        return super().__new__(cls)


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise a TypeError unless an argument is an object of a class.

    >>> from pushforward.diffusion import Schedule
    >>> check_instance("schedule", "cosine", Schedule)
    Traceback (most recent call last):
    TypeError: schedule must be a Schedule such as Cosine(), got 'cosine'
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {_article(kind.__name__)} such as {_example(kind, value)}, got {value!r}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(cls) if field.init}


def _check(cls: type, name: str, value: object, hint: Any) -> None:
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not all(map(_is_known, allowed)) or any(_fits(value, one) for one in allowed):
        return
    kinds = [one for one in allowed if one is not NoneType]
    said = " or ".join(_described(one, value) for one in kinds)
    more = ", or None" if NoneType in allowed else ""
    raise TypeError(f"{cls.__name__}: {name} must be {said}{more}, got {value!r}")


def _is_known(hint: Any) -> bool:
    if hint in (int, float, NoneType) or get_origin(hint) is tuple:
        return True
    return isinstance(hint, type) and hint.__module__.startswith("pushforward.") and not getattr(hint, "_is_protocol", False)


def _fits(value: object, hint: Any) -> bool:
    if hint is int:
        return hasattr(value, "__index__") and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return isinstance(value, hint)


def _described(hint: Any, value: object) -> str:
    if hint in (int, float):
        return "an integer" if hint is int else "a number"
    if get_origin(hint) is tuple:
        return "a list of numbers"
    return f"{_article(hint.__name__)} such as {_example(hint, value)}"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _example(kind: type, value: object) -> str:
    """Return a call that makes such an object: that of the class that the value names, if it does."""
    simple = [cls.__name__ for cls in _simple(kind)]
    wanted = str(value if not isinstance(value, type) else value.__name__).lower().replace("-", "").replace("_", "")
    near = [name for name in simple if name.lower() == wanted]
    return f"{(near or simple or [kind.__name__])[0]}()"


def _simple(kind: type) -> Iterator[type]:
    """Yield the public classes of pushforward under a class whose constructors need no arguments."""
    subclasses: list[type] = kind.__subclasses__()
    for cls in subclasses:
        public = cls.__module__.startswith("pushforward.") and not cls.__name__.startswith("_") and not inspect.isabstract(cls)
        if public and all(each.default is not each.empty for each in inspect.signature(cls).parameters.values()):
            yield cls
        yield from _simple(cls)
