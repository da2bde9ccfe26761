r"""Expectations E[f(x)] of any function under a law on a continuum, each with its error.

By the law of the unconscious statistician E[f(x)] needs the law of x, not that of f(x):

    by the density    E[f(x)] = integral of f(x) p(x) dx
    by the CDF        E[f(x)] = integral of f dF = integral over u in (0, 1) of f(F^-1(u)) du

The second form (Stieltjes) needs no density: F may have jumps and flat parts. In one to three dimensions the integrals are
sums over a grid that is refined until the value no longer moves; above, they are means over draws.

References
----------
Philip J. Davis, Philip Rabinowitz. Methods of numerical integration. Academic Press, 1984.
Lloyd N. Trefethen, J. A. C. Weideman. The exponentially convergent trapezoidal rule. SIAM Review, 2014.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pushforward.probability.arrays import ArrayLike
from pushforward.probability.divergence import Law
from pushforward.probability.draw import quantile

__all__ = ["Expectation", "by_cdf"]

Function = Callable[[Tensor], Tensor]
"""Maps points (N, D) to values (N, *S)."""

_Rule = tuple[Tensor, Tensor, Tensor]
"""Points (N, D), their weights (N,), and which of them lie at the edge (N,)."""

_INTERVALS = {1: 2**14, 2: 2**9, 3: 2**6}
"""By dimension, the most intervals of an axis."""
_REACH = 12.0  # standard deviations: what a Gaussian holds beyond is exp(-72)


@dataclass(frozen=True, eq=False)
class Expectation:
    """The ``value`` (*S) of E[f(x)] and its ``error`` (*S), from ``evaluations`` points.

    Of a sum over a grid the error is the change at the last refinement, plus what f adds at the edge of the grid; of a mean
    over draws it is the standard error.
    """

    value: Tensor
    error: Tensor
    evaluations: int


def by_cdf(f: Callable[[Tensor], Tensor], cdf: Callable[[Tensor], ArrayLike]) -> Expectation:
    """Return E[f(x)] for x on the line from the CDF alone, as the integral of f(F^-1(u)) over u.

    With u = 1 / (1 + exp(-s)) this is an integral over all s of a function that falls exponentially, which the trapezoidal
    rule solves: to rounding for smooth f and F, with an error proportional to the spacing where one of them jumps. Tails of
    less than exp(-36) are left out.

    Parameters
    ----------
    f : callable
        Elementwise, (N,) to (N,).
    cdf : callable
        As for :func:`pushforward.probability.draw.quantile`.

    >>> found = by_cdf(lambda x: x**2, lambda x: 1 - torch.exp(-x.clamp(min=0)))  # an exponential law
    >>> round(found.value.item(), 6)
    2.0
    """

    def rules() -> Iterator[_Rule]:
        for intervals in (128, 256, 512, 1024, 2048):
            s = torch.linspace(-36, 36, intervals + 1, dtype=torch.float64)
            u = torch.sigmoid(s)
            yield quantile(cdf, u)[:, None], u * torch.sigmoid(-s) * (72 / intervals), s.abs() == 36

    return _refined(lambda x: f(x[:, 0]), rules())


def over_normals(f: Function, weights: Tensor, means: Tensor, factors: Tensor) -> Expectation:
    """Return E[f(x)] for a mixture of N(m_k, L_k L_k^T), with weights (K,), means (K, D) and factors L (K, D, D)."""
    weights, means, factors = weights.double(), means.double(), factors.double()
    dim = means.shape[1]

    def rules() -> Iterator[_Rule]:
        intervals = 32
        while intervals <= _INTERVALS[dim]:
            axis = torch.linspace(-_REACH, _REACH, intervals + 1, dtype=torch.float64)
            z = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
            cell = (2 * _REACH / intervals / math.sqrt(2 * math.pi)) ** dim
            share = (-0.5 * z.square().sum(1)).exp() * cell
            edge = (z.abs() == _REACH).any(1)
            x = means[:, None] + z @ factors.mT
            yield x.flatten(0, 1), torch.outer(weights, share).flatten(), edge.repeat(len(weights))
            intervals *= 2

    return _refined(f, rules())


def over_panels(f: Function, rule: Callable[[int], tuple[Tensor, Tensor]], most: int) -> Expectation:
    """Return E[f(x)] from ``rule(panels)``, which gives points (N, D) and weights (N,); panels are doubled up to ``most``."""

    def rules() -> Iterator[_Rule]:
        panels = 1
        while panels <= most:
            x, weights = rule(panels)
            yield x, weights, torch.zeros(len(x), dtype=torch.bool)
            panels *= 2

    return _refined(f, rules())


def over_draws(f: Function, law: Law, draws: int, seed: int) -> Expectation:
    """Return E[f(x)] as the mean over draws of a law."""
    if draws < 2:
        raise ValueError(f"a standard error needs draws >= 2, not {draws}")
    values = _values(f, law.sample(draws, seed=seed))
    return Expectation(values.mean(0), values.std(0) / math.sqrt(draws), draws)


def box_rule(box: Tensor, panels: int, nodes_per_panel: int = 16) -> tuple[Tensor, Tensor]:
    """Return points (N, D) and log-weights (N,) of the tensor product of composite Gauss-Legendre rules on a box (D, 2)."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes_per_panel))
    # A shifted unit grid: node j of panel k lies at (k + (1 + node_j) / 2) / panels.
    unit = ((torch.arange(panels)[:, None] + (1 + nodes) / 2) / panels).flatten()
    log_unit = (weights / 2 / panels).log().repeat(panels)
    axes = [low + (high - low) * unit for low, high in box.tolist()]
    x = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    log_weights = torch.cartesian_prod(*[log_unit] * len(axes)).reshape(-1, len(axes)).sum(1)
    return x, log_weights + (box[:, 1] - box[:, 0]).log().sum()


def _refined(f: Function, rules: Iterable[_Rule]) -> Expectation:
    evaluations, last = 0, None
    for x, weights, edge in rules:
        values = _values(f, x)
        value = torch.tensordot(weights, values, dims=1)
        evaluations += len(x)
        if last is not None:
            moved = (value - last).abs()
            error = moved + torch.tensordot(weights[edge], values[edge].abs(), dims=1)
            if bool((moved <= 1e-13 * (1 + value.abs())).all()):
                break
        last = value
    return Expectation(value, error, evaluations)


def _values(f: Function, x: Tensor) -> Tensor:
    values = torch.as_tensor(f(x)).double()
    if values.shape[:1] != x.shape[:1]:
        raise ValueError(f"f must return one row for each of {len(x)} points, but returned the shape {tuple(values.shape)}")
    finite = values.reshape(len(x), -1).isfinite().all(1)
    if not bool(finite.all()):
        raise ValueError(f"f must be finite where the law has mass, but it is not at x = {x[~finite][0].tolist()}")
    return values
