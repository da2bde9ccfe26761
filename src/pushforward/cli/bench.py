"""``pushforward bench``: measure the library against exact answers."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushforward.cli.help import CONTEXT, help_text
from pushforward.cli.output import Overwrite, check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pushforward.diffusion import Sampler
    from pushforward.diffusion.samplers.benchmark import Measurement
    from pushforward.probability import GaussianMixture

__all__ = ["HELP", "SAMPLERS_HELP", "app", "samplers"]

HELP = help_text(
    "Measure the library against exact answers.",
    examples=["pushforward bench samplers", "pushforward bench samplers --law photos --steps 5,10,20"],
)
SAMPLERS_HELP = help_text(
    "Compare samplers on a law with a known probability flow: error by network calls, as a table and a plot.",
    "The error is the root mean square per dimension between a sampler's results and those of the exact flow for the same 128 "
    "noises. The samplers of a column make at most the given number of calls; a smaller number is shown after the error.",
    examples=[
        "pushforward bench samplers",
        "pushforward bench samplers --law spiky --median",
        "pushforward bench samplers --steps 5,8,10 --calibrate",
        "pushforward bench samplers --sampler heun --sampler dpm-solver:order=3,grid=KarrasGrid --out mine/",
    ],
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP, context_settings=CONTEXT)

_MOST_CALIBRATED = 15  # a fitted table has no gain with more steps


@app.command("samplers", help=SAMPLERS_HELP, short_help=SAMPLERS_HELP.partition("\n")[0], context_settings=CONTEXT)
def samplers(
    law: Annotated[str, typer.Option(metavar="NAME", help="digits, photos, broad or spiky.")] = "digits",
    steps: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Steps of samplers with one call per step, one column each; others take fewer steps."
        ),
    ] = "5,8,10,15,20,30,50",
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="E.g. heun, ddim, dpm-solver:order=3; may be repeated. Default: one of each kind.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help=f"Also fit tables to the law, up to {_MOST_CALIBRATED} steps; minutes.")
    ] = False,
    median: Annotated[
        bool, typer.Option("--median", help="Show the median error of a row, which a few bad rows do not change.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the noises.")] = 0,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for table.csv and samplers.png. Default: bench/samplers-LAW.")
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Measure samplers, show the table, write it and the plot."""
    from pushforward import diffusion, plots
    from pushforward.diffusion.samplers import benchmark

    folder = _folder(out) if out else Path(f"bench/samplers-{law}")
    calls = _counts(steps)
    chosen = _chosen(sampler) if sampler else benchmark.benchmark_samplers()
    target = benchmark.benchmark_law(law)
    fitted = [n for n in calls if 2 <= n <= _MOST_CALIBRATED] if calibrate else []
    if calibrate and not fitted:
        raise ValueError(f"--calibrate fits tables of 2 to {_MOST_CALIBRATED} steps, but --steps asks for {steps}")
    check_output(folder / "table.csv", folder / "samplers.png", overwrite=overwrite)
    total = (len(chosen) + 1) * len(calls) + len(fitted)
    cells = _with_progress(_cells(target, seed, chosen, calls, fitted), total)
    _write_csv(folder / "table.csv", law, cells)
    shown = [(cell, cell.median if median else cell.error) for cell in cells]
    measure = "median error of a row" if median else "root mean square error"
    _print_table(f"{measure} per dimension, {law} in {target.dim} dimensions", shown, calls)
    plots.save(_plot(shown, f"{measure} per dimension"), folder / "samplers.png")
    typer.echo(f"* marks the best of a column; the default with {calls[-1]} calls is {diffusion.default_sampler(calls[-1])}")
    typer.echo(f"{folder / 'table.csv'} and {folder / 'samplers.png'}")


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix or path.is_file():
        raise ValueError(f"--out is a folder for a table and an image, not the file {text!r}; write --out {path.stem}/")
    return path


def _counts(text: str) -> list[int]:
    """Parse a list of numbers such as "5,8,10", and sort it."""
    from pushforward.probability.counts import check_steps

    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(f"--steps is a list of whole numbers such as 5,8,10, not {text!r}") from None
    if counts[0] < 1:
        raise ValueError(f"--steps must be at least 1 each, got {counts[0]}")
    check_steps(counts[-1])
    return counts


def _chosen(names: Sequence[str]) -> "dict[str, Sampler]":
    from pushforward.diffusion.samplers.benchmark import check_comparable
    from pushforward.models.recipe import named_sampler

    return {name: check_comparable(named_sampler(name)) for name in names}


def _cells(
    law: "GaussianMixture", seed: int, chosen: "Mapping[str, Sampler]", calls: Sequence[int], fitted: Sequence[int]
) -> "Iterator[Measurement]":
    from pushforward.diffusion.samplers.benchmark import Problem, compare

    problem = Problem.of_law(law, seed=seed)
    yield from compare(problem, chosen, calls)
    for count in fitted:
        yield problem.calibrated(count)


def _with_progress(cells: "Iterator[Measurement]", total: int) -> "list[Measurement]":
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return list(track(cells, description="Measuring", total=total, transient=True, disable=hidden, console=console))


def _write_csv(path: Path, law: str, cells: "Sequence[Measurement]") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["law", *(field.name for field in dataclasses.fields(cells[0]))])
        writer.writeheader()
        writer.writerows({"law": law} | dataclasses.asdict(cell) for cell in cells)


def _print_table(title: str, shown: "Sequence[tuple[Measurement, float]]", calls: Sequence[int]) -> None:
    """Print one line per sampler and one column per number of calls; the default and the best are bold."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("calls", no_wrap=True)
    for count in calls:
        table.add_column(str(count), justify="right", no_wrap=True)
    values = {(cell.solver, cell.calls): (cell, value) for cell, value in shown}
    best = {count: min(value for cell, value in shown if cell.calls == count) for count in calls}
    for name in dict.fromkeys(cell.solver for cell, _ in shown):
        texts = []
        for count in calls:
            cell, value = values.get((name, count), (None, 0.0))
            if cell is None:
                texts.append("")
                continue
            fewer = f" ({cell.nfe})" if cell.nfe < count else ""
            text = f"{value:.4f}{fewer}"
            texts.append(f"[bold]*{text}[/bold]" if value == best[count] else text)
        table.add_row(name, *texts, style="bold blue" if name == "default" else "")
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=40 + 14 * len(calls))
    console.print(title, table, sep="\n")


def _plot(shown: "Sequence[tuple[Measurement, float]]", measure: str) -> "Figure":
    from pushforward import plots

    lines: dict[str, list[tuple[float, float]]] = {}
    for cell, value in shown:
        lines.setdefault(cell.solver, []).append((cell.nfe, value))
    marks = {name: lines.pop(name) for name in ("calibrated",) if name in lines}
    return plots.error_curves(lines, bold="default", marks=marks, labels=("network calls", measure))
