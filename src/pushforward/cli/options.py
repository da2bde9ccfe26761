"""Options of a verb that only some families take."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["given_to"]


def given_to(verb: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, those that are not None.

    Raises
    ------
    ValueError
        If the family's verb does not take one of them.

    >>> given_to(sorted, {"reverse": True, "key": None})
    {'reverse': True}
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(verb).parameters
    for name in given:
        if name not in known:
            family = type(getattr(verb, "__self__", verb)).__name__
            taken = ", ".join(_option(other) for other in options if other in known)
            raise ValueError(
                f"{_option(name)} is no option of {family}: it belongs to families that work in steps, such as flow-matching; "
                f"leave it out{f' (there are {taken})' if taken else ''}"
            )
    return given


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
