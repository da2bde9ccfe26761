"""The registry of kinds of data, and the default kind of an array."""

from typing import TypeVar

from pushforward._messages import Argument, naming
from pushforward.data.kinds.kind import Kind

__all__ = ["KINDS", "kind_named", "kind_of", "register_kind"]

K = TypeVar("K", bound=type[Kind])

KINDS: dict[str, Kind] = {}
"""Kinds by name; the first that recognizes an array is its default kind."""


def register_kind(cls: K) -> K:
    """Register a kind by its name; a class decorator. The class is instantiated without arguments."""
    KINDS[cls.name] = cls()
    return cls


def kind_named(name: str | None) -> Kind:
    """Return the kind with this name; ValueError lists the available ones."""
    if name not in KINDS:
        raise ValueError(f"kind must be {', '.join(map(repr, KINDS))} or None (decide by shape and dtype), not {name!r}.")
    return KINDS[name]


def kind_of(shape: tuple[int, ...], dtype: str, integer: bool) -> Kind:
    """Return the default kind of an array by its shape, rows first, and its dtype; ValueError if it is ambiguous."""
    for kind in KINDS.values():
        if kind.recognizes(shape, integer):
            return kind
    options = {Argument("kind", name): kind.suggestion(shape) for name, kind in KINDS.items() if kind.suggestion(shape)}
    listed = ", or ".join(f"{argument} {reason}" for argument, reason in options.items())
    raise naming(ValueError(f"data of shape {shape} and dtype {dtype} are ambiguous: set {listed}."), *options)
