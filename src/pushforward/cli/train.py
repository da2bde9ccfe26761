"""``pushforward train``: from data to a run folder with a trained model."""

import errno
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pushforward._messages import printable
from pushforward.cli.device import check_device
from pushforward.cli.duration import seconds_of
from pushforward.cli.help import help_text
from pushforward.cli.options import Columns, ConditionImages, condition_of, listed

__all__ = ["HELP", "TrainCommand", "command", "finish"]

HELP = help_text(
    "Train a model on DATA and write a run folder.",
    "DATA is a built-in name (digits, moons, swissroll, checkerboard, rings, eight-gaussians, shapes, tones, markov-text), a "
    ".npy, .npz, .csv, .parquet or .txt file, or a folder of images, sounds, point clouds (.ply, .xyz) or texts; sub-folders "
    "are classes.",
    examples=[
        "pushforward train digits",
        "pushforward train moons --model diffusion --set schedule=Cosine",
        "pushforward train photos/ --max-time 10m --set network.width=96",
        "pushforward train table.csv --column height,weight --condition species",
        "pushforward train photos/ --condition-images edges/",
        "pushforward train photos/ --condition mask",
        "pushforward train photos/ --set size=64",
        "pushforward train voices/ --set rate=8000",
        "pushforward train prices.csv --series stock,day",
        "pushforward train letters.txt --set text.block=256",
        "pushforward train digits --dry-run > recipe.yaml",
        "pushforward train digits --model latent --set prior=diffusion",
        "pushforward train digits --recipe recipe.yaml --seed 1 --out runs/mine",
        "pushforward train digits --resume",
    ],
)

_DEFAULT = "flow-matching"
_FEW, _MORE = 100, "10m"  # steps, and what a small set of images takes
_OPTIONS = {"random_state": "--seed", "max_time": "--max-time", "model": "--model", "device": "--device"}


class TrainCommand(TyperCommand):
    """The verb as Typer knows it, whose help lists the families that are installed, and reads their names only then."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, with all models after the default one."""
        from pushforward.models.files.registry import family_names, preset_names

        others = [name for name in [*family_names(), *preset_names()] if name != _DEFAULT]
        option = next(parameter for parameter in self.params if parameter.name == "model")
        option.help = f"{_DEFAULT} (the default), {', '.join(others[:-1])} or {others[-1]}."  # type: ignore[attr-defined]
        super().format_options(ctx, formatter)


def command(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Built-in name, file, or folder of images or texts.")],
    model: Annotated[str, typer.Option(metavar="NAME", help=f"{_DEFAULT} (the default)")] = "",
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file with arguments of the model.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one argument, e.g. network.width=128. Repeat as needed."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the run; if it is taken, a number is added. Default: runs/<name of DATA>."),
    ] = None,
    max_time: Annotated[
        str, typer.Option(metavar="TIME", help="Time for the whole command, e.g. 90s, 4m, 1h30m; sets the number of steps.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of everything random. Default: a fresh one, written down.")
    ] = None,
    column: Columns = None,
    series: Annotated[
        str,
        typer.Option(
            metavar="ID,TIME",
            help="Columns of a table in long form with the number and the time of each series; the others are its values.",
        ),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Columns of any types that samples can be conditioned on, or 'none'. Default: what comes with the data, such "
            "as the sub-folders of images. Of images 'mask' is the visible part under random masks, for inpaint.",
        ),
    ] = "",
    condition_images: ConditionImages = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: the fastest there is.")] = "",
    tracker: Annotated[
        str, typer.Option(metavar="NAME", help="tensorboard, wandb, ...: also send losses and plots of samples there.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped: the newest on DATA, or the one in --out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the whole recipe, the number of parameters and the time it will take.")
    ] = False,
) -> None:
    """Train, resume, or show what would be done."""
    from pushforward.models import recipe as recipes

    given: dict[str, Any] = {} if recipe is None else recipes.read_recipe(recipe)
    if model:
        given["model"] = model
    if seed is not None:
        given["random_state"] = seed
    if max_time:
        given["max_time"] = seconds_of(max_time)
    if device:
        given["device"] = device
    if series:
        given["series"] = _two_columns(series)
    for text in [*(changes or []), *([f"training.tracker={tracker}"] if tracker else [])]:
        given = recipes.merge(given, recipes.override(text))
    chosen = {"columns": listed(*column or ()), "condition": condition_of(condition, condition_images)}
    if resume:
        trackers = dict(_leaves(given))
        if dry_run or not all(_is_tracker(name, value) for name, value in trackers.items()):
            named = ", ".join([_OPTIONS.get(key, f"--set {key}") for key in given] + ["--dry-run"] * dry_run)
            raise ValueError(f"--resume continues a run with its own settings; omit {named}, or start a new run")
        _resume(data, out, chosen, trackers)
        return
    _start(data, given, out=out, chosen=chosen, dry_run=dry_run, began=context.obj)


def _two_columns(text: str) -> list[str]:
    names = listed(text) or []
    if len(names) != 2:
        raise ValueError(f"--series names two columns, as in --series id,time, not {text!r}")
    return names


def _start(
    data: str, given: dict[str, Any], *, out: Path | None, chosen: dict[str, Any], dry_run: bool, began: float | None
) -> None:
    from pushforward.data import open_data
    from pushforward.models import recipe as recipes
    from pushforward.models import run
    from pushforward.models.base.plan import plan

    check_device(given.get("device"))
    dataset = open_data(data, **chosen, gaps=True, **recipes.opening_of(given))
    assembled = recipes.assemble({"verbose": True} | given, dataset)
    if dry_run:
        _show_plan(plan(dataset, assembled, chosen=run.chosen_of(**chosen)), run.run_folder(out, dataset.source))
        return
    with run.new_run(out, dataset.source) as folder:
        planned = plan(dataset, assembled, chosen=run.chosen_of(**chosen), began=began)
        counts = [(planned.parameters, "parameters"), (planned.steps, "steps")]
        told = "".join(f", {count:,} {what}" for count, what in counts if count is not None)
        typer.echo(
            f"Training {type(assembled).__name__} on {printable(dataset.source)} ({len(dataset):,} rows"
            f"{', read from disk' if dataset.on_disk else ''}){told}, in {folder}"
        )
        finish(lambda: planned.start(folder), folder)


def _is_tracker(name: str, value: object) -> bool:
    return name.endswith("training__tracker") and isinstance(value, str | None)


def _leaves(given: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a recipe by their names in a model, such as "prior__training__tracker"."""
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{within}{name}__")
        else:
            yield within + name, value


def _resume(data: str, out: Path | None, chosen: dict[str, Any], trackers: dict[str, Any]) -> None:
    from pushforward.models import run
    from pushforward.models.files.storage import read_card

    folder = run.newest_run(out, data)
    card = read_card(folder)
    if card["status"] == "finished":
        typer.echo(f"{folder} is finished: there is nothing to resume. To train anew, omit --resume.")
        return
    check_device(card["resolved"].get("device"))
    with run.stopped_run(folder):
        plan = run.reopen(data, folder, **chosen, parts=trackers)
        typer.echo(f"Continuing {folder}")
        finish(lambda: plan.start(folder, resume=True), folder)


def finish(start: Callable[[], Any], folder: Path) -> None:
    """Train in a folder and print the result; Ctrl-C, a full disk and divergence end in a message."""
    from pushforward.models.files.storage import CARD, read_card, resume_command
    from pushforward.training import Interrupted, TrainingDiverged

    try:
        model = start()
    except KeyboardInterrupt as stop:
        done = f" after step {stop.step:,} of {stop.steps:,}; everything is saved" if isinstance(stop, Interrupted) else ""
        typer.echo(f"\nStopped{done}. Go on with:\n\n    {printable(resume_command(read_card(folder), folder))}\n")
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not (folder / CARD).is_file():
            raise
        command = resume_command(read_card(folder), folder)
        message = f"the disk of {folder} is full; make room, and continue from the last checkpoint with:\n\n    {command}\n"
        raise OSError(message) from error
    except TrainingDiverged as error:
        typer.secho(f"Error: {printable(error)}", fg="red", err=True)
        sys.exit(1)
    _show_result(model, folder)


def _show_result(model: Any, folder: Path) -> None:
    from pushforward.training.record.progress import clock

    result = model.training_result_
    loss = "" if result.held_out_loss is None else f", held-out loss {result.held_out_loss:.4g}"
    typer.echo(f"Finished {result.steps:,} steps in {clock(result.seconds)}{loss}.")
    arguments = model.get_params(deep=False)
    # Families that are fitted by EM need few iterations, whatever the time.
    if arguments.get("max_time") is not None and "train_steps" in arguments and result.steps < _FEW:
        typer.echo(f"So few steps give poor samples; train for longer, such as --max-time {_MORE}.")
    typer.echo(f"Samples: {folder / 'samples.png'}\n\nNext:\n")
    encoder = model.space_.conditions
    example = "" if encoder is None else encoder.example
    label = f" --condition {shlex.quote(printable(example))}" if example else ""
    quoted = shlex.quote(str(folder))
    ending = model.space_.kind.ending
    typer.echo(f"    pushforward inspect {quoted}")
    if hasattr(model, "sample"):
        takes = inspect.signature(model.sample).parameters
        # Samplers gain from more steps than their default; a flow map needs few.
        steps = "" if "steps" not in takes else " --steps 40" if takes["steps"].default is None else " --steps 1"
        typer.echo(f"    pushforward sample {quoted} -n 100{label} --out samples.{ending}")
        schema = model.space_.schema
        plain = schema.table is None and schema.text is None and not schema.sizes_differ
        target = "samples.npy" if plain else f"1000.{ending}"
        typer.echo(f"    pushforward sample {quoted} -n 1000{steps} --seed 1 --out {target}\n")


def _show_plan(plan: Any, folder: Path) -> None:
    """Print a recipe, with everything else in comments, so that the output is a file for --recipe."""
    import yaml

    from pushforward.data.stream import Stream
    from pushforward.models.recipe import recipe_of
    from pushforward.training.record.progress import clock

    recipe = {key: value for key, value in recipe_of(plan.model).items() if key != "verbose"}
    typer.echo(yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, width=100))
    seconds = plan.seconds()
    if plan.parameters is not None:
        typer.echo(f"# {plan.parameters:,} parameters")
    if seconds is not None:
        typer.echo(f"# estimated training time: {clock(seconds)}")
    schema = plan.model.space_.schema
    if isinstance(plan.prepared.x, Stream) and plan.prepared.x.on_disk:
        typer.echo("# data: rows stay on disk, and are read for each batch")
    for line in schema.notes():
        typer.echo(f"# {printable(line)}")
    encoder = plan.model.space_.conditions
    if encoder is not None and encoder.image is not None:
        typer.echo(f"# condition: {encoder.describe_image()}")
    typer.echo(f"# would train in {folder}; nothing was written")
