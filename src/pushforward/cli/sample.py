"""``pushforward sample``: draw new rows from a trained model and write them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import Device, check_device, move
from pushforward.cli.guidance import By, Interval, Negative, guided_by
from pushforward.cli.help import help_text
from pushforward.cli.options import Run, Seed, given_to
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

HELP = help_text(
    "Draw samples from the model in RUN.",
    "The same seed gives the same samples; the suffix of --out sets the format.",
    examples=[
        "pushforward sample runs/digits -n 100 --condition 7 --out sevens.png",
        "pushforward sample runs/digits --condition 3 --guidance-scale 2 --out 3.png",
        "pushforward sample runs/digits --condition 3 --negative 8 --guidance-scale 2",
        "pushforward sample runs/digits --condition 3 --guidance classifier",
        "pushforward sample runs/adult --condition 'sex=Female,age=40' --out 40.csv",
        "pushforward sample runs/photos --condition-images edges/ --out drawn/",
        "pushforward sample runs/digits -n 100 --sampler heun --seed 1 --out samples/",
        "pushforward sample runs/letters --prompt Dear --length 500 --out new.txt",
        "pushforward sample runs/moons -n 10000 --steps 40 --out moons.csv",
        "pushforward sample runs/adult -n 5000000 --seed 1 --out people/",
        "pushforward sample runs/shapes --condition torus --size 500 --out tori.gif",
    ],
)

_CHUNK, _DEFAULT = 256, 64


def command(
    run: Run,
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Number of samples. Default: 64, or one per image of a condition.")
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help=".png (one image of all), .npy, .npz, .csv, .parquet, .txt, .wav, .flac, or a folder of images, sounds, point "
            "clouds or texts; for rows and tables a folder of .parquet parts, of any number of samples; .gif (turning point "
            "clouds). Default: a file in RUN.",
        ),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(
            metavar="VALUES",
            help="A label, several labels used in turn, the numbers of a vector, or values by name: 'sex=Female,age=40'. Exact "
            "models take names of any columns.",
        ),
    ] = "",
    condition_images: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Folder of images, one image, or a .npy file, used in turn as conditions.", show_default=False
        ),
    ] = None,
    guidance_scale: Annotated[
        float, typer.Option(metavar="W", help="1 gives the learned conditional law, above 1 sharpens it, 0 ignores it.")
    ] = 1.0,
    guidance_interval: Interval = "",
    negative: Negative = "",
    guidance: By = "condition",
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps of the sampler; a calibrated number of steps uses its fit. Default: 20."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="N", help="Points of each set, for sets of points. Default: as in the training data.")
    ] = None,
    sampler: Annotated[
        str, typer.Option(metavar="NAME", help="E.g. heun, ddpm, ddim:eta=0.5, dpm-solver:order=3. Default: that of the run.")
    ] = "",
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="The beginning of all texts.")] = "",
    length: Annotated[int | None, typer.Option(metavar="N", help="Tokens of each text. Default: those of a row.")] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Below 1 favors likely values, above 1 unlikely ones. Default: 1.")
    ] = None,
    remask: Annotated[
        float | None, typer.Option(metavar="N", help="Times that each element is drawn anew given the others. Default: 0.")
    ] = None,
    gaps: Annotated[
        str, typer.Option(metavar="keep|fill", help="Gaps in rows of a table: as often as in the data, or filled.")
    ] = "keep",
    seed: Seed = None,
    device: Device = "",
    overwrite: Overwrite = False,
) -> None:
    """Draw samples and write them."""
    from pushforward.models import load
    from pushforward.models.recipe import named_sampler

    if n is not None and n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    check_device(device)
    guided = guided_by(guidance_scale, guidance_interval, negative, guidance)
    model: Any = load(run)
    if not hasattr(model, "sample"):
        raise ValueError(f"{run} holds an {type(model).__name__}, which learns no law to draw from; train a vae instead")
    images = None if condition_images is None else _condition_images(model, condition_images, condition)
    n = n if n is not None else _DEFAULT if images is None else len(images)
    target = _target(model, run, out, n, seed, overwrite=overwrite)
    move(model, device)
    asked: dict[str, Any] = {"steps": steps, "size": size, "guidance": guided}
    asked |= {"sampler": named_sampler(sampler) if sampler else None}
    asked |= {"prompt": prompt or None, "length": length, "temperature": temperature, "remask": remask}
    options = given_to(model.sample, asked) | {"gaps": gaps}
    conditions = _conditions_of(model, condition, images, by_classifier=guidance == "classifier")

    def drawn(first: int, count: int) -> tuple[Any, Any]:
        wanted, told = conditions(count, first)
        return _in_chunks(model, count, wanted, target.seed, options, first), told

    if target.in_parts:
        how = {name: value for name, value in asked.items() if name not in ("guidance", "sampler")}
        how |= {"condition": condition, "guidance": [guidance, guidance_scale, guidance_interval, negative]}
        how |= {"n": n, "seed": target.seed, "sampler": sampler, "gaps": gaps, "model": _weights(run)}
        _write_parts(target.path, how, model.space_.schema, drawn)
    else:
        _write(target.path, model.space_, *drawn(0, n))
    fitted = [found.sampler for found in getattr(model, "calibrations_", {}).values()]
    calibrated = getattr(model, "sample_sampler_", None) in fitted
    with_what = f", by the sampler calibrated to {steps} steps" if calibrated else ""
    typer.echo(f"{n:,} samples in {target.path} (seed {target.seed}{with_what})")


@dataclass(frozen=True)
class _Target:
    """Where samples go, and their seed; an unfinished folder of parts keeps the seed that it was begun with."""

    path: Path
    seed: int
    in_parts: bool


def _target(model: Any, run: Path, out: str, n: int, seed: int | None, *, overwrite: bool) -> _Target:
    """Return where samples go, after a check that they can be made and written there."""
    from pushforward.data import check_target
    from pushforward.data.files.parts import begun
    from pushforward.probability.noise import fresh_seed
    from pushforward.training.record.files import inside

    folder = Path(out).expanduser() if out and _is_folder(out) else None
    known = None if folder is None else begun(folder)
    seed = seed if seed is not None else fresh_seed() if known is None else int(known.get("seed", 0))
    target = out or str(inside(run, f"samples-seed-{seed}.{model.space_.kind.ending}"))
    in_parts = folder is not None and model.space_.kind.in_parts
    path = Path(target).expanduser() if in_parts else check_target(target, model.space_.schema)
    if known is None or not in_parts:
        check_output(path, overwrite=overwrite, folder=path.suffix == "" or path.is_dir())
    if not in_parts:
        model.check_room(n)
    return _Target(path, seed, in_parts)


def _write(path: Path, space: Any, values: Any, told: Any) -> None:
    """Write samples, with the condition of each."""
    from pushforward.data import write_samples

    low, high = float(space.transform.low.min()), float(space.transform.high.max())
    write_samples(path, values, space.schema, condition=told, scale=(low, high))


def _write_parts(path: Path, how: dict[str, Any], schema: Any, drawn: Callable[[int, int], tuple[Any, Any]]) -> None:
    """Draw and write the parts that a folder lacks."""
    from pushforward.data.files.parts import Parts

    parts = Parts(path, how)
    for part, first, count in parts.missing():
        parts.write(part, schema, *drawn(first, count))


def _conditions_of(model: Any, condition: str, images: Any, *, by_classifier: bool) -> Callable[[int, int], tuple[Any, Any]]:
    """Return a function from a number of samples, and the number of the first, to :func:`_conditions` of these."""
    by_classifier = by_classifier and hasattr(model, "classifier_")
    encoder = model.classifier_.encoder if by_classifier else model.space_.conditions
    rest: Any = condition
    given: Any = None
    if condition and model.given_columns and not by_classifier:
        rest, given = model.space_.split(condition)

    def of(n: int, first: int) -> tuple[Any, Any]:
        wanted, told = _conditions(encoder, rest, n, first)
        if images is not None:
            return [images[row % len(images)] for row in range(first, first + n)], told
        return wanted if given is None else {**(rest or {}), **given}, told

    return of


def _condition_images(model: Any, path: Path, condition: str) -> Any:
    """Return the images in a path as an array, after a check that the model takes them as conditions."""
    from pushforward.data.files.images import read_images

    if condition:
        raise ValueError("--condition and --condition-images both say what the condition is; give one of the two")
    encoder = model.space_.conditions
    if encoder is None or encoder.image is None:
        raise ValueError("this model was not trained with images as conditions; omit --condition-images")
    images = read_images(path)
    encoder.encode(images, len(images))
    return images


def _is_folder(out: str) -> bool:
    return out.endswith(("/", "\\")) or Path(out).suffix == "" or Path(out).expanduser().is_dir()


def _weights(run: Path) -> str:
    """Return the SHA-256 of the weights of a run."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(run.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _conditions(encoder: Any, text: Any, n: int, first: int = 0) -> tuple[Any, Any]:
    """Return the condition to sample with, and the condition to write with each sample, for n samples from ``first`` on.

    ``text`` may be values by name.
    """
    if not text or encoder is None:
        return text or None, None
    import numpy as np

    if encoder.table is not None:
        import pandas as pd

        encoder.encode(text, 1)
        return text, pd.DataFrame(np.repeat(encoder.plain(text), n, 0), columns=encoder.table.names)
    if not encoder.has_classes:
        encoder.encode(text, 1)
        numbers = np.asarray(encoder.plain(text), dtype=float).reshape(-1)
        return text, np.full(n, numbers[0]) if len(numbers) == 1 else np.tile(numbers, (n, 1))
    text = encoder.parse(text) if isinstance(text, str) else str(next(iter(text.values())))
    known = {str(label) for label in encoder.classes}
    labels = [text] if text in known else [part.strip() for part in text.split(",")]
    dealt = [labels[i % len(labels)] for i in range(first, first + n)]
    encoder.encode(labels, len(labels))
    return dealt, dealt


def _in_chunks(model: Any, n: int, condition: Any, seed: int, options: dict[str, Any], start: int = 0) -> Any:
    """Draw n samples from ``start`` on in parts, with a progress bar; a sample does not depend on the others."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = n <= _CHUNK or not console.is_terminal
    parts = []
    for first in track(range(0, n, _CHUNK), description="Sampling", transient=True, disable=hidden, console=console):
        count = min(_CHUNK, n - first)
        part = condition[first : first + count] if isinstance(condition, list) else condition
        parts.append(model.sample(count, condition=part, seed=seed, first=start + first, **options))
    return _joined(parts)


def _joined(parts: list[Any]) -> Any:
    import numpy as np
    import torch

    if isinstance(parts[0], list):
        return sum(parts[1:], parts[0])
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    import pandas as pd

    return pd.concat(parts, ignore_index=True)
