"""``pushforward calibrate``: fit the sampler to a trained model for a few steps."""

import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import Device, check_device, move
from pushforward.cli.help import help_text
from pushforward.cli.options import Run, Seed

__all__ = ["HELP", "command"]

HELP = help_text(
    "Fit the sampler to the model in RUN for a small number of steps, so that its samples are close to those of many steps.",
    "The result is stored in RUN; `pushforward sample RUN` uses it with these --steps and this --guidance-scale, unless "
    "--sampler is given.",
    examples=["pushforward calibrate runs/digits --steps 8", "pushforward calibrate runs/digits --steps 10 --guidance-scale 2"],
)


def command(
    run: Run,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps of the sampler, at least 2; one network call each.")] = 8,
    guidance_scale: Annotated[
        float, typer.Option(metavar="W", help="The guidance scale to calibrate for; each has its own sampler.")
    ] = 1.0,
    seed: Seed = None,
    device: Device = "",
) -> None:
    """Calibrate, store the result, and print its gain."""
    from pushforward.models.files.storage import read_card
    from pushforward.training.record.claim import claimed

    check_device(device)
    read_card(run)
    with claimed(run):
        _calibrate(run, steps, guidance_scale, seed, device)


def _calibrate(run: Path, steps: int, guidance_scale: float, seed: int | None, device: str) -> None:
    from pushforward.models import load
    from pushforward.models.files.calibrations import CALIBRATIONS, add_calibration
    from pushforward.models.files.storage import read_card
    from pushforward.training.record.progress import clock

    model: Any = load(run)
    if not hasattr(model, "calibrate"):
        raise ValueError(f"{run} holds a {type(model).__name__}, which samples without steps: there is nothing to calibrate")
    move(model, device)
    model.set_params(verbose=True)
    typer.echo(f"Drawing samples of {run} with many steps, and fitting {steps} steps to them")
    begin = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the table fitted to")  # printed below
            found = model.calibrate(steps, guidance=guidance_scale, seed=seed)
    except KeyboardInterrupt:
        typer.echo(f"\nStopped; {run} is unchanged.")
        sys.exit(130)
    scale = f", guidance scale {guidance_scale:g}" if guidance_scale != 1 else ""
    typer.echo(f"{steps} steps{scale}: fitted in {clock(time.monotonic() - begin)} (seed {found.seed})")
    typer.echo(
        f"Error {found.default_error:.4g} by default, {found.error:.4g} calibrated: gain {found.gain:.3g} "
        f"({found.held_out:,} noises held out; root mean square to the model's own fine-step samples, in scaled units)"
    )
    if found.gain <= 1:
        typer.echo(f"That is no better, so it is not kept; {run} is unchanged.")
        return
    add_calibration(run, steps, guidance_scale, found, read_card(run)["weights"]["sha256"])
    guided = f" --guidance-scale {guidance_scale:g}" if guidance_scale != 1 else ""
    ending = model.space_.kind.ending
    typer.echo(f"Kept in {run / CALIBRATIONS}. Next:\n")
    typer.echo(f"    pushforward sample {shlex.quote(str(run))} -n 100 --steps {steps}{guided} --out samples.{ending}\n")
