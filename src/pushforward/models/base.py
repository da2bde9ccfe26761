"""What all families share: from any data to a trained model.

A family is a subclass of :class:`GenerativeModel`. It stores its constructor arguments untouched and defines

- ``_defaults(prepared)``: values for the arguments that were left at None, by kind, shape and number of the rows;
- ``_task(prepared)``: what is trained, a :class:`~pushforward.training.Task`, built for these rows;
- ``_picture_seconds(task, prepared)``: what a picture of samples on the way costs;
- ``_adopt(task)``: what it keeps of the trained task;
- ``_state()`` and ``_restore(facts, tensors, parts)``: that, as plain data and tensors, and back.

This class checks the arguments, opens the data, sets rows aside, fits the transform and the encoder of conditions, and trains.
"""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward import training
from pushforward.data import ConditionEncoder, Dataset, Schema, Transform, open_data, split_rows
from pushforward.models.params import check_params
from pushforward.probability import noise
from pushforward.training import Task, TrainingResult, TrainingSettings

__all__ = ["GenerativeModel", "Prepared", "fresh_module"]

_MOST_HELD_OUT = 2000
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Scaled rows, ready to train on.

    Attributes
    ----------
    x : Tensor (N, *D)
        Training rows, float32.
    condition : Tensor (N, K) or None
    held_out : (Tensor, Tensor or None) or None
        Rows and conditions that training never sees.
    rows, held_out_rows : int64 tensors
        Their row numbers in the data set.
    """

    x: Tensor
    condition: Tensor | None
    held_out: tuple[Tensor, Tensor | None] | None
    rows: Tensor
    held_out_rows: Tensor


class GenerativeModel(BaseEstimator, abc.ABC):  # type: ignore[misc]
    """Base of all estimators; the module's text says what a family defines."""

    fitted: ClassVar[tuple[str, ...]] = ()
    """Names of arguments whose resolved value is kept as ``name_``, besides ``training``."""

    train_steps: int | None
    training: TrainingSettings | None
    max_time: float | None
    held_out: float
    kind: Any
    device: str | None
    random_state: Any
    verbose: bool

    schema_: Schema
    transform_: Transform
    condition_encoder_: ConditionEncoder | None
    training_: TrainingSettings
    training_result_: TrainingResult
    seed_: int
    data_: dict[str, Any]

    def fit(self, X: Any, y: Any = None, *, condition: Any = None) -> Self:
        """Train on data of any kind.

        Parameters
        ----------
        X : array, tensor, DataFrame, path or built-in name
            Rows first: ``(N, D)`` vectors, ``(N, H, W)`` or ``(N, H, W, C)`` pictures (tensors ``(N, C, H, W)``), a ``.npy``,
            ``.npz``, ``.csv`` or ``.parquet`` file, a folder of pictures, or a name such as "digits".
        y : ignored
        condition : array, column name(s) or False, optional
            A label or a vector for each row. By default what comes with the data (sub-folders, labels of built-ins).

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument or the data cannot be used; nothing has been trained then.
        """
        check_params(type(self), self.get_params(deep=False))
        dataset = open_data(X, condition=condition, kind=self.kind)
        prepared = self._prepare(dataset)
        task = self._resolve(prepared)
        self._train(task, prepared)
        return self

    def save(self, folder: str | Path) -> None:
        """Write ``model.json`` and ``weights.safetensors``; :func:`pushforward.load` needs nothing else."""
        from pushforward.models.storage import save

        check_is_fitted(self)
        save(self, Path(folder))

    @property
    def conditional(self) -> bool:
        """Whether the model was trained with conditions."""
        check_is_fitted(self)
        return self.condition_encoder_ is not None

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether ``fit`` has been called."""
        return hasattr(self, "training_result_")

    def _prepare(self, dataset: Dataset) -> Prepared:
        """Split, scale and encode the data; keeps schema, transform, encoder and seed."""
        self.seed_ = _seed(self.random_state)
        rows, aside = self._split(len(dataset))
        self.schema_ = dataset.schema
        self._name_features()
        internal = dataset.to_internal()
        self.transform_ = Transform.fit(internal[rows], integer=self.schema_.integer, kind=self.schema_.kind)
        x = self.transform_.forward(internal, dtype=torch.float32)
        given = dataset.condition
        encoder = None if given is None else ConditionEncoder.fit(given)
        condition = None if encoder is None else encoder.encode(given, len(x))
        self.condition_encoder_ = encoder
        self.data_ = {
            "source": dataset.source,
            "rows": len(dataset),
            "held_out": len(aside),
            "fingerprint": dataset.fingerprint,
        }
        held_out = (x[aside], None if condition is None else condition[aside]) if len(aside) else None
        return Prepared(x[rows], None if condition is None else condition[rows], held_out, rows, aside)

    def _split(self, n: int) -> tuple[Tensor, Tensor]:
        """Row numbers for training and held out; never more than 2,000 of these, which measure the loss well enough."""
        return split_rows(n, min(self.held_out, _MOST_HELD_OUT / n), noise.derive(self.seed_, "held-out"))

    def _name_features(self) -> None:
        """Set the attributes by which scikit-learn knows the columns of the training data."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                delattr(self, name)
        if self.schema_.kind == "vectors":
            self.n_features_in_ = self.schema_.internal_shape[0]
        columns = self.schema_.columns
        if columns is not None and all(isinstance(column, str) for column in columns):
            self.feature_names_in_ = np.array(columns, dtype=object)

    def _resolve(self, prepared: Prepared) -> Task:
        """Fill in what was left open, fix the number of steps, and build what is trained."""
        defaults = self._defaults(prepared)
        for name in (*self.fitted, "training"):
            given = getattr(self, name)
            setattr(self, f"{name}_", defaults[name] if given is None else given)
        if self.train_steps is not None:
            self.training_ = replace(self.training_, steps=int(self.train_steps), warmup_steps=None)
        task = fresh_module(lambda: self._task(prepared), self.seed_)
        if self.max_time is not None:
            steps = training.agreed(lambda: self._affordable_steps(task, prepared))
            self.training_ = replace(self.training_, steps=steps, warmup_steps=None)
        return task

    def _affordable_steps(self, task: Task, prepared: Prepared) -> int:
        """Return the number of steps that fit into ``max_time``, measured once on a copy."""
        budget = float(self.max_time or 0)
        settings = {"settings": self.training_, "device": self.device}
        seconds = min(3.0, 0.03 * budget)
        step = training.measure_step_seconds(task, prepared.x, prepared.condition, seconds=seconds, **settings)  # type: ignore[arg-type]
        overhead = training.measure_overhead_seconds(
            task,
            prepared.x,
            prepared.condition,
            held_out=prepared.held_out,
            **settings,  # type: ignore[arg-type]
        )
        pictures = training.GRIDS * self._picture_seconds(task, prepared)
        return training.steps_for(budget, step, overhead_seconds=overhead + pictures, margin=0.05)

    def _train(
        self,
        task: Task,
        prepared: Prepared,
        *,
        folder: Path | None = None,
        resume: bool = False,
        on_grid: Callable[[Task, int], None] | None = None,
    ) -> None:
        self.training_result_ = training.train(
            task,
            prepared.x,
            prepared.condition,
            settings=self.training_,
            seed=noise.derive(self.seed_, "training"),
            held_out=prepared.held_out,
            folder=folder,
            resume=resume,
            device=self.device,
            progress=self.verbose,
            on_grid=on_grid,
        )
        self._adopt(task)

    def _resolved(self) -> dict[str, Any]:
        """Return the constructor arguments with nothing left open: the same run again, with no measuring and no default."""
        params = dict(self.get_params(deep=False))
        params |= {name: getattr(self, f"{name}_") for name in (*self.fitted, "training")}
        return params | {"train_steps": None, "max_time": None, "random_state": self.seed_}

    @abc.abstractmethod
    def _defaults(self, prepared: Prepared) -> dict[str, Any]:
        """Return values for ``fitted`` and ``training``, used where the argument is None."""

    @abc.abstractmethod
    def _task(self, prepared: Prepared) -> Task:
        """Build what is trained."""

    @abc.abstractmethod
    def _picture_seconds(self, task: Any, prepared: Prepared) -> float:
        """Return about how long one picture of samples on the way takes."""

    @abc.abstractmethod
    def _adopt(self, task: Any) -> None:
        """Keep what sampling needs of the task."""

    @abc.abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what ``_adopt`` kept, as plain data and tensors."""

    @abc.abstractmethod
    def _restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], parts: Mapping[str, Any]) -> None:
        """Take back what ``_state`` returned; ``parts`` are objects that did not ship with the library."""


def fresh_module(build: Callable[[], M], seed: int) -> M:
    """Build a module with weights that depend on ``seed`` alone, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.derive(seed, "weights"))
        return build()


def _seed(random_state: Any) -> int:
    """Return the seed that scikit-learn's three forms of ``random_state`` mean."""
    if random_state is None:
        return training.agreed(noise.fresh_seed)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(1 << 31))
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(f"random_state must be an integer, None or a numpy RandomState, got {random_state!r}")
    return int(random_state)
