"""``pushforward show``: the plots for teaching."""

from pathlib import Path
from typing import Annotated

import typer

from pushforward.cli.help import help_text
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

HELP = help_text(
    "Draw a plot for teaching, from the library's own exact laws.",
    examples=[
        "pushforward show --list",
        "pushforward show probability-flow",
        "pushforward show reverse-diffusion --out film.gif",
        "pushforward show --all --out plots/",
    ],
)


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the plot.", show_default=False)] = None,
    as_list: Annotated[bool, typer.Option("--list", help="Describe all plots.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Draw all plots into the folder --out.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write; .gif for an animation.  [default: NAME.png]", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw one plot, or all, or describe them."""
    from pushforward import gallery

    if (name is not None) + as_list + every != 1:
        raise ValueError("write one of: a NAME, --list, --all.")
    if as_list:
        if out is not None:
            raise ValueError("--list writes no file; omit --out, or write --all to draw every plot.")
        _list()
    elif every:
        folder = out or Path("images")
        if folder.suffix or folder.is_file():
            raise ValueError(f"--all needs a folder for --out, not {str(folder)!r}; write --out plots/.")
        paths = {each: folder / f"{each}.png" for each in gallery.names()}
        check_output(*paths.values(), overwrite=overwrite)
        for each, path in paths.items():
            typer.echo(gallery.save(each, path))
    else:
        path = out or Path(f"{name}.png")
        path = path if path.suffix else path.with_suffix(".png")
        check_output(path, overwrite=overwrite)
        typer.echo(gallery.save(str(name), path))
        typer.echo(gallery.describe(str(name)))


def _list() -> None:
    from pushforward import gallery

    width = max(map(len, gallery.names())) + 2
    for topic, names in gallery.topics().items():
        typer.secho(f"{topic}", bold=True)
        for name in names:
            moves = " (moves)" if gallery.moves(name) else ""
            typer.echo(f"  {name.ljust(width)}{gallery.describe(name)}{moves}")
