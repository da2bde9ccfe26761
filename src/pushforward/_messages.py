"""Messages: errors that name what to write instead, for Python and the command line, and text that any terminal can show."""

import codecs
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["DIVERGED", "PLAIN", "Argument", "encodable", "lacking", "naming", "printable"]

PLAIN = "pushforward.plain"
"""Name of the handler of encoding errors that writes plain signs for those that an encoding lacks."""

DIVERGED = (
    "Usually its training diverged: train it again with a lower learning rate, training=TrainingSettings(learning_rate=1e-4)"
)
"""What to do about a model that makes NaN or infinite numbers."""

_SIGNS = {"·": "|", "×": "x", "±": "+-", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "²": "2"}

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


def lacking(what: str, packages: str, extra: str) -> ImportError:
    """Return the error for something that needs packages of an extra, which are not installed.

    >>> print(lacking("an ONNX graph", "onnx and onnxscript", "onnx"))
    an ONNX graph needs onnx and onnxscript; install them: python -m pip install 'pushforward[onnx]'
    """
    them = "them" if " and " in packages else "it"
    return ImportError(f"{what} needs {packages}; install {them}: python -m pip install 'pushforward[{extra}]'")


def printable(text: object) -> str:
    r"""Return text with all but line breaks and visible characters as escapes: a terminal would act on them, or hide others.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)


def encodable(text: str, encoding: str) -> str:
    """Return a text as a terminal of this encoding can show it.

    >>> encodable("step 3 · 8×8", "ascii"), encodable("step 3 · 8×8", "latin-1")
    ('step 3 | 8x8', 'step 3 · 8×8')
    """
    return text.encode(encoding, PLAIN).decode(encoding)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    unknown = error.object[error.start : error.end]
    signs = (_SIGNS.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in unknown)
    return "".join(signs), error.end


codecs.register_error(PLAIN, _plain)
