"""``pushforward push``: a run to a hub."""

from typing import Annotated

import typer

from pushforward._messages import printable
from pushforward.cli.help import help_text
from pushforward.cli.model_card import model_card
from pushforward.cli.options import Run

__all__ = ["HELP", "command"]

HELP = help_text(
    "Push the model of RUN with a model card to OWNER/NAME on a hub of Hugging Face.",
    "The card names the data, the family, the figures of the evaluation and how to load the model. Checkpoints, and the rows "
    "that an evaluation keeps, are not pushed. Before you publish, look at model.json, which names columns, categories and "
    "the file of the data, and at samples.png, which may show training rows beside samples.",
    examples=["pushforward push runs/digits me/digits", "pushforward push runs/digits me/digits --private"],
)


def command(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the model visible to its owner alone.")] = False,
) -> None:
    """Push the model."""
    from pushforward.models.files.hub import push

    address = push(run, name, model_card(run, name), private=private)
    typer.echo(printable(f"{address}\npf.load('hf://{name}') loads it"))
