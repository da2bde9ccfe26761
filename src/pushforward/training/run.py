"""One run of the training loop: its parts, their state, and their order.

Step k = 0, 1, ..., N - 1 takes its batch, its random numbers and its learning rate from (seed, attempt, k), so the state of a
run is its weights, the optimizer's moments, the averages and the numbers of :class:`State`: the content of a checkpoint. At
the steps of the calendar the run computes the held-out loss of the averaged weights, logs a line, draws samples, and writes a
checkpoint, in this order. With a time budget it then compares its pace with the time that is left.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pushforward.data.stream import AnyRows
from pushforward.probability.noise import derive
from pushforward.training.calendar import Calendar
from pushforward.training.feed import Feed
from pushforward.training.guard import ATTEMPTS, STREAK, TrainingDiverged, warn_of_return
from pushforward.training.held_out import HeldOut
from pushforward.training.learner import Learner, Tensors
from pushforward.training.pace import Budget, Pace
from pushforward.training.process.generators import ModuleGenerators
from pushforward.training.process.interrupt import Interrupted, StopRequest
from pushforward.training.process.world import World
from pushforward.training.record.checkpoint import Checkpoint, FolderStore, MemoryStore, Store
from pushforward.training.record.files import RunError, inside
from pushforward.training.record.live import LiveFile
from pushforward.training.record.metrics import MetricsFile
from pushforward.training.record.progress import Progress
from pushforward.training.result import TrainingResult
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Task

__all__ = ["OnGrid", "Pair", "Run"]

OnGrid = Callable[[Task, int], object]
_MOST = 1e300
_PACE = "pace.json"
_SLACK = 16 << 20  # bytes of a checkpoint's file beyond its tensors
Pair = tuple[Tensor, Tensor | None]
Data = tuple[AnyRows, Tensor | None]


@dataclass
class State:
    """The part of the state of a run that is not tensors.

    ``trained`` and ``training_seconds`` count all steps, including those that the guard undid.
    """

    step: int = 0
    attempt: int = 0
    rate_scale: float = 1.0
    streak: int = 0
    skipped: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    seconds: float = 0.0
    trained: int = 0
    training_seconds: float = 0.0
    best_loss: float | None = None
    best_step: int | None = None
    best_by_level: tuple[float | None, ...] | None = None


class Run:
    """The parts of one call of :func:`pushforward.training.train`, with its arguments."""

    def __init__(
        self,
        task: Task,
        data: Data,
        *,
        settings: TrainingSettings,
        seed: int,
        held_out: Pair | None,
        folder: Path | None,
        world: World,
        on_grid: OnGrid | None,
        budget: Budget | None = None,
    ) -> None:
        self.task = task.to(world.device).train()
        self.settings, self.seed, self.world, self.folder, self.on_grid = settings, seed, world, folder, on_grid
        self.calendar = Calendar.of(settings)
        self.pace = Pace(settings.steps, budget)
        self.took = {"evaluation": 0.0, "grid": 0.0 if budget is None else budget.grid_seconds, "checkpoint": 0.0}
        self.data = (data[0].to(world.device), _to(data[1], world.device))
        self.share = world.share(settings.batch_size)
        weight = (self.share.stop - self.share.start) * world.size / settings.batch_size
        self.learner = Learner(task, world.prepare(task), settings, device=world.device, weight=weight)
        self.generators = ModuleGenerators(world.device)
        self.feed = self._feed(attempt=0)
        self.held_out: HeldOut | None = None
        if held_out is not None and task.judged:
            size = self.share.stop - self.share.start
            self.held_out = HeldOut(
                task, held_out[0].to(world.device), _to(held_out[1], world.device), world=world, seed=seed, batch_size=size
            )
        self.at, self.best = State(), Tensors()
        self.store: Store = MemoryStore()
        if folder is not None:
            self.store = FolderStore(inside(folder, "checkpoint"), _SLACK + 4 * self.learner.bytes)
        self.metrics = MetricsFile(inside(folder, "metrics.jsonl") if folder is not None and world.is_main else None)
        self.live = LiveFile(folder if world.is_main else None)
        self.identity = self._identity(held_out)
        self._clock = time.perf_counter()
        self._line_at = State()

    def go(self, stop: StopRequest, *, resume: bool, visible: bool) -> TrainingResult:
        """Run from the last checkpoint or the beginning to the end."""
        self._start(resume)
        if self.at.step >= self.pace.steps:
            return self._end(already_finished=True)
        self.world.start_tracking(dataclasses.asdict(self.settings))
        try:
            rows = "images" if self.data[0].ndim == 4 else "rows"
            with Progress(self.pace.steps, self.at.step, visible and self.world.is_main, rows) as line:
                while self.at.step < self.pace.steps:
                    self._train_on(stop, line)
                    if self.learner.streak >= STREAK:
                        self._go_back()
                        continue
                    self._do_what_is_due(line)
                    self.live.write(self.at.step, self.learner.averaged)
                    if self.world.any(stop.set) and self.at.step < self.pace.steps:
                        self._save()
                        raise Interrupted(self.at.step, self.pace.steps, self.folder)
        finally:
            self.world.stop_tracking()
        return self._end()

    def _start(self, resume: bool) -> None:
        steps = self.world.from_main(self.store.steps() if self.world.is_main else [])
        if steps and not resume:
            raise FileExistsError(
                f"{self.folder} already holds a run, with a checkpoint at step {steps[-1]}. Continue it with resume=True, or "
                f"choose another folder."
            )
        checkpoint = self.store.latest() if steps else None
        if checkpoint is None:
            self.metrics.truncate(0)
            self._write_pace()
            self._save()
            return
        _check_same_run(self.identity, checkpoint.state.get("run"))
        if self.folder is not None:
            self.pace.read(inside(self.folder, _PACE))
        try:
            check_state(checkpoint, self.pace.steps)
            self.learner.check(checkpoint.files)
        except ValueError as error:
            path = self.store.path(checkpoint.step) if isinstance(self.store, FolderStore) else Path("checkpoint")
            cure = "delete this checkpoint, and the run continues from the one before it, or from the start"
            raise RunError(path, f"cannot be resumed from: {error}", cure) from error
        self._restore(checkpoint)

    def _train_on(self, stop: StopRequest, line: Progress) -> None:
        """Do the steps up to the next one after which anything is due, or to the end of the block."""
        learner, feed, at = self.learner, self.feed, self.at
        stop_at = self.calendar.next_stop(self.pace.position(at.step))
        last = min(self.pace.first_step(at.step, stop_at), at.step - at.step % feed.block + feed.block)
        alone = self.world.size == 1
        started, first = time.perf_counter(), at.step
        with self.generators.controlled(self._module_seed()):
            for step in range(first, last):
                batch = feed.batch(step)
                self.generators.seed(step)
                learner.step(batch, step, self._rate(step))
                at.step = step + 1
                line.tick(at.step)
                # Several processes must stop after the same step: they agree at the end of the block.
                if learner.streak >= STREAK or (stop.set and alone):
                    break
            learner.settle()
        at.trained += at.step - first
        at.training_seconds += time.perf_counter() - started

    def _do_what_is_due(self, line: Progress) -> None:
        calendar, places = self.calendar, (self.pace.position(self.at.step - 1), self.pace.position(self.at.step))
        total, count = self.world.sum_numbers(*self.learner.take_losses())
        self.at.loss_sum, self.at.loss_count = self.at.loss_sum + total, self.at.loss_count + round(count)
        evaluated: dict[str, Any] = {}
        if self.held_out is not None and calendar.evaluates(*places):
            with self._timed("evaluation"):
                evaluated = self._evaluate()
        if evaluated or calendar.logs(*places):
            self._log(evaluated, line)
        if self.on_grid is not None and calendar.draws_grid(*places):
            with self._timed("grid"):
                self._grid(self.on_grid)
        if calendar.saves(*places):
            with self._timed("checkpoint"):
                self._save()
        if self.pace.budget is not None:
            self._keep_pace(line)

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.took[name] = time.perf_counter() - began

    def _keep_pace(self, line: Progress) -> None:
        """Follow another plan if the present one misses the end of the time."""
        at, calendar, place = self.at, self.calendar, self.pace.position(self.at.step)
        left = self.pace.seconds_left(self._seconds()) - self.took["checkpoint"] * calendar.checkpoints_after(place)
        left -= self.took["evaluation"] * calendar.evaluations_after(place)
        left -= self.took["grid"] * calendar.grids_after(place) * (self.on_grid is not None)
        steps = self.world.from_main(self.pace.better_plan(at.step, at.trained, at.training_seconds, left))
        if steps is not None:
            self.pace.replan(at.step, steps)
            self.feed.until = steps
            self._write_pace()
            line.expect(steps)

    def _evaluate(self) -> dict[str, Any]:
        """Compute the held-out loss of the averaged weights, and keep them if they are the best so far."""
        assert self.held_out is not None
        self.learner.ema.exchange()
        loss = self.held_out.loss()
        self.learner.ema.exchange()
        if not math.isfinite(loss.mean):
            return {"held_out_loss": None, "held_out_by_level": None}
        if self.at.best_loss is None or loss.mean < self.at.best_loss:
            self.at.best_loss, self.at.best_step, self.at.best_by_level = loss.mean, self.at.step, loss.by_level
            self.best = self.learner.averaged()
        return {"held_out_loss": loss.mean, "held_out_by_level": loss.by_level}

    def _log(self, evaluated: dict[str, Any], line: Progress) -> None:
        at, before = self.at, self._line_at
        rows = (at.trained - before.trained) * self.settings.batch_size
        values = {
            "loss": at.loss_sum / at.loss_count if at.loss_count else None,
            "learning_rate": self._rate(at.step - 1),
            "rows_per_second": round(rows / max(at.training_seconds - before.training_seconds, 1e-9), 1),
            "seconds": round(self._seconds(), 3),
            "attempt": at.attempt,
        } | evaluated
        at.loss_sum, at.loss_count = 0.0, 0
        self._line_at = dataclasses.replace(at)
        self.metrics.append({"step": at.step, **values})
        plain = {key: value for key, value in values.items() if isinstance(value, int | float)}
        self.world.track(plain, at.step)
        line.note(**{key: plain[key] for key in ("loss", "held_out_loss", "rows_per_second") if key in plain})

    def _write_pace(self) -> None:
        if self.folder is not None and self.world.is_main:
            self.pace.write(inside(self.folder, _PACE))

    def _grid(self, on_grid: OnGrid) -> None:
        if self.world.is_main:
            self.learner.ema.exchange()
            self.task.eval()
            try:
                self.world.track_plot(on_grid(self.task, self.at.step), self.at.step)
            finally:
                self.task.train()
                self.learner.ema.exchange()

    def _save(self) -> None:
        at = self.at
        at.streak, at.skipped = self.learner.streak, self.learner.skipped
        self._seconds()
        if self.world.is_main or self.folder is None:
            self.metrics.flush()
            files = self.learner.state() | {"best": self.best}
            self.store.save(Checkpoint(at.step, files, dataclasses.asdict(at) | {"run": self.identity}))
        self.world.wait()

    def _restore(self, checkpoint: Checkpoint) -> None:
        at = State(**{key: value for key, value in checkpoint.state.items() if key != "run"})
        at.best_by_level = None if at.best_by_level is None else tuple(at.best_by_level)
        self.at, self._line_at, self._clock = at, dataclasses.replace(at), time.perf_counter()
        self.learner.load(checkpoint.files)
        self.learner.set_counters(at.streak, at.skipped)
        self.best = {name: value.to(self.world.device, copy=True) for name, value in checkpoint.files["best"].items()}
        self.metrics.truncate(at.step)
        self.feed = self._feed(at.attempt)

    def _go_back(self) -> None:
        """Return to the last checkpoint with half the learning rate and other batches, or raise after the last attempt."""
        failed, skipped, self.at.seconds = self.at, self.learner.skipped, self._seconds()
        attempt, scale = failed.attempt + 1, failed.rate_scale / 2
        if attempt == ATTEMPTS:
            bad = self.learner.last_bad
            with self.generators.controlled(self._module_seed()):
                self.generators.seed(bad)
                places = self.world.gather(self.learner.first_bad_place(self.feed.batch(bad)))
            raise TrainingDiverged(failed.step, next((place for place in places if place), None))
        checkpoint = self.store.latest()
        if checkpoint is None:
            raise RuntimeError(f"No sound checkpoint is left in {self.folder} to return to from step {failed.step}.")
        self._restore(checkpoint)
        self.at.attempt, self.at.rate_scale, self.at.seconds = attempt, scale, failed.seconds
        self.at.trained, self.at.training_seconds = failed.trained, failed.training_seconds
        self._line_at = dataclasses.replace(self.at)
        self.learner.set_counters(0, skipped)
        self.feed = self._feed(attempt)
        self.pace.forget_after(self.at.step)
        self._write_pace()
        if self.world.is_main:
            warn_of_return(failed.step, self.at.step, scale)

    def _end(self, already_finished: bool = False) -> TrainingResult:
        at = self.at
        self.learner.finish(self.best or self.learner.averaged())
        self.live.clear()
        self.task.eval()
        return TrainingResult(
            steps=self.pace.steps,
            seconds=at.seconds if already_finished else self._seconds(),
            held_out_loss=at.best_loss,
            held_out_step=at.best_step,
            held_out_by_level=at.best_by_level,
            rows_per_second=at.trained * self.settings.batch_size / max(at.training_seconds, 1e-9),
            parameters=self.learner.parameters,
            attempts=at.attempt + 1,
            skipped=at.skipped,
            already_finished=already_finished,
        )

    def _seconds(self) -> float:
        now = time.perf_counter()
        self.at.seconds, self._clock = self.at.seconds + now - self._clock, now
        return self.at.seconds

    def _rate(self, step: int) -> float:
        return self.settings.rate(self.pace.position(step)) * self.at.rate_scale

    def _module_seed(self) -> int:
        return derive(self.seed, "modules", self.at.attempt, self.world.rank)

    def _feed(self, attempt: int) -> Feed:
        size, seed = self.settings.batch_size, self.seed
        feed = Feed(self.task, *self.data, batch_size=size, share=self.share, seed=seed, attempt=attempt)
        feed.until = self.pace.steps
        return feed

    def _identity(self, held_out: Pair | None) -> dict[str, Any]:
        """Return what a checkpoint of this run must agree with."""
        settings = dataclasses.asdict(self.settings)
        del settings["tracker"]
        shapes = {
            "rows": list(self.data[0].shape),
            "conditions": None if self.data[1] is None else list(self.data[1].shape),
            "held_out_rows": None if held_out is None else list(held_out[0].shape),
        }
        identity: dict[str, Any] = json.loads(json.dumps(settings | {"seed": self.seed} | shapes))
        return identity


def _to(x: Tensor | None, device: torch.device) -> Tensor | None:
    return None if x is None else x.to(device)


def check_state(checkpoint: Checkpoint, steps: int) -> None:
    """Raise a ValueError unless a checkpoint, which a stranger may have made, is of a step of a run of this length."""
    state = {key: value for key, value in checkpoint.state.items() if key != "run"}
    for field in dataclasses.fields(State):
        if field.name not in state:
            raise ValueError(f"it has no {field.name}")
        _check_field(field, state.pop(field.name))
    if state:
        raise ValueError(f"it has an unknown {sorted(state)[0]!r}")
    at = checkpoint.state
    if at["step"] != checkpoint.step or at["step"] > steps or at["attempt"] >= ATTEMPTS or at["rate_scale"] > 1:
        raise ValueError(f"it is of step {at['step']} in attempt {at['attempt']}, but the run has {steps} steps")


def _check_field(field: "dataclasses.Field[Any]", value: object) -> None:
    """Raise a ValueError unless a value is one or, of ``best_by_level``, several numbers that the field can have."""
    may_miss, whole = field.default is None, type(field.default) is int or field.name == "best_step"
    least = -math.inf if field.name in ("loss_sum", "best_loss", "best_by_level") else 0
    for number in value if field.name == "best_by_level" and isinstance(value, list) else [value]:
        if number is None and may_miss:
            continue
        if isinstance(number, bool) or not isinstance(number, int if whole else int | float) or not -_MOST < number < _MOST:
            raise ValueError(f"its {field.name} is {str(value)[:80]}")
        if number < least:
            raise ValueError(f"its {field.name} is {number}, below {least}")


def _check_same_run(here: dict[str, Any], there: object) -> None:
    if not isinstance(there, dict):
        there = {}
    changed = [f"{key}={there.get(key)!r} (now {here.get(key)!r})" for key in here if here.get(key) != there.get(key)]
    if changed:
        raise ValueError(
            f"The checkpoint belongs to a run with {', '.join(changed)}. A run can only be resumed unchanged: pass the "
            f"same settings, seed and data, or start another run in another folder."
        )
