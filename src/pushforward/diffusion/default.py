"""The sampler that is used when none is named."""

import math

from pushforward.diffusion.grid import SinhGrid, check_steps
from pushforward.diffusion.multistep import AngleSolver

__all__ = ["default_sampler"]

_GENTLE = (-0.5, 1.5)  # scales of guidance under which the flow is about as stiff as without


def default_sampler(steps: int, guidance_scale: float = 1.0) -> AngleSolver:
    """Return the sampler, with its grid: ``AngleSolver(order=4)``, or of order 3 or 2 under strong guidance.

    It was chosen by its error against the exact flow of mixtures with known denoisers. Root mean square error per dimension
    with DDPM's schedule, beside the best at each number of calls of some 200 samplers and grids of diffusers, k-diffusion and
    azula (``benchmarks/sampler_quality.py`` measures it again): mixtures fitted to scikit-learn's digits and to patches of its
    photographs with 128 noises; 8 spikes of width 0.02 on a circle of radius 1.4 (``ring``) and 12 of width 0.03 in eight
    dimensions (``spiky``) with 8,192; 8 of width 0.05 in 32 dimensions (``spiky32``) with 4,096:

    =============  ======  ======  ======  ======  ======  ======  ======
    calls               5       8      10      15      20      30      50
    =============  ======  ======  ======  ======  ======  ======  ======
    digits         0.0948  0.0278  0.0122  0.0038  0.0017  0.0004  0.0001
    best of peers  0.1315  0.0634  0.0443  0.0157  0.0082  0.0029  0.0012
    photos         0.1298  0.0578  0.0298  0.0145  0.0037  0.0007  0.0001
    best of peers  0.1075  0.0622  0.0424  0.0196  0.0090  0.0028  0.0012
    ring           0.0486  0.0079  0.0054  0.0022  0.0012  0.0016  0.0003
    best of peers  0.0518  0.0049  0.0048  0.0024  0.0020  0.0015  0.0005
    spiky          0.1934  0.1007  0.0757  0.0390  0.0310  0.0134  0.0001
    best of peers  0.1670  0.0923  0.0792  0.0588  0.0414  0.0228  0.0103
    spiky32        0.1695  0.1196  0.0761  0.0526  0.0349  0.0181  0.0001
    best of peers  0.1433  0.1003  0.0826  0.0529  0.0346  0.0219  0.0053
    =============  ======  ======  ======  ======  ======  ======  ======

    Grid and scale are one choice for these laws and four others: a broad mixture and one of uneven spikes, and mixtures fitted
    to MNIST's principal components and to patches of CIFAR. No single one of the peers' samplers is ahead of it on more than
    one of the nine laws, or three with 5 calls, and in the geometric mean over all nine the best of them errs 1.3 / 2.1 / 2.9
    / 2.7 / 4.1 / 5.2 / 29 times as much. Against the best of all on each law by itself it is ahead or within 3 % from 10 calls
    on, but for ``ring`` at 10 (1.13); with 5 and 8 it is behind by up to 1.2 on ``photos``, ``spiky`` and ``spiky32``, and by
    1.6 at 8 on ``ring``. In spikes the error is mostly that of the noises between two of them that end in the wrong one: take
    thousands to measure it.

    Why these numbers. Modes part where the noise is about as wide as the data: there the calls are densest. With few calls
    all are needed there and above, so the densest part lies higher and the last call far from the data. With more of them
    some can go where a narrow mode is resolved, below its width.

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
    AngleSolver(order=4, scale=1.6, grid=SinhGrid(center=1.0, width=1.3, sigma_min=0.004, sigma_max=50.0))
    >>> default_sampler(10, guidance_scale=4.0).order
    2
    """
    check_steps(steps)
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale must be a finite number, got {guidance_scale}")
    if not _GENTLE[0] <= guidance_scale <= _GENTLE[1]:
        return AngleSolver(order=2 if steps < 4 * abs(guidance_scale) else 3)
    grid = SinhGrid(
        center=_within(8.5 / steps, 1.0, 1.7) * _within(25 / steps, 0.5, 1.0),
        sigma_min=_within(16 / steps**3, 1.6 / steps**2, 3.2 / steps**2),
        sigma_max=_within(2.0 * steps, 50.0, 100.0),
    )
    return AngleSolver(order=4, scale=1.6, grid=grid)


def _within(x: float, least: float, most: float) -> float:
    """``x`` kept between two values, to three digits: what is printed is what is used."""
    return float(f"{min(max(x, least), most):.3g}")
