"""``model.json``, the card of a run folder: written in one piece, and checked when read, because anyone may have made it."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt
from pydantic import BaseModel, Field, ValidationError

from pushforward._version import __version__
from pushforward.data import ConditionKind, Facts
from pushforward.training.record.files import RunError, inside, read_file, write_file

__all__ = ["AGAIN", "CARD", "FORMAT", "WEIGHTS", "check_card", "parse", "read_card", "resume_command", "write_card"]

CARD, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = 2
AGAIN = "get the folder again from where it came, or train the model again"
_MOST_BYTES = 32 << 20
_DEEPEST = 40

Number = Annotated[int, Ge(0), Le(2**53)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Names = str | bool | list[str | int] | int | None


class _Part(BaseModel, strict=True):
    """A part of a card, of which other entries are ignored."""


class _Rows(_Part):
    source: str
    rows: Number
    held_out: Number
    fingerprint: str


class _Layout(_Part):
    kind: str
    row_shape: list[Number]
    dtypes: list[str]


class _Machine(_Part):
    threads: Annotated[int, Ge(1), Le(1024)]


class _Teacher(_Part):
    run: str
    weights: str


class _Chosen(_Part):
    columns: Names
    condition: Names
    condition_images: str | None = None
    teacher: _Teacher | None = None


class _Novelty(_Part):
    samples: float
    held_out: float
    ratio: float


class _Scaling(_Part):
    kind: str
    dtype: str


class _Condition(_Part):
    kind: ConditionKind
    classes: list[str | int | bool]
    gaps: bool
    table: dict[str, Any] | None
    image: list[Number] | None


class _Result(_Part, extra="forbid"):
    steps: Number
    seconds: Finite
    held_out_loss: float | None
    held_out_step: Number | None
    held_out_by_level: list[float | None] | None
    rows_per_second: Finite
    parameters: Number
    attempts: Number
    skipped: Number
    already_finished: bool


class _Weights(_Part):
    bytes: Number
    sha256: str


class Started(_Part):
    """The card of a run that is not finished."""

    pushforward: str
    class_: str = Field(alias="class")
    params: dict[str, Any]
    resolved: dict[str, Any]
    schema_: _Layout = Field(alias="schema")
    data: _Rows
    seed: Annotated[int, Ge(0), Lt(2**64)]
    machine: _Machine
    status: Literal["training", "finished"]
    chosen: _Chosen | None = None
    novelty: _Novelty | None = None


class Finished(Started):
    """The card of a model, alone or in a model of models."""

    state: dict[str, Any]
    transform: _Scaling
    condition: _Condition | None
    result: _Result


class Stored(Finished):
    """The card of a model with its weights."""

    weights: _Weights


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Write ``model.json`` atomically."""
    write_file(inside(folder, CARD), json.dumps(card, indent=1) + "\n")


def read_card(folder: str | Path) -> Facts:
    """Return ``model.json`` of a folder.

    Raises
    ------
    FileNotFoundError
        If the folder has none.
    RunError
        If it cannot be read, or does not hold what it should.
    """
    folder = Path(folder)
    path = folder / CARD
    try:
        card = parse(path, _MOST_BYTES, AGAIN)
    except (FileNotFoundError, NotADirectoryError):
        runs = sorted(str(card.parent) for card in folder.glob(f"*/{CARD}")) if folder.is_dir() else []
        near = Path("runs") / folder.name
        hint = f"; did you mean {runs[-1]}?" if runs else f"; did you mean {near}?" if (near / CARD).is_file() else ""
        raise FileNotFoundError(f"{folder} is not a run folder: it has no {CARD}{hint}") from None
    if card.get("format") != FORMAT:
        wrote = str(card.get("pushforward"))[:40]
        raise RunError(
            path,
            f"has format {str(card.get('format'))[:40]}, written by pushforward {wrote}, but pushforward {__version__} reads "
            f"format {FORMAT}",
            f"{_install(wrote)}, or train the model again",
        )
    try:
        check_card(card, Stored if card.get("status") == "finished" else Started)
    except ValueError as error:
        raise RunError(path, f"is no card of a run: {error}", AGAIN) from None
    return card


def _install(version: str) -> str:
    """Return how to get a version of pushforward; in words, if ``version`` is not one."""
    known = re.fullmatch(r"\d+(\.\d+)+((a|b|rc|\.dev|\.post)\d+)?", version, re.ASCII)
    return f"python -m pip install pushforward=={version}" if known else "use the version that wrote it"


def check_card(card: Mapping[str, object], kind: type[Started] = Finished) -> None:
    """Raise a ValueError if plain data are not the card of a model."""
    try:
        kind.model_validate(card)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    for part in ("params", "resolved"):
        for name, value in card[part].items():  # type: ignore[attr-defined]
            _check_plain(value, f"{part}.{name}", 0)
            if name == "training" and not isinstance(value, dict | None):
                raise ValueError(f"{part}.{name} is no object")


def _check_plain(value: object, where: str, depth: int) -> None:
    """Raise a ValueError unless a mapping is an object with a name, a part, or a tensor, down to the last."""
    if depth > _DEEPEST:
        raise ValueError(f"{where[:80]}: it is nested more than {_DEEPEST} times")
    if isinstance(value, dict):
        key = next((key for key in ("tensor", "part", "name") if key in value), None)
        if key is None or not isinstance(value[key], str):
            raise ValueError(f"{where[:80]} is an object without a name")
        if (
            where.endswith(".training")
            and "part" not in value
            and not (_is_count(value.get("steps")) and _is_count(value.get("batch_size")))
        ):
            raise ValueError(f"{where[:80]} has no numbers of steps and rows")
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in entries:
        if isinstance(item, dict | list):
            _check_plain(item, f"{where}.{name}", depth + 1)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= 2**53


def parse(path: Path, most: int, cure: str) -> Facts:
    """Return the mapping in a JSON file of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    RunError
        If it cannot be read; ``cure`` says what to do.
    """
    try:
        facts = json.loads(read_file(path, most))
    except RunError:
        raise
    except RecursionError:
        raise RunError(path, "is damaged: its brackets are nested too deep", cure) from None
    except ValueError as error:
        raise RunError(path, f"is damaged: {error}", cure) from None
    if not isinstance(facts, dict):
        raise RunError(path, "is damaged: it does not hold a mapping", cure)
    return facts


def resume_command(card: Facts, folder: Path) -> str:
    """Return the command that resumes a run that was started on the command line."""
    teacher = (card.get("chosen") or {}).get("teacher")
    if teacher is not None:
        return shlex.join(["pushforward", "distill", teacher["run"], "--out", str(folder), "--resume"])
    return shlex.join(["pushforward", "train", card["data"]["source"], "--out", str(folder), "--resume"])
