"""The base of families trained by gradients: settings, a time budget, and the training loop.

Such a family is a subclass of :class:`TrainedModel`. It defines

- ``core``: the name of the attribute that holds the trained network, such as "denoiser_";
- ``_defaults(prepared)``: values for the arguments left at None, by kind, shape and number of the rows;
- ``_network()``: the untrained network, from the resolved arguments, ``space_`` and ``space_.conditions`` alone;
- ``_task(network, prepared)``: a :class:`~pushforward.training.Task` that contains the network. Statistics of the rows that it
  needs go into buffers of the network, which are stored with it;
- ``_generate(n, condition, ...)``: new scaled rows from the trained network.
"""

import abc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from pushforward import training
from pushforward.data import Facts
from pushforward.models.base.model import NOVELTY_ROWS, OUTSIDE_RUNS, GenerativeModel, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.task import RowTask
from pushforward.models.files.params import Count, DeviceName, Seconds, Share
from pushforward.networks import NetworkSpec, UNetSpec
from pushforward.probability import noise
from pushforward.training import Budget, Overhead, Task, TrainingResult, TrainingSettings
from pushforward.training.feed import check_batch_size
from pushforward.training.process.generators import fresh_module
from pushforward.training.process.size import check_size

__all__ = ["Trainable", "TrainedModel"]

_TRIAL_ROWS = 16
_LEAST_SHARE = 0.25  # of ``max_time``
_MOST_PLOTTED = 100  # a plot of more rows, which are small then, takes hardly longer


class Trainable(NamedTuple):
    """A task, the network inside it that sampling needs, and the time of the training.

    ``end`` is the clock at which ``max_time`` is over, ``least`` the seconds that training may take however long its
    preparation took, and ``plot_seconds`` what a plot of samples takes.
    """

    task: Task
    network: nn.Module
    end: float = math.inf
    least: float = 0.0
    plot_seconds: float = 0.0

    def budget(self, plots: float) -> Budget | None:
        """Return the time that is left for training if drawing as for so many plots follows it; None without ``max_time``."""
        if self.end == math.inf:
            return None
        return Budget(max(self.end - time.perf_counter() - plots * self.plot_seconds, self.least), self.plot_seconds)


class TrainedModel(GenerativeModel):
    """Base of the families trained by gradients; the module docstring lists what a family defines.

    Parameters
    ----------
    condition_dropout : float
        Share of training rows whose condition is dropped, so that the model also learns the law without one.
    train_steps : int, optional
        Number of training steps; overrides ``training.steps``.
    training : TrainingSettings, optional
        Batch size, learning rate and so on; the default depends on the shape of the data.
    max_time : float, optional
        Seconds from the beginning of ``fit`` to its end; on the command line from the start of the command. The number of
        steps is set by timing the first ones, and corrected on the way if the machine becomes slower or faster.
    device : str, optional
        Where to train, such as "cpu" or "cuda"; default the fastest available.

    Other parameters are those of :class:`~pushforward.models.base.preparing.Preparing`. The weights with the lowest held-out
    loss are used.

    Attributes
    ----------
    training_ : TrainingSettings
        The settings with all defaults resolved.
    """

    fitted: ClassVar[tuple[str, ...]] = ("training",)
    core: ClassVar[str]

    condition_dropout: Share = 0.1
    train_steps: Count | None = None
    training: TrainingSettings | None = None
    max_time: Seconds | None = None
    device: DeviceName | None = None

    training_: TrainingSettings = field(init=False)

    @abc.abstractmethod
    def _network(self) -> nn.Module:
        """Return the untrained network, from the resolved arguments, ``space_`` and ``space_.conditions`` alone."""

    @abc.abstractmethod
    def _task(self, network: nn.Module, prepared: Prepared) -> Task:
        """Return the task that trains the network."""

    @property
    def _condition_dim(self) -> int:
        """Length of an encoded condition; 0 without conditions."""
        return 0 if self.space_.conditions is None else self.space_.conditions.dim

    def _built(self, spec: NetworkSpec, more: int = 0) -> nn.Module:
        """Return the network of a specification for the rows and their conditions, which have ``more`` entries at the end."""
        shape, dim, encoder = self.space_.transform.shape, self._condition_dim + more, self.space_.conditions
        if encoder is not None and encoder.image is not None and isinstance(spec, UNetSpec):
            return spec.build(shape, dim, encoder.image)
        return spec.build(shape, dim)

    @property
    def _knows_null(self) -> bool:
        return self.condition_dropout > 0

    def _adopt(self, network: nn.Module) -> None:
        """Store the network that sampling needs; also called during training, before a plot."""
        setattr(self, self.core, network.eval())

    def _resolve(self, prepared: Prepared) -> Trainable:
        """Resolve defaults and the number of steps, and build the task."""
        self._fill_in(prepared)
        if self.train_steps is not None:
            self.training_ = replace(self.training_, steps=int(self.train_steps), warmup_steps=None)
        check_size(self._network)
        check_batch_size(prepared.x, self.training_.batch_size)
        network = fresh_module(self._network, self.seed_)
        task = fresh_module(lambda: self._task(network, prepared), noise.derive(self.seed_, "task"))
        if self.max_time is None:
            return Trainable(task, network)
        plot = training.agreed(lambda: self._plot_seconds(network))
        trainable = Trainable(task, network, prepared.began + self.max_time, _LEAST_SHARE * self.max_time, plot)
        self._fit_steps(trainable, prepared)
        return trainable

    def _fit_steps(self, trainable: Trainable, prepared: Prepared) -> None:
        """Set the number of steps by ``max_time``."""
        self.training_ = training.agreed(lambda: self._in_budget(trainable, prepared))

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        assert isinstance(resolved, Trainable)
        network = resolved.network

        def draw(_: Task, step: int) -> object:
            assert run.on_grid is not None
            self._adopt(network)
            return run.on_grid(step)

        grid, place = None if run.on_grid is None else draw, run.folder
        budget = resolved.budget(0.0 if run.folder is None else self._plots_after(prepared))
        self.training_result_ = self._train(
            resolved.task, prepared, self.training_, folder=place, resume=run.resume, on_grid=grid, budget=budget
        )
        self._adopt(network)

    def _train(
        self,
        task: Task,
        prepared: Prepared,
        settings: TrainingSettings,
        *,
        purpose: str = "training",
        folder: Path | None = None,
        resume: bool = False,
        on_grid: Callable[[Task, int], object] | None = None,
        budget: Budget | None = None,
    ) -> TrainingResult:
        """Train a task on the prepared rows, with the random numbers of ``purpose``."""
        encoder = self.space_.conditions
        if encoder is not None and encoder.table is not None and encoder.parts is not None and isinstance(task, RowTask):
            task.drop_parts(encoder.parts)
        return training.train(
            task,
            prepared.x,
            prepared.condition,
            settings=settings,
            seed=noise.derive(self.seed_, purpose),
            held_out=prepared.held_out,
            folder=folder,
            resume=resume,
            device=self.device,
            progress=self.verbose,
            on_grid=on_grid,
            budget=budget,
        )

    def _resolved(self) -> Facts:
        return super()._resolved() | {"train_steps": None, "max_time": None}

    @property
    def _steps(self) -> int:
        return self.training_.steps

    def _size(self, resolved: object) -> int:
        assert isinstance(resolved, Trainable)
        return sum(parameter.numel() for parameter in resolved.task.parameters() if parameter.requires_grad)

    def _seconds(self, resolved: object, prepared: Prepared) -> float:
        assert isinstance(resolved, Trainable)
        step, overhead = self._costs(resolved.task, prepared, self.training_)
        return step * self.training_.steps + overhead.of(self.training_)

    def _in_budget(self, trainable: Trainable, prepared: Prepared) -> TrainingSettings:
        """Return the settings with as many steps, and no more evaluations, than fit into ``max_time``, measured on a copy."""
        settings, most = self.training_, training.MOST_OVERHEAD * float(self.max_time or 0)
        step, overhead = self._costs(trainable.task, prepared, settings, seconds=self._trial_seconds)
        if self.training is None and overhead.evaluation * settings.evaluations > most:
            settings = replace(settings, evaluations=max(1, int(most / overhead.evaluation)))
        return replace(settings, steps=self._in_time(step, overhead.of(settings), trainable), warmup_steps=None)

    def _in_time(self, step: float, overhead: float, trainable: Trainable) -> int:
        """Return how many steps of ``step`` seconds fit into ``max_time``."""
        seconds, grid = float(self.max_time or 0), trainable.plot_seconds
        grids = training.GRIDS * grid if training.Budget(seconds, grid).draws_grids else 0.0
        return training.steps_for(seconds, step, overhead_seconds=overhead + grids, margin=0.05)

    @property
    def _trial_seconds(self) -> float:
        """Seconds spent on timing steps for ``max_time``."""
        return min(3.0, 0.03 * float(self.max_time or 0))

    def _costs(
        self, task: Task, prepared: Prepared, settings: TrainingSettings, *, seconds: float = 3.0
    ) -> tuple[float, Overhead]:
        """Return the seconds per step, and of an evaluation and a checkpoint, measured on a copy."""
        x, condition, device = prepared.x, prepared.condition, self.device
        step = training.measure_step_seconds(task, x, condition, settings=settings, device=device, seconds=seconds)
        overhead = training.measure_overhead(task, x, condition, settings=settings, held_out=prepared.held_out, device=device)
        return step, overhead

    @property
    def _plot_rows(self) -> int:
        return min(self.space_.kind.drawn_while_training, _MOST_PLOTTED)

    def _plots_after(self, prepared: Prepared) -> float:
        """Return how many plots would take as long as what is drawn after training: one, and samples to compare with rows."""
        aside = 0 if prepared.held_out is None else len(prepared.held_out[0])
        return 1 + min(aside, NOVELTY_ROWS) / self._plot_rows

    def _plot_seconds(self, network: nn.Module) -> float:
        """Estimate the seconds of one plot of samples during training."""
        self._adopt(network)
        condition = self._conditions_for_sampling(None, _TRIAL_ROWS, 0)
        begin = time.perf_counter()
        self._generate(_TRIAL_ROWS, condition, seed=0)
        return (time.perf_counter() - begin) * self._plot_rows / _TRIAL_ROWS

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        network: nn.Module = getattr(self, self.core)
        return {}, {self._prefix + name: value for name, value in network.state_dict().items()}

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        check_size(self._network)
        network, prefix = fresh_module(self._network, 0), self._prefix
        network.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        self._adopt(network)

    @property
    def _prefix(self) -> str:
        """Prefix of the names of the stored weights."""
        return self.core.rstrip("_") + "."
