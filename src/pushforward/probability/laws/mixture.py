r"""Mixtures of Gaussians: their laws at every noise level and their posteriors given linear observations.

If x has the density sum_k w_k N(x; m_k, S_k) and x_t = alpha x + sigma eps with eps standard normal and independent of
x, then x_t is a mixture with the same weights, means alpha m_k and covariances alpha^2 S_k + sigma^2 I, and

    E[x | x_t] = sum_k r_k(x_t) (m_k + alpha S_k (alpha^2 S_k + sigma^2 I)^-1 (x_t - alpha m_k)),

where r_k is the posterior probability of component k. Given y = A x + b + noise, the law of x is again a mixture: each
component is updated separately, and its weight is multiplied by its evidence N(y; A m_k + b, A S_k A^T + R).

References
----------
Christopher M. Bishop. Pattern recognition and machine learning, sections 2.3 and 9.2. Springer, 2006.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, Dims, as_float_tensor
from pushforward.probability.expectations import Expectation, over_draws, over_normals
from pushforward.probability.laws import linear_gaussian
from pushforward.probability.laws.components import Components
from pushforward.probability.laws.gaussian import Gaussian, components_of, noise_of
from pushforward.probability.laws.linear_gaussian import Of

__all__ = ["GaussianMixture"]


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

    Lists become float64 tensors; tensors keep their dtype and device. Arguments of methods are converted to the dtype and
    device of the law; the forms of covariances are kept as by :class:`Gaussian`. Entropy and divergences have no closed form
    and are absent.

    Raises
    ------
    ValueError
        If the shapes do not fit, the weights do not sum to one, or a covariance is not positive definite.

    >>> law = GaussianMixture([0.3, 0.7], [[0.0, 0.0], [4.0, 0.0]], covs=[1.0, 0.5])
    >>> law.sample(3, seed=0).shape
    torch.Size([3, 2])
    >>> law.noised(0.6, 0.8).means[1].tolist()
    [2.4, 0.0]
    >>> law.observe(A=[[1.0, 1.0]], y=[0.0], noise=0.1).weights.round(decimals=3).tolist()
    [0.999, 0.001]
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

    @property
    def mean(self) -> Tensor:
        """E[x], (D,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Covariance of x (D, D): the mean of the covariances plus the covariance of the means."""
        delta = self.means - self.mean
        within = torch.einsum("k,kij->ij", self.weights, self.components.full_covs)
        return within + torch.einsum("k,ki,kj->ij", self.weights, delta, delta)

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (D,): the diagonal of the covariance; its root is the standard deviation."""
        return self.covariance.diagonal()

    def expectation(self, f: Callable[[Tensor], Tensor], *, draws: int = 100_000, seed: int = 0) -> Expectation:
        """Return E[f(x)] with its error: by a refined grid in up to three dimensions, above by the mean over ``draws``.

        ``f`` maps points (N, D) to (N, *S).
        """
        if self.dim > 3:
            return over_draws(f, self, draws, seed)
        return over_normals(f, self.weights, self.means, self.components.full_factor)

    @functools.cached_property
    def components(self) -> Components:
        """The Gaussians without their weights, which hold the formulas."""
        return Components(self.means, self.covs)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: x (*, D) to (*,)."""
        return self._weighted(self.components.log_prob(x)).logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density: x (*, D) to (*, D)."""
        log_prob, scores = self.components.score(x)
        return self._average(log_prob, scores)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Posterior probability of each component: x (*, D) to (*, K)."""
        return self._weighted(self.components.log_prob(x)).softmax(-1)

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t = alpha x + sigma eps.

        ``x_t`` is (*, D); ``alpha`` and ``sigma`` are scalars or have the shape (*,). At alpha = 0 this is the mean of
        the law; at sigma = 0 (and alpha > 0) it is x_t / alpha.
        """
        log_prob, denoised = self.components.denoised(x_t, alpha, sigma)
        return self._average(log_prob, denoised)

    def noised(self, alpha: float, sigma: float) -> "GaussianMixture":
        """Return the law of x_t = alpha x + sigma eps."""
        return GaussianMixture(self.weights, *self.components.noised(alpha, sigma))

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((1,), seed=seed, purpose="mixture component", rows=rows, dtype=torch.float64)[:, 0]
        component = torch.searchsorted(self.weights.double().cumsum(0).cpu(), u, right=True).clamp_(max=len(self.weights) - 1)
        z = noise.normal((self.dim,), seed=seed, purpose="mixture", rows=rows, dtype=self.means.dtype, device=self.means.device)
        return self.components.draw(component.to(self.means.device), z)

    def affine(self, A: ArrayLike, b: ArrayLike | None = None) -> "GaussianMixture":
        """Return the law of A x + b, with A (M, D) and b (M,); raise if it is degenerate, as in :class:`Gaussian`."""
        return GaussianMixture(self.weights, *linear_gaussian.image(self.components, A, b, None))

    def plus(self, other: Gaussian) -> "GaussianMixture":
        """Return the law of x + z for Gaussian z, *independent* of x."""
        return GaussianMixture(self.weights, *linear_gaussian.plus(self.components, components_of(other)))

    def marginal(self, dims: Dims) -> "GaussianMixture":
        """Return the law of the coordinates ``dims``, in that order."""
        return GaussianMixture(self.weights, *linear_gaussian.marginal(self.components, dims))

    def condition(self, dims: Dims, values: ArrayLike) -> "GaussianMixture":
        """Return the law of the other coordinates, in their order, given that x[dims] = values (M,).

        The weight of a component is multiplied by its marginal density at ``values``. Components whose new weight is
        below the smallest normal number of the dtype are left out.
        """
        return self._reweighed(*linear_gaussian.condition(self.components, dims, values))[0]

    def observe(
        self, A: ArrayLike, y: ArrayLike, noise: ArrayLike | Gaussian, b: ArrayLike | None = None, *, of: Of | None = None
    ) -> "GaussianMixture":
        """Return the exact posterior of x, or of B x + c, given the linear observation y = A x + b + noise.

        Arguments and errors are those of :meth:`Gaussian.observe`. Weights are computed from log-evidences, so y may
        lie far from every component; components whose weight is below the smallest normal number of the dtype are left
        out.
        """
        return self._reweighed(*linear_gaussian.observe(self.components, A, y, noise_of(noise), b, of))[0]

    def evidence(self, A: ArrayLike, noise: ArrayLike | Gaussian, b: ArrayLike | None = None) -> "GaussianMixture":
        """Return the law of y = A x + b + noise; arguments as in :meth:`Gaussian.observe`."""
        return GaussianMixture(self.weights, *linear_gaussian.image(self.components, A, b, noise_of(noise)))

    def product(self, other: Gaussian) -> tuple["GaussianMixture", Tensor]:
        """Return the law proportional to the product of this *density* and that of ``other``, and the log of the factor.

        p(x) N(x; b, B) = factor * (density of the returned law); the factor, in nats and of shape (), is
        log sum_k w_k N(b; m_k, S_k + B). Components are left out as in :meth:`condition`.
        """
        return self._reweighed(*linear_gaussian.product(self.components, components_of(other)))

    def _reweighed(self, means: Tensor, covs: Tensor, log_evidence: Tensor) -> tuple["GaussianMixture", Tensor]:
        """Return the mixture with weights proportional to w_k exp(log_evidence_k), and the log of their sum."""
        log_weights = self._weighted(log_evidence)
        total = log_weights.logsumexp(0)
        if not bool(total.isfinite()):
            raise ValueError(f"the observation is too far from every component: its log-density is {total.item():g}")
        weights = (log_weights - total).exp()
        nonzero = weights >= torch.finfo(weights.dtype).tiny
        return GaussianMixture(weights[nonzero], means[nonzero], covs[nonzero]), total

    def _weighted(self, log_prob: Tensor) -> Tensor:
        return log_prob + self.weights.log()

    def _average(self, log_prob: Tensor, values: Tensor) -> Tensor:
        """Mean over components (*, K, D) by their posterior probabilities."""
        return torch.einsum("...k,...kd->...d", self._weighted(log_prob).softmax(-1), values)

    def _check(self) -> None:
        if self.means.ndim != 2 or not self.means.numel():
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
        self.components  # noqa: B018  (checks the covariances now rather than at first use)
