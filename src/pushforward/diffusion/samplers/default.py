"""The sampler that is used when none is named."""

import functools
import json
import math
from importlib import resources

from pushforward.diffusion.samplers.calibrated import CalibratedSampler
from pushforward.diffusion.samplers.grid import SinhGrid, check_steps
from pushforward.diffusion.samplers.multistep import AngleSolver
from pushforward.diffusion.samplers.table import TableSampler

__all__ = ["default_sampler"]

_GENTLE = (-0.5, 1.5)  # at these scales of guidance the flow is about as stiff as without


def default_sampler(steps: int, guidance_scale: float = 1.0) -> TableSampler:
    """Return the sampler, with its grid: a fitted table for 2 to 10 calls, ``AngleSolver(order=4)`` for more.

    Both were fitted to the error against the exact flow of laws with known denoisers (``benchmarks/fit_default.py``). The guide
    to samplers compares them with those of other libraries (``benchmarks/sampler_quality.py``). Two calls are too few on some
    laws, where other samplers are better.

    A guided flow is stiffer, and a high order makes its error larger. Outside scales from -0.5 to 1.5 the order is 3, or 2 when
    ``steps < 4 * abs(guidance_scale)``, on the grid ``VPGrid()``.

    Parameters
    ----------
    steps : int
        Number of network calls; at least 1.
    guidance_scale : float
        Scale of the guidance by a condition; finite.

    Raises
    ------
    TypeError, ValueError
        If ``steps`` is not an integer of at least 1, or the scale is not finite.

    >>> default_sampler(20).nfe(20)
    20
    >>> default_sampler(20)
    AngleSolver(order=4, scale=1.6, grid=SinhGrid(center=1.05, width=1.25, sigma_min=0.004, sigma_max=50.0))
    >>> default_sampler(10, guidance_scale=4.0).order
    2
    """
    check_steps(steps)
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be a finite number, got {guidance_scale}")
    if not _GENTLE[0] <= guidance_scale <= _GENTLE[1]:
        return AngleSolver(order=2 if steps < 4 * abs(guidance_scale) else 3)
    return tables().get(steps) or formula(steps)


@functools.cache
def tables() -> dict[int, CalibratedSampler]:
    """Return the fitted tables by their number of steps."""
    text = resources.files("pushforward.diffusion.samplers").joinpath("default_tables.json").read_text(encoding="utf-8")
    return {int(steps): CalibratedSampler(**table) for steps, table in json.loads(text).items()}


def formula(steps: int) -> AngleSolver:
    """Return the sampler for a number of steps without a table; the fit of a table starts from it."""
    grid = SinhGrid(
        center=_short(_within(8.5 / steps, 1.05, 1.7) * _within(25 / steps, 0.5, 1.0)),
        sigma_min=_short(_within(16 / steps**3, 1.6 / steps**2, 3.2 / steps**2)),
        sigma_max=_short(_within(2.0 * steps, 50.0, 100.0)),
    )
    return AngleSolver(order=4, scale=1.6, grid=grid)


def _within(x: float, least: float, most: float) -> float:
    return min(max(x, least), most)


def _short(x: float) -> float:
    """Round to three digits, so that the printed value is the value in use."""
    return float(f"{x:.3g}")
