"""``pushforward score``: log-densities of rows under a trained model."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import Device, check_device, move
from pushforward.cli.help import help_text
from pushforward.cli.options import ConditionImages, Run, RunConditions, condition_of, given_to
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

HELP = help_text(
    "Score the rows of DATA under the model in RUN: log-densities in nats, in the units of the data.",
    "A conditional model scores each row given its condition. For integers the score is a lower bound of their probability.",
    examples=[
        "pushforward score runs/moons moons --out scores.parquet",
        "pushforward score runs/digits digits --bits-per-dim --rows 200",
        "pushforward score runs/digits digits --bits-per-dim --bound --steps 1000",
        "pushforward score runs/table other.csv --unconditional --out scores.csv",
        "pushforward score runs/vae digits --samples 64",
        "pushforward score runs/letters more.txt",
    ],
)

_FORMATS = (".parquet", ".csv")
_CHUNK = 64


def command(
    run: Run,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data like those of the run: a file, a folder or a built-in name.")
    ],
    out: Annotated[
        str, typer.Option(metavar="PATH", help=".parquet or .csv, one line per row. Default: only the mean is shown.")
    ] = "",
    bits_per_dim: Annotated[bool, typer.Option("--bits-per-dim", help="Bits per dimension instead of nats per row.")] = False,
    bound: Annotated[bool, typer.Option("--bound", help="DDPM's variational bound instead of the flow's density.")] = False,
    condition: RunConditions = "",
    condition_images: ConditionImages = None,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Score without conditions.")] = False,
    rows: Annotated[int | None, typer.Option(metavar="N", help="Score only the first N rows.")] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the flow (32, for images 16) or of the bound's chain (200).")
    ] = None,
    probes: Annotated[
        int | None, typer.Option(metavar="N", help="Random probes of the divergence, for rows of more than 32 elements.")
    ] = None,
    draws: Annotated[int | None, typer.Option(metavar="N", help="Draws of noise per row, or per term of the bound.")] = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Codes per row of a VAE or another coder; more make its bound tighter.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random numbers.")] = 0,
    device: Device = "",
    overwrite: Overwrite = False,
) -> None:
    """Score rows, write them, and show their mean."""
    from pushforward.metrics.text import bits_per_character
    from pushforward.models import load
    from pushforward.models.files.storage import read_card

    names = condition_of(condition, condition_images)
    path = _check(out, rows, bound=bound, probes=probes, condition=names, unconditional=unconditional)
    if path is not None:
        check_output(path, overwrite=overwrite)
    check_device(device)
    model: Any = load(run)
    verb = "bound" if bound else "log_prob"
    if not hasattr(model, verb):
        raise ValueError(_absent(verb, model))
    values, given = _open(model, read_card(run), data, names, unconditional)
    move(model, device)
    options = given_to(getattr(model, verb), {"steps": steps, "probes": probes, "draws": draws, "samples": samples})
    n = min(len(values), rows or len(values))
    result = _in_chunks(getattr(model, verb), values, given, n, seed, options)
    columns = _of_bound(result, bits_per_dim) if bound else _of_flow(result, bits_per_dim)
    if path is not None:
        import pandas as pd

        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame(columns)
        frame.to_csv(path, index=False) if path.suffix.lower() == ".csv" else frame.to_parquet(path, index=False)
        typer.echo(f"{len(frame):,} scores in {path}")
    typer.echo(_summary(columns, result, "variational bound" if bound else result.kind))
    text = model.space_.schema.text
    if text is not None:
        bits = bits_per_character(result.values, text.lengths(values[:n]))
        typer.echo(f"{bits.value:.4f} ± {(bits.high - bits.low) / 2 / 1.96:.2g} bits per character")


def _check(out: str, rows: int | None, *, bound: bool, probes: int | None, condition: Any, unconditional: bool) -> Path | None:
    """Return the path to write to, if any; raise for wrong options before any work."""
    if rows is not None and rows < 1:
        raise ValueError(f"--rows must be at least 1, got {rows}")
    if bound and probes is not None:
        raise ValueError("--probes belongs to the density of the flow; the bound has no divergence, so omit it")
    if condition is not None and unconditional:
        raise ValueError("--condition names columns to score with and --unconditional ignores them; give one of the two")
    path = Path(out).expanduser() if out else None
    if path is not None and path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}, but scores are written as {' or '.join(_FORMATS)}")
    return path


def _absent(verb: str, model: Any) -> str:
    if model.space_.schema.elements is not None:
        return (
            f"{type(model).__name__} learns tables as real coordinates, which have no density in the units of the data; "
            "a Circuit has one: train --model circuit"
        )
    coding = model.space_.transform.coding
    if coding is not None and not coding.exact:
        return (
            "some of these signals end early and are silent from there on, so they have no density; train on signals of one "
            f"length, e.g. --set length={max(model.space_.schema.signal.shortest, 2)}"
        )
    if not hasattr(model, "source"):
        return f"{type(model).__name__} has no {'such bound; omit --bound' if verb == 'bound' else 'density'}"
    if verb == "bound":
        return (
            "this model was trained with its own source or coupling, and the variational bound holds only for independent "
            "Gaussian noise; omit --bound"
        )
    return "this model starts from a source without a known density, so its samples have none either"


def _open(model: Any, card: dict[str, Any], data: str, names: Any, unconditional: bool) -> tuple[Any, Any]:
    """Return the rows of DATA and one condition per row, or None."""
    conditional = model.conditional and not unconditional
    if names is not None and not conditional:
        raise ValueError("this model was trained without conditions of its rows; omit --condition and --condition-images")
    chosen = card.get("chosen") or {}
    opened = model.space_.open(data, chosen, condition=names, conditional=conditional, gaps=model.gaps, stream=None)
    if conditional and opened.condition is None:
        raise ValueError(
            f"this model was trained with conditions, but {data} comes with none: name the columns that hold them with "
            "--condition, or score without conditions by --unconditional"
        )
    return opened.values, opened.condition


def _in_chunks(verb: Any, values: Any, condition: Any, n: int, seed: int, options: dict[str, Any]) -> Any:
    """Score the first ``n`` rows in parts with a progress bar; a row's score does not depend on the parts."""
    from rich.console import Console
    from rich.progress import track

    console, parts = Console(stderr=True), []
    hidden = n <= _CHUNK or not console.is_terminal
    for first in track(range(0, n, _CHUNK), description="Scoring", transient=True, disable=hidden, console=console):
        part = slice(first, min(first + _CHUNK, n))
        given = None if condition is None else condition[part]
        parts.append(verb(values[part], condition=given, seed=seed, first=first, **options))
    return type(parts[0]).concatenate(parts)


def _of_flow(result: Any, bits: bool) -> dict[str, Any]:
    shown = result.in_bits_per_dim() if bits else result
    return {
        "bits_per_dim" if bits else "log_prob": shown.values,
        "standard_error": shown.standard_error,
        "numerical_error": shown.numerical_error,
        "prior_mismatch": shown.prior_mismatch,
    }


def _of_bound(result: Any, bits: bool) -> dict[str, Any]:
    scale = 1 / (result.dims * math.log(2)) if bits else 1.0
    return {
        "bits_per_dim" if bits else "log_prob": result.bits_per_dim if bits else result.values,
        "standard_error": result.standard_error * scale,
    }


def _summary(columns: dict[str, Any], result: Any, kind: str) -> str:
    name, values = next(iter(columns.items()))
    unit = "bits per dimension" if name == "bits_per_dim" else "nats per row"
    n = len(values)
    impossible = sum(math.isinf(value) for value in values)
    spread = f" ± {values.std(ddof=1) / n**0.5:.2g}" if n > 1 and not impossible else ""
    parts = [f"{n:,} rows", kind, f"{result.nfe:,} network calls per row"]
    if "numerical_error" in columns:
        parts.append(f"numerical error {columns['numerical_error'].mean():.2g}")
    if impossible:
        parts.append(f"{impossible:,} of probability 0")
    if result.constants:
        parts.append(f"{result.constants} constant elements left out")
    return f"mean {'' if name == 'bits_per_dim' else 'log p '}{values.mean():.4f}{spread} {unit} ({', '.join(parts)})"
