"""The public API as text: a line for each public name, with its arguments and defaults, and for each method of a public class.

    python tests/support/public_api.py --write

writes ``tests/public_api.txt``. A change there is a change that users notice: say so in CHANGELOG.md.
"""

import enum
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pushforward as pf

STORED = Path(__file__).parents[1] / "public_api.txt"
_OBJECT = re.compile(r"<(?:function|class|object) ?'?([\w.]+)[^>]*>|<([\w.]+) object at 0x\w+>")


def lines() -> list[str]:
    """Return the lines, sorted by name."""
    found = []
    for name in sorted(pf.__all__):
        value = getattr(pf, name)
        if inspect.ismodule(value):
            found += [f"{name}.{part}" for part in sorted(value.__all__)]
        else:
            found += [name + _signature(value), *(f"{name}.{line}" for line in _members(value))]
    return found


def _members(value: Any) -> list[str]:
    if not inspect.isclass(value) or issubclass(value, enum.Enum):
        return []
    found = []
    for name in sorted(dir(value)):
        if name.startswith("_"):
            continue
        raw = inspect.getattr_static(value, name)
        owner = next(base for base in value.__mro__ if name in vars(base))
        if not owner.__module__.startswith("pushforward"):
            continue  # what scikit-learn and torch give
        if isinstance(raw, property):
            found.append(f"{name}: property")
        elif callable(function := getattr(raw, "fn", getattr(raw, "__func__", raw))):
            found.append(name + _signature(function))
    return found


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    # Annotations are left to the type checker: they are written differently by each version of Python.
    plain = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=plain, return_annotation=signature.empty))
    return _OBJECT.sub(lambda match: match[1] or match[2], text)


if __name__ == "__main__":
    text = "\n".join(lines()) + "\n"
    if "--write" in sys.argv:
        STORED.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
