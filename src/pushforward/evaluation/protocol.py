"""Evaluation of a model in one call: its samples, density, memorization of training rows, latent space and cost.

Figures of samples have a noise floor: the same figure between training rows and held-out rows. Two sets of rows of one law
differ by chance, the more so the fewer they are; a model whose figure is at the floor cannot be told from the law by that
figure at that n.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pushforward._messages import Argument, naming
from pushforward.data import Dataset
from pushforward.data.lists import as_plain_frame
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.features import FeatureSpace, default_features
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.parts import parts_of
from pushforward.evaluation.parts.rows import MOST, Inputs, gather_inputs, take_rows, with_samples
from pushforward.evaluation.progress import PartProgress
from pushforward.models import load
from pushforward.models.files.storage import read_card
from pushforward.probability.noise import Permutation
from pushforward.training.record.files import read_file
from pushforward.training.record.metrics import MOST_BYTES

__all__ = ["evaluate", "evaluate_run", "rows_of"]

T = TypeVar("T")

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
    features: FeatureSpace | Sequence[FeatureSpace] | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Evaluation:
    """Measure a fitted model on rows that it was not trained on.

    Parameters
    ----------
    model : fitted estimator of this library
    X_test : array, tensor or DataFrame
        Rows like the training data that training never saw. Rows with gaps (NaN), where the family allows them, count in the
        density only.
    X_train : array, tensor or DataFrame, optional
        The rows that the model was trained on. They give the noise floors, and show whether samples are copies. Without them
        half of ``X_test`` takes their place in the floors, so that all distances have half as many rows.
    condition, train_condition : one label or vector per row, optional
        Of ``X_test`` and ``X_train``, for a model that was trained with conditions. Each row is scored given its condition.
        Samples are always drawn with the conditions of training.
    samples : int, optional
        Number of samples, and of rows that they are compared with. Default: the number of held-out rows, at most 10,000.
    features : FeatureSpace or list of them, optional
        Spaces in which Fréchet and kernel distance, precision and recall, density and coverage are measured. Default by kind:
        :func:`~pushforward.evaluation.features.default_features`.
    seed : int
        Of the samples and everything else that is random.
    verbose : bool
        Whether to show progress.

    Returns
    -------
    Evaluation
        A part that fails is listed in ``failures``; the others are not affected.

    Raises
    ------
    TypeError, ValueError
        If the rows do not fit the model, or there are too few of them. Both are checked before anything is measured.

    >>> import pushforward as pf
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = pf.PPCA(n_components=1, random_state=0).fit(X[:100])
    >>> evaluation = pf.evaluate(model, X[100:], X_train=X[:100])
    >>> evaluation.find("log-density").measure.n, dict(evaluation.failures)
    (100, {})
    """
    began = time.perf_counter()
    inputs = gather_inputs(model, as_plain_frame(X_test), as_plain_frame(X_train), condition, train_condition, samples, seed)
    results = Results()
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    with PartProgress(verbose) as progress:

        def attempt(name: str, run: Callable[[], T]) -> T | None:
            begin = time.perf_counter()
            progress.begin(name)
            try:
                return run()
            except Exception as error:  # a part that fails must not stop the others
                failures[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
                return None
            finally:
                seconds[name] = time.perf_counter() - begin
                progress.end(name, failures.get(name))

        if hasattr(model, "sample"):
            inputs = attempt("samples", lambda: with_samples(inputs, progress.note)) or inputs
        else:
            results.skipped["samples"] = f"{type(model).__name__} learns no law to draw from"
        spaces = attempt("features", lambda: _feature_spaces(inputs, features)) if inputs.samples is not None else []
        parts = list(parts_of(inputs, spaces or []))
        progress.expect(len(parts))
        for part in parts:
            attempt(part.name, partial(part.run, inputs, results))
    return Evaluation(
        figures=tuple(results.figures),
        model=type(model).__name__,
        about=_about(inputs, time.perf_counter() - began),
        failures=failures,
        skipped=results.skipped,
        seconds=seconds,
        curve=_curve(getattr(model, "run_", None)),
        arrays=results.arrays,
    )


def evaluate_run(
    run: str | Path,
    data: Any = None,
    *,
    condition: Any = None,
    samples: int | None = None,
    features: FeatureSpace | Sequence[FeatureSpace] | None = None,
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
        The run's own data, if they have moved; or rows that the model was not trained on, which then all serve as held-out
        rows. Default: the data that the run names. If the rows would fill half of the memory, they stay on disk, and
        20,000 of them, drawn at random, are read.
    condition : optional
        As for :func:`pushforward.open_data`; default: that of the run.
    samples, features, seed, verbose
        As in :func:`evaluate`.
    device : str, optional
        Of the networks.

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
    own, test = _data_of_run(run, card, model, data, condition, seed)
    train: tuple[Any, Any] = (None, None)
    read: int | None = None
    if own is not None:
        rows, aside = (part.numpy() for part in model._split(own))
        rows, read = _read_of(own, rows, seed)
        train = rows_of(own, rows)
        if test is None:
            if not len(aside):
                message = (
                    f"{run} was trained on all of its {len(rows):,} rows (held_out=0), so none are left to measure it on; "
                )
                raise naming(ValueError(f"{message}name rows that it has not seen with {_DATA}"), _DATA)
            test = own.source, *rows_of(own, _read_of(own, aside, seed)[0])
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
    about = {"run": str(run), "source": test[0]} | ({} if read is None else {"training_rows_read": read})
    return replace(evaluation, about=dict(evaluation.about) | about)


def _data_of_run(
    run: Path, card: Mapping[str, Any], model: Any, data: Any, condition: Any, seed: int
) -> tuple[Dataset | None, tuple[str, Any, Any] | None]:
    """Return the data that the run was trained on, if they exist, and the other rows (source, values, condition), if given."""
    known = card["data"]["fingerprint"]
    if data is not None:
        other = _opened(card, model, data, condition)
        if other.fingerprint == known:
            return other, None
        try:
            own = _opened(card, model, card["data"]["source"], None)
        except (ValueError, TypeError, OSError):
            own = None
        if own is not None and own.fingerprint != known:
            own = None
        return own, (other.source, *rows_of(other, _read_of(other, np.arange(len(other)), seed)[0]))
    source = card["data"]["source"]
    remedy = f"say where they are with {_DATA}, or name other rows like them"
    if source in ("array", "tensor", "DataFrame"):
        raise naming(ValueError(f"{run} was trained on rows that were given as {source}, not as a file; {remedy}"), _DATA)
    try:
        own = _opened(card, model, source, condition)
    except FileNotFoundError:
        message = f"{run} was trained on {source}, which is not there (any more); {remedy}"
        raise naming(FileNotFoundError(message), _DATA) from None
    if own.fingerprint != known:
        raise naming(ValueError(f"{run} was trained on other data than {source} holds now; {remedy}"), _DATA)
    return own, None


def _opened(card: Mapping[str, Any], model: Any, data: Any, condition: Any) -> Dataset:
    opened: Dataset = model.space_.open(data, card.get("chosen") or {}, condition=condition, gaps=True, stream=None)
    return opened


def _read_of(dataset: Dataset, rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], int | None]:
    """Return the numbers of the rows to read, and how many they are if these are not all."""
    if not dataset.on_disk or len(rows) <= 2 * MOST:
        return rows, None
    places = Permutation(len(rows), seed=seed, purpose="rows to read")(torch.arange(2 * MOST))
    return np.sort(rows[places.numpy()]), 2 * MOST


def rows_of(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[Any, Any]:
    """Return the values and conditions of some rows of a dataset."""
    return take_rows(dataset.values, rows), None if dataset.condition is None else dataset.condition[rows]


def _feature_spaces(inputs: Inputs, features: FeatureSpace | Sequence[FeatureSpace] | None) -> list[FeatureSpace]:
    if "features" not in inputs.kind.measures:
        if features is not None:
            raise ValueError(f"{inputs.kind.noun} of the kind {inputs.kind.name!r} are not compared in features; omit features")
        return []
    if features is not None:
        return list(features) if isinstance(features, Sequence) else [features]
    seed, rows, labels = inputs.seed, inputs.floor.x, None
    if inputs.train is not None and inputs.train.condition is not None and inputs.train.condition.ndim == 1:
        spare = inputs.spare()
        conditions = inputs.model.space_.conditions
        classes = len(conditions.classes) if conditions.has_classes else 0
        if classes > 1 and len(spare) >= max(_LEAST_LABELLED, 20 * classes) and spare.condition is not None:
            rows, labels = spare.x, np.array([str(label) for label in spare.condition])
    return list(default_features(inputs.kind.compared(rows.numpy()), labels, seed=seed))


def _about(inputs: Inputs, seconds: float) -> dict[str, Any]:
    model = inputs.model
    result, transform = model.training_result_, model.space_.transform
    return {
        "source": model.data_["source"],
        "kind": inputs.schema.kind,
        "shape": list(inputs.schema.row_shape),
        "columns": inputs.names if inputs.kind.has_columns else None,
        "table": None if inputs.schema.table is None else inputs.schema.table.to_json(),
        "training_rows": model.data_["rows"] - model.data_["held_out"],
        "test_rows": len(inputs.test),
        "complete_rows": len(inputs.test.complete),
        "n": inputs.n,
        "floor": "training rows" if inputs.train is not None else "the other half of the rows",
        "conditional": model.conditional,
        "seed": inputs.seed,
        "seconds": seconds,
        "steps": result.steps,
        "training_seconds": result.seconds,
        "parameters": result.parameters,
        "held_out_loss": result.held_out_loss,
        "held_out_by_level": result.held_out_by_level,
        "pixel_range": None if inputs.kind.structure != "grid" else [float(transform.low.min()), float(transform.high.max())],
    }


def _curve(run: Path | None) -> list[dict[str, Any]]:
    """Return the learning curve of a run, thinned to the resolution of a plot."""
    path = None if run is None else run / "metrics.jsonl"
    if path is None or not path.is_file():
        return []
    lines = []
    for line in read_file(path, MOST_BYTES).decode(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # a line that was cut off
            continue
        if not (isinstance(entry, dict) and isinstance(entry.get("step"), int)):
            continue
        lines.append({key: entry.get(key) for key in ("step", "loss", "held_out_loss", "learning_rate", "seconds")})
    every = max(1, len(lines) // _MOST_LINES)
    return [line for index, line in enumerate(lines) if index % every == 0 or line["held_out_loss"] is not None]
