"""What a model can do on the page Draw, and what it draws there as pictures, tables, texts, sounds and files."""

import base64
import inspect
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pushforward.data import check_target, write_samples
from pushforward.data.files.gaps import read_with_gaps
from pushforward.data.kinds.sound import playable, sound_bytes
from pushforward.diffusion import Sampler
from pushforward.models import plane
from pushforward.models.denoising.base import DEFAULT_STEPS
from pushforward.models.files.registry import family_name
from pushforward.models.tokens.unmasking import STEPS
from pushforward.models.uncovering import uncovered
from pushforward.studio.loaded import Models
from pushforward.studio.parts import column, scene_of
from pushforward.studio.workspace import Refused

__all__ = [
    "Abilities",
    "Shown",
    "able_to",
    "between",
    "call_of",
    "file_bytes",
    "fill_image",
    "fill_text",
    "image_of",
    "shown",
    "some_rows",
    "traversed",
]

_ENDINGS = ("csv", "parquet", "npy", "npz", "png", "txt", "wav", "flac", "gif", "zip")
_FILLINGS, _GAPPED, _MOST_GAPPED = 8, 6, 2000
_SOUNDS, _TEXTS, _PATHS = 6, 12, 1000


@dataclass(frozen=True)
class Abilities:
    """What a model can do, and the options that its ``sample`` takes."""

    family: str
    source: str
    samples: bool
    plane: bool
    structure: str
    usual: int
    endings: tuple[str, ...]
    classes: tuple[str, ...] = ()
    example: str = ""
    columns: tuple[str, ...] = ()
    guidance: bool = False
    steps: int = 0
    """Usual number of steps, 0 for families without."""
    sampler: bool = False
    temperature: bool = False
    prompt: bool = False
    part: Literal["", "image", "table", "text"] = ""
    size: tuple[int, int] = (0, 0)
    walks: bool = False
    codes: int = 0

    @property
    def guided(self) -> bool:
        """Whether samples can be asked for, with a scale of guidance."""
        return self.guidance and bool(self.classes or self.example)


def able_to(model: Any) -> Abilities:
    """Return what a model can do."""
    space, schema = model.space_, model.space_.schema
    encoder, samples = space.conditions, hasattr(model, "sample")
    takes = inspect.signature(model.sample).parameters if samples else {}
    image = schema.rules.structure == "grid"
    part: Literal["", "image", "table", "text"] = ""
    if hasattr(model, "impute"):
        part = "text" if schema.text is not None else "image" if image else "table" if schema.columns is not None else ""
    named = encoder is not None and encoder.image is None and not encoder.has_masks
    return Abilities(
        family=family_name(type(model)),
        source=str(model.data_["source"]),
        samples=samples,
        plane=plane.is_plane(model),
        structure=schema.rules.structure,
        usual=_usual_rows(schema),
        endings=endings_of(schema),
        classes=tuple(str(label) for label in encoder.classes) if named and encoder.has_classes else (),
        example=encoder.example if named and not encoder.has_classes else "",
        columns=tuple(map(str, schema.columns or ())) if model.given_columns else (),
        guidance="guidance" in takes,
        steps=_usual_steps(takes),
        sampler="sampler" in takes,
        temperature="temperature" in takes,
        prompt="prompt" in takes and schema.text is not None,
        part=part,
        size=tuple(schema.internal_shape[1:]) if image else (0, 0),
        walks=hasattr(model, "interpolate") and hasattr(model, "traverse"),
        codes=int(model.latent_dim_) if hasattr(model, "traverse") else 0,
    )


def _usual_rows(schema: Any) -> int:
    if schema.rules.structure == "points":  # each of them is many points
        return 16
    return 4 if schema.text is not None else 64 if schema.rules.drawn_singly else 200


def _usual_steps(takes: Mapping[str, inspect.Parameter]) -> int:
    if "steps" not in takes:
        return 0
    return takes["steps"].default or (DEFAULT_STEPS if "sampler" in takes else STEPS)


def endings_of(schema: Any) -> tuple[str, ...]:
    """Return the endings of files that can hold such rows, that of the kind first; "zip" stands for a folder."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        for ending in sorted(_ENDINGS, key=lambda ending: ending != schema.rules.ending):
            try:
                check_target(str(Path(place) / ("samples" if ending == "zip" else f"samples.{ending}")), schema)
            except (ValueError, OSError):
                continue
            found.append(ending)
    return tuple(found)


@dataclass(frozen=True)
class Shown:
    """Rows, and how the page shows them; ``moments`` are texts while they are drawn, at each moment."""

    values: Any
    scene: dict[str, Any] | None = None
    pictures: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    moments: list[list[str]] = field(default_factory=list)
    sounds: list[str] = field(default_factory=list)
    table: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None = None

    @property
    def square(self) -> plane.Square | None:
        """The part of the plane that the scene shows."""
        return None if self.scene is None else plane.Square(tuple(self.scene["square"][:2]), tuple(self.scene["square"][2:]))


def shown(
    model: Any, options: Mapping[str, Any], sampler: Sampler | None, able: Abilities, square: plane.Square | None = None
) -> Shown:
    """Draw rows, and return them as the page shows them; points in the plane in this part of it, by default around them."""
    given = dict(options)
    n, text = int(given["n"]), given.pop("condition", "")
    if text:
        given["condition"] = _condition(model, text, n)
    if sampler is not None:
        given["sampler"] = sampler
    if able.plane:
        return _in_plane(model, given, square)
    if model.space_.schema.text is not None and n <= _TEXTS:
        moments = uncovered(model, **given)
        return Shown(np.array(moments[-1], dtype=object), moments=moments)
    return as_shown(model, model.sample(**given))


def _condition(model: Any, text: str, n: int) -> Any:
    """Return what is written as a condition: a class for all rows, or values by name."""
    encoder = model.space_.conditions
    if encoder is not None and encoder.has_classes and not model.given_columns:
        return [encoder.parse(text)] * n
    if model.given_columns:
        rest, given = model.space_.split(text)
        return rest if given is None else {**(rest or {}), **given}
    return text


def _in_plane(model: Any, options: dict[str, Any], square: plane.Square | None) -> Shown:
    if hasattr(model, "denoiser_"):
        n, steps, condition = options.pop("n"), options.pop("steps", DEFAULT_STEPS), options.get("condition")
        values = model.sample(n, steps=steps, **options)
        kept = options | {"sampler": model.sample_sampler_}
        kept |= {"condition": condition[:_PATHS]} if isinstance(condition, list) else {}
        times, states = plane.paths(model, min(n, _PATHS), steps=steps, **kept)
        return Shown(values, scene_of(square or plane.Square.around(states[-1]), paths=(times, states)))
    values = model.sample(**options)
    points = np.asarray(values, dtype=float)
    return Shown(values, scene_of(square or plane.Square.around(points), samples=points))


def as_shown(model: Any, values: Any) -> Shown:
    """Return rows as the page shows rows of their kind."""
    schema = model.space_.schema
    if schema.text is not None:
        return Shown(values, texts=[str(text) for text in values[:_TEXTS]])
    sounds = []
    if schema.signal is not None and schema.signal.rate is not None and "wav" in endings_of(schema):
        clips, signal = playable(np.asarray(values[:_SOUNDS]), schema.signal)
        sounds = [data_uri(sound_bytes(clip[None], signal, "wav"), "audio/wav") for clip in clips]
    pictures = [picture_of(model, values)]
    if schema.rules.structure == "points":
        pictures = [data_uri(file_bytes(model, values[:8], "gif"), "image/gif"), *pictures]
    return Shown(values, pictures=pictures, sounds=sounds, table=table_of(values) if hasattr(values, "columns") else None)


def image_of(models: Models, folder: Path, model: Any, row: int) -> str:
    """Return one image of the data, or of the model where the data are gone, pixel for pixel."""
    return data_uri(_tile(model, _some_images(models, folder, model, row)), "image/png")


def fill_image(models: Models, folder: Path, model: Any, row: int, covered: Any, seed: int) -> str:
    """Return fillings of the covered part of an image of the data."""
    image = _some_images(models, folder, model, row)
    first = model.space_.schema.channels == "first"
    shape = covered.reshape(
        1, *([1] if first and image.ndim == 4 else []), *covered.shape, *([1] if not first and image.ndim == 4 else [])
    )
    known = np.broadcast_to(~shape, image.shape)
    filled = model.impute(image, mask=known, n=_FILLINGS, seed=seed)
    return picture_of(model, np.concatenate([np.asarray(each) for each in filled]))


def _some_images(models: Models, folder: Path, model: Any, row: int) -> Any:
    try:
        values = models.data_of(folder, model).values
        return np.asarray(values[row % len(values)])[None]
    except (ValueError, TypeError, OSError):
        return np.asarray(model.sample(1, seed=row))


def _tile(model: Any, image: Any) -> bytes:
    from PIL import Image

    rows = model.space_.kind.view(image, model.space_.schema.channels)
    low, high = _scale(model)
    unit = ((rows[0].astype(float) - low) / ((high - low) or 1.0)).clip(0, 1)
    shade = (unit if unit.ndim == 2 or unit.shape[2] == 3 else unit[..., :3].mean(2)) * 255
    content = io.BytesIO()
    Image.fromarray(shade.round().astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def some_rows(models: Models, folder: Path, model: Any) -> str:
    """Return a few rows with gaps to begin with, as text."""
    if model.space_.schema.text is not None:
        try:
            text = str(model.sample(1, seed=1)[0])
        except (ValueError, TypeError):
            return ""
        return text[:20] + "_____" + text[25:60]
    try:
        frame = models.data_of(folder, model).values.head(_GAPPED).copy()  # type: ignore[union-attr]
    except (ValueError, TypeError, OSError):
        frame = model.sample(_GAPPED, seed=1)
    frame = frame.astype(object)
    for row in range(len(frame)):
        frame.iat[row, row % frame.shape[1]] = ""
    return str(frame.to_csv(index=False))


def fill_text(model: Any, text: str, seed: int) -> Shown:
    """Return the rows of a text with its gaps filled."""
    if not text.strip():
        raise Refused("Write some rows first.")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / ("gaps.txt" if model.space_.schema.text is not None else "gaps.csv")
        path.write_text(text, encoding="utf-8")
        rows, _ = read_with_gaps(path, model.space_.schema)
    if len(rows) > _MOST_GAPPED:
        raise Refused(f"{len(rows):,} rows are more than the page can fill. Use the command: pushforward impute RUN FILE")
    filled = model.impute(rows, seed=seed)
    if model.space_.schema.text is not None:
        return Shown(filled, texts=[str(each) for each in filled])
    return Shown(filled, table=table_of(filled))


def between(models: Models, folder: Path, model: Any, first: int, second: int) -> Shown:
    """Return rows on the way between two rows of the data."""
    values = models.data_of(folder, model).values
    rows = [values.iloc[[i % len(values)]] if hasattr(values, "iloc") else values[i % len(values)] for i in (first, second)]
    made = model.interpolate(*rows, 10)
    return _walk(model, made)


def traversed(model: Any, element: int) -> Shown:
    """Return rows whose codes differ in one element."""
    return _walk(model, model.traverse(element, 10))


def _walk(model: Any, made: Any) -> Shown:
    if plane.is_plane(model):
        points = np.asarray(made, dtype=float)
        return Shown(made, scene_of(plane.Square.around(points), samples=points))
    return as_shown(model, made)


def _scale(model: Any) -> tuple[float, float]:
    transform = model.space_.transform
    return float(transform.low.min()), float(transform.high.max())


def file_bytes(model: Any, values: Any, ending: str) -> bytes:
    """Return the file that ``pushforward sample --out`` would write; a folder comes as a .zip."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / (f"samples.{ending}" if ending != "zip" else "samples")
        written = write_samples(path, values, model.space_.schema, scale=_scale(model))
        if not written.is_dir():
            return written.read_bytes()
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for file in sorted(written.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(written))
        return content.getvalue()


def picture_of(model: Any, values: Any) -> str:
    """Return rows as the picture of their kind, a data URI."""
    return data_uri(file_bytes(model, values, "png"), "image/png")


def data_uri(content: bytes, kind: str) -> str:
    """Return a file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table_of(frame: Any, most: int = 200) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the columns and rows of a DataFrame for a table of the page, cells as text; the page shows texts as they are."""
    columns = [column(f"c{i}", str(name)[:60]) for i, name in enumerate(frame.columns)]
    rows = [
        {f"c{i}": _cell(value) for i, value in enumerate(row)} | {"id": number}
        for number, row in enumerate(frame.head(most).itertuples(index=False))
    ]
    return columns, rows


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "—" if np.isnan(value) else float(f"{float(value):.6g}")
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return int(value)
    if value is None or str(value) in ("nan", "NaT", "<NA>", "None"):
        return "—"
    return str(value).removesuffix(" 00:00:00")[:200]


def call_of(folder: str, verb: str, options: Mapping[str, Any], sampler: str | None = None) -> str:
    """Return the Python that does the same.

    >>> print(call_of("runs/moons", "sample", {"n": 4, "seed": 1}, "pf.Heun()"))
    import pushforward as pf
    <BLANKLINE>
    model = pf.load('runs/moons')
    x = model.sample(n=4, seed=1, sampler=pf.Heun())
    """
    given = ", ".join([f"{name}={value!r}" for name, value in options.items()] + ([f"sampler={sampler}"] if sampler else []))
    return f"import pushforward as pf\n\nmodel = pf.load({folder!r})\nx = model.{verb}({given})"
