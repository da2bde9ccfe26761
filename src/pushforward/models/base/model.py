"""The base of all families: fits a model to any data and draws new rows from it.

A family is a subclass of :class:`GenerativeModel`, which checks the arguments, opens the data, holds out rows, and fits the
transform and the encoder of conditions. The fields of its class are the arguments of its constructor
(:mod:`pushforward.models.base.estimator`). It defines

- ``_resolve(prepared)``: sets the arguments left at None and returns what ``_learn`` needs besides the rows;
- ``_learn(prepared, resolved, run)``: learns, and sets ``training_result_``;
- ``_generate(n, condition, ...)``: new scaled rows, unless ``generates = False``;
- ``_state()`` and ``_restore(facts, tensors, parts)``: what was learned, as plain data and tensors, and back.

Families that are trained by gradients define the methods of :class:`~pushforward.models.base.trained.TrainedModel` instead.
"""

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeAlias, TypeVar, cast, get_args

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward.data import (
    ArrayLike,
    Condition,
    Data,
    Dataset,
    Facts,
    Values,
    open_data,
)
from pushforward.data.rows import Rows
from pushforward.models.base.available import Imputes, available_if
from pushforward.models.base.preparing import Prepared, Preparing
from pushforward.models.base.shown import as_html
from pushforward.models.files import registry, storage
from pushforward.models.files.params import check_params
from pushforward.plots import Plot
from pushforward.probability import noise
from pushforward.probability.counts import check_count
from pushforward.probability.memory import check_memory
from pushforward.training import TrainingResult
from pushforward.training.process.devices import check_device
from pushforward.training.process.gradients import with_gradients

__all__ = ["NOVELTY_ROWS", "OUTSIDE_RUNS", "GapChoice", "GenerativeModel", "RunOptions", "register"]

GapChoice: TypeAlias = Literal["keep", "fill"]

_COPIES = 4  # of a drawn row: scaled, in the units of the data, and both again where parts are joined
_PLOT_SEED, _CLASSES, _PER_CLASS = 0, 10, 10


def _draws(model: "GenerativeModel") -> bool:
    return model.generates


@dataclass(frozen=True)
class RunOptions:
    """The folder of a run, whether to resume it, and ``on_grid(step)``, which is called at times during training."""

    folder: Path | None = None
    resume: bool = False
    on_grid: Callable[[int], object] | None = None


OUTSIDE_RUNS = RunOptions()
NOVELTY_ROWS = 500
"""Samples, at most, that a run compares with its rows at the end."""


class GenerativeModel(Preparing, abc.ABC):
    """Base of all estimators; the module docstring lists what a family defines.

    Parameters are those of :class:`~pushforward.models.base.preparing.Preparing`.

    Attributes
    ----------
    training_result_ : TrainingResult
        Steps (iterations, for a family that is not trained by gradients), seconds and held-out loss.
    sample_seed_ : int
        Seed of the last sample.
    """

    fitted: ClassVar[tuple[str, ...]] = ()
    """Names of arguments whose resolved value is stored as ``name_``."""
    given_columns: ClassVar[bool] = False
    """Whether ``sample`` takes values of columns of the data, which need not be conditions of the training."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Names of further files that belong to one weights file in a folder."""

    generates: ClassVar[bool] = True
    """Whether the family learns a law to draw from; otherwise it has no ``sample``."""

    training_result_: TrainingResult = field(init=False)
    sample_seed_: int = field(init=False)
    run_: Path = field(init=False)

    @with_gradients
    def fit(self, X: Data, y: object = None, *, condition: Condition = None) -> Self:
        """Train on data of any kind.

        Parameters
        ----------
        X : array, tensor, DataFrame, path or built-in name
            Rows first: ``(N, D)`` vectors, ``(N, H, W)`` or ``(N, H, W, C)`` images (tensors ``(N, C, H, W)``), a ``.npy``,
            ``.npz``, ``.csv``, ``.parquet`` or ``.txt`` file, a folder of images or texts, a list of str, or a name such as
            "digits".
        y : ignored
        condition : array, DataFrame, column name(s), path, "mask" or False, optional
            A label, a vector or cells of columns of any types for each row. None and NaN are gaps: such a row trains the law
            without this part of the condition. Default: the labels of the data (sub-folders, labels of built-ins). Of images
            also images (N, h, w[, C]) of their size or an integer fraction of it, or a path of them; "mask" is the visible part
            of the image itself under random masks, from which ``impute`` then draws the rest.

        Raises
        ------
        TypeError, ValueError
            If an argument or the data are invalid; raised before training.
        """
        check_params(type(self), self.get_params(deep=False))
        dataset = open_data(X, condition=condition, gaps=True, **self._opening)
        prepared = self._prepare(dataset)
        self._learn(prepared, self._resolve(prepared))
        return self

    @available_if(_draws)
    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        n : int
            Number of rows.
        condition : label, vector, values by name such as ``{"sex": "f", "age": 40}``, or one of them per row, optional
            What the rows should be like. A column that is left out, or a gap, asks for the law without it. Without any
            condition a conditional model draws from the training conditions.
        gaps : {"keep", "fill"}
            Whether rows of a table have gaps as the training data do, or these are filled by ``impute``; the filled cells also
            depend on which rows are drawn with them.
        seed : int, optional
            Names the sample; row i is the same whatever n and ``batch_size``. Without it a fresh seed is taken. The seed of
            the last call is kept as ``sample_seed_``.
        first : int
            Number of the first row: ``sample(5, seed=s, first=10)`` is rows 10 to 14 of ``sample(15, seed=s)``.
        batch_size : int
            Rows that are made at once.

        Returns
        -------
        array, tensor or DataFrame
            Rows in the layout, dtype and units of the training data.
        """
        encoded, seed = self._begin_sampling(n, condition, seed, first, batch_size, gaps=gaps)
        z = self._generate(n, encoded, seed=seed, first=first, batch_size=batch_size)
        return self._delivered(z, gaps, condition=condition, seed=seed)

    def save(self, folder: str | Path) -> None:
        """Write ``model.json`` and ``weights.safetensors``; :func:`pushforward.load` needs nothing else."""
        check_is_fitted(self)
        storage.save(self, Path(folder))

    def to(self, device: str | torch.device) -> Self:
        """Move the networks to a device, where sampling and scoring then run, and return the model."""
        check_is_fitted(self)
        check_device(device)
        for value in vars(self).values():
            if isinstance(value, nn.Module):
                value.to(device)
        return self

    @property
    def conditional(self) -> bool:
        """Whether the model was trained with conditions that come with the rows; masks do not."""
        check_is_fitted(self)
        return self.space_.conditions is not None and not self.space_.conditions.has_masks

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn whether training rows may have gaps."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.gaps
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "training_result_")

    def _repr_html_(self) -> str:
        return as_html(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": as_html(self)}

    def _begin_sampling(
        self,
        n: int,
        condition: Condition,
        seed: int | None,
        first: int,
        batch_size: int,
        *,
        gaps: GapChoice = "keep",
        given: bool = False,
    ) -> tuple[Tensor | None, int]:
        """Check the arguments of ``sample``; return the encoded conditions and the seed, which is stored.

        ``given`` says whether values of columns are given too.
        """
        check_is_fitted(self)
        if gaps not in get_args(GapChoice):
            raise ValueError(f"gaps must be 'keep' or 'fill', not {gaps!r}")
        if gaps == "fill" and not hasattr(self, "impute"):
            able = ", ".join(registry.families_with("impute"))
            raise ValueError(f"{type(self).__name__} cannot fill gaps; keep them, or use a family that imputes: {able}")
        check_count("n", n, 1)
        check_count("first", first, 0)
        check_count("batch_size", batch_size, 1)
        self.check_room(n)
        seed = self._keep_seed(seed)
        if given:  # a condition drawn from the training data would not fit the given columns
            return self.space_.encode(condition, n, null=self._knows_null), seed
        return self._conditions_for_sampling(condition, n, seed, first), seed

    def _delivered(self, z: Tensor, gaps: GapChoice, *, condition: Condition, seed: int, given: Tensor | None = None) -> Values:
        """Return new scaled rows as the user gets them; cells that are ``given``, not NaN, are returned exactly."""
        rows = self.space_.of_rows(z).to_user(z, given)
        if gaps == "keep" or self.space_.schema.table is None or not any(self.space_.schema.table.gaps):
            return rows
        filled = cast(Imputes, self).impute(rows, condition=condition, seed=noise.derive(seed, "gaps"))
        self.sample_seed_ = seed
        return filled

    def check_room(self, n: int) -> None:
        """Raise a ValueError if n drawn rows do not fit into the memory of this machine."""
        bytes_per_row = _COPIES * 4 * math.prod(self.space_.transform.shape)
        parts = (
            "draw them in parts: sample(1000, seed=s, first=0), sample(1000, seed=s, first=1000) and so on are the same rows"
        )
        check_memory(n * bytes_per_row, f"n={n:,}", parts)

    def _keep_seed(self, seed: int | None) -> int:
        """Return the seed of a call, a fresh one by default, and store it as ``sample_seed_``."""
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise TypeError(f"seed must be an integer, got {seed!r}")
        self.sample_seed_ = noise.fresh_seed() if seed is None else seed
        return self.sample_seed_

    def _conditions_for_sampling(self, condition: Condition, n: int, seed: int, first: int = 0) -> Tensor | None:
        """Return one encoded condition per row (n, K), by default drawn from the training data; None without conditions."""
        encoder = self.space_.conditions
        if condition is None and encoder is not None:
            return encoder.draw(n, seed=seed, first=first)
        return self.space_.encode(condition, n, null=self._knows_null)

    @property
    def _knows_null(self) -> bool:
        """Whether a conditional model has learned the law without a condition."""
        return True

    def _encode(self, condition: Condition, n: int, dtype: torch.dtype) -> Tensor | None:
        """Return one encoded condition per row (n, K); zeros, "no condition", if a conditional model gets none."""
        encoded = self.space_.encode(condition, n, null=self._knows_null)
        if encoded is None and self.space_.conditions is not None:
            encoded = self.space_.conditions.encode(None, n)
        return None if encoded is None else encoded.to(dtype)

    def _rows_of(self, X: ArrayLike, condition: Condition, dtype: torch.dtype, *, within_range: bool = False) -> Rows:
        """Return the user's rows with their conditions, as codes use them, and ``within_range`` as densities do.

        Raises
        ------
        ValueError
            If X does not fit the training data, has fractions where these are integers, or the condition is missing and the
            model has not learned the law without one.
        """
        x = self.space_.schema.to_internal(X, name=type(self).__name__, gaps=self.gaps)
        return Rows.of(self.space_, x, self._encode(condition, len(x), dtype), dtype=dtype, within_range=within_range)

    def _resolved(self) -> Facts:
        """Return the constructor arguments with all defaults and measured values resolved, which repeat this run.

        Those that training chooses are as they were given until it ends.
        """
        params = dict(self.get_params(deep=False))
        found = {name: vars(self).get(f"{name}_", params[name]) for name in self.fitted}
        return params | found | {"random_state": self.seed_}

    def _forget(self) -> None:
        """Delete ``name_`` of every argument in ``fitted``, which the next training chooses."""
        for name in self.fitted:
            vars(self).pop(f"{name}_", None)

    def _fill_in(self, prepared: Prepared) -> None:
        """Set ``name_`` of every argument in ``fitted``: its value, or the default for these rows."""
        defaults = self._defaults(prepared)
        for name in self.fitted:
            value = getattr(self, name)
            setattr(self, f"{name}_", defaults[name] if value is None else value)

    def _clean(self, x: Tensor) -> Tensor:
        """Return the rows of data (N, *D) in prepared rows, which may have extra channels."""
        return x

    def _plot(self, prepared: Prepared) -> Plot:
        """Plot samples from a fixed seed: one line per class where the kind plots rows singly, otherwise with the data."""
        encoder, kind = self.space_.conditions, self.space_.kind
        data = self._clean(prepared.x[: kind.shown])
        if encoder is not None and encoder.has_classes and kind.drawn_singly:
            labels = [label for label in encoder.classes[:_CLASSES] for _ in range(_PER_CLASS)]
            z = self._generate(len(labels), encoder.encode(labels, len(labels)), seed=_PLOT_SEED)
            return self.space_.draw(z, data, columns=_PER_CLASS, labels=labels)
        n = kind.drawn_while_training
        z = self._generate(n, self._conditions_for_sampling(None, n, _PLOT_SEED), seed=_PLOT_SEED)
        return self.space_.draw(z, data)

    @property
    def _steps(self) -> int | None:
        """Number of training steps, for a model trained by gradients."""
        return None

    def _size(self, resolved: object) -> int | None:
        """Return the number of learned parameters, if it is known before training."""
        return None

    def _seconds(self, resolved: object, prepared: Prepared) -> float | None:
        """Return an estimate of the training time, if there is one."""
        return None

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        """Return default values for the arguments in ``fitted``, by kind, shape and number of the rows."""
        return {}

    def _data_of(self, part: str, dataset: Dataset) -> Dataset:
        """Return rows like those that the model in the argument ``part`` learns from; its defaults depend on them."""
        return dataset

    @abc.abstractmethod
    def _resolve(self, prepared: Prepared) -> object:
        """Resolve all arguments, and return what ``_learn`` needs besides the rows."""

    @abc.abstractmethod
    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        """Learn from the rows."""

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        """Return n new scaled rows (n, *D) on the CPU; row i depends on (seed, first + i) alone."""
        raise NotImplementedError

    @abc.abstractmethod
    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return what was learned, as plain data and tensors."""

    @abc.abstractmethod
    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        """Restore what ``_state`` returned; ``parts`` are objects that are not part of the library."""

    def _write_beside(self, folder: Path, weights: list[str]) -> None:
        """Write the files named by ``beside``, valid for weights with these SHA-256, the first of them this model's."""

    def _read_beside(self, folder: Path, weights: str) -> None:
        """Read what ``_write_beside`` wrote, for weights with this SHA-256."""


M = TypeVar("M", bound=type[GenerativeModel])


def register(cls: M) -> M:
    """Register a user's family by its name, so that its runs can be loaded; a class decorator.

    A package lists its families in its metadata instead: see :mod:`pushforward.models.files.registry`.

    Raises
    ------
    TypeError
        If it is not a subclass of :class:`GenerativeModel`.
    ValueError
        If another family has the same name.
    """
    if not (isinstance(cls, type) and issubclass(cls, GenerativeModel)):
        raise TypeError(f"register takes a subclass of GenerativeModel, not {cls!r}")
    registry.add(cls)
    return cls
