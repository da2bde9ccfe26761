"""The sampler that is used when none is named."""

import math

from pushforward.diffusion.grid import VPGrid, check_steps
from pushforward.diffusion.multistep import AngleSolver

__all__ = ["default_sampler"]

_GENTLE = (-0.5, 1.5)  # scales of guidance under which the flow is about as stiff as without
_FEW = 5  # steps that are needed above the noise level where modes part, before one goes to a narrow spike


def default_sampler(steps: int, guidance_scale: float = 1.0) -> AngleSolver:
    """Return the sampler, with its grid: ``AngleSolver(order=4)``, or of order 3 or 2 under strong guidance.

    It was chosen by its error against the exact flow of mixtures with known denoisers. Root mean square error per dimension
    with DDPM's schedule, beside the best at each number of calls of some 200 samplers and grids of diffusers, k-diffusion and
    azula (``benchmarks/sampler_quality.py`` measures it again). First the mixture of 30 Gaussians fitted to scikit-learn's
    digits, then two laws of narrow round spikes with 1,024 noises: 8 spikes of width 0.02 on a circle of radius 1.4
    (``ring``), and 12 spikes of width 0.03 in eight dimensions (``spiky``):

    =============  ======  ======  ======  ======  ======  ======  ======
    calls               5       8      10      15      20      30      50
    =============  ======  ======  ======  ======  ======  ======  ======
    digits         0.0773  0.0284  0.0119  0.0037  0.0018  0.0005  0.0001
    best of peers  0.1315  0.0634  0.0443  0.0157  0.0082  0.0029  0.0012
    ring           0.0366  0.0068  0.0042  0.0021  0.0015  0.0012  0.0004
    best of peers  0.0496  0.0051  0.0050  0.0024  0.0019  0.0015  0.0006
    spiky          0.1700  0.0919  0.0870  0.0512  0.0337  0.0335  0.0333
    best of peers  0.1599  0.0915  0.0779  0.0599  0.0443  0.0368  0.0336
    =============  ======  ======  ======  ======  ======  ======  ======

    Scale, power and last noise level of the grid were chosen on several laws at once: the digits, a broad mixture in two
    dimensions, spikes, and mixtures fitted to MNIST, its principal components and patches of CIFAR. On all of these but the
    spikes it was ahead of the best peer wherever that was measured, by a factor of 1.03 (patches, 5 calls) and more, but for
    one (MNIST at 15, behind by 1.10: one noise of 128 ends in another mode). On spikes it is ahead but for four of these
    figures: ``ring`` at 8 calls, where the one solver that does best on just this law is better by 1.34, and ``spiky`` at 5 to
    10, by up to 1.12. There the error is mostly that of the few noises between two spikes that end in the wrong one; with 128
    noises it is a matter of luck.

    Why these numbers. Few calls are all needed at high noise, where it is decided which mode a row goes to. With more of them
    some can go where a narrow mode is resolved, below its width: the power of the grid grows from 2 to 2.75, and from 6 calls
    on the last one is made at the noise level 1.6 / n^2, or where the schedule ends. With few calls a smaller scale of the data
    did better: it grows from 1 to 1.6. Where one direction is much wider than the rest, as in photographs, a larger one does
    better at 15 to 20 calls (``AngleSolver(order=4, scale=2.5)`` on patches of 8 x 8 pixels, 7.7 times as wide).

    Under strong guidance the flow is stiffer, and a high order makes it worse. Outside of scales from -0.5 to 1.5 the order is
    3, or 2 when ``steps < 4 * abs(guidance_scale)``, on the grid ``VPGrid()``. On guided digits, at a scale of 4, these have
    0.376 / 0.030 / 0.022 at 5 / 8 / 10 calls, and order 4 on the grid without guidance 1.20 / 0.84 / 0.037.

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
    AngleSolver(order=4, scale=1.6, grid=VPGrid(power=2.75, sigma_max=80.0, sigma_min=0.004))
    >>> default_sampler(10, guidance_scale=4.0).order
    2
    """
    check_steps(steps)
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be a finite number, got {guidance_scale}")
    if not _GENTLE[0] <= guidance_scale <= _GENTLE[1]:
        return AngleSolver(order=2 if steps < 4 * abs(guidance_scale) else 3)
    power = round(min(max(steps / 3, 2.0), 2.75), 2)
    scale = round(min(max(0.5 + 0.1 * steps, 1.0), 1.6), 2)
    sigma_min = None if steps <= _FEW else float(f"{1.6 / steps**2:.3g}")
    return AngleSolver(order=4, scale=scale, grid=VPGrid(power=power, sigma_min=sigma_min))
