"""The kinds of data by name, and which one an array is of."""

from typing import TypeVar

from pushforward._messages import Argument, naming
from pushforward.data.kinds.kind import Kind

__all__ = ["KINDS", "kind_named", "kind_of", "register_kind"]

K = TypeVar("K", bound=type[Kind])

KINDS: dict[str, Kind] = {}
"""Kinds in the order in which they are asked."""


def register_kind(cls: K) -> K:
    """Make a kind known by its name; a decorator of the class, which is built without arguments."""
    KINDS[cls.name] = cls()
    return cls


def kind_named(name: str | None) -> Kind:
    """Return the kind of this name; ValueError names those that there are."""
    if name not in KINDS:
        raise ValueError(f"kind must be {', '.join(map(repr, KINDS))} or None (decide by shape and dtype), not {name!r}.")
    return KINDS[name]


def kind_of(shape: tuple[int, ...], dtype: str, integer: bool) -> Kind:
    """Return the kind of an array by its shape, rows first, and its dtype; ValueError if several could be meant."""
    for kind in KINDS.values():
        if kind.recognizes(shape, integer):
            return kind
    options = {Argument("kind", name): kind.suggestion(shape) for name, kind in KINDS.items() if kind.suggestion(shape)}
    listed = ", or ".join(f"{argument} {reason}" for argument, reason in options.items())
    raise naming(ValueError(f"data of shape {shape} and dtype {dtype} may mean several things: write {listed}."), *options)
