"""A model as a folder that explains itself, and back: ``model.json`` and ``weights.safetensors``.

Only JSON and safetensors are read, and only classes of this library and families are named in them, so a folder from a
stranger runs no code. Files are written in one piece, so a folder never holds half of one. What a family keeps besides is its
own: it says the names of its files by ``beside``, and writes and reads them by ``_write_beside`` and ``_read_beside``.
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
from pushforward.training.files import write_file

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
    """What is known here of a model: enough to take it apart and to put it together again."""

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
    """Write a fitted model; ``extra`` facts go into its card."""
    folder.mkdir(parents=True, exist_ok=True)
    card, tensors = pack(model)
    for name in model.beside:  # at no moment do old ones stand beside new weights
        (folder / name).unlink(missing_ok=True)
    content = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_file(folder / WEIGHTS, safetensors.torch.save(content))
    model._write_beside(folder / WEIGHTS)
    write_card(folder, card | dict(extra or {}))


def pack(model: Storable) -> tuple[Facts, dict[str, Tensor]]:
    """Return a fitted model as its card and its tensors; :func:`unpack` takes both."""
    facts, tensors = model._state()
    plain, own = model.space_.state()
    card = describe(model) | {"status": "finished", "state": facts, "result": dataclasses.asdict(model.training_result_)}
    return card | plain, tensors | own


def update(model: Storable, folder: Path) -> None:
    """Write what a model has learned since it was loaded from ``folder``; all else in its card stays as it was."""
    save(model, folder, extra={key: value for key, value in read_card(folder).items() if key != "state"})


def describe(model: Storable) -> Facts:
    """Return what is known of a model before it is trained: class, arguments, data, seed, machine."""
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
    """Write ``model.json`` in one piece."""
    write_file(folder / CARD, json.dumps(card, indent=1) + "\n")


def read_card(folder: str | Path) -> Facts:
    """Return ``model.json`` of a folder, or say why it cannot be read."""
    path = Path(folder) / CARD
    if not path.is_file():
        runs = sorted(str(found.parent) for found in Path(folder).glob(f"*/{CARD}")) if Path(folder).is_dir() else []
        near = Path("runs") / Path(folder).name
        hint = f"; did you mean {runs[-1]}?" if runs else f"; did you mean {near}?" if (near / CARD).is_file() else ""
        raise FileNotFoundError(f"{folder} is not a run folder: it has no {CARD}{hint}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if card.get("format") != _FORMAT:
        raise ValueError(
            f"{path} has format {card.get('format')}, and this version of pushforward reads format {_FORMAT}; "
            f"it was written by pushforward {card.get('pushforward')}"
        )
    return dict(card)


def resume_command(card: Facts, folder: Path) -> str:
    """Return the command that goes on with a run that was begun on the command line."""
    return shlex.join(["pushforward", "train", card["data"]["source"], "--out", str(folder), "--resume"])


def load(folder: str | Path, *, parts: Mapping[str, object] | None = None) -> Any:
    """Load a model that ``save`` or ``pushforward train`` wrote.

    Parameters
    ----------
    folder : str or path
    parts : mapping, optional
        Objects that did not ship with pushforward, by the name of the argument they were given for, e.g.
        ``{"network": MyNetwork()}``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds no finished model, or a part is missing.
    """
    folder, parts = Path(folder), parts or {}
    card = read_card(folder)
    if card["status"] != "finished":
        raise ValueError(
            f"{folder} holds a run that is not finished, so there is no model yet; go on with `{resume_command(card, folder)}`"
        )
    model = unpack(card, safetensors.torch.load_file(folder / WEIGHTS), parts)
    model._read_beside(folder / WEIGHTS)
    return model


def unpack(card: Facts, tensors: Mapping[str, Tensor], parts: Mapping[str, object]) -> Storable:
    """Return the fitted model that :func:`pack` took apart; ``parts`` as in :func:`load`."""
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

    ``stored`` says that arrays among them are in the weights file, so that None may stand for them.
    """
    return _class(card["class"])(**_objects(card[which], parts, stored=stored))


def _class(name: str) -> type:
    if name not in MODELS:
        raise ValueError(
            f"there is no model {name!r} in this version of pushforward; it has {', '.join(MODELS)}. If the class is "
            "of another package, install that; if it is your own, import its file first, where pushforward.models.register "
            "makes it known"
        )
    return MODELS[name]


def _objects(
    plain: Facts, parts: Mapping[str, object], *, only: tuple[str, ...] | None = None, stored: bool, within: str = ""
) -> dict[str, object]:
    """Return objects by name; ``within`` is what comes before the names where they belong to a model inside a model."""
    made = {}
    for name, value in plain.items():
        if only is not None and name not in only:
            continue
        whole = within + name
        if whole in parts:
            made[name] = parts[whole]
        elif codec.is_model(value):
            fields = {key: item for key, item in value.items() if key != "name"}
            made[name] = _class(value["name"])(**_objects(fields, parts, stored=stored, within=f"{whole}__"))
        elif codec.is_part(value):
            if not (stored and value["part"] in _ARRAYS):
                raise ValueError(
                    f"this model was trained with a {value['part']} of your own as its {whole}, which is never imported from "
                    f"a file; supply it again: pushforward.load(folder, parts={{{whole!r}: {value['part']}(...)}}), "
                    "or to resume pushforward.train(data, model, out=folder, resume=True) with a model that has it"
                )
            made[name] = None
        else:
            made[name] = codec.from_plain(value, where=name)
    return made


def under(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the values whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
