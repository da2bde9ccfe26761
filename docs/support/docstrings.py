"""What the API pages do to each docstring before it is read as Markdown, and the constructors of families.

The house's docstrings are numpydoc for people: examples and remarks may follow the parameters without a heading, formulas and
shapes such as (*, D) hold stars. Here they get what the parser needs: remarks move up to the description, examples go under a
heading, roles of reStructuredText become code, and stars of shapes are no emphasis.

A family makes its constructor from its fields when it is imported, so the source that the pages are made of has none.
"""

import inspect
import re
from typing import Any

import griffe

from pushforward.models import MODELS

__all__ = ["FamilyConstructors", "HouseDocstrings", "readable"]

_ADDRESS = re.compile(r"(https?://\S+)$")  # with marks, or the next line would become a part of it
_ROLE = re.compile(r":(?:class|func|meth|mod|attr):`~?([^`]+)`")
_SHAPE_STAR = re.compile(r"(?<=[(\s])\*(?=[A-Z]?[,)])")
_LISTS = {"Parameters", "Attributes", "Returns", "Yields", "Raises"}


class HouseDocstrings(griffe.Extension):
    """Rewrite every docstring by :func:`readable`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object, if it has any."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


class FamilyConstructors(griffe.Extension):
    """Give each family the constructor that it makes from its fields, with annotations as in the source."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Add the constructors to the package, if it is the one with the families."""
        for family in MODELS.values() if pkg.path == "pushforward" else ():
            documented = pkg[f"{family.__module__}.{family.__qualname__}".removeprefix("pushforward.")]
            parameters = [
                griffe.Parameter(
                    parameter.name,
                    annotation=documented.all_members[parameter.name].annotation,
                    kind=griffe.ParameterKind(parameter.kind.description),
                    default=repr(parameter.default),
                )
                for parameter in inspect.signature(family).parameters.values()
            ]
            documented.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))


def readable(text: str) -> str:
    """Return a docstring with its parts in the order and under the headings that the parser knows."""
    parts: dict[str, list[str]] = {"": []}
    title = ""
    lines = text.split("\n")
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if line and after.startswith("---"):
            title = line
        elif line.startswith("---") and before == title:
            continue
        elif line.startswith(">>>"):
            title = "Examples"
        elif title in _LISTS and line[:1].strip() and not before.strip() and " : " not in line and not after.startswith(" "):
            title = ""
            parts[title].append("")
        part = parts.setdefault(title, [])
        if line != title or not line:
            part.append(line)
    examples = parts.pop("Examples", [])
    shown = ["\n".join(_plain(part, title)).strip("\n") for title, part in parts.items()]
    return "\n\n".join(filter(None, [*shown, "\n".join(_headed("Examples", examples)) if examples else ""]))


def _plain(lines: list[str], title: str) -> list[str]:
    """Return a part under its heading: roles as code and stars of shapes escaped, except in blocks that are code already."""
    block, result = False, []
    for before, line in zip(["", *lines], lines, strict=False):
        block = line.startswith("    ") and (block or not before.strip()) and title not in _LISTS
        result.append(line if block else _SHAPE_STAR.sub(r"\\*", _ROLE.sub(r"`\1`", line)))
    if title == "References":  # one to a line
        result = [_ADDRESS.sub(r"<\1>", line) + "  " for line in result]
    return _headed(title, result) if title else result


def _headed(title: str, lines: list[str]) -> list[str]:
    return [title, "-" * len(title), *"\n".join(lines).strip("\n").split("\n")]
