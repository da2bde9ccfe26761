"""The Gaussian law on R^D, and everything about it that has a closed form.

Densities, draws, and denoisers at every noise level; images, sums, marginals, conditionals, posteriors given linear
observations and products of densities, all Gaussian again; entropies and distances between two Gaussians; the shape of the law.

References
----------
Kaare Brandt Petersen, Michael Syskind Pedersen. The matrix cookbook, section 8. Technical University of Denmark, 2012.
Rajendra Bhatia, Tanvi Jain, Yongdo Lim. On the Bures-Wasserstein distance between positive definite matrices.
Expositiones Mathematicae, 2019.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, Dims, as_float_tensor
from pushforward.probability.expectations import Expectation, over_draws, over_normals
from pushforward.probability.laws import linear_gaussian
from pushforward.probability.laws.components import Components
from pushforward.probability.laws.geometry import PrincipalAxes, Shell
from pushforward.probability.laws.linear_gaussian import Of

__all__ = ["Gaussian", "components_of", "noise_of"]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The law N(mean, cov).

    Parameters
    ----------
    mean : array (D,)
    cov : array (), (D,) or (D, D)
        One variance for every coordinate, variances by coordinate, or the full covariance matrix.

    Lists become float64 tensors; tensors keep their dtype and device. Arguments of methods are converted to the dtype and
    device of the law. ``marginal``, ``condition``, ``noised``, ``plus`` and ``product`` keep scalar and diagonal
    covariances as they are; ``affine``, ``observe`` and ``evidence`` return full ones.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or the covariance is not symmetric and positive definite.

    >>> law = Gaussian([1.0, 0.0], cov=[4.0, 1.0])
    >>> law.denoised(law.mean * 0.5, alpha=0.5, sigma=1.0).tolist()
    [1.0, 0.0]
    >>> seen = law.observe(A=[[1.0, 1.0]], y=[6.0], noise=0.0, of=[[1.0, -1.0]])  # x_1 - x_2, given that x_1 + x_2 = 6
    >>> [round(value.item(), 4) for value in (seen.mean, seen.cov)]
    [4.0, 3.2]
    """

    mean: Tensor
    cov: Tensor

    def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None:
        mean = as_float_tensor(mean)
        if mean.ndim != 1 or not len(mean):
            raise ValueError(f"mean must have the shape (D,), but has {tuple(mean.shape)}")
        cov = as_float_tensor(cov).to(mean)
        dim = len(mean)
        if cov.shape not in ((), (dim,), (dim, dim)):
            raise ValueError(f"cov must have the shape (), ({dim},) or ({dim}, {dim}), but has {tuple(cov.shape)}")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", cov)
        self.components  # noqa: B018  (checks the covariance now rather than at first use)

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """The covariance as a matrix (D, D), whatever the form of ``cov``."""
        return self.components.full_covs[0]

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (D,): the diagonal of the covariance; its root is the standard deviation."""
        return self.covariance.diagonal()

    def expectation(self, f: Callable[[Tensor], Tensor], *, draws: int = 100_000, seed: int = 0) -> Expectation:
        """Return E[f(x)] with its error: by a refined grid in up to three dimensions, above by the mean over ``draws``.

        ``f`` maps points (N, D) to (N, *S).

        >>> law = Gaussian([1.0], 4.0)
        >>> law.expectation(lambda x: x[:, 0] ** 2).value.item()  # variance + mean^2
        5.0...
        """
        if self.dim > 3:
            return over_draws(f, self, draws, seed)
        return over_normals(f, torch.ones(1), self.components.means, self.components.full_factor)

    @functools.cached_property
    def components(self) -> Components:
        """The law as a row of one Gaussian, which holds the formulas."""
        return Components(self.mean[None], self.cov[None])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: x (*, D) to (*,). It may be positive: a density may exceed 1."""
        return self.components.log_prob(x)[..., 0]

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density, -cov^-1 (x - mean): x (*, D) to (*, D)."""
        return self.components.score(x)[1][..., 0, :]

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t = alpha x + sigma eps, x_t (*, D); scales as in :meth:`GaussianMixture.denoised`."""
        return self.components.denoised(x_t, alpha, sigma)[1][..., 0, :]

    def noised(self, alpha: float, sigma: float) -> "Gaussian":
        """Return the law of x_t = alpha x + sigma eps."""
        return _law(*self.components.noised(alpha, sigma))

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D): mean + L z, cov = L L^T."""
        rows = torch.arange(first, first + n)
        z = noise.normal((self.dim,), seed=seed, purpose="mixture", rows=rows, dtype=self.mean.dtype, device=self.mean.device)
        return self.components.draw(torch.zeros_like(rows, device=self.mean.device), z)

    def affine(self, A: ArrayLike, b: ArrayLike | None = None) -> "Gaussian":
        """Return the law of A x + b, with A (M, D) and b (M,).

        Raises
        ------
        ValueError
            If the image is degenerate: the rows of A are linearly dependent, as more than D rows are.
        """
        return _law(*linear_gaussian.image(self.components, A, b, None))

    def plus(self, other: "Gaussian") -> "Gaussian":
        """Return the law of x + z for z with the law ``other``, *independent* of x: means and covariances add.

        This is the sum of two variables. The product of two densities is :meth:`product`; the sum of two densities,
        with weights, is a :class:`GaussianMixture` and not Gaussian.
        """
        return _law(*linear_gaussian.plus(self.components, components_of(other)))

    def marginal(self, dims: Dims) -> "Gaussian":
        """Return the law of the coordinates ``dims``, in that order."""
        return _law(*linear_gaussian.marginal(self.components, dims))

    def condition(self, dims: Dims, values: ArrayLike) -> "Gaussian":
        """Return the law of the other coordinates, in their order, given that x[dims] = values (M,).

        >>> law = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]]).condition([0], [2.0])
        >>> round(law.mean.item(), 4), round(law.cov.item(), 4)
        (1.6, 0.36)
        """
        return _law(*linear_gaussian.condition(self.components, dims, values)[:2])

    def observe(
        self, A: ArrayLike, y: ArrayLike, noise: "ArrayLike | Gaussian", b: ArrayLike | None = None, *, of: Of | None = None
    ) -> "Gaussian":
        """Return the posterior of x, or of B x + c, given the linear observation y = A x + b + noise.

        Parameters
        ----------
        A : array (M, D)
        y : array (M,)
        noise : float, array (M,) or Gaussian on R^M
            Standard deviation (one, or one per entry of y; 0 is allowed), or the law of the noise, independent of x.
        b : array (M,), optional
        of : array (P, D) or tuple (array (P, D), array (P,)), optional
            B, or (B, c): the posterior of B x + c is returned in place of that of x.

        Raises
        ------
        ValueError
            If a shape does not fit, observations without noise are linearly dependent, or the posterior is degenerate,
            as that of x itself is where the noise is 0.
        """
        return _law(*linear_gaussian.observe(self.components, A, y, noise_of(noise), b, of)[:2])

    def evidence(self, A: ArrayLike, noise: "ArrayLike | Gaussian", b: ArrayLike | None = None) -> "Gaussian":
        """Return the law of y = A x + b + noise, N(A mean + b, A cov A^T + R); arguments as in :meth:`observe`."""
        return _law(*linear_gaussian.image(self.components, A, b, noise_of(noise)))

    def product(self, other: "Gaussian") -> tuple["Gaussian", Tensor]:
        """Return the law proportional to the product of the two *densities*, and the log of the factor (nats, shape ()).

        N(x; a, A) N(x; b, B) = N(a; b, A + B) N(x; c, C): the integral of the product is the factor, not 1.

        >>> law, log_factor = Gaussian([0.0], 1.0).product(Gaussian([2.0], 1.0))
        >>> law.mean.item(), law.cov.item(), round(log_factor.item(), 4)
        (1.0, 0.5, -2.2655)
        """
        means, covs, log_factor = linear_gaussian.product(self.components, components_of(other))
        return _law(means, covs), log_factor[0]

    def entropy(self) -> Tensor:
        """Differential entropy -E[log p(x)] = log det(2 pi e cov) / 2, in nats; it may be negative."""
        return self.components.log_volumes[0] + 0.5 * self.dim * (1 + math.log(2 * math.pi))

    def cross_entropy(self, other: "Gaussian") -> Tensor:
        """-E[log q(x)] in nats, for x with this law p and q the density of ``other``: entropy + KL."""
        ratio, distance = self._seen_from(other)
        log_volume = other.components.log_volumes[0].to(self.mean)
        return 0.5 * (self.dim * math.log(2 * math.pi) + (ratio**2).sum() + distance) + log_volume

    def kl(self, other: "Gaussian") -> Tensor:
        """KL(p || q) = E[log(p(x) / q(x))] >= 0 in nats, for x with this law p and q that of ``other``; not symmetric."""
        ratio, distance = self._seen_from(other)
        excess = torch.linalg.svdvals(ratio) ** 2 - 1
        divergence: Tensor = 0.5 * ((excess - excess.log1p()).sum() + distance)
        return divergence

    def wasserstein(self, other: "Gaussian") -> Tensor:
        """2-Wasserstein distance, in the units of x: the root of the least mean of |x - z|^2 over all couplings.

        Its square is |a - b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2). It is computed as the least |L_A - L_B Q|^2 over
        orthogonal Q, which keeps its digits where the two laws are close.
        """
        mine, theirs = self._check(other), other.components.full_factor[0].to(self.mean)
        left, _, right = torch.linalg.svd(theirs.mT @ mine)
        return torch.sqrt(((mine - theirs @ left @ right) ** 2).sum() + ((self.mean - other.mean.to(self.mean)) ** 2).sum())

    def principal_axes(self, radius: float = 1.0) -> PrincipalAxes:
        """Return the ellipsoid of the points ``radius`` standard deviations from the mean, a level set of the density.

        ``law.principal_axes(law.shell().quantile(0.9))`` is the ellipsoid that holds 90 % of the mass.
        """
        if not 0 < radius < math.inf:
            raise ValueError(f"radius must be positive and finite, but is {radius:g}")
        values, vectors = self.components.spectrum
        order = values[0].argsort(descending=True, stable=True)
        rows = torch.eye(self.dim).to(self.mean) if vectors is None else vectors[0].mT
        rows = rows[order]
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        return PrincipalAxes(self.mean, rows * largest.sign(), radius * values[0, order].sqrt(), radius)

    def shell(self) -> Shell:
        """Return the law of the Mahalanobis radius |L^-1 (x - mean)|, cov = L L^T: the mass lives near sqrt(D)."""
        return Shell(self.dim)

    def _check(self, other: "Gaussian") -> Tensor:
        """Return the factor L of this covariance (D, D); raise if ``other`` is not a Gaussian on the same space."""
        if components_of(other).dim != self.dim:
            raise ValueError(f"other lives in {other.dim} dimensions, but this law in {self.dim}")
        return self.components.full_factor[0]

    def _seen_from(self, other: "Gaussian") -> tuple[Tensor, Tensor]:
        """L_B^-1 L_A, and the squared Mahalanobis distance of the means; A is the covariance of this law, B of ``other``."""
        mine, theirs = self._check(other), other.components.full_factor[0].to(self.mean)
        delta = (self.mean - other.mean.to(self.mean))[:, None]
        both = torch.linalg.solve_triangular(theirs, torch.cat([mine, delta], 1), upper=False)
        return both[:, :-1], (both[:, -1] ** 2).sum()


def noise_of(noise: ArrayLike | Gaussian) -> ArrayLike | Components:
    """Return the noise of an observation as :mod:`linear_gaussian` takes it.

    >>> noise_of(0.5), noise_of(Gaussian([0.0], 4.0)).factor.item()
    (0.5, 2.0)
    """
    return noise.components if isinstance(noise, Gaussian) else noise


def components_of(law: Gaussian) -> Components:
    """Return the components of ``other``; raise if it is not a :class:`Gaussian`.

    >>> components_of(Gaussian([0.0], 4.0)).dim
    1
    """
    if not isinstance(law, Gaussian):
        raise TypeError(f"other must be a Gaussian, but is a {type(law).__name__}")
    return law.components


def _law(means: Tensor, covs: Tensor) -> Gaussian:
    return Gaussian(means[0], covs[0])
