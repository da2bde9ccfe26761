"""A model as a folder that explains itself, and back: ``model.json`` and ``weights.safetensors``.

Only JSON and safetensors are read, and only classes of this library are named in them, so a folder from a stranger runs no
code. Both files are written to a temporary name and renamed, so a folder never holds half of one.
"""

import dataclasses
import json
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import pushforward
from pushforward.data import ConditionEncoder, RowSpace, Schema, Transform
from pushforward.models.base.model import GenerativeModel
from pushforward.models.files import codec
from pushforward.models.files.calibrations import Calibrated, read_calibrations, write_calibrations
from pushforward.training import TrainingResult

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


def save(model: GenerativeModel, folder: Path, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write a fitted model; ``extra`` facts go into its card."""
    folder.mkdir(parents=True, exist_ok=True)
    card, tensors = pack(model)
    temporary = folder / f".{WEIGHTS}.new"
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, temporary)
    write_calibrations(folder, {}, folder / WEIGHTS)  # at no moment do old tables stand beside new weights
    temporary.replace(folder / WEIGHTS)
    if isinstance(model, Calibrated):
        write_calibrations(folder, model.calibrations_, folder / WEIGHTS)
    write_card(folder, card | dict(extra or {}))


def pack(model: GenerativeModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a fitted model as its card and its tensors; :func:`unpack` takes both."""
    facts, tensors = model._state()
    parts: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {"transform": model.space_.transform.state()}
    if model.space_.conditions is not None:
        parts["condition"] = model.space_.conditions.state()
    for prefix, (_, part) in parts.items():
        tensors |= {f"{prefix}.{name}": value for name, value in part.items()}
    card = describe(model) | {
        "status": "finished",
        "transform": parts["transform"][0],
        "condition": parts["condition"][0] if "condition" in parts else None,
        "state": facts,
        "result": dataclasses.asdict(model.training_result_),
    }
    return card, tensors


def update(model: GenerativeModel, folder: Path) -> None:
    """Write what a model has learned since it was loaded from ``folder``; all else in its card stays as it was."""
    save(model, folder, extra={key: value for key, value in read_card(folder).items() if key != "state"})


def describe(model: GenerativeModel) -> dict[str, Any]:
    """Return what is known of a model before it is trained: class, arguments, data, seed, machine."""
    return {
        "format": _FORMAT,
        "pushforward": pushforward.__version__,
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


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``model.json`` in one piece."""
    temporary = folder / f".{CARD}.new"
    temporary.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / CARD)


def read_card(folder: str | Path) -> dict[str, Any]:
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


def resume_command(card: Mapping[str, Any], folder: Path) -> str:
    """Return the command that goes on with a run that was begun on the command line."""
    return shlex.join(["pushforward", "train", card["data"]["source"], "--out", str(folder), "--resume"])


def load(folder: str | Path, *, parts: Mapping[str, Any] | None = None) -> GenerativeModel:
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
    model = unpack(card, load_file(folder / WEIGHTS), parts)
    if isinstance(model, Calibrated):
        model.calibrations_ = read_calibrations(folder, folder / WEIGHTS, model.denoiser_.schedule)
    return model


def unpack(card: Mapping[str, Any], tensors: Mapping[str, Tensor], parts: Mapping[str, Any]) -> GenerativeModel:
    """Return the fitted model that :func:`pack` took apart; ``parts`` as in :func:`load`."""
    model = rebuild(card, "params", parts, stored=True)
    conditions = card["condition"]
    model.space_ = RowSpace(
        Schema.from_json(card["schema"]),
        Transform.from_state(card["transform"], under(tensors, "transform.")),
        None if conditions is None else ConditionEncoder.from_state(conditions, under(tensors, "condition.")),
    )
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


def rebuild(card: Mapping[str, Any], which: str, parts: Mapping[str, Any], *, stored: bool = False) -> GenerativeModel:
    """Return the unfitted model of a card, from its ``params`` or its ``resolved`` arguments.

    ``stored`` says that arrays among them are in the weights file, so that None may stand for them.
    """
    return _class(card["class"])(**_objects(card[which], parts, stored=stored))


def _class(name: str) -> type[GenerativeModel]:
    from pushforward.models.files.registry import MODELS

    if name not in MODELS:
        raise ValueError(
            f"there is no model {name!r} in this version of pushforward; it has {', '.join(MODELS)}. If the class is your own, "
            "import its file first, where pushforward.models.register makes it known"
        )
    return MODELS[name]


def _objects(
    plain: Mapping[str, Any],
    parts: Mapping[str, Any],
    *,
    only: tuple[str, ...] | None = None,
    stored: bool,
    within: str = "",
) -> dict[str, Any]:
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


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
