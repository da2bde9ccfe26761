"""``pushforward fit-classifier``: train the classifier of noisy rows for classifier guidance."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward._messages import printable
from pushforward.cli.device import check_device
from pushforward.cli.help import help_text
from pushforward.cli.options import Run

__all__ = ["HELP", "command"]

HELP = help_text(
    "Train a classifier of noisy rows on DATA and store it in RUN, for `pushforward sample RUN --guidance classifier`.",
    "The model itself is unchanged. A classifier already in RUN is replaced.",
    examples=[
        "pushforward fit-classifier runs/digits digits",
        "pushforward fit-classifier runs/table table.csv --condition species",
    ],
)


def command(
    run: Run,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows like those of the run, with labels.")],
    condition: Annotated[
        str, typer.Option(metavar="NAME", help="Column of DATA with the labels. Default: those that come with the data.")
    ] = "",
    steps: Annotated[int, typer.Option(metavar="N", help="Training steps.")] = 1000,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: the fastest there is.")] = "",
) -> None:
    """Train the classifier and write it into the run."""
    from pushforward.models.files.storage import read_card, update
    from pushforward.training.record.claim import claimed

    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}")
    check_device(device)
    chosen = read_card(run).get("chosen") or {}
    with claimed(run):
        model = _fitted(run, data, chosen, condition, steps, device)
        update(model, run)
    names = [printable(label) for label in model.classifier_.classes]
    told = "" if model.classifier_loss_ is None else f", held-out loss {model.classifier_loss_:.3g} nats over all noise levels"
    typer.echo(f"A classifier of {len(names)} labels in {run}{told}.\n\nNext:\n")
    typer.echo(f"    pushforward sample {run} --guidance classifier --condition {names[-1]}\n")


def _fitted(run: Path, data: str, chosen: dict[str, Any], condition: str, steps: int, device: str) -> Any:
    """Return the model of the run with a classifier."""
    from pushforward.models import load
    from pushforward.models.denoising.classifier import DEFAULT_TRAINING

    model: Any = load(run)
    if not hasattr(model, "fit_classifier"):
        raise ValueError(f"{run} holds a model that no classifier can guide: its source is not independent Gaussian noise")
    if chosen.get("condition") is False:  # the model has no condition, but its classifier needs labels
        chosen["condition"] = None
    opened = model.space_.open(data, chosen, condition=condition or None, conditional=True)
    if opened.condition is None:
        raise ValueError(f"{data} comes without labels; name the column that holds them with --condition")
    model.set_params(verbose=True, device=device or None)
    return model.fit_classifier(opened.values, opened.condition, training=replace(DEFAULT_TRAINING, steps=steps))
