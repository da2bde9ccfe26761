r"""The training task of denoising families: E[x | x_t] by a weighted squared error over data, noise and time.

For row x with noise z and time t, the loss is w(t) |denoised(alpha x + sigma z, t) - x|^2. The random numbers of a row at
a step are its time (stratified over the batch), its noise, the drop of its condition and, for integers, the dequantization
x + u, u uniform over the width of one integer. All depend on (seed, row, step) alone.

Sliced and implicit score matching train on x_t alone; their held-out loss is still the denoising loss, because it has the same
mean, less variance, and is comparable between losses.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pushforward import diffusion
from pushforward.diffusion import Denoiser, TimeLaw, Weight
from pushforward.diffusion.coupling import Coupling, assignment
from pushforward.models.base.task import RowTask, uniform
from pushforward.models.denoising.source import Source
from pushforward.training import Batch

__all__ = ["DenoisingTask", "Loss"]

Loss = Literal["denoising", "sliced", "implicit"]


class DenoisingTask(RowTask):
    """Training of a denoiser.

    Parameters
    ----------
    denoiser : Denoiser
    source : Source
    times : TimeLaw
    weight : Weight
    coupling : Coupling
        With "paired" the rows of a batch are (B, 2, *D), data and their rows of the source.
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition".
    dequantization : Tensor (*D)
        Width of one integer in scaled units, 0 where the data are not integers.
    masked : (int, int), optional
        Height and width of images whose condition is their visible part under random masks.
    by : Loss
        The loss; all but "denoising" need Gaussian noise that is independent of the data.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        source: Source,
        times: TimeLaw,
        weight: Weight,
        coupling: Coupling = "independent",
        condition_dropout: float = 0.0,
        dequantization: Tensor | None = None,
        masked: tuple[int, int] | None = None,
        by: Loss = "denoising",
    ) -> None:
        super().__init__(condition_dropout=condition_dropout, dequantization=dequantization, masked=masked)
        self.by = by
        self.denoiser = denoiser
        self.source = source
        self.times = times
        self.weight = weight
        self.coupling = coupling
        self.coupled = coupling == "optimal-transport"

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return times (S, B), noise (S, B, *D) unless it is paired with the rows, and probes for the sliced loss."""
        u = diffusion.stratified(uniform((), rows, steps, seed, "time"), rows, total)
        numbers = [self.times.of(u).clamp(self.denoiser.schedule.t_min, 1.0)]
        if self.coupling != "paired":
            numbers.append(self.source.draw(rows, steps, seed, "noise"))
        if self.by == "sliced":
            probes = uniform(tuple(numbers[1].shape[2:]), rows, steps, seed, "probe")
            numbers.append(torch.where(probes < 0.5, -1.0, 1.0).to(probes.dtype))
        return tuple(numbers)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of each row, (B,)."""
        t, z, *probes = numbers
        if self.by == "denoising":
            return self.denoiser.loss(x, t, z, condition, weight=self.weight)
        schedule = self.denoiser.schedule
        x_t = diffusion.widen(schedule.alpha(t), x) * x + diffusion.widen(schedule.sigma(t), x) * z
        return self.denoiser.matching_loss(x_t, t, condition, weight=self.weight, probes=probes[0][None] if probes else None)

    def data(self, x: Tensor) -> Tensor:
        """Return the rows of data of a batch, without their rows of the source."""
        return x[:, 0] if self.coupling == "paired" else x

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the denoising loss of each row without dropout, (B,), and its time."""
        x, condition, (t, z, *_) = self._rows(batch, self._condition(batch))
        return self.denoiser.loss(x, t, z, condition, weight=self.weight), t

    def _rows(self, batch: Batch, condition: Tensor | None) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Return data, conditions, and the numbers: times, noise coupled with the data, and probes."""
        x, *pairs = batch.x.unbind(1) if self.coupling == "paired" else (batch.x,)
        x, condition, (t, *rest) = super()._rows(replace(batch, x=x), condition)
        z, *probes = [*pairs, *rest]
        if self.coupling == "optimal-transport":
            z = z[assignment(x, z, batch.condition)]  # by the batch's conditions, because ``condition`` may be dropped
        return x, condition, (t, z, *probes)
