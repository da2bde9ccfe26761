"""The one training loop of all model families.

A family states what it learns as a :class:`Task`; :func:`train` does the rest: data order, AdamW with warm-up and cosine
decay, gradient clipping, a moving average of the weights, held-out loss, metrics, checkpoints, resuming, several
processes, and a guard against steps that are not finite.
"""

from pushforward.training.calendar import GRIDS
from pushforward.training.guard import TrainingDiverged
from pushforward.training.loop import train
from pushforward.training.pace import MOST_OVERHEAD, Budget
from pushforward.training.process.interrupt import Interrupted
from pushforward.training.process.precision import fast_precision
from pushforward.training.process.world import agreed, is_main_process
from pushforward.training.record.claim import FolderInUse
from pushforward.training.record.files import RunError
from pushforward.training.result import TrainingResult
from pushforward.training.settings import TrainingSettings
from pushforward.training.task import Batch, Task
from pushforward.training.timing import Overhead, measure_overhead, measure_step_seconds, steps_for

__all__ = [
    "GRIDS",
    "MOST_OVERHEAD",
    "Batch",
    "Budget",
    "FolderInUse",
    "Interrupted",
    "Overhead",
    "RunError",
    "Task",
    "TrainingDiverged",
    "TrainingResult",
    "TrainingSettings",
    "agreed",
    "fast_precision",
    "is_main_process",
    "measure_overhead",
    "measure_step_seconds",
    "steps_for",
    "train",
]
