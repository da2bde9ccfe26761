"""A training run in a folder, which can be killed at any time and resumed.

model.json            class, arguments, data, seed, machine; once finished also the result
weights.safetensors   weights for sampling (once finished)
checkpoint/           state for resuming
metrics.jsonl         one line per log step
samples/              plots of samples during training
samples.png           the plot after training
.lock                 while a process trains here, so that no other does
"""

import contextlib
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pushforward import training
from pushforward._messages import printable
from pushforward.data import ColumnTypes, Condition, Data, Dataset, Facts, Names, Schema, open_data
from pushforward.data.open import chosen_condition
from pushforward.models.base.model import GenerativeModel
from pushforward.models.base.plan import Plan, plan
from pushforward.models.files.storage import CARD, blamed_on, load, parts_of, read_card, rebuild, resume_command, trackers_in
from pushforward.models.recipe import assemble
from pushforward.training.process.size import networks_explained_by
from pushforward.training.record.claim import FolderInUse, claimed, is_vacant
from pushforward.training.record.files import RunError

__all__ = ["begun", "chosen_of", "new_run", "newest_run", "reopen", "run_folder", "same_threads", "stopped_run", "train"]


def train(
    data: Data,
    model: GenerativeModel | None = None,
    *,
    out: str | Path | None = None,
    condition: Condition = None,
    columns: Names = None,
    resume: bool = False,
) -> GenerativeModel:
    """Train a model in a run folder, with checkpoints and plots; or resume a stopped run.

    Parameters
    ----------
    data : anything that ``fit`` takes
    model : estimator, optional
        Not yet fitted; default ``FlowMatching()``, for tables ``Circuit()``. ``resume`` reads all arguments from the folder,
        except those that a folder cannot hold, such as your own network or source, and the tracker, which it takes from this
        model.
    out : path, optional
        The folder; default ``runs/<name of the data>``. An existing run is never overwritten: ``-2``, ``-3``, ... is added.
    condition, columns : optional
        As for :func:`pushforward.open_data`.
    resume : bool
        Resume the run in ``out`` (by default the newest of its name), with the columns that it was started with. A finished run
        is loaded and returned.

    Returns
    -------
    model
        The fitted model; ``model.run_`` is its folder.

    Raises
    ------
    FolderInUse
        If another process trains the run that is to be resumed. It is an :class:`OSError`.
    """
    if not resume:
        began = time.perf_counter()
        opening = {} if model is None else model._opening
        dataset = open_data(data, condition=condition, columns=columns, gaps=True, **opening)
        chosen = chosen_of(columns, condition)
        with new_run(out, dataset.source) as folder:
            return plan(dataset, model or assemble({}, dataset), chosen=chosen, began=began).start(folder)
    folder = newest_run(out, _source(data))
    if read_card(folder)["status"] == "finished":
        finished: GenerativeModel = load(folder)
        finished.run_ = folder
        return finished
    parts = {} if model is None else parts_of(model)
    with stopped_run(folder):
        return reopen(data, folder, condition=condition, columns=columns, parts=parts).start(folder, resume=True)


def reopen(
    data: Data | Dataset,
    folder: Path,
    *,
    condition: Condition = None,
    columns: Names = None,
    parts: Mapping[str, object] | None = None,
) -> "Plan":
    """Return the plan of a stopped run, to start with ``resume``; ValueError if the data have changed.

    ``data`` may also be a :class:`~pushforward.data.Dataset`; ``parts`` as in :func:`pushforward.load`.
    """
    card, parts = read_card(folder), parts or {}
    if "chosen" not in card:
        raise RunError(folder / CARD, "is of a model that was saved, not of a run", "load it with pushforward.load(folder)")
    chosen = card["chosen"]
    if chosen.get("teacher") is not None:
        raise RunError(folder / CARD, "is of a model that is distilled", f"resume it with `{resume_command(card, folder)}`")
    condition = chosen_condition(chosen) if condition is None else condition
    dataset = data if isinstance(data, Dataset) else _opened(data, card, condition, columns)
    if card["data"]["fingerprint"] != dataset.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data than {dataset.source} holds now; "
            "pass the same rows, columns and condition, or start a new run without resume"
        )
    _say_trackers(card, folder, parts)
    same_threads(card)
    # Only the folder's own files explain the size of its networks; before the first checkpoint there are none.
    stored = sum(path.stat().st_size for path in folder.rglob("*.safetensors") if not path.is_symlink())
    with blamed_on(folder / CARD), networks_explained_by(stored) if stored else contextlib.nullcontext():
        return plan(dataset, rebuild(card, "resolved", parts), chosen=chosen)


def begun(data: Data, folder: Path) -> Plan:
    """Return the plan of a run that another process trains, to show its state; ValueError if the data have changed."""
    card = read_card(folder)
    if "chosen" not in card or card["chosen"].get("teacher") is not None:
        raise RunError(folder / CARD, "is not of a run on data", "wait until it is finished, and load it")
    dataset = _opened(data, card, chosen_condition(card["chosen"]), None)
    if card["data"]["fingerprint"] != dataset.fingerprint:
        raise ValueError(f"{folder} is trained on other data than {dataset.source} holds now; wait until it is finished")
    with blamed_on(folder / CARD):
        return plan(dataset, rebuild(card, "resolved", {}), chosen=card["chosen"])


def _opened(data: Data, card: Facts, condition: Condition, columns: Names) -> Dataset:
    """Open the data of a run as it did."""
    schema = Schema.from_json(card["schema"])
    return open_data(
        data,
        condition=condition,
        columns=card["chosen"]["columns"] if columns is None else columns,
        kind=card["schema"]["kind"],
        gaps=True,
        types=schema.table,
        text=schema.text,
        condition_types=_condition_types(card, condition),
        **_opening(card),
    )


def chosen_of(columns: Names, condition: Condition) -> Facts:
    """Return what was named of the data of a run, as its card stores it.

    >>> chosen_of(None, Path("edges"))
    {'columns': None, 'condition': None, 'condition_images': 'edges'}
    """
    images = str(condition) if isinstance(condition, Path) else None
    return {"columns": columns, "condition": condition if _named(condition) else None, "condition_images": images}


def run_folder(out: str | Path | None, source: str) -> Path:
    """Return the folder that a new run would get: ``out`` or ``runs/<name>``, with the next number if it is not empty."""
    return training.agreed(lambda: _first_free(_base(out, source)))


@contextlib.contextmanager
def new_run(out: str | Path | None, source: str) -> Iterator[Path]:
    """Claim a folder for a new run, which no other run can take within the context: ``out``, or that of :func:`run_folder`."""
    with contextlib.ExitStack() as stack:
        yield training.agreed(lambda: _claim_free(_base(out, source), stack))


@contextlib.contextmanager
def stopped_run(folder: Path) -> Iterator[None]:
    """Claim the folder of a run, to resume or change it; FolderInUse if another process does so."""
    with contextlib.ExitStack() as stack:
        training.agreed(lambda: stack.enter_context(claimed(folder)))
        yield


def _claim_free(base: Path, stack: contextlib.ExitStack) -> Path:
    folder = _first_free(base)
    while True:
        with contextlib.ExitStack() as claim, contextlib.suppress(FolderInUse):
            claim.enter_context(claimed(folder))
            if is_vacant(folder):
                stack.push(claim.pop_all())
                return folder
        folder = _next(base)  # another process took the folder after this one had found it free


def _first_free(base: Path) -> Path:
    return base if is_vacant(base) else _next(base)


def _next(base: Path) -> Path:
    return base.with_name(f"{base.name}-{max(_numbers(base), default=1) + 1}")


def newest_run(out: str | Path | None, source: str) -> Path:
    """Return the run to resume: ``out``, by default the highest number of ``runs/<name>``."""
    base = _base(out, source)
    if out is not None:
        return base
    runs = {number: path for number, path in _numbers(base).items() if (path / CARD).is_file()}
    if not runs:
        raise FileNotFoundError(f"there is no run {base} to resume; start one without resume, or set its folder with out")
    return runs[max(runs)]


def _numbers(base: Path) -> dict[int, Path]:
    """Return the existing folders ``base``, with number 1, and ``base-2``, ``base-3``, ... by number."""
    folders = {}
    for path in base.parent.iterdir() if base.parent.is_dir() else ():
        match = re.fullmatch(re.escape(base.name) + r"(?:-([1-9]\d*))?", path.name)
        if match:
            folders[int(match[1] or 1)] = path
    return folders


def _base(out: str | Path | None, source: str) -> Path:
    if out is not None:
        return Path(out)
    path = Path(source)
    # "." and ".." have no name.
    return Path("runs") / ((path if path.stem.strip(".") else path.resolve()).stem or "data")


def _source(data: Data) -> str:
    """Return the name that :func:`pushforward.open_data` would give to data, without opening them."""
    if isinstance(data, str | Path):
        return str(data)
    return "DataFrame" if hasattr(data, "columns") else "tensor" if isinstance(data, Tensor) else "array"


def _named(condition: Condition) -> bool:
    """Whether a condition is None, False or column names, which a card can store, rather than values."""
    if isinstance(condition, list | tuple):
        return all(isinstance(name, str) for name in condition)
    return condition is None or condition is False or isinstance(condition, str)


def _opening(card: Facts) -> Facts:
    """Return the arguments with which the run opened signals and images."""
    resolved = card["resolved"]
    series = resolved["series"]
    named = {name: resolved[name] for name in ("rate", "length", "size", "stream")}
    return named | {"series": None if series is None else tuple(series)}


def _condition_types(card: Facts, condition: Condition) -> ColumnTypes:
    """Return the types that the run sets for columns of its condition."""
    names = (condition,) if isinstance(condition, str) else condition if isinstance(condition, list | tuple) else ()
    return tuple((name, found) for name, found in card["resolved"].get("columns") or () if name in names)


def _say_trackers(card: Facts, folder: Path, parts: Mapping[str, object]) -> None:
    """Warn of trackers that a run had and that are not passed again; ValueError for one that is no argument of the run."""
    known = trackers_in(card["resolved"])
    for name in parts:
        if name.endswith("__tracker") and name not in known:
            listed = ", ".join(key.replace("__", ".") for key in known) or "none"
            raise ValueError(f"the run in {folder} has no {name.replace('__', '.')}; it has {listed}")
    for name, tracker in known.items():
        if tracker is not None and name not in parts:
            warnings.warn(
                printable(
                    f"{folder} names the tracker {tracker!r}, but a folder never starts one; training continues without it. To "
                    f"start it, add --set {name.replace('__', '.')}={tracker}, or pass pushforward.train a model with this "
                    "tracker"
                ),
                stacklevel=3,
            )


def same_threads(card: Facts) -> None:
    """Use as many threads as the run started with: another order of summation changes the bits of the result."""
    threads = card["machine"]["threads"]
    if torch.get_num_threads() != threads:
        warnings.warn(f"this run started with {threads} threads and continues with as many", stacklevel=3)
        torch.set_num_threads(threads)
