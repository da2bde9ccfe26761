"""Named plots that teach, each a few lines on top of the library.

>>> from pushforward import gallery
>>> gallery.describe("probability-flow")
'The probability flow: the same laws at every time as the diffusion, reached without any noise.'
>>> figure = gallery.draw("probability-flow")

``pushforward show`` writes them to files. Each plot is a function without arguments, named as on the command line with
underscores; its docstring says what it shows. One that moves takes a ``moment`` in [0, 1], up to which the story is told;
without it, it draws everything at once.
"""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pushforward import plots
from pushforward._messages import Argument, naming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["describe", "draw", "moves", "names", "save", "topics"]

TOPICS = {
    "laws": "Laws and what is known of them",
    "drawing": "Drawing",
    "estimation": "Estimation and Markov chains",
    "dynamics": "Motion",
    "time_series": "Motion learned from data",
    "diffusion": "Diffusion",
    "questions": "What a diffusion can be asked",
}
FRAMES = 48


def topics() -> dict[str, list[str]]:
    """Return the names of all plots by topic, in the order in which one would teach them."""
    return {title: [name.replace("_", "-") for name in _room(room).__all__] for room, title in TOPICS.items()}


def names() -> list[str]:
    """Return the names of all plots."""
    return [name for room in topics().values() for name in room]


def describe(name: str) -> str:
    """Return in one sentence what a plot shows."""
    return (_plot(name).__doc__ or "").partition("\n")[0]


def moves(name: str) -> bool:
    """Return whether a plot can be written as a film."""
    return "moment" in inspect.signature(_plot(name)).parameters


def draw(name: str) -> "Figure":
    """Draw a plot.

    Raises
    ------
    ValueError
        If there is no plot of that name; the message names those that are like it.
    """
    return _plot(name)()


def save(name: str, path: str | Path) -> Path:
    """Draw a plot and write it to a file; a ``.gif`` shows it moving. Return the path.

    Raises
    ------
    ValueError
        If there is no plot of that name, or it does not move and the file is a ``.gif``.
    """
    if Path(path).suffix.lower() != ".gif":
        return plots.save(draw(name), path)
    if not moves(name):
        moving = ", ".join(other for other in names() if moves(other))
        raise ValueError(f"{name} does not move, so it cannot be a .gif; write a .png. These move: {moving}.")
    plot = _plot(name)
    return plots.film((plot(moment=(frame + 1) / FRAMES) for frame in range(FRAMES)), path)


def _plot(name: str) -> "Callable[..., Figure]":
    for room in TOPICS:
        module = _room(room)
        if name.replace("-", "_") in module.__all__:
            return getattr(module, name.replace("-", "_"))  # type: ignore[no-any-return]
    from difflib import get_close_matches

    near = get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    listed = Argument("list", call="pushforward.gallery.names()")
    raise naming(ValueError(f"there is no plot {name!r}; there are {', '.join(near)} ({listed} lists all)."), listed)


def _room(room: str):  # type: ignore[no-untyped-def]
    return importlib.import_module(f"{__name__}.{room}")
