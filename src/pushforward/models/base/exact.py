"""The base of families whose law is exact and found without gradients, in float64 and in the units of the data.

Their law of some columns given any others is exact too: ``sample`` takes values of columns that were never declared as
conditions.
"""

import abc
import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward import training
from pushforward.data import ArrayLike, Condition, Limits, Schema, Transform, Values
from pushforward.data.filling import Gaps
from pushforward.data.stream import AnyRows
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.density import RowDensityModel
from pushforward.models.base.model import GapChoice
from pushforward.models.base.preparing import Prepared
from pushforward.probability.counts import check_count
from pushforward.training import TrainingResult
from pushforward.training.record.progress import Progress

__all__ = ["ExactModel"]


class ExactModel(RowDensityModel):
    """Base of families with an exact law of the elements that vary; it is stored as ``law_``."""

    core: ClassVar[str] = "law_"
    gaps: ClassVar[bool] = True
    given_columns: ClassVar[bool] = True
    row_dtype: ClassVar[torch.dtype] = torch.float64

    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        condition : label, vector, values by name such as ``{"sex": "f", "age": 40}``, or one of them per row, optional
            Names are those of the training conditions, and of any columns of the data with names: the rows have these values,
            and their other columns are drawn from the law given them, without a training condition if none is named.

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.

        Raises
        ------
        ValueError
            If a name or a level is unknown, or the law given these values does not exist, as their density is 0.
        """
        check_is_fitted(self)
        rest, given = self.space_.split(condition)
        if given is None:
            return super().sample(n, condition=rest, gaps=gaps, seed=seed, first=first, batch_size=batch_size)
        encoded, seed = self._begin_sampling(n, rest, seed, first, batch_size, gaps=gaps, given=True)
        x = self.space_.partial(given, n)
        z = self._complete(x, encoded, seed=seed, first=first, batch_size=batch_size)
        return self._delivered(z, gaps, condition=rest, seed=seed)

    def impute(
        self,
        X: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        n: int = 1,
        condition: Condition = None,
        seed: int | None = None,
        batch_size: int = 256,
    ) -> Values | list[Values]:
        """Fill the gaps of rows by draws from their law given the rest of the row, exactly.

        ``batch_size`` is the number of rows that are filled at once, for laws that do not choose it themselves; other
        parameters and the result are those of :meth:`pushforward.Diffusion.impute`.
        """
        check_is_fitted(self)
        check_count("n", n)
        check_count("batch_size", batch_size)
        seed = self._keep_seed(seed)
        gaps = Gaps.of(X, mask, self.space_, type(self).__name__)
        encoded = self.space_.encode(condition, len(gaps.x))
        given = None if encoded is None else encoded[gaps.rows]

        def draw(seed: int) -> Tensor:
            x = torch.where(gaps.known, gaps.x.double(), torch.nan)[gaps.rows]
            return self._filled(x, given, seed=seed, batch_size=batch_size)

        return gaps.filled(draw, n=n, seed=seed)

    @abc.abstractmethod
    def _filled(self, x: Tensor, condition: Tensor | None, *, seed: int, batch_size: int) -> Tensor:
        """Return scaled rows with the NaN of x (n, *internal), in data units, drawn given that they are no gaps."""

    @abc.abstractmethod
    def _complete(self, x: Tensor, condition: Tensor | None, *, seed: int, first: int, batch_size: int) -> Tensor:
        """Return scaled rows with the given elements of x (n, *internal), in data units, and NaN elsewhere drawn."""

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
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
        zero = np.zeros_like(values)
        return LogProb(values, "exact", zero, zero, zero, nfe=0, dims=self._dim)

    def _result(
        self, prepared: Prepared, *, steps: int, seconds: float, held_out: Tensor | None, parameters: int
    ) -> TrainingResult:
        """Return the facts of a training, given the log-densities of the held-out rows."""
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
