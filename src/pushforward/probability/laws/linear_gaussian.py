r"""Linear images and linear observations of Gaussians: the calculus behind :class:`Gaussian` and :class:`GaussianMixture`.

With x ~ N(m, S), S = L L^T, and noise n = N(0, R), R = N N^T, write x = m + L u and n = N e with standard normal u, e.
An observation y = A x + b + n and a quantity of interest z = B x + c are then one linear image of (e, u), and an
orthogonal change of these variables makes its matrix lower triangular:

    [ N  A L ]         [ Y  0 ]
    [ 0  B L ]  Q  =   [ W  Z ].

So y ~ N(A m + b, Y Y^T) and z | y ~ N(B m + c + W Y^-1 (y - A m - b), Z Z^T). Nothing is inverted and no two
covariances are subtracted, so cancellation cannot make the result indefinite, and R may be singular or zero:
conditioning on coordinates is the case R = 0.

Functions here take a row of K Gaussians and return means (K, P), covariances and, where something is observed, its
log-density (K,) in nats.

References
----------
Gerald J. Bierman. Factorization methods for discrete sequential estimation. Academic Press, 1977.
Thomas Kailath, Ali H. Sayed, Babak Hassibi. Linear estimation, chapter 12 (array algorithms). Prentice Hall, 2000.
"""

import math

import torch
from torch import Tensor

from pushforward.probability.arrays import ArrayLike, Dims, deviations, indices, matrix, vector
from pushforward.probability.laws.components import Components

__all__ = ["Of", "condition", "image", "marginal", "observe", "plus", "product"]

Of = ArrayLike | tuple[ArrayLike, ArrayLike]


def image(law: Components, A: ArrayLike, b: ArrayLike | None, noise: ArrayLike | Components | None) -> tuple[Tensor, Tensor]:
    """Means (K, M) and covariances (K, M, M) of y = A x + b + noise; ``noise`` is a deviation, one Gaussian or None.

    >>> image(Components(torch.zeros(1, 2), torch.ones(1)), [[1.0, 1.0]], None, noise=2.0)
    (tensor([[0.]]), tensor([[[6.]]]))
    """
    A = matrix("A", A, law.dim, like=law.means)
    shift, root = _noise(0.0 if noise is None else noise, b, len(A), law)
    factor = torch.cat([root.expand(len(law.means), -1, -1), A @ law.full_factor], -1)
    rank = _rank_of_covariance(factor, scale=_lengths(factor))
    what = "A x + b" if noise is None else "y = A x + b + noise"
    _refuse(rank, len(A), f"the law of {what} is degenerate", "keep that many independent rows of A")
    return law.means @ A.mT + shift, _gram(factor)


def observe(
    law: Components, A: ArrayLike, y: ArrayLike, noise: ArrayLike | Components, b: ArrayLike | None, of: Of | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior of z = B x + c (of x, where ``of`` is None) given y = A x + b + noise, and the log-evidence of y.

    >>> mean, cov, log_evidence = observe(Components(torch.zeros(1, 1), torch.ones(1)), [[1.0]], [2.0], 1.0, None, None)
    >>> round(mean.item(), 4), round(cov.item(), 4)
    (1.0, 0.5)
    """
    A = matrix("A", A, law.dim, like=law.means)
    y = vector("y", y, len(A), like=law.means)
    shift, root = _noise(noise, b, len(A), law)
    means, factor, name = law.means, law.full_factor, "x"
    if of is not None:
        B, c = of if isinstance(of, tuple) else (of, None)
        B = matrix("B in of=(B, c)", B, law.dim, like=law.means)
        means, factor, name = means @ B.mT, B @ factor, "B x + c"
        means = means if c is None else means + vector("c in of=(B, c)", c, len(B), like=means)
    residual = y - shift - law.means @ A.mT
    return _update(residual, root, A @ law.full_factor, means, factor, name)


def condition(law: Components, dims: Dims, values: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
    """Law of the other coordinates given x[dims] = values, and the log-density of ``values`` under the marginal.

    >>> condition(Components(torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])), [0], [2.0])[:2]
    (tensor([[1.]]), tensor([[[0.7500]]]))
    """
    index = indices(dims, law.dim, device=law.means.device)
    values = vector("values", values, len(index), like=law.means)
    others = torch.ones(law.dim, dtype=torch.bool, device=index.device)
    others[index] = False
    if not bool(others.any()):
        raise ValueError("dims name every coordinate and nothing remains; log_prob gives the density there")
    if law.covs.ndim < 3:  # independent coordinates
        seen = Components(*_pick(law, index)) if len(index) else None
        evidence = law.means.new_zeros(len(law.means)) if seen is None else seen.log_prob(values)
        return *_pick(law, others.nonzero()[:, 0]), evidence
    factor = law.factor
    residual = values - law.means[:, index]
    root = factor.new_zeros(len(index), len(index))
    return _update(residual, root, factor[:, index], law.means[:, others], factor[:, others], "the other coordinates")


def marginal(law: Components, dims: Dims) -> tuple[Tensor, Tensor]:
    """Means and covariances of x[dims], in the order of ``dims``; scalar and diagonal forms stay.

    >>> marginal(Components(torch.zeros(1, 2), torch.tensor([[1.0, 4.0]])), [1])
    (tensor([[0.]]), tensor([[4.]]))
    """
    index = indices(dims, law.dim, device=law.means.device)
    if not len(index):
        raise ValueError("dims must name at least one coordinate")
    return _pick(law, index)


def plus(law: Components, other: Components) -> tuple[Tensor, Tensor]:
    """Means and covariances of x + z, where z has the law ``other`` (one Gaussian) and is independent of x.

    >>> plus(Components(torch.zeros(1, 2), torch.ones(1)), Components(torch.ones(1, 2), torch.tensor([[1.0, 2.0]])))
    (tensor([[1., 1.]]), tensor([[2., 3.]]))
    """
    mine, theirs = _same_form(law, other)
    return law.means + other.means.to(law.means), mine + theirs


def product(law: Components, other: Components) -> tuple[Tensor, Tensor, Tensor]:
    """Means, covariances and log-factors of the products of densities N(x; a_k, A_k) N(x; b, B).

    Each is N(a_k; b, A_k + B) N(x; c_k, C_k) with C_k = A_k (A_k + B)^-1 B and c_k = a_k + A_k (A_k + B)^-1 (b - a_k).

    >>> one = Components(torch.zeros(1, 1), torch.ones(1))
    >>> product(one, Components(torch.ones(1, 1), torch.ones(1)))[:2]
    (tensor([[0.5000]]), tensor([0.5000]))
    """
    mine, theirs = _same_form(law, other)
    mean = other.means[0].to(law.means)
    if mine.ndim == 3:  # the posterior of x given x + noise = b, with noise of covariance B
        root = other.full_factor[0].to(law.means)
        return _update(mean - law.means, root, law.full_factor, law.means, law.full_factor, "x")
    total = mine + theirs
    gain = mine / total
    log_factor = Components(law.means, total).log_prob(mean)
    widened = gain if gain.ndim == 2 else gain[:, None]
    return law.means + widened * (mean - law.means), gain * theirs, log_factor


def _update(
    residual: Tensor, root: Tensor, seen: Tensor, means: Tensor, wanted: Tensor, name: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Triangularize [[N, A L], [0, B L]] and read off the posterior; ``residual`` is y - A m - b, (K, M)."""
    count, rows = residual.shape
    top = torch.cat([root.expand(count, -1, -1), seen], -1)
    bottom = torch.cat([wanted.new_zeros(count, wanted.shape[1], rows), wanted], -1)
    triangle = torch.linalg.qr(torch.cat([top, bottom], -2).mT, mode="r").R.mT
    Y, W, Z = triangle[:, :rows, :rows], triangle[:, rows:, :rows], triangle[:, rows:, rows:]
    rank = _rank(Y, scale=_lengths(top), tolerance=10 * top.shape[-1] * torch.finfo(top.dtype).eps)
    _refuse(rank, rows, "the law of the observation is degenerate", "drop the dependent rows, or give them noise")
    rank = _rank_of_covariance(Z, scale=_lengths(wanted))
    advice = "the rest is known to within rounding: add noise, or use of=(B, c) for a quantity that stays uncertain"
    _refuse(rank, wanted.shape[1], f"the posterior of {name} is degenerate", advice)
    whitened = torch.linalg.solve_triangular(Y, residual[..., None], upper=False)
    log_evidence = -0.5 * (whitened**2).sum((1, 2)) - Y.diagonal(dim1=1, dim2=2).abs().log().sum(1)
    return means + (W @ whitened)[..., 0], _gram(Z), log_evidence - 0.5 * rows * math.log(2 * math.pi)


def _noise(noise: ArrayLike | Components, b: ArrayLike | None, rows: int, law: Components) -> tuple[Tensor, Tensor]:
    """Return b plus the mean of the noise (M,), and a root (M, M) of the covariance of the noise."""
    shift = law.means.new_zeros(rows) if b is None else vector("b", b, rows, like=law.means)
    if isinstance(noise, Components):
        if noise.dim != rows:
            raise ValueError(f"noise lives in {noise.dim} dimensions, but A has {rows} rows")
        return shift + noise.means[0].to(shift), noise.full_factor[0].to(shift)
    return shift, torch.diag(deviations("noise", noise, rows, like=shift))


def _pick(law: Components, index: Tensor) -> tuple[Tensor, Tensor]:
    covs = law.covs
    if covs.ndim > 1:
        covs = covs[:, index] if covs.ndim == 2 else covs[:, index[:, None], index]
    return law.means[:, index], covs


def _same_form(law: Components, other: Components) -> tuple[Tensor, Tensor]:
    """Return both covariances in the simpler form that holds both, with the dtype and device of ``law``."""
    if other.dim != law.dim:
        raise ValueError(f"other lives in {other.dim} dimensions, but this law in {law.dim}")
    form = max(law.covs.ndim, other.covs.ndim)
    if form == 3:
        return law.full_covs, other.full_covs.to(law.means)
    mine, theirs = law.covs, other.covs.to(law.means)
    if form == 2:
        mine, theirs = (c if c.ndim == 2 else c[:, None].expand(-1, law.dim) for c in (mine, theirs))
    return mine, theirs


def _gram(factor: Tensor) -> Tensor:
    product = factor @ factor.mT
    return 0.5 * (product + product.mT)


def _lengths(factor: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(factor, dim=-1)
    return lengths


def _rank_of_covariance(factor: Tensor, *, scale: Tensor) -> Tensor:
    """Rank of F F^T to the precision of the dtype: variances below a few eps of the others are lost."""
    return _rank(factor, scale=scale, tolerance=2 * math.sqrt(torch.finfo(factor.dtype).eps))


def _rank(factor: Tensor, *, scale: Tensor, tolerance: float) -> Tensor:
    """Ranks (K,) of F (K, P, N), independent of the units of its rows; rows that are rounding error of ``scale`` count as 0."""
    lengths = _lengths(factor)
    alive = lengths > 10 * max(factor.shape[-2:]) * torch.finfo(factor.dtype).eps * scale
    rows = torch.where(alive[..., None], factor / lengths[..., None].clamp(min=torch.finfo(factor.dtype).tiny), 0.0)
    rank: Tensor = (torch.linalg.svdvals(rows) > tolerance).sum(-1)
    return rank


def _refuse(rank: Tensor, full: int, what: str, advice: str) -> None:
    if bool((rank < full).any()):
        k = int((rank < full).nonzero()[0])
        where = "" if len(rank) == 1 else f" under component {k}"
        raise ValueError(f"{what}{where}: its covariance has rank {int(rank[k])}, not {full}; {advice}")
