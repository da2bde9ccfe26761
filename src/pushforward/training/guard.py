"""The response to steps that are not finite, and the origin of the first bad number.

A step whose loss or gradient is not finite changes nothing. After ``STREAK`` such steps in a row the run returns to its
last checkpoint, halves the learning rate and takes other batches; after ``ATTEMPTS`` attempts it ends with
:class:`TrainingDiverged`.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pushforward.training.task import Batch, Task

__all__ = ["ATTEMPTS", "STREAK", "TrainingDiverged", "first_bad_place", "warn_of_return"]

STREAK = 3
ATTEMPTS = 3


class TrainingDiverged(ArithmeticError):  # noqa: N818 - named after the event, like KeyboardInterrupt
    """Training met steps that are not finite in every attempt.

    Attributes
    ----------
    step : int
        Step at which the last attempt ended.
    place : str
        The first module whose output, or the first parameter whose gradient, is not finite; or "the data or the loss".
    """

    def __init__(self, step: int, place: str | None) -> None:
        place = place or "the data or the loss"
        super().__init__(
            f"Training diverged: {STREAK} steps in a row up to step {step} were not finite, in each of {ATTEMPTS} attempts, "
            f"with the learning rate halved each time. The first bad numbers come from {place}. Check the data for extreme "
            f"values, or lower learning_rate."
        )
        self.step, self.place = step, place


def warn_of_return(failed: int, step: int, scale: float) -> None:
    """Warn that the run returns to a checkpoint."""
    warnings.warn(
        f"{STREAK} steps in a row up to step {failed} were not finite. Training goes back to step {step} and continues "
        f"with other batches and {scale:g} times the learning rate.",
        RuntimeWarning,
        stacklevel=2,
    )


def first_bad_place(task: Task, batch: Batch, loss_of: Callable[[Batch], Tensor]) -> str | None:
    """Return the origin of the first number of a step that is not finite, or None if it is in the data or the loss itself.

    Parameters
    ----------
    task : Task
        Its modules are watched; it must have the weights from before the step.
    batch : Batch
        The bad step's batch.
    loss_of : callable
        The mean loss of a batch, through ``task``.
    """
    names = {module: name for name, module in task.named_modules() if name}
    bad: list[str] = []

    def watch(module: nn.Module, _: object, output: object) -> None:
        if not bad and not _finite(output):
            bad.append(f"the output of layer {names[module]!r} ({type(module).__name__})")

    hooks = [module.register_forward_hook(watch) for module in names]
    try:
        loss = loss_of(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if bad:
        return bad[0]
    if math.isfinite(loss.item()):
        parameters = {name: weight for name, weight in task.named_parameters() if weight.requires_grad}
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None and not _finite(gradient):
                return f"the gradient of parameter {name!r}"
    return None


def _finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(_finite(part) for part in value.values())
    return all(_finite(part) for part in value) if isinstance(value, tuple | list) else True
