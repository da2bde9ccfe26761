r"""Rows with gaps under a mixture of Gaussians: densities, expected values in the gaps, and draws that fill them.

Let o be the observed coordinates of a row x and h the gaps, which hold NaN. Under component k the row has the density
N(x_o; m_o, S_oo), and its gaps are Gaussian,

    x_h | x_o, k ~ N(m_h + S_ho S_oo^-1 (x_o - m_o), S_hh - S_ho S_oo^-1 S_oh) = N(m_h - P_hh^-1 P_ho (x_o - m_o), P_hh^-1)

with P = S^-1. To put rows with different gaps into one batch, blocks are completed by the identity: S_oo is used as
M S M + (I - M), M = diag(seen), whose Cholesky factor is the identity on the gaps. A row without observed coordinates has
density 1.

References
----------
Zoubin Ghahramani, Michael I. Jordan. Supervised learning from incomplete data via an EM approach. NeurIPS 1993.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.laws.mixture import GaussianMixture

__all__ = ["Completed", "completed", "fill", "log_joint"]

_NUMBERS = 1 << 22  # limit of the largest array of one chunk of rows


def log_joint(law: GaussianMixture, x: Tensor) -> Tensor:
    """Return log w_k N(x_o; k) in nats, (N, K), for rows x (N, D) with NaN in their gaps.

    >>> law = GaussianMixture([1.0], [[0.0, 5.0]], covs=[1.0])
    >>> log_joint(law, torch.tensor([[0.0, math.nan], [math.nan, math.nan]], dtype=torch.float64))
    tensor([[-0.9189],
            [ 0.0000]], dtype=torch.float64)
    """
    seen = ~x.isnan()
    if bool(seen.all()):
        return law.components.log_prob(x) + law.weights.log()
    if law.covs.ndim < 3:
        return _independent(law, x, seen)[0]
    joint = x.new_empty(len(x), len(law.weights))
    for rows, patterns, index in _chunks(seen, law.means.numel() * law.dim):
        inverse, log_volume = _seen_factor(law, patterns)
        joint[rows] = _evidence(law, x[rows], seen[rows], inverse, log_volume, index)[0]
    return joint


@dataclass(frozen=True, eq=False)
class Completed:
    """Densities of rows with gaps, and the moments of the completed rows under each component.

    Attributes
    ----------
    log_joint : Tensor (N, K)
        log w_k N(x_o; k), in nats.
    weight : Tensor (K,)
        Sum over the rows of r_k, the posterior probability of component k.
    first, second : Tensor (K, D) and (K, D, D), or (K, D) if the covariances are diagonal
        Sums of r_k E[x | x_o, k] and of r_k E[x x^T | x_o, k], of which only the diagonal if the covariances are diagonal.
    """

    log_joint: Tensor
    weight: Tensor
    first: Tensor
    second: Tensor


def completed(law: GaussianMixture, x: Tensor, beside: Tensor | None = None) -> Completed:
    """Return densities and moments of rows x (N, D) with NaN in their gaps: the E-step.

    ``beside`` (N, K) is added to the log-density of each row under each component.

    >>> law = GaussianMixture([1.0], [[0.0, 0.0]], covs=[[[1.0, 0.5], [0.5, 1.0]]])
    >>> done = completed(law, torch.tensor([[2.0, math.nan]], dtype=torch.float64))
    >>> done.first, done.second
    (tensor([[2., 1.]], dtype=torch.float64), tensor([[[4.0000, 2.0000],
             [2.0000, 1.7500]]], dtype=torch.float64))
    """
    seen = ~x.isnan()
    if law.covs.ndim < 3:
        joint, mean, spread = _independent(law, x, seen)
        joint = joint if beside is None else joint + beside
        r = joint.softmax(1)
        second = torch.einsum("nk,nkd->kd", r, mean**2 + spread)
        return Completed(joint, r.sum(0), torch.einsum("nk,nkd->kd", r, mean), second)
    joint = x.new_empty(len(x), len(law.weights))
    weight, first, second = (torch.zeros_like(part) for part in (law.weights, law.means, law.covs))
    for rows, patterns, index in _chunks(seen, law.means.numel() * law.dim):
        inverse, log_volume = _seen_factor(law, patterns)
        joint[rows], white = _evidence(law, x[rows], seen[rows], inverse, log_volume, index)
        if beside is not None:
            joint[rows] += beside[rows]
        r = joint[rows].softmax(1)
        # V = L^-1 M S: E[x] = m + V^T L^-1 (x_o - m_o), and the covariance of x given x_o is S - V^T V.
        V = inverse * patterns[:, None, None, :] @ law.covs
        mean = law.means + torch.einsum("nkij,nki->nkj", V[index], white)
        mean = torch.where(seen[rows][:, None], x[rows][:, None], mean).transpose(0, 1)
        weighted = r.mT[..., None] * mean
        by_pattern = r.new_zeros(len(patterns), r.shape[1]).index_add_(0, index, r)
        weight += r.sum(0)
        first += weighted.sum(1)
        second += weighted.mT @ mean + torch.einsum("pk,pkij->kij", by_pattern, law.covs - V.mT @ V)
    return Completed(joint, weight, first, second)


def fill(law: GaussianMixture, x: Tensor, component: Tensor, z: Tensor) -> Tensor:
    """Return rows x (N, D) with each gap drawn given the observed part of the row and its component (N,).

    ``z`` (N, D) are standard normal numbers, one per element. Row i of the result depends only on row i of the arguments.

    >>> law = GaussianMixture([1.0], [[0.0, 0.0]], covs=[[[1.0, 0.5], [0.5, 1.0]]])
    >>> fill(law, torch.tensor([[2.0, math.nan]], dtype=torch.float64), torch.tensor([0]), torch.zeros(1, 2).double())
    tensor([[2., 1.]], dtype=torch.float64)
    """
    seen = ~x.isnan()
    if law.covs.ndim < 3:
        return torch.where(seen, x, law.means[component] + law.components.factor[component] * z)
    filled = torch.empty_like(x)
    precisions = _precisions(law)
    groups = torch.cat([seen, torch.nn.functional.one_hot(component, len(law.weights)).bool()], 1)
    for rows, group, index in _chunks(groups, law.dim**2):
        missing, k = ~group[:, : law.dim], group[:, law.dim :].int().argmax(1)
        P = precisions[k]
        block = torch.where(missing[:, :, None] & missing[:, None, :], P, torch.diag_embed((~missing).to(P)))
        factor = torch.linalg.cholesky(block)
        delta = torch.where(seen[rows], x[rows] - law.means[component[rows]], 0.0)
        gap = ~seen[rows]
        # L^-T (L^-1 (-P_ho (x_o - m_o)) + z): one pair of triangular solves gives the mean and the draw.
        pull = -_times(P, delta, index) * gap
        drawn = _solve(factor.mT, _solve(factor, pull, index, upper=False) + z[rows] * gap, index, upper=True)
        filled[rows] = torch.where(gap, law.means[component[rows]] + drawn, x[rows])
    return filled


def _chunks(key: Tensor, numbers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield row numbers, the distinct rows of ``key`` (N, *) among them, and the index of the distinct row of each.

    Equal rows follow each other; ``numbers`` is the size of one row in the largest array computed from it.
    """
    patterns, which = torch.unique(key, dim=0, return_inverse=True)
    for rows in which.argsort(stable=True).split(max(1, _NUMBERS // numbers)):
        local, index = which[rows].unique(return_inverse=True)
        yield rows, patterns[local], index


def _seen_factor(law: GaussianMixture, patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse Cholesky factors (P, K, D, D) of M S M + (I - M), and half the log-determinants (P, K), by pattern (P, D)."""
    both = (patterns[:, :, None] & patterns[:, None, :])[:, None]
    filled_up = torch.diag_embed((~patterns).to(law.covs))[:, None]
    factor = torch.linalg.cholesky(torch.where(both, law.covs, filled_up))
    unit = torch.eye(law.dim).to(factor).expand_as(factor)
    inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
    return inverse, factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _evidence(
    law: GaussianMixture, x: Tensor, seen: Tensor, inverse: Tensor, log_volume: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log w_k N(x_o; k) (n, K), and L^-1 (x_o - m_o) (n, K, D) with zeros in the gaps."""
    delta = torch.where(seen[:, None], x[:, None] - law.means, 0.0)
    if len(inverse) == 1:
        white = torch.einsum("nkj,kij->nki", delta, inverse[0])
    else:
        white = torch.einsum("nkj,nkij->nki", delta, inverse[index])
    count = seen.sum(1, keepdim=True).to(x)
    log_prob = -0.5 * (white**2).sum(-1) - log_volume[index] - 0.5 * count * math.log(2 * math.pi)
    return law.weights.log() + log_prob, white


def _independent(law: GaussianMixture, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log w_k N(x_o; k) (N, K), and mean and variance (N, K, D) of each element, for independent coordinates."""
    deviation = law.components.factor
    delta = torch.where(seen[:, None], x[:, None] - law.means, 0.0)
    each = -0.5 * (delta / deviation) ** 2 - deviation.log() - 0.5 * math.log(2 * math.pi)
    joint = law.weights.log() + (each * seen[:, None]).sum(-1)
    return joint, law.means + delta, torch.where(seen[:, None], 0.0, deviation**2)


def _precisions(law: GaussianMixture) -> Tensor:
    unit = torch.eye(law.dim).to(law.means).expand(len(law.weights), -1, -1)
    inverse = torch.linalg.solve_triangular(law.components.full_factor, unit, upper=False)
    product: Tensor = inverse.mT @ inverse
    return product


def _times(matrices: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """Return A_i v_i for rows v (n, D), matrices A (P, D, D) and the index of each row's matrix."""
    if len(matrices) == 1:
        return rows @ matrices[0].mT
    return torch.einsum("nij,nj->ni", matrices[index], rows)


def _solve(triangles: Tensor, rows: Tensor, index: Tensor, *, upper: bool) -> Tensor:
    """Return T_i^-1 v_i, shapes as in :func:`_times`."""
    if len(triangles) == 1:
        together: Tensor = torch.linalg.solve_triangular(triangles[0], rows.mT, upper=upper).mT
        return together
    each: Tensor = torch.linalg.solve_triangular(triangles[index], rows[..., None], upper=upper)[..., 0]
    return each
