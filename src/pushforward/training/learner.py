"""One optimizer step: loss, gradient, clipping, AdamW, moving average, and the guard against numbers that are not finite.

On the CPU reading a scalar is free, so a bad step is an ``if``. On an accelerator it would stall the queue of kernels, so
there the whole step is masked on the device: AdamW's ``found_inf`` and the average's mask leave everything unchanged, and
the counters are read once per block of steps. After ``STREAK`` bad steps in a row nothing changes until the loop has handled
them, so both methods leave the same state.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pushforward.training.buffers import SavedBuffers
from pushforward.training.ema import PowerEMA
from pushforward.training.guard import STREAK, first_bad_place
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Batch, Task

__all__ = ["Learner", "weights_of"]

Tensors = dict[str, Tensor]
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of one parameter
FUSED = frozenset({"cpu", "cuda", "mps", "xpu"})


class Learner:
    """A task with its optimizer and the moving average of its weights.

    Parameters
    ----------
    task : Task
        On the device.
    forward : nn.Module
        The task, or the module around it that averages gradients over processes.
    settings : TrainingSettings
    weight : float
        Weight of this process's mean loss: its rows over the mean number of rows per process.
    device : torch.device
    masked : bool or None
        Whether bad steps are masked on the device; None means on accelerators with a fused AdamW.

    Attributes
    ----------
    streak, skipped : int
        Bad steps in a row, and in total; valid after :meth:`settle`.
    last_bad : int
        The latest bad step, -1 if there was none; valid after :meth:`settle`.
    """

    def __init__(
        self,
        task: Task,
        forward: nn.Module,
        settings: TrainingSettings,
        *,
        device: torch.device,
        weight: float = 1.0,
        masked: bool | None = None,
    ) -> None:
        self.task, self._settings, self._weight, self._device = task, settings, weight, device
        self._forward: Callable[[Batch], Tensor] = torch.compile(forward, dynamic=False) if settings.compile else forward
        named = {name: weight for name, weight in task.named_parameters() if weight.requires_grad}
        if not named:
            raise ValueError(f"{type(task).__name__} has no parameter that requires a gradient: there is nothing to train.")
        self._names, self._parameters = list(named), list(named.values())
        fused = device.type in FUSED and all(weight.is_floating_point() for weight in self._parameters)
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            **({"fused": True} if fused else {"foreach": True}),
        )
        self.ema = PowerEMA(self._parameters, settings.ema)
        self._buffers = SavedBuffers(task)
        self._apply = (
            self._apply_masked if (fused and device.type != "cpu" if masked is None else masked) else self._apply_checked
        )
        self.streak, self.skipped, self.last_bad = 0, 0, -1
        self._loss_sum, self._loss_count = 0.0, 0
        # Streak, skipped, last bad step, sum and number of losses; whole numbers are exact in float32 up to 16 million.
        self._counters = torch.tensor([0.0, 0.0, -1.0, 0.0, 0.0], device=device)
        self._unread = False

    def _mean_loss(self, forward: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Return the mean training loss of this process's rows, in float32 even if the forward pass is not."""
        if self._settings.precision == "bfloat16":
            with torch.autocast(self._device.type, dtype=torch.bfloat16):
                return forward(batch).float().mean()
        return forward(batch).mean()

    def step(self, batch: Batch, step: int, rate: float) -> None:
        """Do step 0, 1, 2, ... with a learning rate."""
        for parameter in self._parameters:
            parameter.grad = None
        loss = self._mean_loss(self._forward, batch)
        if self._weight != 1.0:
            loss = loss * self._weight
        self._optimizer.param_groups[0]["lr"] = rate
        self._apply(loss, step)

    def settle(self) -> None:
        """Read the counters back from the device."""
        if self._unread:
            streak, skipped, last, total, count = self._counters.tolist()
            self.streak, self.skipped, self.last_bad = int(streak), self.skipped + int(skipped), int(last)
            self._loss_sum, self._loss_count = self._loss_sum + total, self._loss_count + int(count)
            self._counters[1] = 0.0
            self._counters[3:] = 0.0
            self._unread = False

    def take_losses(self) -> tuple[float, int]:
        """Return sum and number of the losses since the last call; call :meth:`settle` first."""
        losses = self._loss_sum, self._loss_count
        self._loss_sum, self._loss_count = 0.0, 0
        return losses

    def set_counters(self, streak: int, skipped: int) -> None:
        """Set the guard's counters, and discard the losses not yet taken."""
        self.streak, self.skipped, self.last_bad = streak, skipped, -1
        self._loss_sum, self._loss_count = 0.0, 0
        self._counters.zero_()
        self._counters[0], self._counters[2] = float(streak), -1.0
        self._unread = False

    def _norm(self) -> Tensor:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients, foreach=True)

    def _apply_checked(self, loss: Tensor, step: int) -> None:
        value = loss.item()
        # A bad loss with a finite gradient must stop every process: the averaged gradient carries the NaN to all of them.
        (loss if math.isfinite(value) else loss * math.nan).backward()  # type: ignore[no-untyped-call]
        clip = self._settings.gradient_clip
        norm = self._norm()
        size = norm.item()
        if not math.isfinite(size):
            self._buffers.restore()
            self.streak, self.skipped, self.last_bad = self.streak + 1, self.skipped + 1, step
            return
        if clip is not None and size > clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, clip, norm, foreach=True)
        self._optimizer.step()
        self.ema.update(step + 1)
        self._buffers.save()
        self.streak = 0
        self._loss_sum += value
        self._loss_count += 1

    def _apply_masked(self, loss: Tensor, step: int) -> None:
        finite = torch.isfinite(loss.detach())
        loss.backward(gradient=torch.where(finite, 1.0, math.nan).to(loss.dtype))  # type: ignore[no-untyped-call]
        norm = self._norm()
        streak, skipped, last, total, count = self._counters.unbind()
        tripped = streak >= STREAK
        bad = ~torch.isfinite(norm)
        skip = bad | tripped
        if self._settings.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._settings.gradient_clip, norm, foreach=True)
        self._optimizer.found_inf = skipped_step = skip.float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self.ema.update_unless(skipped_step, step + 1)
        self._buffers.save_unless(skip)
        new = bad & ~tripped
        streak.copy_(torch.where(tripped, streak, torch.where(bad, streak + 1.0, 0.0)))
        skipped.add_(new)
        last.copy_(torch.where(new, float(step), last))
        total.add_(torch.where(skip, 0.0, loss.detach()))
        count.add_(~skip)
        self._unread = True

    def state(self) -> dict[str, Tensors]:
        """Return all tensors that resuming requires, by file and name; they share memory with the run."""
        moments: Tensors = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            moments |= {f"{key}.{name}": value for key, value in self._optimizer.state.get(parameter, {}).items()}
        return {
            "weights": weights_of(self.task),
            "ema": dict(zip(self._names, self.ema.average, strict=True)),
            "optimizer": moments,
        }

    def averaged(self) -> Tensors:
        """Return copies of the task's weights and buffers, with the average in place of the trained weights."""
        average = dict(zip(self._names, self.ema.average, strict=True))
        return {name: average.get(name, value).clone() for name, value in weights_of(self.task).items()}

    def check(self, files: dict[str, Tensors]) -> None:
        """Raise a ValueError unless tensors can be those that :meth:`state` returned, in names, shapes and finite numbers."""
        expected = {"weights", "ema", "optimizer", "best"}
        if files.keys() != expected:
            raise ValueError(f"it must hold the files {', '.join(sorted(expected))}, not {', '.join(sorted(files)) or 'none'}")
        parameters = dict(zip(self._names, self._parameters, strict=True))
        check_names(weights_of(self.task), files["weights"], "the weights")
        check_names(parameters, files["ema"], "the average")
        if files["best"]:
            check_names(weights_of(self.task), files["best"], "the best average")
        _check_moments(parameters, files["optimizer"])
        for file, tensors in files.items():
            for name, value in tensors.items():
                if (file == "optimizer" or name in parameters) and not bool(value.isfinite().all()):
                    raise ValueError(f"{name!r} in {file}.safetensors has NaN or infinite numbers")

    def load(self, files: dict[str, Tensors]) -> None:
        """Restore a state that :meth:`state` returned."""
        copy_into(weights_of(self.task), files["weights"], "the weights")
        copy_into(dict(zip(self._names, self.ema.average, strict=True)), files["ema"], "the average")
        self._optimizer.state.clear()
        for name, parameter in zip(self._names, self._parameters, strict=True):
            state: dict[str, Any] = {}
            for key in _MOMENTS:
                if (value := files["optimizer"].get(f"{key}.{name}")) is not None:
                    # AdamW requires moments in the memory layout of the weights, and a fused step count on their device.
                    like = torch.zeros_like(parameter) if key != "step" else torch.zeros_like(value, device=self._device)
                    state[key] = like.copy_(value)
            if state:
                self._optimizer.state[parameter] = state
        self._buffers.save()

    def first_bad_place(self, batch: Batch) -> str | None:
        """Return the origin of a bad step in this process, without the wrappers that would hide it."""
        return first_bad_place(self.task, batch, lambda part: self._mean_loss(self.task, part))

    @property
    def bytes(self) -> int:
        """Bytes of the weights and buffers of the task."""
        return sum(value.numel() * value.element_size() for value in weights_of(self.task).values())

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self._parameters)

    def finish(self, weights: Tensors) -> None:
        """Put the final weights into the task and release the gradients."""
        copy_into(weights_of(self.task), weights, "the best average")
        for parameter in self._parameters:
            parameter.grad = None


def weights_of(task: Task) -> Tensors:
    """Return all parameters and buffers of a task by name."""
    named = {name: weight.detach() for name, weight in task.named_parameters()}
    return named | {name: buffer.detach() for name, buffer in task.named_buffers()}


def _check_moments(parameters: Mapping[str, Tensor], moments: Tensors) -> None:
    """Raise a ValueError unless these are AdamW's moments of parameters: all or none of each, in its shape."""
    shapes = {f"{key}.{name}": value.shape for name, value in parameters.items() for key in _MOMENTS[1:]}
    shapes |= {f"step.{name}": torch.Size(()) for name in parameters}
    for name, value in moments.items():
        if shapes.get(name) != value.shape or not value.is_floating_point():
            raise ValueError(f"the optimizer's {name!r} is {value.dtype} of shape {tuple(value.shape)}")
        if not name.startswith("exp_avg.") and bool((value < 0).any()):
            raise ValueError(f"the optimizer's {name!r} is below 0")
    for name in parameters:
        if len({f"{key}.{name}" in moments for key in _MOMENTS}) > 1:
            raise ValueError(f"the optimizer has only a part of the state of {name!r}")


def copy_into(targets: Tensors, values: Tensors, what: str) -> None:
    """Copy tensors in place, name by name; ValueError if names or shapes differ."""
    check_names(targets, values, what)
    for name, target in targets.items():
        target.copy_(values[name])


def check_names(targets: Mapping[str, Tensor], values: Tensors, what: str) -> None:
    """Raise a ValueError if the names, the shapes or the kinds of numbers of tensors differ."""
    if targets.keys() != values.keys():
        odd = sorted(targets.keys() ^ values.keys())[0]
        raise ValueError(f"{what} belong to another model: {odd!r} is in only one of the two")
    for name, target in targets.items():
        if target.shape != values[name].shape or target.is_floating_point() != values[name].is_floating_point():
            raise ValueError(
                f"{what} belong to another model: {name!r} has shape {tuple(values[name].shape)} there and "
                f"{tuple(target.shape)} here"
            )
