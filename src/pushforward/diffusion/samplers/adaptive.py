r"""The probability flow with adaptive steps: each row takes the calls that the tolerance requires; encoding from data to noise.

The steps are those of :mod:`~pushforward.diffusion.samplers.row_steps`. Every row has its own time and step length, and takes
the same steps whatever the rest of the batch is.

Time 0 of a sampling run means "return denoised", as everywhere. :meth:`Adaptive.encode` and :meth:`Adaptive.decode` are
inverse maps instead, so they follow the flow to theta = 0, with its extrapolation below t_min
(:func:`~pushforward.diffusion.likelihood.continuation`), and add no noise to the data.

The flow holds for every source law and coupling.

References
----------
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
"""

import itertools
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.grid import check_steps
from pushforward.diffusion.samplers.row_steps import CALLS, FIXED_STEPS, FlowBelow, FlowField, Limits, RowStates, advance
from pushforward.diffusion.samplers.table import Call, OnStep, Sampler, Times, check_conditions, check_run_times, check_times
from pushforward.diffusion.schedule import Schedule

__all__ = ["Adaptive", "AdaptiveResult"]


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """Final states of rows, and their cost.

    Attributes
    ----------
    x : Tensor (B, *D)
    nfe : int64 Tensor (B,)
        Denoiser calls of each row; guidance doubles those of the network.
    capped : bool Tensor (B,)
        Rows that ended in fixed steps, without control of their error.
    """

    x: Tensor
    nfe: Tensor
    capped: Tensor


@dataclass(frozen=True)
class Adaptive(Sampler):
    """The probability flow by steps of Dormand and Prince, with error control for each row.

    The tolerance determines the number of calls: ``steps`` of :meth:`run` is ignored.

    Parameters
    ----------
    rtol, atol : float
        Error allowed in a step, relative to the root mean square of a row and absolute, in units of the scaled data;
        0 < rtol < 1, atol >= 0. The final error is mostly a few times larger with exact denoisers, and up to a hundred times
        with networks, which are rough in t.
    max_nfe : int
        Denoiser calls after which a row finishes in 10 fixed steps of two calls; at least 10.

    Raises
    ------
    TypeError, ValueError
        If a tolerance or ``max_nfe`` is out of range.

    >>> from pushforward.diffusion import Cosine, ExactDenoiser
    >>> from pushforward.probability import Gaussian
    >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
    >>> Adaptive(rtol=1e-6).run(denoiser, torch.ones(1, 1, dtype=torch.float64)).round(decimals=4).item()
    2.0
    """

    rtol: float = 1e-4
    atol: float = 1e-6
    max_nfe: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.rtol < 1:
            raise ValueError(f"rtol must lie between 0 and 1, such as 1e-4, got {self.rtol}")
        if not 0 <= self.atol < math.inf:
            raise ValueError(f"atol must be at least 0 and finite, got {self.atol}")
        if self.max_nfe < 10:
            raise ValueError(f"max_nfe must be at least 10, got {self.max_nfe}; a step takes {CALLS} calls")
        if self.max_nfe > 1_000_000:
            raise ValueError(f"max_nfe must be at most 1,000,000, got {self.max_nfe}; raise rtol instead")

    def run_times(self, schedule: Schedule, steps: int | None, times: Times | None) -> Times:
        """Return ``times`` if given, at each of which the flow stops for ``on_step``; ``steps`` is ignored."""
        if steps is not None:
            check_steps(steps)
        return [1.0, 0.0] if times is None else check_run_times(times)

    def follow(self, denoiser: AbstractDenoiser, x_t: Tensor, times: Times, call: Call) -> Tensor:
        """Integrate the flow; gradients do not flow through the choice of steps."""
        return self.solve(denoiser, x_t, times, condition=call.condition, on_step=call.on_step).x

    def solve(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Times,
        *,
        condition: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> AdaptiveResult:
        """Integrate like :meth:`integrate`, and also return the number of calls of each row.

        Parameters
        ----------
        denoiser : AbstractDenoiser
        x_t : Tensor (B, *D)
            State at ``times[0]``.
        times : tensor or sequence
            Decreasing or increasing, in [t_min, 1]; the last may be 0: then the state at t_min is denoised. Each is met
            exactly.
        condition : Tensor (B, K), optional
        on_step : function, optional
            Called at each time but the first with (number, time, x, denoised).

        Warns
        -----
        RuntimeWarning
            If rows ended in fixed steps.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().solve(denoiser, torch.ones(1, 1, dtype=torch.float64), [1.0, 0.0]).nfe.tolist()
        [37]
        """
        check_conditions(condition, x_t)
        clock = torch.as_tensor(times, dtype=torch.float64).tolist()
        check_times(denoiser.schedule, clock)
        field = FlowField(denoiser, condition)
        rows = RowStates.start(field, x_t, clock[0])
        for number, (begin, end) in enumerate(itertools.pairwise(clock)):
            goal = end or denoiser.schedule.t_min
            if goal != begin:
                rows = advance(field, rows, field.clock_at(goal), self._limits)
            x, denoised = field.finish(rows)
            if on_step is not None:
                on_step(number, end, x if end else denoised, denoised)
        self._warn(rows)
        return AdaptiveResult(x if end else denoised, rows.nfe, rows.capped)

    @torch.no_grad()
    def encode(self, denoiser: AbstractDenoiser, x: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the noise z (B, *D) that the flow maps to the clean rows ``x``: x_1 = sigma(1) z.

        The flow starts at theta = 0 with x itself; below t_min it is extrapolated from just above.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().encode(denoiser, torch.full((1, 1), 3.0, dtype=torch.float64)).x.round(decimals=3).item()
        1.5
        """
        check_conditions(condition, x)
        field, below = FlowField(denoiser, condition), FlowBelow(denoiser, condition)
        low, high = field.clock_at(denoiser.schedule.t_min), field.clock_at(1.0)
        rows = advance(below, RowStates.start_at_data(below, x), low, self._limits)
        rows = advance(field, rows.restarted(), high, self._limits)
        self._warn(rows)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        return AdaptiveResult(field.finish(rows)[0] / scale, rows.nfe, rows.capped)

    @torch.no_grad()
    def decode(self, denoiser: AbstractDenoiser, z: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the clean rows x to which the flow maps the noise z (B, *D): the inverse of :meth:`encode`.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().decode(denoiser, torch.full((1, 1), 1.5, dtype=torch.float64)).x.round(decimals=3).item()
        3.0
        """
        check_conditions(condition, z)
        field, below = FlowField(denoiser, condition), FlowBelow(denoiser, condition)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        rows = advance(field, RowStates.start(field, z * scale, 1.0), field.clock_at(denoiser.schedule.t_min), self._limits)
        rows = advance(below, rows, 0.0, self._limits)
        self._warn(rows)
        return AdaptiveResult(rows.u, rows.nfe, rows.capped)

    @property
    def _limits(self) -> Limits:
        return Limits(self.rtol, self.atol, self.max_nfe)

    def _warn(self, rows: RowStates) -> None:
        if not bool(rows.capped.any()):
            return
        broken = int((rows.capped & ~rows.u.flatten(1).isfinite().all(1)).sum())
        count, text = int(rows.capped.sum()) - broken, ""
        if count:
            text = (
                f"{count} of {len(rows.u)} rows were not finished after max_nfe={self.max_nfe} calls at rtol={self.rtol:g}, "
                f"atol={self.atol:g}; they were finished in {FIXED_STEPS} fixed steps, without error control. "
                "Raise max_nfe or rtol"
            )
        if broken:
            text += ". " if text else ""
            text += f"The denoiser returned numbers that are not finite for {broken} of {len(rows.u)} rows"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
