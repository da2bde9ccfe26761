r"""Probabilistic principal components: a Gaussian with free variances in q directions and one noise variance in all others.

    x = B f + W z + e,      z ~ N(0, I_q),   e ~ N(0, s2 I),      so      x | f ~ N(B f, W W^T + s2 I),

with known features f: (1), so that B is the mean, or (1, c) for a condition c that shifts the mean. The fit depends on the
units of the coordinates. A law fitted to coordinates divided by their spreads is restored by :meth:`LinearLatent.scaled`; it
has a noise variance per coordinate, and s2 below stands for a diagonal matrix.

*Closed form.* B is the least-squares fit. With l_1 >= l_2 >= ... the eigenvalues of the covariance of the residuals and U its
eigenvectors, the likelihood is largest at s2 = mean of l_(q+1) ... l_D and W = U_q (l - s2)^1/2.

*EM.* Given x, the latent is Gaussian, z | x ~ N(P^-1 W_o^T s2^-1 (x - B f)_o, P^-1), P = W_o^T s2^-1 W_o + I, where o are the
observed coordinates; coordinates are independent given z, so gaps (NaN) drop out. The M-step regresses each coordinate, over
the rows where it is observed, on f and the expected z. If the latents then have another law than N(0, I), say N(G f, T T^T),
B + W G and W T describe the same rows with standard latents (parameter-expanded EM): the bound still never falls, and far
fewer iterations are needed.

The density needs only the q x q matrix P = W_o^T s2^-1 W_o + I, the inverse of the latent's covariance: the log-determinant of
W_o W_o^T + s2 is that of s2 plus log det P, and with z the mean above the squared Mahalanobis distance is
|s2^-1/2 (x_o - B_o f - W_o z)|^2 + |z|^2.

References
----------
Michael E. Tipping, Christopher M. Bishop. Probabilistic principal component analysis. JRSS B, 1999.
Chuanhai Liu, Donald B. Rubin, Ying Nian Wu. Parameter expansion to accelerate EM: the PX-EM algorithm. Biometrika, 1998.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.estimation.estimate import EMResult, OnIteration, expectation_maximization

__all__ = ["LinearLatent", "best_latent_dim", "fit_linear_latent", "fit_linear_latent_by_em", "random_start"]

_LEAST_SHARE = 1e-12  # least noise variance, as a share of the largest variance
_MOST_TRIED = 64
_NUMBERS = 1 << 21  # limit of the largest array of one chunk of rows


@dataclass(frozen=True, eq=False)
class LinearLatent:
    """The law of x = B f + W z + e.

    Attributes
    ----------
    coefficients : Tensor (F, D)
        B^T; its first row belongs to the feature 1.
    loadings : Tensor (D, q)
        W.
    noise_variance : Tensor () or (D,)
        s2.

    >>> law = LinearLatent(torch.zeros(1, 2).double(), torch.tensor([[1.0], [1.0]]).double(), torch.tensor(0.5).double())
    >>> law.covariance
    tensor([[1.5000, 1.0000],
            [1.0000, 1.5000]], dtype=torch.float64)
    >>> law.encode(torch.tensor([[1.0, 1.0], [1.0, math.nan]], dtype=torch.float64))
    tensor([[0.8000],
            [0.6667]], dtype=torch.float64)
    """

    coefficients: Tensor
    loadings: Tensor
    noise_variance: Tensor

    @property
    def covariance(self) -> Tensor:
        """W W^T + s2 I, (D, D)."""
        return self.loadings @ self.loadings.mT + self.noise_variances.diag()

    @property
    def noise_variances(self) -> Tensor:
        """The noise variance of each coordinate, (D,)."""
        return self.noise_variance.expand(len(self.loadings))

    @property
    def posterior_covariance(self) -> Tensor:
        """P^-1, (q, q): the covariance of z given a row without gaps."""
        W = self.loadings
        return torch.as_tensor(torch.linalg.inv(W.mT @ (W / self.noise_variances[:, None]) + torch.eye(W.shape[1]).to(W)))

    def encode(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """Return E[z | x, f], (N, q), of rows (N, D) with NaN in gaps; features are (N, F), by default 1."""
        return torch.cat([z for _, _, z, _, _ in self._posteriors(x, _features(features, x))])

    def decode(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Return B f + W z, (N, D), the mean of the rows with the latents z (N, q)."""
        return _features(features, z) @ self.coefficients + z @ self.loadings.mT

    def log_prob(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        """Log-density in nats (N,) of the observed part of rows (N, D) with NaN in gaps."""
        f = _features(features, x)
        return torch.cat([self._density(x[rows], f[rows], z, factor) for rows, _, z, factor, _ in self._posteriors(x, f)])

    def unbiased(self, rows: int, features: Tensor | None = None) -> "LinearLatent":
        """Return this law, fitted to ``rows`` rows, with its covariance multiplied by n / (n - rank of the features).

        Residuals are smaller than the noise because the mean was fitted to them: with f = 1 this divides by n - 1.
        """
        rank = 1 if features is None else int(torch.linalg.matrix_rank(features))
        ratio = rows / max(rows - rank, 1)
        return LinearLatent(self.coefficients, self.loadings * math.sqrt(ratio), self.noise_variance * ratio)

    def scaled(self, scale: Tensor) -> "LinearLatent":
        """Return the law of the coordinates times ``scale`` (D,)."""
        return LinearLatent(self.coefficients * scale, self.loadings * scale[:, None], self.noise_variance * scale.square())

    def _density(self, x: Tensor, features: Tensor, z: Tensor, factor: Tensor) -> Tensor:
        """Log-density of rows with the expected latents z, by the Cholesky factor of P."""
        seen, s2 = ~x.isnan(), self.noise_variances
        residual = torch.where(seen, x - self.decode(z, features), 0.0)
        square = (residual**2 / s2).sum(1) + (z**2).sum(1)
        log_det = seen.to(x) @ (2 * math.pi * s2).log() + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * (square + log_det)

    def _posteriors(self, x: Tensor, features: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
        """Yield rows, the mask of observed elements, E[z | x] (n, q), the Cholesky factor of P and P^-1.

        The last two are (n, q, q), or (1, q, q) for all rows if there are no gaps.
        """
        W, q = self.loadings, self.loadings.shape[1]
        weighted = W / self.noise_variances[:, None]
        whole = not bool(x.isnan().any())
        squares = (weighted[:, :, None] * W[:, None, :]).reshape(len(W), -1)
        size = max(1, _NUMBERS // (x.shape[1] if whole else max(q * q, x.shape[1])))
        for begin in range(0, len(x), size):
            rows = slice(begin, begin + size)
            seen = ~x[rows].isnan()
            delta = torch.where(seen, x[rows] - features[rows] @ self.coefficients, 0.0)
            inner = ((seen[:1] if whole else seen).to(W) @ squares).reshape(-1, q, q)
            factor = torch.linalg.cholesky(inner + torch.eye(q).to(W))
            inverse = torch.cholesky_inverse(factor)
            pulled = delta @ weighted
            z = pulled @ inverse[0] if whole else torch.einsum("nij,nj->ni", inverse, pulled)
            yield rows, seen, z, factor, inverse


def fit_linear_latent(x: Tensor, dim: int, features: Tensor | None = None) -> LinearLatent:
    """Return the law of largest likelihood, in closed form.

    Parameters
    ----------
    x : Tensor (N, D)
        float64, without gaps.
    dim : int
        q, from 1 to D. At q = D the law is that of D - 1, a Gaussian with free covariance, and the last latent has no effect.
    features : Tensor (N, F), optional

    >>> x = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    >>> law = fit_linear_latent(x, 1)
    >>> round(law.noise_variance.item(), 6), round(law.covariance[0, 1].item(), 6)
    (1.0, 1.5)
    """
    coefficients, values, vectors = _spectrum(x, features)
    least = _LEAST_SHARE * values[0]
    s2 = values[dim:].mean() if dim < len(values) else values[-1]
    s2 = s2.clamp(min=least)
    loadings = vectors[:, :dim] * (values[:dim] - s2).clamp(min=0.0).sqrt()
    return LinearLatent(coefficients, loadings * _signs(loadings), s2)


def best_latent_dim(x: Tensor, features: Tensor | None = None) -> int:
    """Return the q with the least Bayesian information criterion, -2 log-likelihood + (free parameters) log N.

    W has q D - q (q - 1) / 2 free parameters, because it is known up to a rotation. With gaps the spectrum is that of a law
    with at most 64 latents, fitted by a few iterations of EM.

    >>> z = noise.normal((3,), seed=0, purpose="doc", rows=200, dtype=torch.float64)
    >>> best_latent_dim(z @ torch.tensor([[3.0, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 0]]).double() + 0.1 *
    ...     noise.normal((5,), seed=0, purpose="noise", rows=200, dtype=torch.float64))
    2
    """
    rows, size = x.shape
    if bool(x.isnan().any()):
        start = random_start(x, max(1, min(size - 1, rows - 2, _MOST_TRIED)), features, seed=0)
        law = fit_linear_latent_by_em(x, start, features, tolerance=1e-3, max_iterations=100).parameters
        values = torch.linalg.eigvalsh(law.covariance).flip(0)
    else:
        values = _spectrum(x, features)[1]
    values = values.clamp(min=_LEAST_SHARE * values[0])
    q = torch.arange(1, max(2, min(size, rows - 1)), dtype=x.dtype)
    log_signal = values.log().cumsum(0)[: len(q)]
    rest = (values.sum() - values.cumsum(0)[: len(q)]).clamp(min=_LEAST_SHARE * values[0])
    log_likelihood = -0.5 * rows * (log_signal + (size - q) * torch.where(size > q, rest / (size - q).clamp(min=1), 1.0).log())
    return int((-2 * log_likelihood + (q * size - q * (q - 1) / 2) * math.log(rows)).argmin()) + 1


def random_start(x: Tensor, dim: int, features: Tensor | None = None, *, seed: int) -> LinearLatent:
    """Return a start for EM: the column means, random loadings, and half of the variance each to loadings and noise.

    >>> random_start(torch.eye(3).double(), 1, seed=0).loadings.shape
    torch.Size([3, 1])
    """
    variance = torch.where(x.isnan(), x.nanmean(0), x).var(0, correction=0).mean()
    coefficients = x.new_zeros(1 if features is None else features.shape[1], x.shape[1])
    coefficients[0] = x.nanmean(0)
    loadings = noise.normal((dim,), seed=seed, purpose="loadings", rows=x.shape[1], dtype=x.dtype)
    return LinearLatent(coefficients, loadings * (0.5 * variance / dim).sqrt(), 0.5 * variance)


def fit_linear_latent_by_em(
    x: Tensor,
    start: LinearLatent,
    features: Tensor | None = None,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    on_iteration: OnIteration | None = None,
) -> EMResult[LinearLatent]:
    """Return the law of largest likelihood by EM, from rows x (N, D) that may have gaps (NaN).

    Parameters
    ----------
    x : Tensor (N, D)
        float64; every column is observed somewhere.
    start : LinearLatent
        Sets q.
    features : Tensor (N, F), optional
    tolerance, max_iterations, on_iteration
        As in :func:`~pushforward.probability.estimation.estimate.expectation_maximization`; the bound is the mean
        log-likelihood of a row.

    >>> x = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, math.nan]], dtype=torch.float64)
    >>> result = fit_linear_latent_by_em(x, random_start(x, 1, seed=0))
    >>> result.converged, result.bounds[-1] > result.bounds[0]
    (True, True)
    """
    f = _features(features, x)
    center = x.nanmean(0)
    seen, centered = ~x.isnan(), x - center
    least = _LEAST_SHARE * centered.nan_to_num().square().mean(0).sum()

    def e_step(law: LinearLatent) -> tuple[Tensor, Tensor, Tensor, float]:
        latent, whole, total = [], torch.zeros_like(law.loadings.mT @ law.loadings), 0.0
        spread = whole.repeat(x.shape[1], 1, 1)
        for rows, part, z, factor, cov in law._posteriors(centered, f):
            latent.append(z)
            total += float(law._density(centered[rows], f[rows], z, factor).sum())
            share = part.sum(0)[:, None, None] * cov if len(cov) == 1 else _weighted(part, cov)
            spread += share
            whole += cov.sum(0) * (len(part) / len(cov))
        return torch.cat(latent), spread, whole / len(x), total / len(x)

    def m_step(law: LinearLatent, posterior: tuple[Tensor, Tensor, Tensor, float]) -> LinearLatent:
        z, spread, whole, _ = posterior
        h, F = torch.cat([f, z], 1), f.shape[1]
        inner = _second_moments(h, seen)
        inner[:, F:, F:] += spread
        target = torch.where(seen, centered, 0.0).mT @ h
        weights = (torch.linalg.pinv(inner, hermitian=True) @ target[..., None])[..., 0]
        residual = torch.where(seen, centered - h @ weights.mT, 0.0)
        W = weights[:, F:]
        explained = torch.einsum("di,dij,dj->", W, spread, W)
        s2 = ((residual**2).sum() + explained) / seen.sum()
        shift = torch.linalg.lstsq(f, z, driver="gelsd").solution
        residual_z = z - f @ shift
        root = torch.linalg.cholesky(residual_z.mT @ residual_z / len(x) + whole)
        return LinearLatent(weights[:, :F].mT + shift @ W.mT, W @ root, s2.clamp(min=least))

    begin = LinearLatent(_shifted(start.coefficients, -center), start.loadings, start.noise_variance.clamp(min=least))
    result = expectation_maximization(
        begin,
        e_step=e_step,
        m_step=m_step,
        bound=lambda law, posterior: posterior[3],
        tolerance=tolerance,
        max_iterations=max_iterations,
        rounding=1e-8,
        on_iteration=on_iteration,
    )
    law = result.parameters
    rotated = LinearLatent(_shifted(law.coefficients, center), _rotated(law.loadings), law.noise_variance)
    return EMResult(rotated, result.bounds, result.converged)


def _spectrum(x: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (F, D) of least squares, and eigenvalues (D,) and eigenvectors (D, D) of the residuals' covariance."""
    f = _features(features, x)
    coefficients = torch.linalg.lstsq(f, x, driver="gelsd").solution
    # Singular values of the residuals, reduced by QR, keep the digits that the covariance matrix loses.
    triangle = torch.linalg.qr(x - f @ coefficients, mode="r").R
    _, values, vectors = torch.linalg.svd(triangle, full_matrices=True)
    squares = x.new_zeros(x.shape[1])
    squares[: len(values)] = values**2 / len(x)
    return coefficients, squares, vectors.mT


def _rotated(loadings: Tensor) -> Tensor:
    """Return W R with orthogonal columns, the longest first: the same law in the axes of the closed form."""
    vectors, values, _ = torch.linalg.svd(loadings, full_matrices=False)
    rotated = vectors * values
    missing = loadings.shape[1] - rotated.shape[1]
    rotated = torch.nn.functional.pad(rotated, (0, missing)) if missing > 0 else rotated
    return rotated * _signs(rotated)


def _signs(loadings: Tensor) -> Tensor:
    """Signs that make the largest entry of each column positive."""
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -1.0, 1.0)


def _features(features: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(len(like), 1) if features is None else features.to(like)


def _shifted(coefficients: Tensor, by: Tensor) -> Tensor:
    return torch.cat([coefficients[:1] + by, coefficients[1:]])


def _second_moments(h: Tensor, seen: Tensor) -> Tensor:
    """Sum of h h^T over the rows where coordinate d is observed, (D, P, P); without gaps it is the same for all d."""
    dim, size = seen.shape[1], h.shape[1]
    if bool(seen.all()):
        return (h.mT @ h).repeat(dim, 1, 1)
    total = h.new_zeros(dim, size, size)
    step = max(1, _NUMBERS // size**2)
    for begin in range(0, len(h), step):
        part = h[begin : begin + step]
        total += _weighted(seen[begin : begin + step], part[:, :, None] * part[:, None, :])
    return total


def _weighted(seen: Tensor, matrices: Tensor) -> Tensor:
    """Sum over rows of seen_nd A_n, (D, q, q)."""
    flat = seen.to(matrices).mT @ matrices.flatten(1)
    return flat.reshape(seen.shape[1], *matrices.shape[1:])
