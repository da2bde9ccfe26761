"""The application that holds the verbs, and the one place where user errors become messages."""

import io
import os
import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pushforward._messages import PLAIN, Argument, printable
from pushforward._version import __version__
from pushforward.cli import (
    bench,
    calibrate,
    compare,
    distill,
    evaluate,
    export,
    fit_classifier,
    impute,
    inpaint,
    inspect,
    push,
    sample,
    score,
    show,
    studio,
    train,
)
from pushforward.cli.help import CONTEXT, help_text

__all__ = ["app", "main"]

_HELP = help_text(
    "Train generative models on any data, look at what came out, and draw new samples.",
    help_text(
        examples=[
            "pushforward train digits",
            "pushforward inspect runs/digits",
            "pushforward sample runs/digits -n 100 --condition 7 --out sevens.png",
        ],
        title="Begin with",
    ),
    "Your own data are an array (.npy, .npz), a table (.csv, .parquet) or a folder of images, whose sub-folders are classes.",
    examples=[
        "pushforward train photos/ --max-time 10m",
        "pushforward train table.csv --column height,weight --condition species",
        "pushforward studio",
        "pushforward show probability-flow",
    ],
    title="For example",
)
_OPTIONS = {
    "data": "--data FILE",
    "fit_classifier": "pushforward fit-classifier RUN DATA",
    "list": "pushforward show --list",
    "out": "--out DIR",
}
_EPILOG = "PUSHFORWARD_TRACEBACK=1 in the environment shows where an error comes from."

# Plain help keeps the examples on unwrapped lines, without a frame, so that they can be pasted.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=CONTEXT
)
for verb in (
    train,
    sample,
    calibrate,
    distill,
    fit_classifier,
    score,
    impute,
    inpaint,
    evaluate,
    compare,
    export,
    push,
    inspect,
    show,
    studio,
):
    app.command(
        verb.__name__.rpartition(".")[2].replace("_", "-"),
        help=verb.HELP,
        short_help=verb.HELP.partition("\n")[0],
        no_args_is_help=verb is not studio,
        context_settings=CONTEXT,
        cls=train.TrainCommand if verb is train else None,
    )(verb.command)
app.add_typer(bench.app, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pushforward {__version__}")
        raise typer.Exit


@app.callback(help=_HELP, epilog=_EPILOG)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


def main() -> None:
    """Run the command line; an error that the user can fix prints one message and exits with code 2."""
    if os.environ.get("RANK", "0") != "0":  # only the first process of a launch prints
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app(color=_color(), obj=time.perf_counter())  # the clock from which a time budget counts
        except (ValueError, TypeError, OSError, ImportError) as error:
            if os.environ.get("PUSHFORWARD_TRACEBACK"):
                raise
            typer.secho(f"Error: {printable(_as_options(error))}", fg="red", err=True, color=_color())
            sys.exit(2)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.secho(f"Warning: {printable(_as_options(message))}", fg="yellow", err=True, color=_color())


def _color() -> bool | None:
    """Return False if the user wants no colors (https://no-color.org) or the terminal has none; None on other terminals."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _as_options(error: Exception | str) -> str:
    """Return the message of an error or a warning, with the arguments that it names as options of the command line.

    >>> from pushforward._messages import Argument, naming
    >>> columns = Argument("columns", ["x", "y"])
    >>> _as_options(naming(ValueError(f"choose some with {columns}."), columns))
    'choose some with --column x,y.'
    >>> kind = Argument("columns", {"id": "category"})
    >>> _as_options(naming(UserWarning(f"set its type, such as {kind}"), kind))
    'set its type, such as --set columns.id=category'
    >>> spaced = Argument("columns", ["Unnamed: 0", "y"])
    >>> _as_options(naming(ValueError(f"choose some with {spaced}"), spaced))
    "choose some with --column 'Unnamed: 0,y'"
    """
    message = str(error)
    for argument in getattr(error, "arguments", ()):
        message = message.replace(str(argument), _option(argument))
    return message


def _option(argument: Argument) -> str:
    name, value = argument.name, argument.value
    if isinstance(value, Mapping):
        return " ".join(f"--set {shlex.quote(f'{name}.{key}={item}')}" for key, item in value.items())
    if name in ("columns", "condition"):
        names = [value] if isinstance(value, str | int) else value
        return f"--{name.removesuffix('s')} {shlex.quote(','.join(map(str, names)))}"
    return _OPTIONS.get(name) or (f"--{name} {value}" if name == "to" else f"--set {shlex.quote(f'{name}={value}')}")
