"""Random laws of every form, and textbook formulas in NumPy that share no code with the library."""

import numpy as np

from pushforward.probability import Gaussian, GaussianMixture

FORMS = ("scalar", "diagonal", "full")


def random_cov(rng, dim, form):
    if form == "scalar":
        return rng.uniform(0.3, 2.0)
    if form == "diagonal":
        return rng.uniform(0.3, 2.0, dim)
    root = rng.normal(size=(dim, dim + 2))
    return root @ root.T / dim + 0.1 * np.eye(dim)


def full(cov, dim):
    """The covariance as a matrix, whatever its form."""
    return np.eye(dim) * cov if np.ndim(cov) < 2 else np.asarray(cov)


def random_gaussian(seed, dim, form="full"):
    rng = np.random.default_rng(seed)
    return Gaussian(rng.normal(size=dim), random_cov(rng, dim, form))


def random_mixture(seed, count, dim, form="full"):
    rng = np.random.default_rng(seed)
    covs = np.stack([random_cov(rng, dim, form) for _ in range(count)])
    return GaussianMixture(rng.dirichlet(np.full(count, 3.0)), 1.5 * rng.normal(size=(count, dim)), covs)


def moments(law):
    """Mean and full covariance of a Gaussian as arrays."""
    return law.mean.numpy(), full(law.cov.numpy(), law.dim)


def parts(mixture):
    """Weight, mean and full covariance of each component as arrays."""
    rows = zip(mixture.weights.tolist(), mixture.means.numpy(), mixture.covs.numpy(), strict=True)
    return [(weight, mean, full(cov, mixture.dim)) for weight, mean, cov in rows]


def schur(mean, cov, seen, values):
    """Textbook conditional: the mean and covariance of the coordinates that are not ``seen``."""
    rest = [i for i in range(len(mean)) if i not in seen]
    gain = cov[np.ix_(rest, seen)] @ np.linalg.inv(cov[np.ix_(seen, seen)])
    return mean[rest] + gain @ (values - mean[seen]), cov[np.ix_(rest, rest)] - gain @ cov[np.ix_(seen, rest)]
