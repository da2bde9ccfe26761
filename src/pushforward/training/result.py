"""The result of a training run."""

from dataclasses import dataclass, replace

__all__ = ["TrainingResult"]


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Attributes
    ----------
    steps : int
        Optimizer steps of the run.
    seconds : float
        Time from the start to the end, over all resumed parts.
    held_out_loss : float or None
        Best held-out loss of the averaged weights, None if there was none.
    held_out_step : int or None
        Number of steps at that loss.
    held_out_by_level : tuple of (float or None), or None
        The same loss in each fifth of the level.
    rows_per_second : float
        Rows of the global batch per second of training, without evaluations and checkpoints.
    parameters : int
        Number of trained numbers.
    attempts : int
        1, or more if the guard returned to a checkpoint.
    skipped : int
        Steps that were not finite and changed nothing.
    already_finished : bool
        Whether ``resume`` met a finished run, and nothing was trained.
    """

    steps: int
    seconds: float
    held_out_loss: float | None
    held_out_step: int | None
    held_out_by_level: tuple[float | None, ...] | None
    rows_per_second: float
    parameters: int
    attempts: int
    skipped: int
    already_finished: bool = False

    def followed_by(self, second: "TrainingResult") -> "TrainingResult":
        """Return the result of this run and a second one after it: counts and times of both, losses of the second.

        >>> first = TrainingResult(100, 2.0, 5.0, 80, None, 1000.0, 10, 1, 0)
        >>> both = first.followed_by(TrainingResult(50, 6.0, 3.0, 40, None, 200.0, 10, 2, 1))
        >>> both.steps, both.seconds, both.held_out_loss, both.held_out_step, both.rows_per_second, both.skipped
        (150, 8.0, 3.0, 140, 400.0, 1)
        """
        seconds = self.seconds + second.seconds
        rows = self.rows_per_second * self.seconds + second.rows_per_second * second.seconds
        return replace(
            second,
            steps=self.steps + second.steps,
            seconds=seconds,
            held_out_step=None if second.held_out_step is None else self.steps + second.held_out_step,
            rows_per_second=rows / max(seconds, 1e-9),
            attempts=max(self.attempts, second.attempts),
            skipped=self.skipped + second.skipped,
        )
