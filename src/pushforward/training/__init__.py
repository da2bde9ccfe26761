"""The one training loop of all model families.

A family says what it learns as a :class:`Task`; :func:`train` does the rest: data order, AdamW with warm-up and cosine
decay, gradient clipping, a moving average of the weights, held-out loss, metrics, checkpoints, resuming, several
processes, and a guard against steps that are not finite.
"""

from pushforward.training.guard import TrainingDiverged
from pushforward.training.interrupt import Interrupted
from pushforward.training.loop import train
from pushforward.training.result import TrainingResult
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Batch, Task
from pushforward.training.timing import measure_overhead_seconds, measure_step_seconds, steps_for

__all__ = [
    "Batch",
    "Interrupted",
    "Task",
    "TrainingDiverged",
    "TrainingResult",
    "TrainingSettings",
    "measure_overhead_seconds",
    "measure_step_seconds",
    "steps_for",
    "train",
]
