"""The base of families whose law is exact and found without gradients, in float64 and in the units of the data."""

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward import training
from pushforward.data import Limits, Schema, Transform
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.density import RowDensityModel
from pushforward.models.base.model import Prepared
from pushforward.training import TrainingResult
from pushforward.training.record.progress import Progress

__all__ = ["ExactModel"]


class ExactModel(RowDensityModel):
    """Base of families with an exact law of the elements that vary; it is stored as ``law_``."""

    core: ClassVar[str] = "law_"
    gaps: ClassVar[bool] = True
    row_dtype: ClassVar[torch.dtype] = torch.float64

    def _scaling(self, x: Tensor, schema: Schema, limits: Limits | None) -> Transform:
        return Transform.in_data_units(x, integer=schema.integer, kind=schema.kind, limits=limits)

    @property
    def _density_dtype(self) -> torch.dtype:
        return torch.float64

    @property
    def _dim(self) -> int:
        """Number of elements of a row that vary."""
        return int((~self.space_.transform.constant).sum())

    def _flat(self, z: Tensor) -> Tensor:
        """Return the varying elements of scaled rows (N, *D) as (N, d), float64."""
        return z.double()[:, self.space_.transform.varies]

    def _whole(self, x: Tensor) -> Tensor:
        """Return scaled rows (N, *D) from their varying elements (N, d)."""
        transform = self.space_.transform
        z = transform.pick(transform.value).expand(len(x), *transform.shape).clone()
        z[:, transform.varies] = x
        return z

    def _exactly(self, values: np.ndarray) -> LogProb:
        """Return log-densities (N,) as exact ones."""
        zero = values * 0
        return LogProb(values, "exact", zero, zero, zero, nfe=0, dims=self._dim)

    def _result(
        self, prepared: Prepared, *, steps: int, seconds: float, held_out: Tensor | None, parameters: int
    ) -> TrainingResult:
        """Return what is told of a training, given the log-densities of the held-out rows."""
        return TrainingResult(
            steps=steps,
            seconds=seconds,
            held_out_loss=None if held_out is None else -float(held_out.mean()),
            held_out_step=None if held_out is None else steps,
            held_out_by_level=None,
            rows_per_second=steps * len(prepared.x) / seconds,
            parameters=parameters,
            attempts=1,
            skipped=0,
        )

    @contextlib.contextmanager
    def _progress(self, steps: int) -> Iterator[Callable[[int, float], None]]:
        """Yield a function that shows the steps done and a mean log-density, if the model is ``verbose``."""
        with Progress(steps, 0, self.verbose and training.is_main_process()) as line:

            def show(done: int, log_density: float) -> None:
                line.note(loss=-log_density)
                line.tick(done)

            yield show
