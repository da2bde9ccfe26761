"""Train several models on the same rows with the same budget, evaluate each on the same held-out rows, and rank them.

Everything is written to one folder,

    comparison.json         data, budget, seeds
    NAME/seed-S/            a run, with evaluation.json and report.html
    NAME/seed-S/failure.txt why the run failed
    report.html, table.csv

so that finished work is not repeated: a comparison that was stopped continues, and models and seeds can be added.
"""

import contextlib
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import clone

from pushforward._messages import Argument, naming
from pushforward.data import Dataset, Text, open_data, split_rows
from pushforward.evaluation.comparison.defaults import default_models
from pushforward.evaluation.comparison.ranking import Trial
from pushforward.evaluation.comparison.result import Comparison
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.parts.rows import LEAST, check_samples
from pushforward.evaluation.progress import PartProgress
from pushforward.evaluation.protocol import evaluate, rows_of
from pushforward.models import GenerativeModel, load
from pushforward.models.base.plan import plan
from pushforward.models.files.card import parse
from pushforward.models.files.params import check_params
from pushforward.models.files.registry import family_name
from pushforward.models.files.storage import CARD, parts_of, read_card
from pushforward.models.recipe import assemble
from pushforward.models.run import reopen
from pushforward.probability import noise
from pushforward.training.record.claim import FolderInUse, claimed, is_vacant
from pushforward.training.record.files import inside, write_file

__all__ = ["compare", "run_comparison"]

_OUT = Argument("out")

_SETTINGS = "comparison.json"
_FORMAT = 1
_MOST_BYTES = 1 << 20
_TEST_SHARE, _MOST_TEST = 0.2, 5000
_TURN = 1.0  # seconds
Models = Sequence[str | GenerativeModel] | Mapping[str, str | GenerativeModel]


def compare(X: Any, models: Models | None = None, **options: Any) -> pd.DataFrame:
    """Compare models on data; see :func:`run_comparison` for the options.

    Returns
    -------
    DataFrame
        :meth:`Comparison.table`: one line per model, the best first. ``attrs`` holds the ``advice``, a list of sentences, and
        the ``folder`` with all runs and ``report.html``.

    >>> import tempfile
    >>> X = open_data("moons").values[:300]
    >>> table = compare(X, ["ppca", "gmm"], seeds=1, samples=50, out=tempfile.mkdtemp() + "/moons")
    >>> table["model"].tolist(), len(table.attrs["advice"]) > 0
    (['gmm', 'ppca'], True)
    """
    comparison = run_comparison(X, models, **options)
    table = comparison.table()
    table.attrs |= {"advice": comparison.advice(), "folder": str(comparison.folder)}
    return table


def run_comparison(
    X: Any,
    models: Models | None = None,
    *,
    condition: Any = None,
    columns: Any = None,
    budget: float | None = None,
    steps: int | None = None,
    seeds: int = 2,
    samples: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    jobs: int | None = None,
    verbose: bool = False,
    **opening: Any,
) -> Comparison:
    """Train and evaluate every model with every seed.

    A fifth of the rows, at most 5,000, are set aside from all models, and their samples are compared with these.

    Parameters
    ----------
    X : anything that ``fit`` takes
    models : sequence or mapping of names and estimators, optional
        Names such as "gmm", "flow" or "ddpm", which get the default recipe for the data; or estimators, which are copied and
        never fitted. A mapping names them. Default: :func:`default_models` of the data.
    condition, columns : optional
        As for :func:`pushforward.open_data`.
    budget : float, optional
        Seconds that each training may take; PPCA, which has a closed form, takes what it needs.
    steps : int, optional
        Steps of each training, for the families that are trained in steps. Without budget and steps each family trains as long
        as its recipe says.
    seeds : int
        Trainings of each model, with the random states seed, seed + 1, ...
    samples : int, optional
        Number of samples of each model, and of held-out rows that they are compared with. Default: all held-out rows.
    out : path, optional
        The folder; default ``compare/<name of the data>``. If it holds this comparison already, only missing work is done.
    seed : int
    device : str, optional
        Of the training.
    jobs : int, optional
        Trainings at once, each in a process of its own, by joblib: a context ``joblib.parallel_config("dask")`` puts them on
        the workers of a cluster, which need this folder at the same path. Default: that of such a context, or one after the
        other.
    verbose : bool
        Whether to show progress.
    **opening
        Further arguments of :func:`pushforward.open_data` that say what the data are: ``kind``, ``types`` of columns,
        ``text``, ``rate``, ``length``, ``series``, ``size``.

    Raises
    ------
    TypeError, ValueError
        If an argument or the data cannot be used, or the folder holds a comparison of other data or with another budget. A
        model that fails later is recorded in its :class:`Trial`, and does not stop the others.
    FolderInUse
        If another process works on the comparison in this folder. It is an :class:`OSError`.
    OSError
        If a training process is ended. Finished parts are kept, and the same call continues.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if jobs == 0:
        raise ValueError("jobs must be at least 1, or -1 for all cores, got 0")
    if budget is not None and steps is not None:
        raise ValueError("give a budget in seconds or in steps, and not both")
    check_samples(samples)
    dataset = open_data(X, condition=condition, columns=columns, gaps=True, **opening)
    folder = _folder(out, dataset.source)
    shared = {"budget": budget, "steps": steps, "seed": seed, "samples": samples}
    parts = _split(dataset, seed)
    named = _named(models, parts.train)
    for name, estimator in named.items():
        _configured(estimator, budget, steps, seed, device)  # checks arguments before any long work
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"a model's name is also that of its folder, so it has letters, digits, '-' and '_', not {name!r}")
    work = [(name, estimator, seed + k) for k in range(seeds) for name, estimator in named.items()]
    about = shared | {
        "source": dataset.source,
        "kind": dataset.schema.kind,
        "described": dataset.schema.rules.describe(dataset.schema.internal_shape),
        "shape": list(dataset.schema.row_shape),
        "training_rows": len(parts.train),
        "test_rows": len(parts.test[0]),
        "seeds": seeds,
        "conditional": dataset.condition is not None,
    }
    with claimed(folder):
        _begin(folder, shared | {"source": dataset.source, "fingerprint": dataset.fingerprint} | _plain(opening))
        tasks = [
            _Task(name, _configured(estimator, budget, steps, own_seed, device), own_seed, samples, seed, folder)
            for name, estimator, own_seed in work
        ]
        trials = _done(tasks, parts, jobs, verbose)
        comparison = Comparison(tuple(trials), about, folder)
        write_file(folder / "table.csv", comparison.table().to_csv(index=False))
        comparison.report(folder / "report.html")
    return comparison


@dataclass(frozen=True, eq=False)
class _Task:
    """One training with its evaluation, in a folder of its own; it can be sent to another process."""

    name: str
    model: GenerativeModel
    own_seed: int
    samples: int | None
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.own_seed}"

    @property
    def place(self) -> Path:
        return inside(self.folder, self.name, f"seed-{self.own_seed}")

    def do(self, parts: "_Parts", note: Callable[[str], object] = str) -> Trial:
        """Train and evaluate; ``note`` is called with the current stage."""
        place = self.place
        try:
            evaluation, failure = _trial(self.model, parts, place, self.samples, self.seed, note), ""
        except Exception as error:  # a model that fails must not stop the others
            evaluation, failure = None, f"{type(error).__name__}: {error}".partition("\n")[0]
            place.mkdir(parents=True, exist_ok=True)
            write_file(place / "failure.txt", failure + "\n")
        return Trial(self.name, self.own_seed, place, evaluation, failure)


def _done(tasks: Sequence[_Task], parts: "_Parts", jobs: int | None, verbose: bool) -> list[Trial]:
    """Do all tasks, here or in other processes, and return their trials in the order of the tasks."""
    found: dict[str, Trial] = {}
    with PartProgress(verbose) as progress:
        progress.expect(len(tasks))
        if effective_n_jobs(jobs) == 1:
            for task in tasks:
                progress.begin(task.title)
                found[task.title] = trial = task.do(parts, progress.note)
                progress.end(task.title, trial.failure or None)
            return list(found.values())
        progress.begin("trainings")
        places = {task.title: task.place for task in tasks}  # a worker may have another working directory
        calls = (delayed(_Task.do)(replace(task, folder=task.folder.absolute()), parts) for task in tasks)
        try:
            for trial in Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls):
                title = f"{trial.name}, seed {trial.seed}"
                found[title] = replace(trial, folder=places[title])
                progress.end(title, trial.failure or None)
        except BrokenProcessPool:
            raise OSError(
                "a training process was ended, perhaps for lack of memory; finished parts are kept: repeat the call or command "
                "with fewer jobs to continue"
            ) from None
    return [found[task.title] for task in tasks]


@dataclass(frozen=True, eq=False)
class _Parts:
    """The training rows of all models, and the values and conditions of the rows that they are measured on."""

    train: Dataset
    test: tuple[Any, Any]


def _split(dataset: Dataset, seed: int) -> _Parts:
    share = min(_TEST_SHARE, _MOST_TEST / len(dataset))
    rows, aside = (part.numpy() for part in split_rows(len(dataset), share, noise.derive(seed, "comparison")))
    if len(aside) < LEAST:
        raise ValueError(
            f"{dataset.source} has {len(dataset)} rows, of which {len(aside)} are set aside to measure the models on, and "
            f"figures of fewer than {LEAST} rows say nothing; give {math.ceil(LEAST / _TEST_SHARE)} rows or more"
        )
    values, condition = rows_of(dataset, rows)
    return _Parts(replace(dataset, values=values, condition=condition), rows_of(dataset, aside))


def _named(models: Models | None, dataset: Dataset) -> dict[str, GenerativeModel]:
    """Return the models by name; a repeated name gets a number, also one that some file systems take for the same."""
    if isinstance(models, str | GenerativeModel):
        models = [models]
    if models is None:
        models = default_models(dataset)
    pairs = models.items() if isinstance(models, Mapping) else [("", model) for model in models]
    named: dict[str, GenerativeModel] = {}
    for name, model in pairs:
        estimator = assemble({"model": model}, dataset) if isinstance(model, str) else model
        if not isinstance(estimator, GenerativeModel):
            raise TypeError(f"models are names such as 'gmm' and estimators of pushforward, not {model!r}")
        name = name or (model if isinstance(model, str) else family_name(type(estimator)))
        number, unique = 2, name
        while unique.casefold() in map(str.casefold, named):
            unique, number = f"{name}-{number}", number + 1
        named[unique] = estimator
    if not named:
        raise ValueError("there is no model to compare; name some, such as models=['gmm', 'flow-matching']")
    return named


def _configured(
    model: GenerativeModel, budget: float | None, steps: int | None, seed: int, device: str | None
) -> GenerativeModel:
    """Return a copy of a model with the seed, and with the budget and the device if it has such arguments."""
    model = clone(model)
    wanted = {"max_time": budget, "train_steps": steps, "device": device}
    known = model.get_params(deep=False)
    own = {name: value for name, value in wanted.items() if value is not None and name in known}
    model.set_params(random_state=seed, verbose=False, **own)
    check_params(type(model), model.get_params(deep=False))
    return model


def _trial(
    model: GenerativeModel, parts: _Parts, place: Path, samples: int | None, seed: int, note: Callable[[str], object]
) -> Evaluation:
    """Train and evaluate one model in ``place``, or load its evaluation if there is one."""
    if (place / "failure.txt").is_file():
        shutil.rmtree(place)
    with _claimed_in_turn(place):
        if (place / "evaluation.json").is_file():
            return Evaluation.load(place)
        return _trained_and_evaluated(model, parts, place, samples, seed, note)


@contextlib.contextmanager
def _claimed_in_turn(place: Path) -> Iterator[None]:
    """Claim a folder, waiting until it is free: a cluster may give the task of a worker that it has lost to another one."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claimed(place))
                break
            except FolderInUse:
                time.sleep(_TURN)
        yield


def _trained_and_evaluated(
    model: GenerativeModel, parts: _Parts, place: Path, samples: int | None, seed: int, note: Callable[[str], object]
) -> Evaluation:
    note("training")
    trained = _trained(model, parts.train, place)
    note("evaluating")
    evaluation = evaluate(
        trained,
        parts.test[0],
        X_train=parts.train.values,
        condition=parts.test[1] if trained.conditional else None,
        train_condition=parts.train.condition if trained.conditional else None,
        samples=samples,
        seed=seed,
    )
    evaluation.report(place / "report.html")
    evaluation.save(place / "evaluation.json")  # last, since it marks the trial as done
    return evaluation


def _trained(model: GenerativeModel, dataset: Dataset, place: Path) -> GenerativeModel:
    """Train in a folder, resume the run that was stopped there, or load the finished one."""
    if not (place / CARD).is_file():
        return plan(dataset, model).start(place)
    if read_card(place)["status"] != "finished":
        return reopen(dataset, place, parts=parts_of(model)).start(place, resume=True)
    model = load(place)
    model.run_ = place
    return model


def _folder(out: str | Path | None, source: str) -> Path:
    folder = Path("compare") / (Path(source).stem or "data") if out is None else Path(out)
    if not is_vacant(folder) and not (folder / _SETTINGS).is_file():
        raise naming(ValueError(f"{folder} is in use for something else; name another folder with {_OUT}"), _OUT)
    return folder


def _plain(opening: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that say what the data are, as they come back from JSON; those that are None are left out."""
    plain = {name: repr(value) if isinstance(value, Text) else value for name, value in opening.items() if value is not None}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of the comparison, or raise if the folder holds another one."""
    path = folder / _SETTINGS
    if path.is_file():
        known = parse(path, _MOST_BYTES, f"name another folder with {_OUT}, or remove this one")
        for key, value in ({"format": _FORMAT} | settings).items():
            if known.get(key) != value:
                message = f"{folder} holds a comparison with {key} {known.get(key)!r}, not {value!r}; "
                raise naming(ValueError(f"{message}name another folder with {_OUT}, or remove this one"), _OUT)
        return
    write_file(path, json.dumps({"format": _FORMAT} | settings, indent=1) + "\n")
