"""The Gaussian law on R^D: exact density, score and denoiser at every noise level."""

import functools
from dataclasses import dataclass

from torch import Tensor

from pushforward.probability.mixture import ArrayLike, GaussianMixture, as_float_tensor

__all__ = ["Gaussian"]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The law N(mean, cov).

    Parameters
    ----------
    mean : array (D,)
    cov : array (), (D,) or (D, D)
        One variance for every coordinate, variances by coordinate, or the full covariance matrix.

    Lists become float64 tensors; tensors keep their dtype and device.

    Raises
    ------
    ValueError
        If the shapes do not fit or the covariance is not symmetric and positive definite.

    >>> law = Gaussian([1.0, 0.0], cov=[4.0, 1.0])
    >>> law.denoised(law.mean * 0.5, alpha=0.5, sigma=1.0).tolist()
    [1.0, 0.0]
    """

    mean: Tensor
    cov: Tensor

    def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None:
        mean = as_float_tensor(mean)
        if mean.ndim != 1:
            raise ValueError(f"mean must have the shape (D,), but has {tuple(mean.shape)}")
        cov = as_float_tensor(cov).to(mean)
        dim = len(mean)
        if cov.shape not in ((), (dim,), (dim, dim)):
            raise ValueError(f"cov must have the shape (), ({dim},) or ({dim}, {dim}), but has {tuple(cov.shape)}")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", cov)
        self._mixture  # noqa: B018  (checks the covariance now rather than at first use)

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return len(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: x (*, D) to (*,)."""
        return self._mixture.log_prob(x)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density, -cov^-1 (x - mean): x (*, D) to (*, D)."""
        return self._mixture.score(x)

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t = alpha x + sigma eps; scales as in :meth:`GaussianMixture.denoised`."""
        return self._mixture.denoised(x_t, alpha, sigma)

    def noised(self, alpha: float, sigma: float) -> "Gaussian":
        """Return the law of x_t = alpha x + sigma eps."""
        noised = self._mixture.noised(alpha, sigma)
        return Gaussian(noised.means[0], noised.covs[0])

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        return self._mixture.sample(n, seed=seed, first=first)

    @functools.cached_property
    def _mixture(self) -> GaussianMixture:
        """The same law as a mixture of one component, which holds the formulas."""
        return GaussianMixture(self.mean.new_ones(1), self.mean[None], self.cov[None])
