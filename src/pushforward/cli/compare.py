"""``pushforward compare``: choose a model family for a data set."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward._messages import printable
from pushforward.cli.device import check_device
from pushforward.cli.duration import seconds_of
from pushforward.cli.help import help_text
from pushforward.cli.options import Columns, condition_of, listed

__all__ = ["HELP", "command"]

_OPENING = ("kind", "columns", "size", "rate", "length", "series", "text")

HELP = help_text(
    "Train several models on DATA under the same budget, measure them on held-out rows, and rank them.",
    "Writes all runs, table.csv, and report.html, a self-contained page. Repeat the command to continue a comparison that was "
    "stopped, or to add models or seeds: finished parts are not repeated.",
    examples=[
        "pushforward compare digits --models gmm,vae,gan,flow,diffusion,flow-matching --budget 1m",
        "pushforward compare table.csv --budget 5m --seeds 3",
        "pushforward compare table.csv --steps 2000 --jobs 8",
        "pushforward compare photos/ --models gan,flow-matching --steps 2000 --out compare/photos",
    ],
)


def command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Built-in name, file, or folder of images.")],
    models: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Families or classical models, separated by commas. Default: those that suit the kind of data.",
        ),
    ] = "",
    budget: Annotated[
        str,
        typer.Option(metavar="TIME", help="Time of each training, such as 90s, 10m or 1h. Default: each model's own recipe."),
    ] = "",
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps of each training, instead of a time.")] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Trainings of each model, to measure its stability.")] = 2,
    n: Annotated[
        int | None,
        typer.Option("--n", metavar="N", help="Samples of each model, and rows to compare with. Default: all held-out rows."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the comparison. Default: compare/<name>.")] = None,
    column: Columns = None,
    condition: Annotated[
        str, typer.Option(metavar="NAMES", help="Columns to condition on, or 'none'. Default: those that come with the data.")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What the data are, e.g. columns.id=category, size=32, text.block=64. Repeat as needed.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="First of the seeds.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Trainings at once, each in a process of its own; -1: as many as cores. Default: one."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: the fastest there is.")] = "",
) -> None:
    """Compare, write the report, and show the table and the advice."""
    check_device(device)
    from pushforward.evaluation import run_comparison

    try:
        found = run_comparison(
            data,
            listed(models),
            condition=condition_of(condition),
            columns=listed(*column or ()),
            budget=seconds_of(budget, "--budget") if budget else None,
            steps=steps,
            seeds=seeds,
            samples=n,
            out=out,
            seed=seed,
            device=device or None,
            jobs=jobs,
            verbose=True,
            **_opening(changes or []),
        )
    except KeyboardInterrupt:
        typer.echo("\nStopped; finished parts are kept. Repeat the command to continue.")
        sys.exit(130)
    typer.echo(printable(found))
    typer.echo(f"\n{found.folder / 'report.html'}  (open it in a browser)\n{found.folder / 'table.csv'}")
    if all(trial.failure for trial in found.trials):
        sys.exit(1)


def _opening(changes: list[str]) -> dict[str, Any]:
    """Return the arguments of ``open_data`` that ``--set`` gives; a comparison takes no others.

    >>> _opening(["columns.zip=category", "size=32"])
    {'size': 32, 'types': {'zip': 'category'}}
    """
    from pushforward.models import recipe

    given: dict[str, Any] = {}
    for text in changes:
        given = recipe.merge(given, recipe.override(text))
    unknown = [name for name in given if name not in _OPENING]
    if unknown:
        raise ValueError(
            f"in a comparison --set only describes the data ({', '.join(_OPENING)}), and {unknown[0]!r} is none of these: "
            "each model keeps its own recipe; omit it"
        )
    found = recipe.opening_of(given)
    return {name: value for name, value in found.items() if value is not None and name != "stream"}
