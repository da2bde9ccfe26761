"""The expected time of a run, measured on a copy before it starts, and the number of steps for a given time.

The learning rate falls to zero at the last step, so a run begins with a number of steps. A caller with a time budget measures
once and calls :func:`steps_for`; :mod:`pushforward.training.pace` corrects the number while the run goes on.
"""

import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pushforward.data.stream import AnyRows
from pushforward.training.calendar import Calendar
from pushforward.training.feed import Feed
from pushforward.training.held_out import HeldOut
from pushforward.training.learner import Learner
from pushforward.training.process.allocator import keep_freed_memory
from pushforward.training.process.generators import ModuleGenerators
from pushforward.training.process.world import World
from pushforward.training.record.checkpoint import Checkpoint, FolderStore
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Task

__all__ = ["Overhead", "measure_overhead", "measure_step_seconds", "steps_for"]

WARM_UP_STEPS = 3
LEAST_STEPS = 5


def measure_step_seconds(
    task: Task,
    x: AnyRows,
    condition: Tensor | None = None,
    *,
    settings: TrainingSettings,
    device: torch.device | str | None = None,
    seconds: float = 3.0,
) -> float:
    """Return the seconds of one training step, including its share of the preparation of batches.

    Steps are done on a copy of the task: some for warm-up, then for ``seconds``, but at least five and at most one block.
    The result is the mean, so that it includes outliers of a busy machine like the run itself. Communication between
    processes is not included.
    """
    world, learner, feed = _copied(task, x, condition, settings, device)
    if world.device.type == "cpu":
        keep_freed_memory()
    with ModuleGenerators(world.device).controlled():
        for step in range(WARM_UP_STEPS):
            learner.step(feed.batch(step), step, settings.learning_rate)
        _synchronize(world.device)
        started = time.perf_counter()
        batches = [feed.batch(step) for step in range(feed.block, 2 * feed.block)]
        _synchronize(world.device)
        preparation = (time.perf_counter() - started) / feed.block
        times: list[float] = []
        while len(times) < LEAST_STEPS or (sum(times) < seconds and len(times) < feed.block):
            started = time.perf_counter()
            learner.step(batches[len(times) % feed.block], feed.block + len(times), settings.learning_rate)
            _synchronize(world.device)
            times.append(time.perf_counter() - started)
    return statistics.fmean(times) + preparation


class Overhead(NamedTuple):
    """Seconds of one held-out evaluation and of one checkpoint."""

    evaluation: float
    checkpoint: float

    def of(self, settings: TrainingSettings) -> float:
        """Return the seconds of all evaluations and checkpoints of a run, without sample grids."""
        calendar = Calendar.of(settings)
        evaluations = min(calendar.evaluations, settings.steps)
        return self.evaluation * evaluations + self.checkpoint * (calendar.checkpoints_after(0) + 1)


def measure_overhead(
    task: Task,
    x: AnyRows,
    condition: Tensor | None = None,
    *,
    settings: TrainingSettings,
    held_out: tuple[Tensor, Tensor | None] | None = None,
    device: torch.device | str | None = None,
) -> Overhead:
    """Time one held-out evaluation and one checkpoint, on a copy of the task."""
    world, learner, feed = _copied(task, x, condition, settings, device)
    with ModuleGenerators(world.device).controlled():
        learner.step(feed.batch(0), 0, settings.learning_rate)
        evaluation = 0.0
        if held_out is not None and task.judged:
            rows, conditions = held_out[0].to(world.device), None if held_out[1] is None else held_out[1].to(world.device)
            judge = HeldOut(learner.task, rows, conditions, world=world, seed=0, batch_size=settings.batch_size)
            evaluation = _timed(judge.loss)
        with tempfile.TemporaryDirectory() as folder:
            store = FolderStore(Path(folder))
            files = learner.state() | {"best": learner.averaged()}
            checkpoint = _timed(lambda: store.save(Checkpoint(0, files, {})))
    return Overhead(evaluation, checkpoint)


def steps_for(seconds: float, step_seconds: float, *, overhead_seconds: float = 0.0, margin: float = 0.03) -> int:
    """Return how many steps fit into a time.

    Parameters
    ----------
    seconds : float
        Time for the whole run.
    step_seconds : float
        Seconds of one step, from :func:`measure_step_seconds`.
    overhead_seconds : float
        Seconds that do not depend on the number of steps: evaluations and checkpoints, whose number is fixed
        (:class:`Overhead`), and sample grids.
    margin : float
        Share of the time held in reserve, in [0, 1).

    Raises
    ------
    ValueError
        If not even one step fits.

    >>> steps_for(60.0, 0.05, overhead_seconds=10.0)
    963
    """
    if not step_seconds > 0 or not 0 <= margin < 1:
        raise ValueError(f"step_seconds must be above 0 and margin in [0, 1), got {step_seconds!r} and {margin!r}.")
    available = seconds * (1.0 - margin) - overhead_seconds
    if not available >= step_seconds:
        raise ValueError(
            f"No training step fits into {seconds:.3g} s: a step takes {step_seconds:.3g} s, and evaluations, checkpoints and "
            f"samples {overhead_seconds:.3g} s. Allow more time, for 100 steps about "
            f"{overhead_seconds + 100 * step_seconds:.2g} s, or make the network or the batch smaller."
        )
    return math.floor(available / step_seconds)


def _copied(
    task: Task, x: AnyRows, condition: Tensor | None, settings: TrainingSettings, device: torch.device | str | None
) -> tuple[World, Learner, Feed]:
    world = World(device)
    task = copy.deepcopy(task).to(world.device).train()
    learner = Learner(task, task, settings, device=world.device)
    condition = None if condition is None else condition.to(world.device)
    share = world.share(settings.batch_size)
    return world, learner, Feed(task, x.to(world.device), condition, batch_size=settings.batch_size, share=share, seed=0)


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
