"""Errors that name what to write instead, as Python writes it and as data, so that the command line can say it in its words."""

from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["DIVERGED", "Argument", "naming"]

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


DIVERGED = (
    "Usually its training diverged: train it again with a lower learning rate, training=TrainingSettings(learning_rate=1e-4)"
)
"""What to do about a model that makes NaN or infinite numbers."""
