"""What a training run came to."""

from dataclasses import dataclass

__all__ = ["TrainingResult"]


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes
    ----------
    steps : int
        Optimizer steps of the run.
    seconds : float
        Time from the start to the end, over all resumed parts.
    held_out_loss : float or None
        Best held-out loss of the averaged weights, None if there was none.
    held_out_step : int or None
        Number of steps after which it was reached.
    held_out_by_level : tuple of (float or None), or None
        The same loss in each fifth of the level.
    rows_per_second : float
        Rows of the global batch per second of training, without evaluations and checkpoints.
    parameters : int
        Number of trained numbers.
    attempts : int
        1, or more where the guard had to go back.
    skipped : int
        Steps that were not finite and changed nothing.
    already_finished : bool
        Whether ``resume`` found a finished run, and nothing was trained.
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
