r"""Mixtures of Gaussians and everything a diffusion does to them, in closed form.

If x has the density sum_k w_k N(x; m_k, S_k) and x_t = alpha x + sigma eps with eps standard normal and independent of
x, then x_t is a mixture with the same weights, means alpha m_k and covariances alpha^2 S_k + sigma^2 I, and

    E[x | x_t] = sum_k r_k(x_t) (m_k + alpha S_k (alpha^2 S_k + sigma^2 I)^-1 (x_t - alpha m_k)),

where r_k is the posterior probability of component k. Each S_k is diagonalized once, S_k = Q_k diag(l_k) Q_k^T, so that
every noise level costs only elementwise work, and alpha and sigma may differ from row to row.

References
----------
Christopher M. Bishop. Pattern recognition and machine learning, sections 2.3 and 9.2. Springer, 2006.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from pushforward.probability import noise

__all__ = ["ArrayLike", "GaussianMixture", "as_float_tensor"]

ArrayLike = Tensor | NDArray | Sequence | float  # type: ignore[type-arg]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """The law sum_k w_k N(m_k, S_k) on R^D.

    Parameters
    ----------
    weights : array (K,)
        Positive, with sum one.
    means : array (K, D)
    covs : array (K,), (K, D) or (K, D, D)
        Variance of every coordinate, variances by coordinate, or full covariance matrices, by component.

    Lists become float64 tensors; tensors keep their dtype and device.

    Raises
    ------
    ValueError
        If the shapes do not fit, the weights do not sum to one, or a covariance is not positive definite.

    >>> law = GaussianMixture([0.3, 0.7], [[0.0, 0.0], [4.0, 0.0]], covs=[1.0, 0.5])
    >>> law.sample(3, seed=0).shape
    torch.Size([3, 2])
    >>> law.noised(0.6, 0.8).means[1].tolist()
    [2.4, 0.0]
    """

    weights: Tensor
    means: Tensor
    covs: Tensor

    def __init__(self, weights: ArrayLike, means: ArrayLike, covs: ArrayLike) -> None:
        means = as_float_tensor(means)
        for name, value in (("means", means), ("weights", as_float_tensor(weights)), ("covs", as_float_tensor(covs))):
            object.__setattr__(self, name, value.to(means))
        self._check()

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return self.means.shape[1]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: x (*, D) to (*,)."""
        return self._joint_log_prob(x, 1.0, 0.0)[0].logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density: x (*, D) to (*, D)."""
        joint, delta, variances = self._joint_log_prob(x, 1.0, 0.0)
        return -self._average(joint.softmax(-1), self._from_axes(delta / variances))

    def responsibilities(self, x: Tensor) -> Tensor:
        """Posterior probability of each component: x (*, D) to (*, K)."""
        return self._joint_log_prob(x, 1.0, 0.0)[0].softmax(-1)

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t = alpha x + sigma eps.

        ``x_t`` is (*, D); ``alpha`` and ``sigma`` are scalars or have the shape (*,). At alpha = 0 this is the mean of
        the law; at sigma = 0 (and alpha > 0) it is x_t / alpha.
        """
        joint, delta, variances = self._joint_log_prob(x_t, alpha, sigma)
        alpha = _column(alpha, x_t, self.means)
        gain = alpha * self._spectrum[0] / variances
        return self._average(joint.softmax(-1), self.means + self._from_axes(gain * delta))

    def noised(self, alpha: float, sigma: float) -> "GaussianMixture":
        """Return the law of x_t = alpha x + sigma eps."""
        extra = sigma**2 * torch.eye(self.dim).to(self.covs) if self.covs.ndim == 3 else sigma**2
        return GaussianMixture(self.weights, alpha * self.means, alpha**2 * self.covs + extra)

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((1,), seed=seed, purpose="mixture component", rows=rows, dtype=torch.float64)[:, 0]
        component = torch.searchsorted(self.weights.double().cumsum(0).cpu(), u, right=True).clamp_(max=len(self.weights) - 1)
        component = component.to(self.means.device)
        z = noise.normal((self.dim,), seed=seed, purpose="mixture", rows=rows, dtype=self.means.dtype, device=self.means.device)
        variances, axes = self._spectrum
        z = z * variances[component].sqrt()
        if axes is not None:
            z = torch.einsum("nij,nj->ni", axes[component], z)
        return self.means[component] + z

    @functools.cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor | None]:
        """Eigenvalues (K, D) and eigenvectors (K, D, D) of the covariances; None where these are the unit axes."""
        if self.covs.ndim == 1:
            return self.covs[:, None].expand(-1, self.dim), None
        if self.covs.ndim == 2:
            return self.covs, None
        values, vectors = torch.linalg.eigh(self.covs)
        return values, vectors

    def _joint_log_prob(self, x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """log(w_k p_k(x)) (*, K) at one noise level, x - alpha m_k along the axes and the variances there, (*, K, D)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"x has {x.shape[-1]} columns, but the law lives in {self.dim} dimensions")
        alpha, sigma = _column(alpha, x, self.means), _column(sigma, x, self.means)
        values, axes = self._spectrum
        delta = x.unsqueeze(-2) - alpha * self.means
        if axes is not None:
            delta = torch.einsum("...kj,kji->...ki", delta, axes)
        variances = alpha**2 * values + sigma**2
        log_prob = -0.5 * (delta**2 / variances + variances.log()).sum(-1) - 0.5 * self.dim * math.log(2 * math.pi)
        return log_prob + self.weights.log(), delta, variances

    def _from_axes(self, delta: Tensor) -> Tensor:
        axes = self._spectrum[1]
        return delta if axes is None else torch.einsum("...ki,kji->...kj", delta, axes)

    @staticmethod
    def _average(probabilities: Tensor, values: Tensor) -> Tensor:
        return torch.einsum("...k,...kd->...d", probabilities, values)

    def _check(self) -> None:
        if self.means.ndim != 2:
            raise ValueError(f"means must have the shape (K, D), but has {tuple(self.means.shape)}")
        count, dim = self.means.shape
        if self.weights.shape != (count,):
            raise ValueError(
                f"weights must have the shape ({count},) to go with {count} means, but has {tuple(self.weights.shape)}"
            )
        if self.covs.shape not in ((count,), (count, dim), (count, dim, dim)):
            raise ValueError(
                f"covs must have the shape ({count},), ({count}, {dim}) or ({count}, {dim}, {dim}), "
                f"but has {tuple(self.covs.shape)}"
            )
        if not bool((self.weights > 0).all()):
            bad = int((~(self.weights > 0)).nonzero()[0])
            raise ValueError(f"every weight must be positive, but weight {bad} is {self.weights[bad].item():g}")
        total = self.weights.sum().item()
        if abs(total - 1) > 1e-5:
            raise ValueError(f"the weights must sum to 1, but they sum to {total:g}; divide them by their sum")
        if self.covs.ndim == 3:
            gap = (self.covs - self.covs.mT).abs().amax((1, 2))
            scale = self.covs.abs().amax((1, 2))
            bad_rows = (gap > 1e-5 * scale).nonzero()
            if len(bad_rows):
                bad = int(bad_rows[0])
                raise ValueError(f"covariance {bad} is not symmetric: entries differ by up to {gap[bad].item():g}")
        smallest = self._spectrum[0].amin(1)
        if not bool((smallest > 0).all()):
            bad = int((~(smallest > 0)).nonzero()[0])
            raise ValueError(f"covariance {bad} is not positive definite: its smallest eigenvalue is {smallest[bad].item():g}")


def as_float_tensor(value: ArrayLike) -> Tensor:
    """Return ``value`` as a floating-point tensor: floating tensors and arrays keep their dtype, the rest is float64."""
    tensor = torch.as_tensor(value) if hasattr(value, "dtype") else torch.as_tensor(value, dtype=torch.float64)
    return tensor if tensor.is_floating_point() else tensor.double()


def _column(scale: Tensor | float, x: Tensor, like: Tensor) -> Tensor:
    """Give a scalar or (*,) scale two more axes, to go with (*, K, D)."""
    scale = torch.as_tensor(scale, dtype=like.dtype, device=like.device)
    if scale.ndim and scale.shape != x.shape[:-1]:
        raise ValueError(f"alpha and sigma must be scalars or have the shape {tuple(x.shape[:-1])}, not {tuple(scale.shape)}")
    return scale if scale.ndim == 0 else scale[..., None, None]
