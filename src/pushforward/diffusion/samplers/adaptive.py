r"""The probability flow by adaptive steps: as many calls as a tolerance asks for, row by row; and encoding, from data to noise.

The steps are those of :mod:`~pushforward.diffusion.samplers.row_steps`. Every row has its own time and length of step, and
takes the same steps whatever rows are beside it.

Time 0 of a sampling run means "return denoised", as everywhere. :meth:`Adaptive.encode` and :meth:`Adaptive.decode` are
inverse maps instead, so they follow the flow through to theta = 0, below t_min along its continuation
(:func:`~pushforward.diffusion.likelihood.continuation`), and no noise is added to the data.

The flow holds for every source law and coupling.

References
----------
Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers.grid import check_steps
from pushforward.diffusion.samplers.row_steps import CALLS, FIXED_STEPS, FlowBelow, FlowField, Limits, Travellers, travel
from pushforward.diffusion.samplers.table import OnStep, Sampler, check_conditions, check_run_times, check_times

__all__ = ["Adaptive", "AdaptiveResult"]


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """Where rows have arrived, and what that took.

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
    """The probability flow by steps of Dormand and Prince, with control of the error of each row.

    The tolerance decides on the number of calls: ``steps`` of :meth:`run` says nothing to it.

    Parameters
    ----------
    rtol, atol : float
        Error allowed in a step, relative to the root mean square of a row and absolute, in units of the scaled data;
        0 < rtol < 1, atol >= 0. The error at the end is mostly a few times as large with exact
        denoisers, and up to a hundred times with networks, which are rough in t.
    max_nfe : int
        Denoiser calls after which a row goes the rest of its way by 10 fixed steps of two calls; at least 10.

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
        if isinstance(self.max_nfe, bool) or not isinstance(self.max_nfe, int):
            raise TypeError(f"max_nfe must be an integer, got {self.max_nfe!r}")
        if self.max_nfe < 10:
            raise ValueError(f"max_nfe must be at least 10, got {self.max_nfe}; a step takes {CALLS} calls")

    @torch.no_grad()
    def run(
        self,
        denoiser: AbstractDenoiser,
        noise: Tensor,
        *,
        steps: int | None = None,
        times: Tensor | Sequence[float] | None = None,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Turn noise into samples; the arguments are those of :meth:`Sampler.run`.

        Neither ``steps``, which is not used, nor ``times`` has to be given; ``times`` are met on the way, for ``on_step``.
        """
        if steps is not None:
            check_steps(steps)
        along = [1.0, 0.0] if times is None else check_run_times(times)
        x = noise * denoiser.schedule.sigma(torch.ones((), dtype=torch.float64))
        return self.solve(denoiser, x, along, condition=condition, on_step=on_step).x

    def integrate(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Tensor | Sequence[float],
        *,
        condition: Tensor | None = None,
        seed: int | None = None,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Carry the state ``x_t`` at ``times[0]`` to ``times[-1]``; gradients flow, but not through the choice of the steps."""
        return self.solve(denoiser, x_t, times, condition=condition, on_step=on_step).x

    def solve(
        self,
        denoiser: AbstractDenoiser,
        x_t: Tensor,
        times: Tensor | Sequence[float],
        *,
        condition: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> AdaptiveResult:
        """Do as :meth:`integrate` does, and tell the number of calls that each row took.

        Parameters
        ----------
        denoiser : AbstractDenoiser
        x_t : Tensor (B, *D)
            State at ``times[0]``.
        times : tensor or sequence
            Falling or rising, in [t_min, 1], at the end also 0: then the state at t_min is denoised. Each is met exactly.
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
        along = torch.as_tensor(times, dtype=torch.float64).tolist()
        check_times(denoiser.schedule, along)
        field = FlowField(denoiser, condition)
        rows = Travellers.start(field, x_t, along[0])
        for number, (begin, end) in enumerate(itertools.pairwise(along)):
            goal = end or denoiser.schedule.t_min
            if goal != begin:
                rows = travel(field, rows, field.clock_at(goal), self._limits)
            x, denoised = field.finish(rows)
            if on_step is not None:
                on_step(number, end, x if end else denoised, denoised)
        self._warn(rows)
        return AdaptiveResult(x if end else denoised, rows.nfe, rows.capped)

    @torch.no_grad()
    def encode(self, denoiser: AbstractDenoiser, x: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the noise z (B, *D) that the flow turns into the clean rows ``x``: x_1 = sigma(1) z.

        The flow is followed from theta = 0, where x stands as it is; below t_min it is continued from just above.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().encode(denoiser, torch.full((1, 1), 3.0, dtype=torch.float64)).x.round(decimals=3).item()
        1.5
        """
        check_conditions(condition, x)
        field, below = FlowField(denoiser, condition), FlowBelow(denoiser, condition)
        low, high = field.clock_at(denoiser.schedule.t_min), field.clock_at(1.0)
        rows = travel(below, Travellers.start_at_data(below, x), low, self._limits)
        rows = travel(field, rows.beginning_again(), high, self._limits)
        self._warn(rows)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        return AdaptiveResult(field.finish(rows)[0] / scale, rows.nfe, rows.capped)

    @torch.no_grad()
    def decode(self, denoiser: AbstractDenoiser, z: Tensor, *, condition: Tensor | None = None) -> AdaptiveResult:
        """Return the clean rows x that the flow makes of the noise z (B, *D): the inverse of :meth:`encode`.

        >>> from pushforward.diffusion import Cosine, ExactDenoiser
        >>> from pushforward.probability import Gaussian
        >>> denoiser = ExactDenoiser(Gaussian([0.0], 4.0), Cosine())
        >>> Adaptive().decode(denoiser, torch.full((1, 1), 1.5, dtype=torch.float64)).x.round(decimals=3).item()
        3.0
        """
        check_conditions(condition, z)
        field, below = FlowField(denoiser, condition), FlowBelow(denoiser, condition)
        scale = denoiser.schedule.sigma(torch.ones((), dtype=torch.float64)).item()
        rows = travel(field, Travellers.start(field, z * scale, 1.0), field.clock_at(denoiser.schedule.t_min), self._limits)
        rows = travel(below, rows, 0.0, self._limits)
        self._warn(rows)
        return AdaptiveResult(rows.u, rows.nfe, rows.capped)

    @property
    def _limits(self) -> Limits:
        return Limits(self.rtol, self.atol, self.max_nfe)

    def _warn(self, rows: Travellers) -> None:
        if not bool(rows.capped.any()):
            return
        broken = int((rows.capped & ~rows.u.flatten(1).isfinite().all(1)).sum())
        count, text = int(rows.capped.sum()) - broken, ""
        if count:
            text = (
                f"{count} of {len(rows.u)} rows were not done after max_nfe={self.max_nfe} calls at rtol={self.rtol:g}, "
                f"atol={self.atol:g}; what was left of them was done in {FIXED_STEPS} fixed steps, without control of the "
                "error. Raise max_nfe or rtol"
            )
        if broken:
            text += ". " if text else ""
            text += f"The denoiser returned numbers that are not finite for {broken} of {len(rows.u)} rows"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
