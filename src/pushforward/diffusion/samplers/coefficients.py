r"""Parts of the tables of several samplers: scales, the posterior of the forward process, integrals of polynomials.

References
----------
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
Marlis Hochbruck, Alexander Ostermann. Exponential integrators. Acta Numerica, 2010.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pushforward.diffusion.schedule import Schedule

__all__ = ["Scales", "exponential_integrals", "forward_variance", "lagrange_integrals", "posterior"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_LONGEST = 40.0  # e^-40 of an exponential integral is below the rounding of float64


@dataclass(frozen=True)
class Scales:
    """Scales of a schedule at the times of a grid, as lists of floats.

    Attributes
    ----------
    alpha, sigma : list of float
    lam : list of float
        log_snr / 2; -inf where alpha = 0.

    >>> from pushforward.diffusion import StraightLine
    >>> Scales.of(StraightLine(), [0.75, 0.5]).sigma
    [0.75, 0.5]
    """

    alpha: list[float]
    sigma: list[float]
    lam: list[float]

    @classmethod
    def of(cls, schedule: Schedule, times: Sequence[float]) -> "Scales":
        """Return the scales at ``times``."""
        t = torch.tensor(times, dtype=torch.float64)
        return cls(schedule.alpha(t).tolist(), schedule.sigma(t).tolist(), (schedule.log_snr(t) / 2).tolist())

    def pair(self, k: int) -> tuple[float, float, float, float]:
        """alpha_t, alpha_s, sigma_t, sigma_s of the step from time k to time k + 1."""
        return self.alpha[k], self.alpha[k + 1], self.sigma[k], self.sigma[k + 1]


def lagrange_integrals(
    nodes: Sequence[float],
    begin: float,
    end: float,
    density: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> list[float]:
    """Integrals of density(u) l_j(u) from ``begin`` to ``end``, where l_j are the Lagrange polynomials of ``nodes``.

    Gauss-Legendre quadrature with 64 points: exact to rounding for polynomials and for smooth densities. The default density
    is 1.

    >>> [round(w, 12) for w in lagrange_integrals([1.0, 0.0], 1.0, 2.0)]  # Adams-Bashforth: 3/2, -1/2
    [1.5, -0.5]
    """
    u = 0.5 * (end - begin) * (_NODES + 1) + begin
    mass = 0.5 * (end - begin) * _WEIGHTS
    if density is not None:
        mass = mass * density(u)
    weights = []
    for j, node in enumerate(nodes):
        others = [other for i, other in enumerate(nodes) if i != j]
        polynomial = np.prod([(u - other) / (node - other) for other in others], axis=0) if others else 1.0
        weights.append(float((mass * polynomial).sum()))
    return weights


def exponential_integrals(nodes: Sequence[float], begin: float, end: float, *, rate: float = 1.0) -> list[float]:
    """Integrals of e^(rate (lambda - top)) l_j(lambda) from ``begin`` to ``end``, with ``top`` the larger of both.

    The factor exp(-rate top) prevents overflow.

    Parameters
    ----------
    nodes : sequence of float
        Nodes of the polynomials. A node at -infinity (alpha = 0) has weight 0 in the limit, unless all are there.
    begin, end : float
        One of them may be -infinity.
    rate : float
        Positive.

    >>> [round(w, 12) for w in exponential_integrals([-math.inf], -math.inf, 3.0)]
    [1.0]
    """
    top = max(begin, end)
    usable = [j for j, node in enumerate(nodes) if math.isfinite(node)] or [0]
    low, high = max(begin, top - _LONGEST / rate), max(end, top - _LONGEST / rate)
    parts = lagrange_integrals([nodes[j] for j in usable], low, high, lambda u: np.exp(rate * (u - top)))
    weights = [0.0] * len(nodes)
    for j, weight in zip(usable, parts, strict=True):
        weights[j] = weight
    return weights


def posterior(alpha_t: float, alpha_s: float, sigma_t: float, sigma_s: float) -> tuple[float, float, float]:
    """Coefficients of x_t and x in the mean of q(x_s | x_t, x), and its variance.

    >>> posterior(0.0, 0.6, 1.0, 0.8)  # pure noise has weight 0
    (0.0, 0.6, 0.6400000000000001)
    """
    b2 = forward_variance(alpha_t, alpha_s, sigma_t, sigma_s)
    return alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * b2 / sigma_t**2, b2 * (sigma_s / sigma_t) ** 2


def forward_variance(alpha_t: float, alpha_s: float, sigma_t: float, sigma_s: float) -> float:
    """Variance b2 of q(x_t | x_s), clamped to be at least 0 despite rounding.

    >>> forward_variance(0.0, 0.6, 1.0, 0.8)
    1.0
    """
    return max(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2, 0.0)
