"""The pace of a run: where in its planned steps each step stands, so that a time budget holds.

A run is planned as N steps. With a time budget the machine may become slower or faster on the way, so that fewer or more steps
fit. A new plan of M steps in all, made after step k_0 at position s_0, moves by (N - s_0) / (M - k_0) per step:

    s_k = s_0 + (k - k_0) (N - s_0) / (M - k_0),        s_M = N.

The learning rate and the calendar are functions of the position, so that the rate reaches zero at the last step wherever it is.
Every plan is written to the run before it is followed. A resumed run follows the written plans bit for bit, and makes new
ones after the last of them.
"""

import json
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from pushforward.training.calendar import GRIDS
from pushforward.training.record.files import RunError, read_file, write_file

__all__ = ["MOST_OVERHEAD", "Budget", "Pace"]

MOST_OVERHEAD = 0.2
"""Share of a time budget for evaluations, and for grids of samples: there are fewer evaluations, or no grids, beyond it."""

_MOST_BYTES, _MOST_STEPS = 1 << 20, 10**12
# A plan is kept if it misses by less than these shares of the budget and of the time left, which later plans can make good.
_TOLERANCE, _PATIENCE = 0.01, 0.1
_WINDOW = 0.01  # of the budget: the speed is that of the training steps since this long ago, or longer


@dataclass(frozen=True)
class Budget:
    """The time of a run.

    Attributes
    ----------
    seconds : float
        From its start to its end, over all resumed parts.
    grid_seconds : float
        Estimate of the time of one grid of samples, until the first is drawn.
    """

    seconds: float
    grid_seconds: float = 0.0

    @property
    def draws_grids(self) -> bool:
        """Whether grids of samples during training take no more than a fifth of the time."""
        return GRIDS * self.grid_seconds <= MOST_OVERHEAD * self.seconds


@dataclass(frozen=True)
class _Leg:
    """A plan of ``steps`` in all, from a step and its position on."""

    step: int
    position: float
    steps: int


class Pace:
    """The plans of a run.

    Parameters
    ----------
    planned : int
        N.
    budget : Budget or None
        Without one there is a single plan.

    >>> pace = Pace(100, Budget(10.0))
    >>> pace.replan(40, 70)  # 30 steps for the other 60 positions
    >>> pace.position(40), pace.position(41), pace.position(70), pace.steps
    (40.0, 42.0, 100.0, 70)
    >>> pace.first_step(42, 60.5)
    51
    """

    def __init__(self, planned: int, budget: Budget | None) -> None:
        self.planned, self.budget = planned, budget
        self._legs = [_Leg(0, 0.0, planned)]
        self._clock: tuple[int, float] | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run, after the last plan."""
        return self._legs[-1].steps

    def position(self, step: int) -> float:
        """Return the position of a step, from 0 to N."""
        leg = self._legs[bisect_right(self._legs, step, key=lambda leg: leg.step) - 1]
        return float(self.planned) if step >= leg.steps else leg.position + (step - leg.step) * self._rate(leg)

    def first_step(self, step: int, position: float) -> int:
        """Return the first step after ``step`` that is at a position or beyond it, or at which another plan begins."""
        place = bisect_right(self._legs, step, key=lambda leg: leg.step)
        leg = self._legs[place - 1]
        end = self._legs[place].step if place < len(self._legs) else leg.steps
        first = leg.step + math.ceil((position - leg.position) / self._rate(leg))
        first += self.position(min(first, end)) < position  # by rounding
        return min(max(first, step + 1), end)

    def seconds_left(self, elapsed: float) -> float:
        """Return what is left of the budget."""
        return math.inf if self.budget is None else self.budget.seconds - elapsed

    def better_plan(self, step: int, trained: int, training: float, left: float) -> int | None:
        """Return the number of steps of a plan that fits the time better than the present one, or None.

        Parameters
        ----------
        step : int
            The last step that was done.
        trained, training : int, float
            Number of training steps so far, and their seconds.
        left : float
            Seconds that are left for further steps.
        """
        if self.budget is None or step < self._legs[-1].step or step >= self.steps:
            return None
        before = self._clock or (0, 0.0)
        seconds = training - before[1]
        if trained == before[0] or seconds < _WINDOW * self.budget.seconds:
            return None
        self._clock = trained, training
        of_step = seconds / (trained - before[0])
        missed = abs((self.steps - step) * of_step - left)
        if missed <= _TOLERANCE * self.budget.seconds + _PATIENCE * max(left, 0.0):
            return None
        steps = step + max(1, round(left / of_step))
        return None if steps == self.steps else min(steps, _MOST_STEPS)

    def replan(self, step: int, steps: int) -> None:
        """From ``step`` on follow a plan of ``steps`` in all."""
        position = self.position(step)
        self._legs = [leg for leg in self._legs if leg.step < step]
        self._legs.append(_Leg(step, position, steps))

    def forget_after(self, step: int) -> None:
        """Drop the plans that were made after ``step``, to which the run returns."""
        self._legs = [leg for leg in self._legs if leg.step <= step]

    def write(self, path: Path) -> None:
        """Write budget and plans; they are on the disk when this returns."""
        if self.budget is not None:
            plans = [[leg.step, leg.position, leg.steps] for leg in self._legs]
            write_file(path, json.dumps({"seconds": self.budget.seconds, "plans": plans}))

    def read(self, path: Path) -> None:
        """Take budget and plans from a file, if it is there.

        Raises
        ------
        RunError
            If they are not those of a run of N steps.
        """
        if not path.is_file():
            return
        try:
            facts = json.loads(read_file(path, _MOST_BYTES))
            seconds = facts["seconds"]
            if not (_is_number(seconds) and seconds > 0):
                raise ValueError(f"it gives {seconds!r} seconds")
            legs = [_Leg(*plan) for plan in facts["plans"]]
            _check_legs(legs, self.planned)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            cure = "get the run folder again from where it came, or start another run"
            raise RunError(path, f"holds no plans of this run: {error}", cure) from error
        self._legs, self.budget = legs, Budget(seconds)

    def _rate(self, leg: _Leg) -> float:
        return (self.planned - leg.position) / max(leg.steps - leg.step, 1)


def _check_legs(legs: list[_Leg], planned: int) -> None:
    """Raise a ValueError unless these can be the plans of a run."""
    if not legs or legs[0] != _Leg(0, 0.0, planned):
        raise ValueError(f"the first plan is not that of {planned} steps")
    for before, leg in zip([_Leg(-1, -1.0, planned), *legs], legs, strict=False):
        if not (type(leg.step) is int and type(leg.steps) is int and _is_number(leg.position)):
            raise ValueError(f"a plan is {leg}")
        if not (before.step < leg.step < leg.steps <= _MOST_STEPS and before.position < leg.position < planned):
            raise ValueError(f"the plan from step {leg.step} on does not follow the one before it")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
