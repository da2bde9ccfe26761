"""Errors that name what to write instead, as Python and as data for the command line; text of strangers, made safe to show."""

from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Argument", "naming", "printable"]

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True)
class Argument:
    """An argument in a message: ``columns='x'``, or ``data=...`` where the value is the user's; ``call`` if it is a call."""

    name: str
    value: Any = ...
    call: str = ""

    def __str__(self) -> str:
        return self.call or f"{self.name}={'...' if self.value is ... else repr(self.value)}"


def naming(error: E, *arguments: Argument) -> E:
    """Return an error with the arguments that its message names, as ``error.arguments``."""
    error.arguments = arguments  # type: ignore[attr-defined]
    return error


def printable(text: object) -> str:
    r"""Return text with all but line breaks and visible characters as escapes: a terminal would act on them, or hide others.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)
