r"""A row of K Gaussians on R^D: the formulas that :class:`Gaussian` and :class:`GaussianMixture` share.

If x has the law N(m, S) and x_t = alpha x + sigma eps with eps standard normal and independent of x, then x_t has the
law N(alpha m, alpha^2 S + sigma^2 I). Each S is diagonalized once, S = Q diag(l) Q^T, so that a noise level costs only
elementwise operations, and alpha and sigma may differ from row to row.

References
----------
Christopher M. Bishop. Pattern recognition and machine learning, section 2.3. Springer, 2006.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.arrays import check_finite

__all__ = ["Components"]


@dataclass(frozen=True, eq=False)
class Components:
    """The Gaussians N(m_k, S_k), k = 1 .. K.

    Parameters
    ----------
    means : Tensor (K, D)
    covs : Tensor (K,), (K, D) or (K, D, D)
        Variance of every coordinate, variances by coordinate, or full covariance matrices.

    Raises
    ------
    ValueError
        If a number is not finite or a covariance is not symmetric and positive definite.

    >>> Components(torch.zeros(2, 3), torch.tensor([1.0, 4.0])).factor
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """

    means: Tensor
    covs: Tensor

    def __post_init__(self) -> None:
        one = len(self.means) == 1
        check_finite("the mean" if one else "means", self.means[0] if one else self.means)
        check_finite("the covariance" if one else "covs", self.covs[0] if one else self.covs)
        if self.covs.ndim == 3:
            gap = (self.covs - self.covs.mT).abs().amax((1, 2))
            bad = gap > 1e-5 * self.covs.abs().amax((1, 2))
            if bool(bad.any()):
                k = int(bad.nonzero()[0])
                raise ValueError(f"{self._name(k)} is not symmetric: entries differ by up to {gap[k].item():g}")
            failed = self._cholesky[1] != 0
        else:
            failed = self.covs.reshape(len(self.means), -1).amin(1) <= 0
        if bool(failed.any()):
            k = int(failed.nonzero()[0])
            values = torch.linalg.eigvalsh(self.covs[k]) if self.covs.ndim == 3 else self.covs[k]
            raise ValueError(
                f"{self._name(k)} is not positive definite: its smallest eigenvalue is {values.min().item():g}, "
                f"its largest {values.max().item():g}"
            )

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return self.means.shape[1]

    @functools.cached_property
    def factor(self) -> Tensor:
        """L with S = L L^T: standard deviations (K, D), or lower triangles (K, D, D) of full covariances."""
        if self.covs.ndim == 3:
            return self._cholesky[0]
        return self.covs.sqrt() if self.covs.ndim == 2 else self.covs.sqrt()[:, None].expand(-1, self.dim)

    @property
    def full_factor(self) -> Tensor:
        """L as matrices (K, D, D), whatever the form of the covariances."""
        return self.factor if self.covs.ndim == 3 else torch.diag_embed(self.factor)

    @property
    def full_covs(self) -> Tensor:
        """The covariances as matrices (K, D, D)."""
        return self.covs if self.covs.ndim == 3 else torch.diag_embed(self.factor**2)

    @functools.cached_property
    def log_volumes(self) -> Tensor:
        """Half the log-determinants of the covariances, (K,)."""
        diagonal = self.factor if self.factor.ndim == 2 else self.factor.diagonal(dim1=1, dim2=2)
        return diagonal.log().sum(1)

    @functools.cached_property
    def spectrum(self) -> tuple[Tensor, Tensor | None]:
        """Eigenvalues (K, D) and eigenvectors (K, D, D) in columns, or None where the eigenvectors are the unit axes.

        The eigenvalues are the squared singular values of L: they are positive even where rounding would make eigenvalues
        of S itself negative.
        """
        if self.covs.ndim < 3:
            return self.factor**2, None
        vectors, values, _ = torch.linalg.svd(self.factor)
        return values**2, vectors

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-densities in nats: x (*, D) to (*, K)."""
        return self._whitened(x)[0]

    def score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities (*, K) and their gradients in x, -S_k^-1 (x - m_k), (*, K, D)."""
        log_prob, white = self._whitened(x)
        if self.factor.ndim == 2:
            return log_prob, -(white * self._inverse_factor)
        return log_prob, -torch.einsum("...ki,kij->...kj", white, self._inverse_factor)

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """Log-densities of x_t = alpha x + sigma eps (*, K), and E[x | x_t] under each component (*, K, D).

        The latter is m_k + alpha S_k (alpha^2 S_k + sigma^2 I)^-1 (x_t - alpha m_k). ``x_t`` is (*, D), ``alpha`` and
        ``sigma`` are scalars or (*,).
        """
        self._check_columns(x_t)
        alpha, sigma = _scale_column(alpha, x_t, self.means), _scale_column(sigma, x_t, self.means)
        values, axes = self.spectrum
        delta = x_t.unsqueeze(-2) - alpha * self.means
        if axes is not None:
            delta = torch.einsum("...kj,kji->...ki", delta, axes)
        variances = alpha**2 * values + sigma**2
        log_prob = -0.5 * (delta**2 / variances + variances.log()).sum(-1) - 0.5 * self.dim * math.log(2 * math.pi)
        shift = alpha * values / variances * delta
        if axes is not None:
            shift = torch.einsum("...ki,kji->...kj", shift, axes)
        return log_prob, self.means + shift

    def noised(self, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """Means and covariances of x_t = alpha x + sigma eps."""
        extra = sigma**2 * torch.eye(self.dim).to(self.covs) if self.covs.ndim == 3 else sigma**2
        return alpha * self.means, alpha**2 * self.covs + extra

    def draw(self, component: Tensor, z: Tensor) -> Tensor:
        """Map standard normal rows z (n, D) to the laws of the components (n,) of their rows: m_k + L_k z."""
        if self.factor.ndim == 2:
            return self.means[component] + self.factor[component] * z
        x = torch.empty_like(z)
        for k, (mean, factor) in enumerate(zip(self.means, self.factor, strict=True)):
            rows = component == k
            x[rows] = mean + z[rows] @ factor.mT
        return x

    @functools.cached_property
    def _cholesky(self) -> tuple[Tensor, Tensor]:
        """Lower triangles (K, D, D), and (K,) integers that are 0 where the factorization succeeded."""
        factor, info = torch.linalg.cholesky_ex(self.covs)
        return factor, info

    @functools.cached_property
    def _inverse_factor(self) -> Tensor:
        """L^-1 as (K, D) or (K, D, D)."""
        if self.factor.ndim == 2:
            return self.factor.reciprocal().contiguous()
        unit = torch.eye(self.dim).to(self.means).expand_as(self.factor)
        inverse: Tensor = torch.linalg.solve_triangular(self.factor, unit, upper=False)
        return inverse

    def _whitened(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities (*, K), and L_k^-1 (x - m_k), (*, K, D).

        L is used rather than the spectrum, because L keeps its digits when coordinates have very different units.
        """
        self._check_columns(x)
        delta = x.unsqueeze(-2) - self.means
        inverse = self._inverse_factor
        white = delta * inverse if inverse.ndim == 2 else torch.einsum("...kj,kij->...ki", delta, inverse)
        return -0.5 * (white**2).sum(-1) - self.log_volumes - 0.5 * self.dim * math.log(2 * math.pi), white

    def _name(self, k: int) -> str:
        return "the covariance" if len(self.means) == 1 else f"covariance {k}"

    def _check_columns(self, x: Tensor) -> None:
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"x has {x.shape[-1] if x.ndim else 0} columns, but the law lives in {self.dim} dimensions")


def _scale_column(scale: Tensor | float, x: Tensor, like: Tensor) -> Tensor:
    """Give a scalar or (*,) scale two more axes, to broadcast against (*, K, D)."""
    scale = torch.as_tensor(scale, dtype=like.dtype, device=like.device)
    if scale.ndim and scale.shape != x.shape[:-1]:
        raise ValueError(f"alpha and sigma must be scalars or have the shape {tuple(x.shape[:-1])}, not {tuple(scale.shape)}")
    return scale if scale.ndim == 0 else scale[..., None, None]
