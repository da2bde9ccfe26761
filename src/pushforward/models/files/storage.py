"""Models on disk: ``model.json`` and ``weights.safetensors`` in a folder.

Only JSON and safetensors are read, and they can name only classes of this library and registered families, so an untrusted
folder runs no code. Files are written atomically. A family with further files lists their names in ``beside``, and writes and
reads them with ``_write_beside`` and ``_read_beside``.
"""

import dataclasses
import json
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from pushforward._version import __version__
from pushforward.data import Facts, RowSpace
from pushforward.models.files import codec
from pushforward.models.files.registry import MODELS
from pushforward.training import TrainingResult
from pushforward.training.process.gradients import with_gradients
from pushforward.training.record.files import write_file

__all__ = [
    "CARD",
    "WEIGHTS",
    "describe",
    "load",
    "pack",
    "read_card",
    "rebuild",
    "resume_command",
    "save",
    "under",
    "unpack",
    "update",
    "write_card",
]

CARD, WEIGHTS = "model.json", "weights.safetensors"
_FORMAT = 1
_ARRAYS = ("ndarray", "Tensor", "DataFrame")

T = TypeVar("T")


class Storable(Protocol):
    """The part of a model that is needed to store and rebuild it."""

    fitted: ClassVar[tuple[str, ...]]
    beside: ClassVar[tuple[str, ...]]
    space_: RowSpace
    training_result_: TrainingResult
    data_: Facts
    seed_: int

    def get_params(self, deep: bool = True) -> Facts: ...
    def _resolved(self) -> Facts: ...
    def _name_features(self) -> None: ...
    def _state(self) -> tuple[Facts, dict[str, Tensor]]: ...
    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None: ...
    def _write_beside(self, weights: Path) -> None: ...
    def _read_beside(self, weights: Path) -> None: ...


def save(model: Storable, folder: Path, *, extra: Mapping[str, object] | None = None) -> None:
    """Write a fitted model; ``extra`` is added to its card."""
    folder.mkdir(parents=True, exist_ok=True)
    card, tensors = pack(model)
    for name in {*model.beside, *_beside_in(folder)}:  # so that old files never lie beside new weights
        (folder / name).unlink(missing_ok=True)
    content = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_file(folder / WEIGHTS, safetensors.torch.save(content))
    model._write_beside(folder / WEIGHTS)
    write_card(folder, card | dict(extra or {}))


def _beside_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the further files of the model that the folder holds, which may be of another family."""
    try:
        family: type[Storable] = MODELS[read_card(folder)["class"]]
        return family.beside
    except (FileNotFoundError, ImportError, KeyError, ValueError):
        return ()


def pack(model: Storable) -> tuple[Facts, dict[str, Tensor]]:
    """Return the card and the tensors of a fitted model, for :func:`unpack`."""
    facts, tensors = model._state()
    space_facts, space_tensors = model.space_.state()
    card = describe(model) | {"status": "finished", "state": facts, "result": dataclasses.asdict(model.training_result_)}
    return card | space_facts, tensors | space_tensors


def update(model: Storable, folder: Path) -> None:
    """Write what a model has learned since it was loaded from ``folder``; the rest of its card is unchanged."""
    save(model, folder, extra={key: value for key, value in read_card(folder).items() if key != "state"})


def describe(model: Storable) -> Facts:
    """Return the card of a model before training: class, arguments, data, seed, machine."""
    return {
        "format": _FORMAT,
        "pushforward": __version__,
        "class": type(model).__name__,
        "params": {name: codec.to_plain(value) for name, value in model.get_params(deep=False).items()},
        "resolved": {name: codec.to_plain(value) for name, value in model._resolved().items()},
        "schema": model.space_.schema.to_json(),
        "data": model.data_,
        "seed": model.seed_,
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
        },
    }


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Write ``model.json`` atomically."""
    write_file(folder / CARD, json.dumps(card, indent=1) + "\n")


def read_card(folder: str | Path) -> Facts:
    """Return ``model.json`` of a folder; raise FileNotFoundError or ValueError if it cannot be read."""
    path = Path(folder) / CARD
    if not path.is_file():
        runs = sorted(str(card.parent) for card in Path(folder).glob(f"*/{CARD}")) if Path(folder).is_dir() else []
        near = Path("runs") / Path(folder).name
        hint = f"; did you mean {runs[-1]}?" if runs else f"; did you mean {near}?" if (near / CARD).is_file() else ""
        raise FileNotFoundError(f"{folder} is not a run folder: it has no {CARD}{hint}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if card.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {card.get('format')}, but this version of pushforward reads format {_FORMAT}; "
            f"it was written by pushforward {card.get('pushforward')}"
        )
    return dict(card)


def resume_command(card: Facts, folder: Path) -> str:
    """Return the command that resumes a run that was started on the command line."""
    return shlex.join(["pushforward", "train", card["data"]["source"], "--out", str(folder), "--resume"])


@with_gradients
def load(folder: str | Path, *, parts: Mapping[str, object] | None = None) -> Any:
    """Load a model that ``save`` or ``pushforward train`` wrote.

    Parameters
    ----------
    folder : str or path
    parts : mapping, optional
        Objects from outside pushforward, by the name of their argument, e.g. ``{"network": MyNetwork()}``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds no finished model, or a part is missing.
    """
    folder, parts = Path(folder), parts or {}
    card = read_card(folder)
    if card["status"] != "finished":
        raise ValueError(
            f"{folder} holds an unfinished run, so there is no model yet; resume it with `{resume_command(card, folder)}`"
        )
    model = unpack(card, safetensors.torch.load_file(folder / WEIGHTS), parts)
    model._read_beside(folder / WEIGHTS)
    return model


def unpack(card: Facts, tensors: Mapping[str, Tensor], parts: Mapping[str, object]) -> Storable:
    """Return the fitted model from the output of :func:`pack`; ``parts`` as in :func:`load`."""
    model: Storable = rebuild(card, "params", parts, stored=True)
    model.space_ = RowSpace.from_state(card, tensors)
    resolved = _objects(card["resolved"], parts, only=model.fitted, stored=True)
    for name, value in resolved.items():
        setattr(model, f"{name}_", value)
    model.seed_, model.data_ = card["seed"], card["data"]
    model._name_features()
    result = dict(card["result"])
    if result["held_out_by_level"] is not None:
        result["held_out_by_level"] = tuple(result["held_out_by_level"])
    model._restore(card["state"], dict(tensors), parts)
    model.training_result_ = TrainingResult(**result)
    return model


def rebuild(card: Facts, which: str, parts: Mapping[str, object], *, stored: bool = False) -> Any:
    """Return the unfitted model of a card, from its ``params`` or its ``resolved`` arguments.

    With ``stored``, arrays among them become None, because they are in the weights file.
    """
    return _class(card["class"])(**_objects(card[which], parts, stored=stored))


def _class(name: str) -> type:
    if name not in MODELS:
        raise ValueError(
            f"there is no model {name!r} in this version of pushforward; it has {', '.join(MODELS)}. If the class belongs to "
            "another package, install that; if it is your own, import its file first, where pushforward.models.register "
            "registers it"
        )
    return MODELS[name]


def _objects(
    plain: Facts, parts: Mapping[str, object], *, only: tuple[str, ...] | None = None, stored: bool, within: str = ""
) -> dict[str, object]:
    """Return objects by name; ``within`` is the prefix of the names in a model inside a model."""
    objects: dict[str, object] = {}
    for name, value in plain.items():
        if only is not None and name not in only:
            continue
        whole = within + name
        if whole in parts:
            objects[name] = parts[whole]
        elif codec.is_model(value):
            fields = {key: item for key, item in value.items() if key != "name"}
            objects[name] = _class(value["name"])(**_objects(fields, parts, stored=stored, within=f"{whole}__"))
        elif codec.is_part(value):
            if not (stored and value["part"] in _ARRAYS):
                raise ValueError(
                    f"this model was trained with your own {value['part']} as its {whole}, which is never imported from "
                    f"a file; pass it again: pushforward.load(folder, parts={{{whole!r}: {value['part']}(...)}}), "
                    "or to resume pushforward.train(data, model, out=folder, resume=True) with a model that has it"
                )
            objects[name] = None
        else:
            objects[name] = codec.from_plain(value, where=name)
    return objects


def under(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the values whose names start with ``prefix``, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
