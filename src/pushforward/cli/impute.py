"""``pushforward impute``: fill the gaps of a table or an array."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import check_device
from pushforward.cli.guidance import By, Interval, Negative, guided_by
from pushforward.cli.help import help_text
from pushforward.cli.options import given_to

__all__ = ["HELP", "command", "numbered"]

HELP = help_text(
    "Fill the gaps in FILE with draws from the model in RUN, given the rest of each row.",
    "Known values are unchanged. FILE is a table (.csv, .parquet), whose other columns are kept, or an array (.npy).",
    examples=[
        "pushforward impute runs/table gaps.csv",
        "pushforward impute runs/table gaps.csv -n 5 --seed 1 --out filled.parquet",
    ],
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows like the training data, with gaps.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to write. Default: FILE with -filled in its name.", show_default=False),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of fillings; several are written to numbered files.")] = 1,
    condition: Annotated[str, typer.Option(metavar="VALUE", help="A label, or the numbers of a vector, for all rows.")] = "",
    guidance_scale: Annotated[
        float | None, typer.Option(metavar="W", help="As for sample; needs a condition.", show_default=False)
    ] = None,
    guidance_interval: Interval = "",
    negative: Negative = "",
    guidance: By = "condition",
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the sampler. Default: 20.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the filling. Default: a new one, which is printed.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: cuda if there is one.")] = "",
) -> None:
    """Fill the gaps and write the rows."""
    import torch

    from pushforward.data import check_target
    from pushforward.data.gaps import read_with_gaps
    from pushforward.models import load
    from pushforward.probability.noise import fresh_seed

    check_device(device)
    guided = guided_by(guidance_scale, guidance_interval, negative, guidance)
    model: Any = load(run)
    if not hasattr(model, "impute"):
        raise ValueError(f"{run} holds a model that cannot fill gaps: its source is not independent Gaussian noise")
    rows, whole = read_with_gaps(file, model.space_.schema)
    target = check_target(out or file.with_name(f"{file.stem}-filled{file.suffix}"), model.space_.schema)
    seed = fresh_seed() if seed is None else seed
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    how = given_to(model.impute, {"guidance": guided, "steps": steps})
    made = model.impute(rows, n=n, condition=condition or None, seed=seed, **how)
    gaps = int((rows.isna().to_numpy() if hasattr(rows, "isna") else rows != rows).sum())
    for number, filled in enumerate(made if n > 1 else [made], 1):
        path = numbered(target, number, n)
        _write(path, filled, whole, model.space_.schema)
        typer.echo(f"{gaps:,} gaps filled in {path} (seed {seed})")


def numbered(path: Path, number: int, count: int) -> Path:
    """Return the path of one of ``count`` files.

    >>> str(numbered(Path("a/b.csv"), 2, 3))
    'a/b-2.csv'
    """
    return path if count == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


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
