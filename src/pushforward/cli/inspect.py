"""``pushforward inspect``: the card of a run."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from pushforward._messages import printable
from pushforward.cli.help import help_text
from pushforward.cli.model_card import model_card
from pushforward.cli.run_facts import facts_of

__all__ = ["HELP", "command"]

HELP = help_text(
    "Show the data, settings, duration and quality of a run.",
    examples=[
        "pushforward inspect runs/digits",
        "pushforward inspect runs/digits --json",
        "pushforward inspect runs/digits --card > README.md",
    ],
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all facts of the run as JSON.")] = False,
    as_card: Annotated[
        bool, typer.Option("--card", help="Print a model card in Markdown, with the evaluation if there is one.")
    ] = False,
) -> None:
    """Print the card of a run."""
    from pushforward.models.files.storage import read_card

    if as_json and as_card:
        raise ValueError("--json and --card both say what to print; give one of the two")
    card = read_card(run)
    if as_card:
        typer.echo(model_card(run), nl=False)
        return
    if as_json:
        typer.echo(json.dumps(card, indent=1))
        return
    facts = facts_of(run, card)
    indent = max(len(name) for name, _ in facts) + 2
    width = max(shutil.get_terminal_size().columns, indent + 40)
    typer.secho(printable(run), bold=True)
    for name, value in facts:
        # Lines break only at spaces, so that paths and commands stay whole.
        lines = textwrap.wrap(printable(value), width - indent, break_long_words=False, break_on_hyphens=False) or [""]
        typer.echo(typer.style(name.ljust(indent), bold=True) + f"\n{' ' * indent}".join(lines))
