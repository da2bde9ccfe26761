"""``pushforward distill``: a trained model becomes one that draws in one to four network calls."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward._messages import printable
from pushforward.cli.device import check_device
from pushforward.cli.duration import seconds_of
from pushforward.cli.help import help_text
from pushforward.cli.options import Run
from pushforward.cli.train import finish

__all__ = ["HELP", "command"]

HELP = help_text(
    "Turn the flow matching or diffusion model in RUN into one that draws in one to four network calls.",
    "The new run needs no data: it learns from the trajectories of RUN, and names it as its teacher.",
    examples=[
        "pushforward distill runs/digits --max-time 10m",
        "pushforward distill runs/digits --guidance-scale 3 --out runs/fast",
        "pushforward distill runs/digits --set density=true --set trajectories=4096",
        "pushforward distill runs/digits --out runs/fast --resume",
    ],
)


def command(
    context: typer.Context,
    run: Run,
    max_time: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Time for the whole command, e.g. 90s, 10m. Default: twice the steps of the teacher."
        ),
    ] = "",
    guidance_scale: Annotated[
        float, typer.Option(metavar="W", help="The largest guidance scale; the new model knows all scales from 1 to W.")
    ] = 1.0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one argument of the FlowMap, e.g. train_steps=3000."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the new run; if it is taken, a number is added. Default: RUN-map."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of everything random. Default: a fresh one, written down.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: the fastest there is.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out that was stopped.")] = False,
) -> None:
    """Distill, or resume."""
    check_device(device)
    folder = run.with_name(f"{run.name}-map") if out is None else out
    given: dict[str, Any] = {"random_state": seed, "device": device or None}
    given |= {"max_time": seconds_of(max_time)} if max_time else {}
    given |= {"guidance": guidance_scale} if guidance_scale != 1 else {}
    given = {name: value for name, value in given.items() if value is not None}
    if resume:
        if given or changes:
            raise ValueError("--resume continues a run with its own settings; omit all options but --out, or start a new run")
        _resume(run, folder)
    else:
        _start(run, folder, given, changes or [], context.obj)


def _start(run: Path, out: Path, given: dict[str, Any], changes: list[str], began: float | None) -> None:
    from pushforward.models import FlowMap
    from pushforward.models.distill import distillation
    from pushforward.models.recipe import arguments_of
    from pushforward.models.run import new_run

    student = FlowMap(**({"verbose": True} | given | arguments_of(FlowMap, changes)))
    typer.echo(f"Planning from the trajectories of {printable(run)}")
    planned = distillation(run, student, began=began)
    with new_run(out, "map") as folder:
        told = f"{planned.parameters:,} parameters, {planned.steps:,} steps"
        typer.echo(f"Distilling {printable(run)} into a FlowMap, {told}, in {folder}")
        finish(lambda: planned.start(folder), folder)


def _resume(run: Path, folder: Path) -> None:
    from pushforward.models.distill import reopen_distillation
    from pushforward.models.files.storage import read_card
    from pushforward.models.run import stopped_run

    if read_card(folder)["status"] == "finished":
        typer.echo(f"{folder} is finished: there is nothing to resume. To distill anew, omit --resume.")
        return
    with stopped_run(folder):
        planned = reopen_distillation(run, folder)
        typer.echo(f"Continuing {folder}")
        finish(lambda: planned.start(folder, resume=True), folder)
