"""Options that several verbs share, and those that only some families take."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["Columns", "ConditionImages", "Run", "RunConditions", "Seed", "condition_of", "given_to", "listed"]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
RunConditions = Annotated[
    str, typer.Option(metavar="NAMES", help="Columns of DATA with the condition. Default: those of the run.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="Columns of a table to learn, separated by commas or repeated, or the key of an .npz."),
]
ConditionImages = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder of images as conditions, with the names of those in DATA; or a .npy file.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Seed of the random numbers. Default: a new one, which is printed.")
]
_OPTIONS = {"guidance": "guidance-scale"}  # options whose name differs from that of the argument


def condition_of(text: str, images: Path | None = None) -> Any:
    """Return what ``--condition`` and ``--condition-images`` mean to ``open_data``.

    It is one name, a list of names, False for none, None for the default, or the path of images.

    >>> condition_of("species"), condition_of("a, b"), condition_of("none"), condition_of("")
    ('species', ['a', 'b'], False, None)
    """
    if images is not None:
        if text:
            raise ValueError("--condition and --condition-images both say what the condition is; give one of the two")
        return images
    names = listed(text)
    if names is None or len(names) > 1:
        return names
    return False if names == ["none"] else names[0]


def listed(*texts: str) -> list[str] | None:
    """Return the names that are written with commas between them, or None if there are none.

    >>> listed("gmm, vae", "gan"), listed("")
    (['gmm', 'vae', 'gan'], None)
    """
    return [part.strip() for text in texts for part in text.split(",") if part.strip()] or None


def given_to(verb: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, that is, those that are not None.

    Raises
    ------
    ValueError
        If the family's verb does not take one of them.

    >>> given_to(sorted, {"reverse": True, "key": None})
    {'reverse': True}
    """
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(verb).parameters
    for name in given:
        if name not in known:
            family = type(getattr(verb, "__self__", verb)).__name__
            taken = ", ".join(_option(other) for other in options if other in known)
            raise ValueError(
                f"{_option(name)} is no option of {family}, though other families have it; "
                f"omit it{f' ({family} takes {taken})' if taken else ''}"
            )
    return given


def _option(name: str) -> str:
    return "--" + _OPTIONS.get(name, name).replace("_", "-")
