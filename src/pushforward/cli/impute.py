"""``pushforward impute``: fill the gaps of a table or an array."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import Device, check_device, move
from pushforward.cli.guidance import By, Interval, Negative, guided_by
from pushforward.cli.help import help_text
from pushforward.cli.options import Run, Seed, given_to
from pushforward.cli.output import Overwrite, check_output

__all__ = [
    "HELP",
    "Condition",
    "Count",
    "Images",
    "Scale",
    "Steps",
    "command",
    "condition_given",
    "fillings",
    "load_filling",
    "targets",
]

HELP = help_text(
    "Fill the gaps in FILE with draws from the model in RUN, given the rest of each row.",
    "Known values are unchanged. FILE is a table (.csv, .parquet), whose other columns are kept, an array (.npy), sets of "
    "points (.npz), or a text (.txt) in which each _ is a missing character.",
    examples=[
        "pushforward impute runs/table gaps.csv",
        "pushforward impute runs/letters letter.txt",
        "pushforward impute runs/table gaps.csv -n 5 --seed 1 --out filled.parquet",
    ],
)


Count = Annotated[int, typer.Option("-n", metavar="N", help="Number of fillings; several are written to numbered files.")]
Condition = Annotated[str, typer.Option(metavar="VALUE", help="A label, or the numbers of a vector, for all rows.")]
Images = Annotated[
    Path | None,
    typer.Option(
        "--condition-images",
        metavar="PATH",
        help="An image, a folder of them or a .npy file as conditions.",
        show_default=False,
    ),
]
Scale = Annotated[float | None, typer.Option(metavar="W", help="As for sample; needs a condition.", show_default=False)]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Steps of the sampler. Default: 20.", show_default=False)]


def command(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows like the training data, with gaps.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to write. Default: FILE with -filled in its name.", show_default=False),
    ] = None,
    n: Count = 1,
    condition: Condition = "",
    condition_images: Images = None,
    guidance_scale: Scale = None,
    guidance_interval: Interval = "",
    negative: Negative = "",
    guidance: By = "condition",
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "",
    overwrite: Overwrite = False,
) -> None:
    """Fill the gaps and write the rows."""
    from pushforward.data import check_target
    from pushforward.data.files.gaps import read_with_gaps

    check_device(device)
    guided = guided_by(guidance_scale, guidance_interval, negative, guidance)
    model = load_filling(run)
    rows, whole = read_with_gaps(file, model.space_.schema)
    target = check_target(out or file.with_name(f"{file.stem}-filled{file.suffix}"), model.space_.schema)
    check_output(*targets(target, n), overwrite=overwrite)
    move(model, device)
    options = {"guidance": guided, "steps": steps}
    gaps = _count(rows, model.space_.schema)
    wanted = condition_given(condition, condition_images)
    for path, filled, drawn in fillings(model, rows, target, n, seed, options, condition=wanted):
        _write(path, filled, whole, model.space_.schema)
        typer.echo(f"{gaps:,} gaps filled in {path} (seed {drawn})")


def _parts(rows: Any) -> list[Any]:
    """Return rows as tables and arrays: those of sets of points of different sizes are many."""
    return rows if isinstance(rows, list) else [rows]


def condition_given(text: str, images: Path | None) -> Any:
    """Return the condition that the options give: text, images, or None."""
    if images is None:
        return text or None
    if text:
        raise ValueError("--condition and --condition-images both say what the condition is; give one of the two")
    from pushforward.data.files.images import read_images

    return read_images(images)


def load_filling(run: Path) -> Any:
    """Load the model of a run, or raise a ValueError if it cannot fill gaps."""
    from pushforward.models import load

    model = load(run)
    if not hasattr(model, "impute"):
        raise ValueError(f"{run} holds a model that cannot fill gaps: its source is not independent Gaussian noise")
    return model


def fillings(
    model: Any, rows: Any, target: Path, n: int, seed: int | None, options: dict[str, Any], **known: Any
) -> Iterator[tuple[Path, Any, int]]:
    """Yield the file of each filling, its rows and the seed."""
    from pushforward.probability.noise import fresh_seed

    seed = fresh_seed() if seed is None else seed
    filled = model.impute(rows, n=n, seed=seed, **known, **given_to(model.impute, options))
    for path, each in zip(targets(target, n), filled if n > 1 else [filled], strict=True):
        yield path, each, seed


def targets(path: Path, count: int) -> list[Path]:
    """Return the paths of ``count`` files.

    >>> [str(target) for target in targets(Path("a/b.csv"), 2)]
    ['a/b-1.csv', 'a/b-2.csv']
    """
    return [path] if count == 1 else [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def _count(rows: Any, schema: Any) -> int:
    """Return the number of gaps of rows, or of blanks of texts."""
    if schema.text is not None:
        return sum(text.count("_") for text in rows)
    return sum(int((part.isna().to_numpy() if hasattr(part, "isna") else part != part).sum()) for part in _parts(rows))


def _write(path: Path, filled: Any, whole: Any, schema: Any) -> None:
    """Write the rows; for a table also the columns that the model does not use."""
    from pushforward.data import write_samples

    if hasattr(whole, "columns"):
        table = whole.copy()
        known = schema.columns if schema.columns is not None else list(table.columns)
        for index, name in enumerate(known):
            table[name] = filled[name] if schema.columns is not None else filled[:, index]
        filled = table
    write_samples(path, filled, schema)
