"""The positions of a run at which something is due: a line of metrics, a held-out loss, samples, a checkpoint.

Positions are numbers of steps of the first plan (see :mod:`pushforward.training.pace`): without another plan, the steps
themselves. Something is due after a step that reaches or passes its position.
"""

import math
from dataclasses import dataclass

from pushforward.training.settings import TrainingSettings

__all__ = ["GRIDS", "Calendar"]

GRIDS = 4


@dataclass(frozen=True)
class Calendar:
    """The positions, and whether a step from one to another, ``before`` to ``now``, reaches them.

    >>> calendar = Calendar.of(TrainingSettings(steps=100, evaluations=3, log_every=40, checkpoint_every=50))
    >>> [step for step in range(1, 101) if calendar.evaluates(step - 1, step)], calendar.next_stop(40)
    ([34, 67, 100], 50)
    """

    steps: int
    log_every: int
    checkpoint_every: int
    evaluations: int

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Calendar":
        """Return the calendar of a run, including the defaults."""
        steps = settings.steps
        return cls(
            steps=steps,
            log_every=settings.log_every or min(max(steps // 100, 1), 100),
            checkpoint_every=settings.checkpoint_every or min(-(-steps // 10), 1000),
            evaluations=settings.evaluations,
        )

    def logs(self, before: float, now: float) -> bool:
        """Whether a line of metrics is due."""
        return self._next_multiple(before, self.log_every) <= now

    def evaluates(self, before: float, now: float) -> bool:
        """Whether the held-out loss is due: at ceil(k steps / evaluations), k = 1, 2, ..."""
        return self._next_part(before, self.evaluations) <= now

    def draws_grid(self, before: float, now: float) -> bool:
        """Whether samples during training are due: four times inside the run, at its fifths."""
        return self._next_part(before, GRIDS + 1) <= now < self.steps

    def saves(self, before: float, now: float) -> bool:
        """Whether a checkpoint is due."""
        return self._next_multiple(before, self.checkpoint_every) <= now

    def next_stop(self, position: float) -> int:
        """Return the first position after another at which anything is due."""
        multiples = (self._next_multiple(position, every) for every in (self.log_every, self.checkpoint_every))
        return min(*multiples, *(self._next_part(position, parts) for parts in (self.evaluations, GRIDS + 1)))

    def evaluations_after(self, position: float) -> int:
        """Return how often the held-out loss is still due."""
        return self.evaluations - math.floor(position) * self.evaluations // self.steps

    def grids_after(self, position: float) -> int:
        """Return how often samples during training are still due."""
        return GRIDS - min(math.floor(position) * (GRIDS + 1) // self.steps, GRIDS)

    def checkpoints_after(self, position: float) -> int:
        """Return how many checkpoints are still due."""
        return -(-self.steps // self.checkpoint_every) - math.floor(position) // self.checkpoint_every

    def _next_multiple(self, position: float, every: int) -> int:
        return min((math.floor(position) // every + 1) * every, self.steps)

    def _next_part(self, position: float, parts: int) -> int:
        """Return the first of ceil(k steps / parts), k = 1, 2, ..., after a position."""
        k = math.floor(position) * parts // self.steps + 1
        return -(-self.steps * k // parts)
