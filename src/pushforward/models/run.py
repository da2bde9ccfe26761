"""A training run in a folder that explains itself, and that can be killed at any moment and resumed.

model.json            class, arguments, data, seed, machine; once finished also the result
weights.safetensors   what sampling needs (once finished)
checkpoint/           what resuming needs
metrics.jsonl         one line per log step
samples/              images of samples drawn on the way
samples.png           the same at the end
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pushforward import plots, training
from pushforward.data import Dataset, open_data
from pushforward.metrics.memorization import distance_ratio
from pushforward.models.base.model import GenerativeModel, Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.files.codec import is_part, to_plain
from pushforward.models.files.params import check_params
from pushforward.models.files.storage import CARD, describe, load, read_card, rebuild, save, write_card

__all__ = ["Plan", "measure_novelty", "newest_run", "plan", "reopen", "run_folder", "train"]

_NOVELTY_ROWS, _NOVELTY_SEED = 500, 0


def train(
    data: Any,
    model: GenerativeModel | None = None,
    *,
    out: str | Path | None = None,
    condition: Any = None,
    columns: Any = None,
    resume: bool = False,
) -> GenerativeModel:
    """Train a model in a run folder, with checkpoints and plots on the way; resume a run that was stopped.

    Parameters
    ----------
    data : anything that ``fit`` takes
    model : estimator, optional
        Not yet fitted; default ``FlowMatching()``. ``resume`` takes everything from the folder, and from this model only what
        a folder cannot hold: a network or a source of your own.
    out : path, optional
        The folder; default ``runs/<name of the data>``. An existing run is never touched: ``-2``, ``-3``, ... is added.
    condition, columns : optional
        As for :func:`pushforward.open_data`.
    resume : bool
        Go on with the run in ``out`` (by default the newest of its name). Columns that were named when it began need not be
        named again. A finished run is loaded and returned.

    Returns
    -------
    model
        The fitted model; ``model.run_`` is its folder.
    """
    if not resume:
        dataset = open_data(data, condition=condition, columns=columns, kind=getattr(model, "kind", None), gaps=True)
        chosen = {"columns": columns, "condition": condition if _named(condition) else None}
        return plan(dataset, model or FlowMatching(), chosen=chosen).start(run_folder(out, dataset.source))
    folder = newest_run(out, _source(data))
    if read_card(folder)["status"] == "finished":
        finished: GenerativeModel = load(folder)
        finished.run_ = folder
        return finished
    own = {} if model is None else {k: v for k, v in model.get_params().items() if is_part(to_plain(v))}
    return reopen(data, folder, condition=condition, columns=columns, parts=own).start(folder, resume=True)


def reopen(
    data: Any, folder: Path, *, condition: Any = None, columns: Any = None, parts: Mapping[str, Any] | None = None
) -> "Plan":
    """Return the plan of a run that was stopped, to be started with ``resume``; ValueError if the data are others now.

    ``data`` may also be a :class:`~pushforward.data.Dataset`.
    """
    card = read_card(folder)
    chosen = card["chosen"]
    dataset = data
    if not isinstance(data, Dataset):
        dataset = open_data(
            data,
            condition=chosen["condition"] if condition is None else condition,
            columns=chosen["columns"] if columns is None else columns,
            kind=card["resolved"]["kind"],
            gaps=True,
        )
    if card["data"]["fingerprint"] != dataset.fingerprint:
        raise ValueError(
            f"{folder} was trained on other data than {dataset.source} holds now; "
            "give the same rows, columns and condition, or start a new run without resume"
        )
    _same_threads(card)
    return plan(dataset, rebuild(card, "resolved", parts or {}), chosen=chosen)


@dataclass(eq=False)
class Plan:
    """A model with everything decided, before the first step: ``start`` trains it.

    Attributes
    ----------
    model : GenerativeModel
    prepared : Prepared
    resolved
        What the model's ``_learn`` needs besides the rows.
    chosen : mapping
        Names of columns and condition that were picked from the data, written down for resuming.
    """

    model: GenerativeModel
    prepared: Prepared
    resolved: Any
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int | None:
        """Number of learned numbers, if it is known beforehand."""
        return self.model._size(self.resolved)

    @property
    def steps(self) -> int | None:
        """Number of training steps, of a model that has them."""
        return self.model._steps if isinstance(self.model, TrainedModel) else None

    def seconds(self) -> float | None:
        """Estimate of the training time, measured on a copy for about three seconds, of a model that has steps."""
        return self.model._seconds(self.resolved, self.prepared)

    def start(self, folder: Path, *, resume: bool = False, on_grid: Callable[[int], None] | None = None) -> GenerativeModel:
        """Train in ``folder`` and return the model; ``on_grid(step)`` may draw other plots on the way than its own."""
        picked = {"chosen": {"columns": None, "condition": None} | dict(self.chosen)}
        model, prepared = self.model, self.prepared
        main = training.is_main_process()
        if main:
            folder.mkdir(parents=True, exist_ok=True)
        if main and not resume:
            write_card(folder, describe(model) | picked | {"status": "training"})

        def draw(step: int) -> None:
            plots.save(model._plot(prepared), folder / "samples" / f"step-{step:08d}.png")

        model._learn(prepared, self.resolved, folder=folder, resume=resume, on_grid=on_grid or draw)
        model.run_ = folder
        if main:
            plots.save(model._plot(prepared), folder / "samples.png")
            save(model, folder, extra=picked | {"novelty": measure_novelty(model, prepared)})
        return model


def plan(dataset: Dataset, model: GenerativeModel, *, chosen: Mapping[str, Any] | None = None) -> Plan:
    """Decide everything: check arguments, split, scale, fill in defaults, fix the number of steps, build the network."""
    check_params(type(model), model.get_params(deep=False))
    prepared = model._prepare(dataset)
    return Plan(model, prepared, model._resolve(prepared), chosen or {})


def measure_novelty(model: GenerativeModel, prepared: Prepared) -> dict[str, float] | None:
    """Compare distances of samples and of held-out rows to the training rows, all scaled.

    None without held-out rows, or if the model does not sample.
    """
    if prepared.held_out is None or not hasattr(model, "sample"):
        return None
    aside = model._clean(prepared.held_out[0])
    n = min(len(aside), _NOVELTY_ROWS)
    z = model._generate(n, model._conditions_for_sampling(None, n, _NOVELTY_SEED), seed=_NOVELTY_SEED)
    # As rows are given out, integers whole: what lies beyond the range of the data is on its edge.
    samples = model.space_.transform.forward(model.space_.transform.inverse(z), dtype=torch.float32)
    rows = (samples, model._clean(prepared.x), aside[:n])
    return distance_ratio(*(part.detach().cpu().float().numpy() for part in rows))


def run_folder(out: str | Path | None, source: str) -> Path:
    """Return a folder for a new run: ``out`` or ``runs/<name>``, with the next number if there is something in it already."""

    def first_free() -> Path:
        base = _base(out, source)
        if not base.exists() or (base.is_dir() and not any(base.iterdir())):
            return base
        return base.with_name(f"{base.name}-{max(_numbers(base), default=1) + 1}")

    return training.agreed(first_free)


def newest_run(out: str | Path | None, source: str) -> Path:
    """Return the run to resume: ``out`` if it was given, else the highest number of ``runs/<name>``."""
    base = _base(out, source)
    if out is not None:
        return base
    runs = {number: path for number, path in _numbers(base).items() if (path / CARD).is_file()}
    if not runs:
        raise FileNotFoundError(f"there is no run {base} to resume; start one without resume, or name its folder with out")
    return runs[max(runs)]


def _numbers(base: Path) -> dict[int, Path]:
    """Return the folders ``base``, which has number 1, and ``base-2``, ``base-3``, ... that exist."""
    found = {}
    for path in base.parent.iterdir() if base.parent.is_dir() else ():
        match = re.fullmatch(re.escape(base.name) + r"(?:-([1-9]\d*))?", path.name)
        if match:
            found[int(match[1] or 1)] = path
    return found


def _base(out: str | Path | None, source: str) -> Path:
    if out is not None:
        return Path(out)
    path = Path(source)
    # "." and ".." are no names.
    return Path("runs") / ((path if path.stem.strip(".") else path.resolve()).stem or "data")


def _source(data: Any) -> str:
    """Return the name that :func:`pushforward.open_data` gives to data, without opening them."""
    if isinstance(data, str | Path):
        return str(data)
    return "DataFrame" if hasattr(data, "columns") else "tensor" if isinstance(data, Tensor) else "array"


def _named(condition: Any) -> bool:
    """Whether a condition is given by names or False, which can be written down, and not by values."""
    if isinstance(condition, list | tuple):
        return all(isinstance(name, str) for name in condition)
    return condition is None or condition is False or isinstance(condition, str)


def _same_threads(card: dict[str, Any]) -> None:
    """Use as many threads as the run began with: sums in another order would end in other bits."""
    threads = card["machine"]["threads"]
    if torch.get_num_threads() != threads:
        warnings.warn(f"this run began with {threads} threads, and goes on with as many", stacklevel=3)
        torch.set_num_threads(threads)
