"""Train several models on the same rows under the same budget, evaluate each on the same held-out rows, and rank them.

Everything is kept in one folder,

    comparison.json         data, budget, seeds
    NAME/seed-S/            a run, with evaluation.json and report.html
    NAME/seed-S/failure.txt why there is none
    report.html, table.csv

so that what is done is not done again: a comparison that was stopped goes on where it was, and models and seeds can be added.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from pushforward.data import Dataset, open_data, split_rows
from pushforward.evaluation.comparison.result import Comparison, Trial
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.progress import Steps
from pushforward.evaluation.protocol import evaluate, taken
from pushforward.models import GenerativeModel, load
from pushforward.models.files.storage import CARD, read_card
from pushforward.models.recipe import assemble, family_name
from pushforward.models.run import plan, reopen
from pushforward.models.tokens.tokens import MOST_VALUES
from pushforward.probability import noise

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "default_models", "run_comparison"]

_SETTINGS = "comparison.json"
_FORMAT = 1
_TEST_SHARE, _MOST_TEST = 0.2, 5000
Models = Sequence[str | GenerativeModel] | Mapping[str, str | GenerativeModel]


def compare(X: Any, models: Models | None = None, **options: Any) -> "pd.DataFrame":
    """Compare models on one's own data; see :func:`run_comparison` for the options.

    Returns
    -------
    DataFrame
        :meth:`Comparison.table`: one line per model, the best first. ``attrs`` holds the ``advice``, a list of sentences, and
        the ``folder`` with all runs and ``report.html``.

    >>> import tempfile
    >>> table = compare("moons", ["ppca", "gmm"], seeds=1, samples=200, out=tempfile.mkdtemp() + "/moons")
    >>> table["model"].tolist(), len(table.attrs["advice"]) > 0
    (['gmm', 'ppca'], True)
    """
    found = run_comparison(X, models, **options)
    table = found.table()
    table.attrs |= {"advice": found.advice(), "folder": str(found.folder)}
    return table


def run_comparison(
    X: Any,
    models: Models | None = None,
    *,
    condition: Any = None,
    columns: Any = None,
    kind: str | None = None,
    budget: float | None = None,
    steps: int | None = None,
    seeds: int = 2,
    samples: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    verbose: bool = False,
) -> Comparison:
    """Train and evaluate every model with every seed, and return what came out.

    A fifth of the rows, at most 5,000, are set aside from all models, and what they make is compared with these.

    Parameters
    ----------
    X : anything that ``fit`` takes
    models : sequence or mapping of names and estimators, optional
        Names such as "gmm", "flow" or "ddpm", which get the default recipe for the data; or estimators, which are copied, never
        fitted. A mapping names them. Default: :func:`default_models` of the data.
    condition, columns, kind : optional
        As for :func:`pushforward.open_data`.
    budget : float, optional
        Seconds that each training may take; PPCA, which is solved, takes what it needs.
    steps : int, optional
        The same in steps, for the families that are trained in steps. Without either every family trains as long as its
        recipe says.
    seeds : int
        Trainings of each model, with the random states seed, seed + 1, ...
    samples : int, optional
        Samples of each model, and held-out rows beside them. Default: as many as there are held-out rows.
    out : path, optional
        The folder; default ``compare/<name of the data>``. If it holds this comparison already, only what is missing is done.
    seed : int
    device : str, optional
        Where to train.
    verbose : bool
        Whether to show progress.

    Raises
    ------
    TypeError, ValueError
        If an argument or the data cannot be used, or the folder holds a comparison on other data or with another budget. What
        goes wrong with one model later is kept in its :class:`Trial`, and loses no other.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if budget is not None and steps is not None:
        raise ValueError("give a budget in seconds or in steps, and not both")
    dataset = open_data(X, condition=condition, columns=columns, kind=kind, gaps=True)
    folder = _folder(out, dataset.source)
    shared = {"budget": budget, "steps": steps, "seed": seed, "samples": samples}
    parts = _split(dataset, seed)
    makers = _named(models, parts.train)
    for name, make in makers.items():
        _configured(make, budget, steps, seed, device)  # refuses an argument before any long work
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"a model's name is also that of its folder, so it has letters, digits, '-' and '_', not {name!r}")
    _claim(folder, shared | {"source": dataset.source, "fingerprint": dataset.fingerprint})
    work = [(name, make, seed + k) for k in range(seeds) for name, make in makers.items()]
    trials = []
    with Steps(verbose) as progress:
        progress.expect(len(work))
        for name, make, own in work:
            progress.begin(f"{name}, seed {own}")
            place = folder / name / f"seed-{own}"
            model = _configured(make, budget, steps, own, device)
            try:
                evaluation, failure = _trial(model, parts, place, samples, seed, progress), ""
            except Exception as error:  # one model must not lose the others
                evaluation, failure = None, f"{type(error).__name__}: {error}".partition("\n")[0]
                place.mkdir(parents=True, exist_ok=True)
                (place / "failure.txt").write_text(failure + "\n", encoding="utf-8")
            trials.append(Trial(name, own, place, evaluation, failure))
            progress.end(f"{name}, seed {own}", failure or None)
    about = shared | {
        "source": dataset.source,
        "kind": dataset.schema.kind,
        "shape": list(dataset.schema.row_shape),
        "training_rows": len(parts.train),
        "test_rows": len(parts.test[0]),
        "seeds": seeds,
        "conditional": dataset.condition is not None,
    }
    found = Comparison(tuple(trials), about, folder)
    found.table().to_csv(folder / "table.csv", index=False)
    found.report(folder / "report.html")
    return found


def default_models(dataset: Dataset) -> list[str]:
    """Return the names of the families that are compared by default, the quickest first.

    Masked diffusion is among them for integers whose ranges it takes.

    >>> default_models(open_data("moons"))
    ['ppca', 'gmm', 'vae', 'gan', 'normalizing-flow', 'diffusion', 'flow-matching']
    """
    names = ["ppca", "gmm", "vae", "gan", "normalizing-flow", "diffusion", "flow-matching"]
    if dataset.schema.kind == "images" or not all(dataset.schema.integer):
        return names
    rows = dataset.to_internal(gaps=True)
    widest = float((rows.amax(0) - rows.amin(0)).max())
    return [*names, "masked-diffusion"] if widest < MOST_VALUES else names


@dataclass(frozen=True, eq=False)
class _Parts:
    """The rows that models may learn from, and the values and conditions that they are measured on."""

    train: Dataset
    test: tuple[Any, Any]


def _split(dataset: Dataset, seed: int) -> _Parts:
    share = min(_TEST_SHARE, _MOST_TEST / len(dataset))
    rows, aside = (part.numpy() for part in split_rows(len(dataset), share, noise.derive(seed, "comparison")))
    values, condition = taken(dataset, rows)
    return _Parts(replace(dataset, values=values, condition=condition), taken(dataset, aside))


def _named(models: Models | None, dataset: Dataset) -> dict[str, GenerativeModel]:
    """Return the models by name; a name that comes twice gets a number."""
    if isinstance(models, str | GenerativeModel):
        models = [models]
    if models is None:
        models = default_models(dataset)
    pairs = models.items() if isinstance(models, Mapping) else [("", model) for model in models]
    found: dict[str, GenerativeModel] = {}
    for name, given in pairs:
        made = assemble({"model": given}, dataset) if isinstance(given, str) else given
        if not isinstance(made, GenerativeModel):
            raise TypeError(f"models are names such as 'gmm' and estimators of pushforward, not {given!r}")
        name = name or (given if isinstance(given, str) else family_name(type(made)))
        number, chosen = 2, name
        while chosen in found:
            chosen, number = f"{name}-{number}", number + 1
        found[chosen] = made
    if not found:
        raise ValueError("there is no model to compare; name some, such as models=['gmm', 'flow-matching']")
    return found


def _configured(
    model: GenerativeModel, budget: float | None, steps: int | None, seed: int, device: str | None
) -> GenerativeModel:
    """Return a copy of a model with the budget, a seed and a device, as far as it has such arguments."""
    model = clone(model)
    wanted = {"max_time": budget, "train_steps": steps, "device": device}
    known = model.get_params(deep=False)
    own = {name: value for name, value in wanted.items() if value is not None and name in known}
    model.set_params(random_state=seed, verbose=False, **own)
    return model


def _trial(model: GenerativeModel, parts: _Parts, place: Path, samples: int | None, seed: int, progress: Steps) -> Evaluation:
    """Train and evaluate one model in ``place``, or read what was done before."""
    done, failed = place / "evaluation.json", place / "failure.txt"
    if done.is_file():
        return Evaluation.load(done)
    if failed.is_file():
        shutil.rmtree(place)
    progress.note("training")
    trained = _trained(model, parts.train, place)
    progress.note("evaluating")
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
    evaluation.save(done)  # last: it says that all is done
    return evaluation


def _trained(model: GenerativeModel, dataset: Dataset, place: Path) -> GenerativeModel:
    """Train in a folder, go on with what was stopped there, or load what was finished."""
    if not (place / CARD).is_file():
        return plan(dataset, model).start(place)
    if read_card(place)["status"] != "finished":
        return reopen(dataset, place).start(place, resume=True)
    found = load(place)
    found.run_ = place
    return found


def _folder(out: str | Path | None, source: str) -> Path:
    folder = Path("compare") / (Path(source).stem or "data") if out is None else Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / _SETTINGS).is_file()):
        raise ValueError(f"{folder} is in use for something else; name another folder with out=... (--out)")
    return folder


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what is compared, or refuse if the folder holds another comparison."""
    path = folder / _SETTINGS
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        for key, value in ({"format": _FORMAT} | settings).items():
            if known.get(key) != value:
                raise ValueError(
                    f"{folder} holds a comparison with {key} {known.get(key)!r}, not {value!r}; name another folder with "
                    "out=... (--out), or remove this one"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": _FORMAT} | settings, indent=1) + "\n", encoding="utf-8")
