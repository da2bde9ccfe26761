"""One call that measures a model: its samples, its density, its memory of the training rows, its latent space, its cost.

Every figure stands beside its noise floor, the same figure between training rows and held-out rows. Two sets of rows of one law
differ by chance, the more so the fewer they are; a model whose figure is at the floor cannot be told from the law by that
figure at that n.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data import Dataset, open_data
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.features import Features, default_features
from pushforward.evaluation.parts.parts import Collection, parts_of
from pushforward.evaluation.parts.rows import Material, gather, sampled
from pushforward.evaluation.progress import Steps
from pushforward.models import load
from pushforward.models.files.storage import read_card

__all__ = ["evaluate", "evaluate_run", "taken"]

_DATA = Argument("data")

_MOST_LINES = 400
_LEAST_LABELLED = 300


def evaluate(
    model: Any,
    X_test: Any,
    *,
    X_train: Any = None,
    condition: Any = None,
    train_condition: Any = None,
    samples: int | None = None,
    features: Any = None,
    seed: int = 0,
    verbose: bool = False,
) -> Evaluation:
    """Measure a fitted model on rows that it was not trained on.

    Parameters
    ----------
    model : fitted estimator of this library
    X_test : array, tensor or DataFrame
        Rows like the training data, which training never saw. Rows with gaps (NaN), where the family allows them, count in the
        density alone.
    X_train : array, tensor or DataFrame, optional
        The rows that the model was trained on. They give the noise floors, and tell whether samples are copies. Without them
        half of ``X_test`` stands in for them in the floors, so that all distances have half as many rows.
    condition, train_condition : one label or vector per row, optional
        Of ``X_test`` and ``X_train``, for a model that was trained with conditions: rows are scored given theirs. Samples are
        always drawn with the conditions of training.
    samples : int, optional
        Number of samples, and of rows that they are compared with. Default: as many as there are held-out rows, at most 10,000.
    features : Features or list of them, optional
        Where Fréchet and kernel distance, precision and recall, density and coverage are taken. Default by the kind of data:
        :func:`~pushforward.evaluation.features.default_features`.
    seed : int
        Names the samples, and whatever else is random.
    verbose : bool
        Whether to show progress.

    Returns
    -------
    Evaluation
        A part that fails is named in ``failures``, and takes no other with it.

    Raises
    ------
    TypeError, ValueError
        If the rows do not fit the model, or there are too few of them; nothing has been measured then.

    >>> import pushforward as pf
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = pf.PPCA(n_components=1, random_state=0).fit(X[:100])
    >>> evaluation = pf.evaluate(model, X[100:], X_train=X[:100])
    >>> evaluation.find("log-density").measure.n, dict(evaluation.failures)
    (100, {})
    """
    began = time.perf_counter()
    material = gather(model, X_test, X_train, condition, train_condition, samples, seed)
    found, failures, seconds = Collection(), {}, {}
    with Steps(verbose) as steps:

        def attempt(name: str, run: Any) -> Any:
            begin = time.perf_counter()
            steps.begin(name)
            try:
                return run()
            except Exception as error:  # one part must not lose the others
                failures[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
                return None
            finally:
                seconds[name] = time.perf_counter() - begin
                steps.end(name, failures.get(name))

        if hasattr(model, "sample"):
            drawn = attempt("samples", lambda: sampled(material, steps.note))
            material = drawn or material
        else:
            found.skipped["samples"] = f"{type(model).__name__} learns no law to draw from"
        spaces = attempt("features", lambda: _features(material, features)) if material.samples is not None else []
        parts = list(parts_of(material, spaces or []))
        steps.expect(len(parts))
        for part in parts:
            attempt(part.name, lambda part=part: part.run(material, found))
    about = _about(material, time.perf_counter() - began)
    return Evaluation(
        figures=tuple(found.figures),
        model=type(model).__name__,
        about=about,
        failures=failures,
        skipped=found.skipped,
        seconds=seconds,
        curve=_curve(getattr(model, "run_", None)),
        arrays=found.arrays,
    )


def evaluate_run(
    run: str | Path,
    data: Any = None,
    *,
    condition: Any = None,
    samples: int | None = None,
    features: Any = None,
    seed: int = 0,
    device: str | None = None,
    verbose: bool = False,
) -> Evaluation:
    """Measure the model of a run folder on its own held-out rows, or on other data.

    Parameters
    ----------
    run : path
        Folder of a finished run.
    data : anything that :func:`pushforward.open_data` takes, optional
        Where the run's own data are now, if they have moved; or rows that the model was not trained on, all of which are then
        held-out rows. Default: the data that the run names.
    condition : optional
        As for :func:`pushforward.open_data`; default that of the run.
    samples, features, seed, verbose
        As in :func:`evaluate`.
    device : str, optional
        Where the networks work.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds no finished run, or its data are gone or changed and no others are given.

    >>> import tempfile, pushforward as pf
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> _ = pf.train("moons", pf.PPCA(random_state=0), out=folder)
    >>> evaluation = evaluate_run(folder, samples=50)
    >>> evaluation.about["source"], evaluation.about["test_rows"], evaluation.about["n"]
    ('moons', 1000, 50)
    """
    run = Path(run)
    model, card = load(run), read_card(run)
    model.run_ = run
    if device:
        model.to(device)
    own, test = _rows_of_run(run, card, model, data, condition)
    train: tuple[Any, Any] = (None, None)
    if own is not None:
        rows, aside = (part.numpy() for part in model._split(own))
        train = taken(own, rows)
        if test is None:
            if not len(aside):
                message = (
                    f"{run} was trained on all of its {len(rows):,} rows (held_out=0), so none are left to measure it on; "
                )
                raise naming(ValueError(f"{message}name rows that it has not seen with {_DATA}"), _DATA)
            test = own.source, *taken(own, aside)
    assert test is not None
    conditional = model.conditional
    evaluation = evaluate(
        model,
        test[1],
        X_train=train[0],
        condition=test[2] if conditional else None,
        train_condition=train[1] if conditional else None,
        samples=samples,
        features=features,
        seed=seed,
        verbose=verbose,
    )
    return replace(evaluation, about=dict(evaluation.about) | {"run": str(run), "source": test[0]})


def _rows_of_run(
    run: Path, card: Mapping[str, Any], model: Any, data: Any, condition: Any
) -> tuple[Dataset | None, tuple[str, Any, Any] | None]:
    """Return the data that the run was trained on, if they are there, and other rows (source, values, condition) if given."""
    known = card["data"]["fingerprint"]
    if data is not None:
        given = _opened(card, model, data, condition)
        if given.fingerprint == known:
            return given, None
        try:
            own = _opened(card, model, card["data"]["source"], None)
        except (ValueError, TypeError, OSError):
            own = None
        if own is not None and own.fingerprint != known:
            own = None
        return own, (given.source, given.values, given.condition)
    source = card["data"]["source"]
    way_out = f"say where they are with {_DATA}, or name other rows like them"
    if source in ("array", "tensor", "DataFrame"):
        raise naming(ValueError(f"{run} was trained on rows that were given as {source}, not as a file; {way_out}"), _DATA)
    try:
        own = _opened(card, model, source, condition)
    except FileNotFoundError:
        message = f"{run} was trained on {source}, which is not there (any more); {way_out}"
        raise naming(FileNotFoundError(message), _DATA) from None
    if own.fingerprint != known:
        raise naming(ValueError(f"{run} was trained on other data than {source} holds now; {way_out}"), _DATA)
    return own, None


def _opened(card: Mapping[str, Any], model: Any, data: Any, condition: Any) -> Dataset:
    """Open data as those of a run were opened."""
    chosen, schema = card["chosen"], model.space_.schema
    table = hasattr(data, "columns") or (isinstance(data, str | Path) and Path(data).suffix.lower() in (".csv", ".parquet"))
    wanted = chosen["condition"] if condition is None else condition
    wanted = (wanted if model.conditional else False) if wanted is not False else False
    columns = list(schema.columns) if table and schema.columns is not None else chosen["columns"]
    return open_data(data, columns=columns, condition=wanted, kind=schema.kind, gaps=True)


def taken(dataset: Dataset, rows: np.ndarray) -> tuple[Any, Any]:
    """Return the values and conditions of some rows."""
    values = dataset.values.iloc[rows] if hasattr(dataset.values, "iloc") else dataset.values[rows]
    return values, None if dataset.condition is None else dataset.condition[rows]


def _features(material: Material, features: Any) -> list[Features]:
    """Return the spaces to compare in: those given, or the default of the kind of data.

    A classifier is trained on rows that none of its figures compares: rows that it has learned lie elsewhere in its space.
    """
    if features is not None:
        return list(features) if isinstance(features, list | tuple) else [features]
    seed, rows, labels = material.seed, material.floor.x, None
    if material.train is not None and material.train.condition is not None and material.train.condition.ndim == 1:
        spare = material.spare()
        kinds = 0 if material.model.space_.conditions.kind != "labels" else len(material.model.space_.conditions.classes)
        if kinds > 1 and len(spare) >= max(_LEAST_LABELLED, 20 * kinds) and spare.condition is not None:
            rows, labels = spare.x, np.array([str(label) for label in spare.condition])
    return list(default_features(rows.numpy(), labels, seed=seed))


def _about(material: Material, seconds: float) -> dict[str, Any]:
    """Say what was evaluated."""
    model = material.model
    result, transform = model.training_result_, model.space_.transform
    return {
        "source": model.data_["source"],
        "kind": material.schema.kind,
        "shape": list(material.schema.row_shape),
        "columns": material.names if not material.images else None,
        "training_rows": model.data_["rows"] - model.data_["held_out"],
        "test_rows": len(material.test),
        "complete_rows": len(material.test.complete),
        "n": material.n,
        "floor": "training rows" if material.train is not None else "the other half of the rows",
        "conditional": model.conditional,
        "seed": material.seed,
        "seconds": seconds,
        "steps": result.steps,
        "training_seconds": result.seconds,
        "parameters": result.parameters,
        "held_out_loss": result.held_out_loss,
        "held_out_by_level": result.held_out_by_level,
        "pixel_range": [float(transform.low.min()), float(transform.high.max())] if material.images else None,
    }


def _curve(run: Any) -> list[dict[str, Any]]:
    """Return the learning curve of a run, thinned to what a plot can show."""
    path = None if run is None else Path(run) / "metrics.jsonl"
    if path is None or not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except ValueError:  # a line that was cut off
            continue
        lines.append({key: found.get(key) for key in ("step", "loss", "held_out_loss", "learning_rate", "seconds")})
    every = max(1, len(lines) // _MOST_LINES)
    return [line for index, line in enumerate(lines) if index % every == 0 or line["held_out_loss"] is not None]
