"""Named plots for teaching, each a few lines on top of the library.

>>> from pushforward import gallery
>>> gallery.describe("probability-flow")
    'The probability flow: the same laws at every time as the diffusion, without any noise.'
>>> figure = gallery.draw("probability-flow")

``pushforward show`` writes them to files. Each plot is a function without required arguments, named as on the command line with
underscores; its docstring is its caption. An animated one takes ``moment`` in [0, 1], the part of the animation to show;
without it, it draws everything.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast, get_args, get_type_hints

from pushforward import plots
from pushforward._messages import Argument, naming
from pushforward.gallery.pen import Slider

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["describe", "draw", "explain", "moves", "names", "save", "sliders", "topics"]

TOPICS = {
    "data": "Data",
    "laws": "Laws and their exact properties",
    "drawing": "Sampling",
    "estimation": "Estimation and Markov chains",
    "dynamics": "Differential equations",
    "time_series": "Differential equations learned from data",
    "diffusion": "Diffusion",
    "questions": "Densities, guidance and posteriors of a diffusion",
    "families": "Families of models",
}
FRAMES = 48
SECONDS = 4.0  # of a film


def topics() -> dict[str, list[str]]:
    """Return the names of all plots by topic, in teaching order."""
    return {title: [name.replace("_", "-") for name in _room(room).__all__] for room, title in TOPICS.items()}


def names() -> list[str]:
    """Return the names of all plots."""
    return [name for room in topics().values() for name in room]


def describe(name: str) -> str:
    """Return the caption of a plot, one sentence."""
    return (_plot(name).__doc__ or "").partition("\n")[0]


def explain(name: str) -> str:
    """Return the caption of a plot with all that is said about it."""
    return inspect.cleandoc(_plot(name).__doc__ or "")


def sliders(name: str) -> dict[str, Slider]:
    """Return the parameters of a plot with their ranges, besides ``moment``.

    >>> sliders("gaussian-density")["mean"]
    Slider(label='mean', low=-3.0, high=3.0, step=0.1, default=0.0, words=())
    """
    plot = _plot(name)
    hints = get_type_hints(plot, include_extras=True, localns={"Figure": object})
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(plot).parameters.values()}
    found = {key: next((part for part in get_args(hint) if isinstance(part, Slider)), None) for key, hint in hints.items()}
    return {key: replace(slider, default=defaults[key]) for key, slider in found.items() if slider is not None}


def moves(name: str) -> bool:
    """Return whether a plot can be written as an animation."""
    return "moment" in inspect.signature(_plot(name)).parameters


def draw(name: str, **values: float) -> "Figure":
    """Draw a plot, with values of ``moment`` or of its :func:`sliders`.

    Raises
    ------
    ValueError
        If there is no plot of that name; the message suggests similar ones.
    """
    return _plot(name)(**values)


def save(name: str, path: str | Path, *, frames: int | None = None) -> Path:
    """Draw a plot and write it to a file, with a ``.gif`` as an animation of 48 frames, or as many as given. Return the path.

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
    count = FRAMES if frames is None else frames
    return plots.film((plot(moment=(frame + 1) / count) for frame in range(count)), path, seconds=SECONDS / count)


def _plot(name: str) -> "Callable[..., Figure]":
    for room in TOPICS:
        module = _room(room)
        if name.replace("-", "_") in module.__all__:
            return cast("Callable[..., Figure]", getattr(module, name.replace("-", "_")))
    near = get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    listed = Argument("list", call="pushforward.gallery.names()")
    raise naming(ValueError(f"there is no plot {name!r}; there are {', '.join(near)} ({listed} lists all)."), listed)


def _room(room: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{room}")
