"""The registry of families, built-in and from other packages, for ``model.json``, recipes and the command line.

A family is an entry point of the group ``pushforward.models``; a preset, a family with some arguments fixed, is one of the
group ``pushforward.presets``. A package lists its families in ``pyproject.toml``:

    [project.entry-points."pushforward.models"]
    flow-matching = "pushforward.models.denoising.flow_matching:FlowMatching"

Names are read from the metadata of installed packages without importing them; a class is imported when it is used.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["MODELS", "add", "bare", "family_name", "family_names", "find", "is_family", "preset_names"]

_FAMILIES, _PRESETS = "pushforward.models", "pushforward.presets"
_added: dict[str, type] = {}  # registered classes without an entry point, by name


class _Families(Mapping[str, type]):
    """The families by class name; a class is imported on access."""

    def __getitem__(self, name: str) -> type:
        return _added[name] if name in _added else _load(_by_class()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_by_class() | _added)

    def __len__(self) -> int:
        return len(_by_class() | _added)


MODELS: Mapping[str, type] = _Families()


def add(cls: type) -> None:
    """Register a class under its name in this process; ValueError if another family has that name."""
    name, listed = cls.__name__, _by_class().get(cls.__name__)
    if listed is not None and listed.value == f"{cls.__module__}:{cls.__qualname__}":
        return  # its module may still be importing
    other = MODELS.get(name)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"a family {name} already exists, {other.__module__}.{other.__qualname__}; rename yours")
    _added[name] = cls


def is_family(cls: type) -> bool:
    """Whether a class is a registered family."""
    return MODELS.get(cls.__name__) is cls


def family_name(cls: type) -> str:
    """Return the name of a family in recipes and on the command line, such as "flow-matching"."""
    listed = _by_class().get(cls.__name__)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower() if listed is None else listed.name


def family_names() -> list[str]:
    """Return the names of all families in recipes and on the command line, without importing them."""
    return [*_installed(_FAMILIES), *map(family_name, _added.values())]


def families_with(ability: str) -> list[str]:
    """Return the families, as they are called, whose class has this flag or method, such as "gaps" or "impute"."""
    return [f"{cls.__name__}()" for cls in MODELS.values() if getattr(cls, ability, False)]


def preset_names() -> list[str]:
    """Return the names of the presets: families with some arguments fixed, and short forms."""
    return list(_installed(_PRESETS))


def find(name: str) -> Callable[..., Any] | None:
    """Return the family or preset with a name such as "flow-matching", "FlowMatching" or "ddpm", or None."""
    for known, cls in _added.items():
        if bare(known) == bare(name):
            return cls
    for known, point in (_by_class() | _installed(_FAMILIES) | _installed(_PRESETS)).items():
        if bare(known) == bare(name):
            return _load(point)  # type: ignore[no-any-return]
    return None


@functools.cache
def _installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, ours first; later ones with a used name or class are ignored."""
    points = sorted(entry_points(group=group), key=lambda point: (not _is_ours(point), point.name))
    if not any(map(_is_ours, points)):
        raise ImportError(
            f"the installed package pushforward lists no {group}, so its families are unknown: it is missing or outdated; "
            "install it again, e.g. with `python -m pip install -e .` in its sources"
        )
    unique: dict[str, EntryPoint] = {}
    for point in points:
        if point.name in unique or (group == _FAMILIES and point.attr in {other.attr for other in unique.values()}):
            warnings.warn(f"{_described(point)} is ignored: another one has this name", stacklevel=2)
        else:
            unique[point.name] = point
    return unique


def _by_class() -> dict[str, EntryPoint]:
    return {point.attr: point for point in _installed(_FAMILIES).values()}


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ImportError(f"{_described(point)} cannot be imported: {error}") from error


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "pushforward"


def _described(point: EntryPoint) -> str:
    package = "an unknown package" if point.dist is None else f"the package {point.dist.name}"
    return f"{point.name} = {point.value!r} of {package}"


def bare(name: str) -> str:
    """Return the common form of all spellings of a name: "flow-matching", "FlowMatching", "flow_matching"."""
    return re.sub(r"[-_ ]", "", name).lower()
