"""The families by name, ours and other people's: what ``model.json``, recipes and the command line may ask for.

A family is an entry point of the group ``pushforward.models``, and a model with some arguments fixed one of the group
``pushforward.presets``. An installed package lists its own in ``pyproject.toml``:

    [project.entry-points."pushforward.models"]
    flow-matching = "pushforward.models.denoising.flow_matching:FlowMatching"

Names are read from the metadata of the installed packages, which imports nothing; a class is imported when it is used.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["MODELS", "add", "bare", "family_name", "family_names", "find", "is_family", "preset_names"]

_FAMILIES, _PRESETS = "pushforward.models", "pushforward.presets"
_added: dict[str, type] = {}  # classes that no package lists, by name


class _Families(Mapping[str, type]):
    """The families by the name of their class; a class is imported when it is asked for."""

    def __getitem__(self, name: str) -> type:
        return _added[name] if name in _added else _load(_by_class()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_by_class() | _added)

    def __len__(self) -> int:
        return len(_by_class() | _added)


MODELS: Mapping[str, type] = _Families()


def add(cls: type) -> None:
    """Make a class known by its name for this process; ValueError if another family has that name."""
    name, listed = cls.__name__, _by_class().get(cls.__name__)
    if listed is not None and listed.value == f"{cls.__module__}:{cls.__qualname__}":
        return  # it may be half imported yet
    known = MODELS.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"there is a family {name} already, {known.__module__}.{known.__qualname__}; give yours another name")
    _added[name] = cls


def is_family(cls: type) -> bool:
    """Whether a class is one of the families."""
    return MODELS.get(cls.__name__) is cls


def family_name(cls: type) -> str:
    """Return the name of a family as recipes and the command line write it, such as "flow-matching"."""
    listed = _by_class().get(cls.__name__)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower() if listed is None else listed.name


def family_names() -> list[str]:
    """Return the names of all families as recipes and the command line write them; imports none."""
    return [*_installed(_FAMILIES), *map(family_name, _added.values())]


def preset_names() -> list[str]:
    """Return the other names that recipes and the command line take: families with some arguments fixed, short forms."""
    return list(_installed(_PRESETS))


def find(name: str) -> Callable[..., Any] | None:
    """Return the family or the preset that a name such as "flow-matching", "FlowMatching" or "ddpm" means, if there is one."""
    for known, cls in _added.items():
        if bare(known) == bare(name):
            return cls
    for known, point in (_by_class() | _installed(_FAMILIES) | _installed(_PRESETS)).items():
        if bare(known) == bare(name):
            return _load(point)  # type: ignore[no-any-return]
    return None


@functools.cache
def _installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, ours first; of two with one name or one class the first counts."""
    points = sorted(entry_points(group=group), key=lambda point: (not _is_ours(point), point.name))
    if not any(map(_is_ours, points)):
        raise ImportError(
            f"the installed package pushforward lists no {group}, so its families are unknown: it is not installed, or was "
            "installed from an older version; install it again, e.g. by `python -m pip install -e .` in its sources"
        )
    kept: dict[str, EntryPoint] = {}
    for point in points:
        taken = point.name in kept or (group == _FAMILIES and point.attr in {other.attr for other in kept.values()})
        if taken:
            warnings.warn(f"{_described(point)} is left out: there is another of this name", stacklevel=2)
        else:
            kept[point.name] = point
    return kept


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
    """Return what all spellings of a name have in common: "flow-matching", "FlowMatching", "flow_matching"."""
    return re.sub(r"[-_ ]", "", name).lower()
