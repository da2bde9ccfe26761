"""The settings of training, and the learning rate of a step.

With N steps, w of them warm-up, and peak rate r, the rate at position k, from 0 to N - 1, is

    r (k + 1) / w                                         for k < w,
    r (1 + cos(pi (k - w) / (N - w))) / 2                 from then on:

a straight line up to r, then half a cosine that would reach zero at k = N.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pushforward.probability.counts import check_count
from pushforward.training.ema import MAX_WIDTH

__all__ = ["Precision", "TrainingSettings"]

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of the training loop.

    Attributes
    ----------
    steps : int
        Number of optimizer steps, at least 1.
    batch_size : int
        Rows of the global batch, over all processes. Batches extend across the ends of epochs; in a data set smaller than
        the batch rows repeat within the batch, each time with new random numbers.
    learning_rate : float
        Peak rate of AdamW.
    warmup_steps : int or None
        Steps of linear warm-up, at most ``steps``; None means a twentieth of ``steps``, at most 500.
    weight_decay : float
        AdamW's decoupled decay.
    betas : pair of float
        AdamW's decay rates of the first and second moment, each in [0, 1).
    gradient_clip : float or None
        Largest norm of the gradient over all parameters; None for no clipping.
    ema : float
        Relative width of the moving average of the weights (see :mod:`pushforward.training.ema`), in (0, 0.288).
    evaluations : int
        Number of held-out evaluations over the run, evenly spread, the last one at the end.
    checkpoint_every : int or None
        Steps between checkpoints; None means a tenth of ``steps``, at most 1,000.
    log_every : int or None
        Steps between two lines of metrics; None means a hundredth of ``steps``, at most 100.
    precision : {"float32", "bfloat16"}
        "bfloat16" runs the forward pass under ``torch.autocast``; weights, optimizer and averages stay in float32.
    compile : bool
        Whether the forward pass goes through ``torch.compile``.
    tracker : str or None
        Name of one of accelerate's trackers ("tensorboard", "wandb", ...) that gets the metrics, besides the folder. It is not
        read from a folder: pass it again to resume.

    Raises
    ------
    TypeError, ValueError
        If a value has the wrong type or is out of range.

    >>> settings = TrainingSettings(steps=1000, warmup_steps=10, learning_rate=1.0)
    >>> [round(settings.rate(step), 3) for step in (0, 9, 10, 505, 999)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int | None = None
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    gradient_clip: float | None = 1.0
    ema: float = 0.05
    evaluations: int = 20
    checkpoint_every: int | None = None
    log_every: int | None = None
    precision: Precision = "float32"
    compile: bool = False
    tracker: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluations"):
            object.__setattr__(self, name, check_count(name, getattr(self, name)))
        for name, least in (("warmup_steps", 0), ("checkpoint_every", 1), ("log_every", 1)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_count(name, getattr(self, name), least))
        _check_number("learning_rate", self.learning_rate, above=0.0)
        _check_number("weight_decay", self.weight_decay, least=0.0)
        _check_number("ema", self.ema, above=0.0, below=MAX_WIDTH)
        if self.gradient_clip is not None:
            _check_number("gradient_clip", self.gradient_clip, above=0.0)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise TypeError(f"betas must be a pair of numbers such as (0.9, 0.99), got {self.betas!r}.")
        object.__setattr__(self, "betas", tuple(self.betas))
        for value in self.betas:
            _check_number("each of betas", value, least=0.0, below=1.0)
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}.")
        if not isinstance(self.compile, bool):
            raise TypeError(f"compile must be True or False, got {self.compile!r}.")
        if not (self.tracker is None or isinstance(self.tracker, str)):
            raise TypeError(f"tracker must be None or the name of a tracker such as 'tensorboard', got {self.tracker!r}.")
        if self.warmup > self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} is more than steps={self.steps}: the rate would never reach its peak. "
                f"Write warmup_steps=None for a twentieth of the run."
            )

    @property
    def warmup(self) -> int:
        """Steps of linear warm-up, including the default."""
        return min(self.steps // 20, 500) if self.warmup_steps is None else self.warmup_steps

    def rate(self, position: float) -> float:
        """Return the learning rate of a step at position 0 .. steps - 1 (see :mod:`pushforward.training.pace`)."""
        warmup = self.warmup
        if position < warmup:
            return self.learning_rate * min((position + 1) / warmup, 1.0)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (position - warmup) / max(self.steps - warmup, 1)))


def _check_number(
    name: str, value: object, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    low = (least is None or value >= least) and (above is None or value > above)
    if not (low and (below is None or value < below) and math.isfinite(value)):
        parts = [f"at least {least:g}"] if least is not None else []
        parts += [f"above {above:g}"] if above is not None else []
        parts += [f"below {below:.4g}"] if below is not None else []
        raise ValueError(f"{name} must be a finite number {' and '.join(parts)}, got {value!r}.")
