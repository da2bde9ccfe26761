"""Models on disk: ``model.json`` and ``weights.safetensors`` in a folder.

Only JSON and safetensors are read, and they can name only classes of this library and registered families, so an untrusted
folder runs no code; whatever else is wrong in it ends in a :class:`~pushforward.training.RunError`. A tracker, which starts a
program or sends data, is never read from a folder, but passed again. A family with further files lists their names in
``beside``, and writes and reads them with ``_write_beside`` and ``_read_beside``.

The card names the SHA-256 of its weights. New weights are first written beside the old ones, then the card, which makes them
valid, and then they take their place; :func:`read_weights` takes the file that the card names, so that a kill at any moment
leaves a folder that can be loaded.
"""

import contextlib
import dataclasses
import hashlib
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pushforward._version import __version__
from pushforward.data import Facts, RowSpace
from pushforward.models.files import codec
from pushforward.models.files.card import AGAIN, CARD, FORMAT, WEIGHTS, check_card, read_card, resume_command, write_card
from pushforward.models.files.hub import fetched, is_remote
from pushforward.models.files.params import check_params, hints
from pushforward.models.files.registry import MODELS
from pushforward.training import TrainingResult, TrainingSettings
from pushforward.training.process.gradients import with_gradients
from pushforward.training.process.size import networks_explained_by
from pushforward.training.record.files import RunError, commit_file, inside, stage_file, staged

__all__ = [
    "CARD",
    "WEIGHTS",
    "blamed_on",
    "describe",
    "load",
    "pack",
    "parts_of",
    "read_card",
    "rebuild",
    "resume_command",
    "save",
    "trackers_in",
    "under",
    "unpack",
    "update",
    "write_card",
]

_ARRAYS = ("ndarray", "Tensor", "DataFrame")

T = TypeVar("T")


class _MissingError(ValueError):
    """Something that a card names is missing; the message says how to supply it."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f"{problem}; {cure}")
        self.problem, self.cure = problem, cure


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
    def _write_beside(self, folder: Path, weights: list[str]) -> None: ...
    def _read_beside(self, folder: Path, weights: str) -> None: ...


def save(model: Storable, folder: Path, *, extra: Mapping[str, object] | None = None) -> None:
    """Write a fitted model; ``extra`` is added to its card."""
    card, tensors = pack(model)
    _store(model, folder, card | dict(extra or {}), tensors)


def update(model: Storable, folder: Path) -> None:
    """Write what a model has learned since it was loaded from ``folder``; the rest of its card is unchanged."""
    known = read_card(folder)
    card, tensors = pack(model)
    _store(model, folder, known | {"state": card["state"]}, tensors, valid=[known["weights"]["sha256"]])


def _store(model: Storable, folder: Path, card: Facts, tensors: dict[str, Tensor], valid: list[str] | None = None) -> None:
    """Write a card and its weights; files beside them are also valid for the weights with the checksums ``valid``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = inside(folder, WEIGHTS)
    _settle(folder)
    content = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    stage_file(path, saved := safetensors.torch.save(content))
    digest = hashlib.sha256(saved).hexdigest()
    if valid is None:
        for name in {*model.beside, *_beside_in(folder)}:  # old files must not lie beside new weights
            inside(folder, name).unlink(missing_ok=True)
    else:
        model._write_beside(folder, [digest, *valid])
    write_card(folder, card | {"weights": {"bytes": len(saved), "sha256": digest}})
    commit_file(path)
    if valid is None:
        model._write_beside(folder, [digest])


def _settle(folder: Path) -> None:
    """Put the weights that the card names in their place, if a kill has left them beside the old ones."""
    with contextlib.suppress(FileNotFoundError, RunError):
        stated = read_card(folder).get("weights")
        if stated and _weights_of(folder, stated) == staged(folder / WEIGHTS):
            commit_file(folder / WEIGHTS)


def _weights_of(folder: Path, stated: Facts) -> Path:
    """Return the file with the weights that a card names; RunError if there is none."""
    path = inside(folder, WEIGHTS)
    for file in (path, inside(folder, staged(path).name)):
        if file.is_file() and file.stat().st_size == stated["bytes"]:
            with file.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() == stated["sha256"]:
                    return file
    if not path.is_file():
        raise RunError(path, "is missing", AGAIN)
    raise RunError(path, f"is damaged or of another model: its checksum is not the one in {CARD}", AGAIN)


def read_weights(folder: Path, card: Facts) -> dict[str, Tensor]:
    """Return the tensors that a card belongs to.

    Raises
    ------
    RunError
        If they are missing, damaged, those of another card, or not finite.
    """
    path = _weights_of(folder, card["weights"])
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, KeyError) as error:
        raise RunError(path, f"is damaged: {error}", AGAIN) from None
    for name, value in tensors.items():
        # Gaps in training conditions are NaN.
        if value.is_floating_point() and not name.endswith("condition.rows") and not bool(value.isfinite().all()):
            raise RunError(path, f"has NaN or infinite numbers in {name!r}", AGAIN)
    return tensors


def _beside_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the further files of the model that the folder holds, which may be of another family."""
    try:
        family: type[Storable] = MODELS[read_card(folder)["class"]]
        return family.beside
    except (FileNotFoundError, ImportError, KeyError, RunError):
        return ()


def pack(model: Storable) -> tuple[Facts, dict[str, Tensor]]:
    """Return the card and the tensors of a fitted model, for :func:`unpack`."""
    facts, tensors = model._state()
    space_facts, space_tensors = model.space_.state()
    card = describe(model) | {"status": "finished", "state": facts, "result": dataclasses.asdict(model.training_result_)}
    return card | space_facts, tensors | space_tensors


def describe(model: Storable) -> Facts:
    """Return the card of a model before training: class, arguments, data, seed, machine."""
    return {
        "format": FORMAT,
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


@with_gradients
def load(folder: str | Path, *, parts: Mapping[str, object] | None = None) -> Any:
    """Load a model that ``save`` or ``pushforward train`` wrote.

    Parameters
    ----------
    folder : str or path
        Of a run; or "hf://owner/name" (or "hf://owner/name@revision"), a model on a hub of Hugging Face.
    parts : mapping, optional
        Objects from outside pushforward, by the name of their argument, e.g. ``{"network": MyNetwork()}``, and trackers of a
        further ``fit``, ``{"training__tracker": "tensorboard"}``: loading a folder never starts one.

    Raises
    ------
    FileNotFoundError
        If there is no run in the folder.
    RunError
        If a file in it is damaged or not what it should be, the run is unfinished, or a part is missing.
    OSError
        If a hub cannot be reached.
    """
    if is_remote(folder):
        with fetched(folder) as local:
            return load(local, parts=parts)
    folder, parts = Path(folder), parts or {}
    card = read_card(folder)
    if card["status"] != "finished":
        command = resume_command(card, folder)
        raise RunError(folder, "holds an unfinished run, so there is no model yet", f"resume it with `{command}`")
    tensors = read_weights(folder, card)
    with blamed_on(folder / CARD), networks_explained_by(card["weights"]["bytes"]):
        model = unpack(card, tensors, parts)
    model._read_beside(folder, card["weights"]["sha256"])
    return model


@contextlib.contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Raise a RunError that names the file for an error inside: the classes that a card names check what it holds."""
    try:
        yield
    except (RunError, ImportError, MemoryError):
        raise
    except _MissingError as error:
        raise RunError(path, error.problem, error.cure) from None
    except Exception as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(path, f"does not describe a model that this version can build: {reason[:500]}", AGAIN) from error


def unpack(card: Facts, tensors: Mapping[str, Tensor], parts: Mapping[str, object]) -> Storable:
    """Return the fitted model from the output of :func:`pack`; ``parts`` as in :func:`load`."""
    check_card(card)
    model: Storable = rebuild(card, "params", parts, stored=True)
    model.space_ = RowSpace.from_state(card, tensors)
    resolved = _objects(card["resolved"], parts, only=model.fitted, stored=True)
    _check_resolved(model, resolved)
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


def _check_resolved(model: Storable, resolved: Facts) -> None:
    """Raise a ValueError or TypeError unless there is an allowed value for every argument that ``fit`` resolves."""
    missing = [name for name in model.fitted if name not in resolved]
    if missing:
        raise ValueError(f"resolved has no {missing[0]}")
    check_params(type(model), {name: resolved[name] for name in model.fitted if name in hints(type(model))})
    resolves = get_type_hints(type(model))
    for name in model.fitted:
        # An argument may be None, for a default; its resolved value is not None unless the type of its attribute allows it.
        if resolved[name] is None and type(None) not in get_args(resolves.get(f"{name}_", None | object)):
            raise ValueError(f"resolved has no {name}")


def rebuild(card: Facts, which: str, parts: Mapping[str, object], *, stored: bool = False) -> Any:
    """Return the unfitted model of a card, from its ``params`` or its ``resolved`` arguments.

    With ``stored``, arrays among them become None, because they are in the weights file.
    """
    cls, objects = _class(card["class"]), _objects(card[which], parts, stored=stored)
    check_params(cls, objects)
    return cls(**objects)


def _class(name: str) -> type:
    if name not in MODELS:
        raise _MissingError(
            f"names a model {name!r}, which this version of pushforward does not have; it has {', '.join(MODELS)}",
            "if the class belongs to another package, install that; if it is your own, import its file first, where "
            "pushforward.models.register registers it",
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
                raise _MissingError(
                    f"is that of a model with your own {value['part']} as its {whole}, which is never imported from a file",
                    f"pass it again: pushforward.load(folder, parts={{{whole!r}: {value['part']}(...)}}), or to resume "
                    "pushforward.train(data, model, out=folder, resume=True) with a model that has it",
                )
            objects[name] = None
        else:
            objects[name] = made = codec.from_plain(_without_trackers(value), where=name)
            if isinstance(made, TrainingSettings):
                objects[name] = dataclasses.replace(made, tracker=parts.get(f"{whole}__tracker"))  # type: ignore[arg-type]
    return objects


def _without_trackers(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_without_trackers(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    kept = {key: _without_trackers(item) for key, item in plain.items()}
    return kept | {"tracker": None} if kept.get("name") == TrainingSettings.__name__ else kept


def trackers_in(plain: Facts) -> dict[str, str | None]:
    """Return the trackers that the arguments of a card name, by the names under which ``parts`` may hold them."""
    found: dict[str, str | None] = {}
    for name, value in plain.items():
        if codec.is_model(value) and isinstance(value, dict):
            found |= {f"{name}__{key}": tracker for key, tracker in trackers_in(value).items()}
        elif isinstance(value, dict) and value.get("name") == TrainingSettings.__name__:
            found[f"{name}__tracker"] = value.get("tracker")
    return found


def parts_of(model: Storable) -> dict[str, object]:
    """Return the arguments of a model that a folder does not restore: objects from outside pushforward, and trackers."""
    arguments = model.get_params()
    parts = {name: value for name, value in arguments.items() if codec.is_part(codec.to_plain(value))}
    settings = {name: value for name, value in arguments.items() if isinstance(value, TrainingSettings)}
    return parts | {f"{name}__tracker": value.tracker for name, value in settings.items() if value.tracker is not None}


def under(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the values whose names start with ``prefix``, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
