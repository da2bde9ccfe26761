"""The training function: checks its arguments, sets up the run, and starts it."""

from pathlib import Path

import torch
from torch import Tensor

from pushforward.data.stream import AnyRows, Stream
from pushforward.training.feed import check_batch_size
from pushforward.training.pace import Budget
from pushforward.training.process.allocator import keep_freed_memory
from pushforward.training.process.gradients import with_gradients
from pushforward.training.process.interrupt import StopRequest
from pushforward.training.process.world import World
from pushforward.training.result import TrainingResult
from pushforward.training.run import OnGrid, Pair, Run
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Task

__all__ = ["check_data", "train"]


@with_gradients
def train(
    task: Task,
    x: AnyRows,
    condition: Tensor | None = None,
    *,
    settings: TrainingSettings,
    seed: int,
    held_out: Pair | None = None,
    folder: Path | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = False,
    on_grid: OnGrid | None = None,
    budget: Budget | None = None,
) -> TrainingResult:
    """Train a task in place; it ends with the averaged weights of the best held-out loss.

    Without held-out rows, or if the task is not ``judged`` by them, these are the last average. The task ends in evaluation
    mode, on the device it was trained on. torch's global generators are the same after the call as before it. On the CPU,
    glibc is told to keep freed memory for the rest of the process (see :mod:`pushforward.training.process.allocator`).

    Parameters
    ----------
    task : Task
        Training starts from its present weights.
    x : Tensor
        Training rows, shape (N, *D), floating point.
    condition : Tensor or None
        Their encoded conditions, shape (N, K).
    settings : TrainingSettings
    seed : int
        Seed of data order and random draws.
    held_out : (Tensor, Tensor or None), optional
        Rows and conditions that are never trained on.
    folder : Path, optional
        For ``metrics.jsonl`` and ``checkpoint/``. Without it nothing is written and Ctrl-C loses the run.
    resume : bool
        Continue from the last checkpoint in ``folder``. Without a checkpoint the run starts over; a finished run returns at
        once, with ``already_finished`` set.
    device : torch.device or str, optional
        None takes accelerate's choice: the GPU of this process if there is one.
    progress : bool
        Whether to show a progress line.
    on_grid : callable, optional
        Called as ``on_grid(task, step)`` in the main process, four times inside the run, with the averaged weights in the
        task; not at all where that would take more than a fifth of the time budget.
    budget : Budget, optional
        The time of the run. Its plan is made anew where the speed of the machine changes (see
        :mod:`pushforward.training.pace`). A resumed run takes the budget that it began with.

    Raises
    ------
    TypeError, ValueError
        If the arguments are inconsistent, or the checkpoint belongs to another run.
    FileExistsError
        If ``folder`` holds checkpoints and ``resume`` is false.
    Interrupted
        After Ctrl-C, once the current step is done and a checkpoint is written.
    TrainingDiverged
        If three steps in a row are not finite, in each of three attempts.
    """
    check_data(x, condition, held_out)
    check_batch_size(x, settings.batch_size)
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run to continue: pass folder=...")
    folder = None if folder is None else Path(folder)
    world = World(device, settings.tracker, folder)
    if settings.batch_size < world.size:
        raise ValueError(
            f"batch_size={settings.batch_size} is less than one row for each of {world.size} processes: "
            f"write batch_size={world.size} or more, or launch fewer processes."
        )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if world.device.type == "cpu":
        keep_freed_memory()
    with StopRequest() as stop:
        run = Run(
            task,
            (x, condition),
            settings=settings,
            seed=seed,
            held_out=held_out,
            folder=folder,
            world=world,
            on_grid=on_grid if budget is None or budget.draws_grids else None,
            budget=budget,
        )
        return run.go(stop, resume=resume, visible=progress)


def check_data(x: AnyRows, condition: Tensor | None, held_out: Pair | None) -> None:
    """Raise a TypeError or ValueError if rows, conditions and held-out rows are inconsistent."""
    _check_pair("x", x, condition)
    if held_out is None:
        return
    rows, conditions = held_out
    _check_pair("held_out", rows, conditions)
    if rows.shape[1:] != x.shape[1:]:
        raise ValueError(f"Held-out rows have shape {tuple(rows.shape[1:])} each, training rows {tuple(x.shape[1:])}.")
    if (condition is None) != (conditions is None) or (
        condition is not None and conditions is not None and condition.shape[1:] != conditions.shape[1:]
    ):
        raise ValueError("Training rows and held-out rows must both have conditions of the same width, or both have none.")


def _check_pair(name: str, x: AnyRows, condition: Tensor | None) -> None:
    if not isinstance(x, Tensor | Stream) or not x.is_floating_point():
        raise TypeError(f"The rows of {name} must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}.")
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"The rows of {name} must have shape (N, *D) with at least one row, got {tuple(x.shape)}.")
    if condition is not None and (condition.ndim != 2 or len(condition) != len(x)):
        raise ValueError(f"The conditions of {name} must have shape ({len(x)}, K), got {tuple(condition.shape)}.")
