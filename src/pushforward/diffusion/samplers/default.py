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

_GENTLE = (-0.5, 1.5)  # scales of guidance under which the flow is about as stiff as without


def default_sampler(steps: int, guidance_scale: float = 1.0) -> TableSampler:
    """Return the sampler, with its grid: a fitted table for 2 to 10 calls, ``AngleSolver(order=4)`` for more.

    Both were chosen by the error against the exact flow of mixtures with known denoisers. Root mean square error per dimension
    with DDPM's schedule, beside the best at each number of calls of 212 samplers and grids of diffusers, k-diffusion and azula
    (``benchmarks/sampler_quality.py`` measures it again): mixtures fitted to scikit-learn's digits and to patches of its
    photographs with 128 noises; 8 spikes of width 0.02 on a circle of radius 1.4 (``ring``) and 12 of width 0.03 in eight
    dimensions (``spiky``) with 8,192; 8 of width 0.05 in 32 dimensions (``spiky32``) with 4,096:

    =============  ======  ======  ======  ======  ======  ======  ======
    calls               5       8      10      15      20      30      50
    =============  ======  ======  ======  ======  ======  ======  ======
    digits         0.0685  0.0247  0.0095  0.0039  0.0017  0.0004  0.0001
    best of peers  0.1315  0.0634  0.0443  0.0157  0.0082  0.0029  0.0012
    photos         0.0981  0.0484  0.0267  0.0135  0.0036  0.0006  0.0001
    best of peers  0.1075  0.0622  0.0424  0.0196  0.0090  0.0028  0.0012
    ring           0.0467  0.0015  0.0046  0.0024  0.0013  0.0015  0.0003
    best of peers  0.0518  0.0049  0.0048  0.0024  0.0020  0.0015  0.0005
    spiky          0.1571  0.0914  0.0735  0.0378  0.0308  0.0133  0.0001
    best of peers  0.1670  0.0923  0.0792  0.0588  0.0414  0.0228  0.0103
    spiky32        0.1381  0.0958  0.0793  0.0505  0.0260  0.0181  0.0001
    best of peers  0.1433  0.1003  0.0826  0.0529  0.0346  0.0219  0.0053
    =============  ======  ======  ======  ======  ======  ======  ======

    On these five and on four more (a broad mixture, one of uneven spikes, and mixtures fitted to MNIST's principal components
    and to patches of CIFAR) the default is ahead of the best of all 212 at each of these numbers of calls, by 0.2 % on ``ring``
    at 30 and by a factor of 100 on ``spiky`` at 50. With 6, 7 and 9 it is behind on ``spiky32`` by up to 10 % and on ``spiky``
    with 6 and 7 by up to 3 %; two calls are too few on five laws, where others do better. In spikes the error is mostly that of
    the noises between two of them that end in the wrong one: take thousands to measure it.

    The tables are :class:`CalibratedSampler`, fitted to these nine laws, to other noises of them, to ten mixtures drawn at
    random and to four trained models at once (``benchmarks/fit_default.py``). They serve any schedule. Ten laws took no part:
    there their error is in the geometric mean 0.72 of the formula's with 5 calls, 0.86 with 8 and 0.94 with 10. On eight of
    these it is ahead of the best of the peers in 21 of 24 cells (the others: 1.20, 1.05 and 1.02).

    Grid and scale of the formula for more calls are one choice for the nine laws. Modes part where the noise is about as wide
    as the data: there the calls are densest. With many of them some can go where a narrow mode is resolved, below its width.

    Under strong guidance the flow is stiffer, and a high order makes it worse. Outside of scales from -0.5 to 1.5 the order is
    3, or 2 when ``steps < 4 * abs(guidance_scale)``, on the grid ``VPGrid()``.

    Parameters
    ----------
    steps : int
        At least 1; so many calls are made.
    guidance_scale : float
        Scale of guidance by a condition that will be used; finite.

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
    """Return the sampler for numbers of steps without a table; it is also what the fit of one begins with."""
    grid = SinhGrid(
        center=_short(_within(8.5 / steps, 1.05, 1.7) * _within(25 / steps, 0.5, 1.0)),
        sigma_min=_short(_within(16 / steps**3, 1.6 / steps**2, 3.2 / steps**2)),
        sigma_max=_short(_within(2.0 * steps, 50.0, 100.0)),
    )
    return AngleSolver(order=4, scale=1.6, grid=grid)


def _within(x: float, least: float, most: float) -> float:
    return min(max(x, least), most)


def _short(x: float) -> float:
    """``x`` to three digits: what is printed is what is used."""
    return float(f"{x:.3g}")
