"""``pushforward evaluate``: measure the model of a run."""

from pathlib import Path
from typing import Annotated

import typer

from pushforward._messages import printable
from pushforward.cli.device import Device, check_device
from pushforward.cli.help import help_text
from pushforward.cli.options import ConditionImages, Run, RunConditions, condition_of
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

HELP = help_text(
    "Measure the model in RUN on held-out rows, with a noise floor for each measure.",
    "By default these are the rows that the run held out. Writes evaluation.json and report.html, a self-contained page with "
    "all images.",
    examples=[
        "pushforward evaluate runs/digits",
        "pushforward evaluate runs/table --data moved/table.csv",
        "pushforward evaluate runs/table --data new_rows.csv --n 5000 --out checks/",
    ],
)


def command(
    run: Run,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="The run's data in another place, or other rows like them, all of which then count as held out. "
            "Default: the data that the run names.",
        ),
    ] = "",
    n: Annotated[
        int | None,
        typer.Option("--n", metavar="N", help="Samples, and rows to compare with. Default: all held-out rows, up to 10,000."),
    ] = None,
    condition: RunConditions = "",
    condition_images: ConditionImages = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write to. Default: RUN.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the samples and of all other random choices.")] = 0,
    device: Device = "",
    overwrite: Overwrite = False,
) -> None:
    """Evaluate, write the report, and show the table."""
    if out is not None and out.is_file():
        raise ValueError(f"--out names a folder, but {out} is a file; evaluation.json and report.html are written into it")
    wanted = condition_of(condition, condition_images)
    if wanted is not None and not data:
        raise ValueError("--condition and --condition-images belong to other data; give these with --data, or omit them")
    check_device(device)
    import torch

    from pushforward.evaluation import evaluate_run
    from pushforward.models.files.storage import read_card

    read_card(run)
    folder = out or run
    check_output(folder / "evaluation.json", folder / "report.html", overwrite=overwrite)

    evaluation = evaluate_run(
        run,
        data or None,
        condition=wanted,
        samples=n,
        seed=seed,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        verbose=True,
    )
    evaluation.save(folder / "evaluation.json")
    page = evaluation.report(folder / "report.html")
    typer.echo(printable(evaluation))
    typer.echo(f"{page}  (open it in a browser)\n{folder / 'evaluation.json'}")
