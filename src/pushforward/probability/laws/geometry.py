"""The shape of a Gaussian: the ellipsoids of equal density, and the shell that holds the mass in high dimensions.

The points x of N(m, S) on one level of the density have one Mahalanobis radius r = |L^-1 (x - m)|, S = L L^T. They form
an ellipsoid with axes along the eigenvectors of S, of half-lengths r times the *square roots* of the eigenvalues.

>>> Shell(3).quantile(0.5) < Shell(3).mean
True
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PrincipalAxes", "Shell"]


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The ellipsoid {x : Mahalanobis radius = radius} of a Gaussian, longest axis first.

    Parameters
    ----------
    center : Tensor (D,)
    directions : Tensor (D, D)
        Row i is the unit vector of axis i; its largest entry in absolute value is positive.
    lengths : Tensor (D,)
        Half-lengths: ``radius`` times the standard deviation along each axis.
    radius : float

    >>> from pushforward.probability import Gaussian
    >>> axes = Gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]).principal_axes()
    >>> [round(length**2, 6) for length in axes.lengths.tolist()]
    [3.0, 1.0]
    """

    center: Tensor
    directions: Tensor
    lengths: Tensor
    radius: float


@dataclass(frozen=True)
class Shell:
    """The law of the Mahalanobis radius r of a Gaussian on R^dim: the chi law with ``dim`` degrees of freedom.

    The density of x is highest at the mean, but the mass lies near r = sqrt(dim), in a shell whose thickness (about
    0.71 in r) does not grow with the dimension, because the volume at radius r grows like r^(dim - 1).

    Parameters
    ----------
    dim : int
        Dimension of the space, at least 1.

    >>> shell = Shell(10_000)
    >>> round(shell.mean, 3), round(shell.std, 3)
    (99.998, 0.707)
    """

    dim: int

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, but is {self.dim}")

    @property
    def mean(self) -> float:
        """E[r] = sqrt(2) Gamma((dim + 1) / 2) / Gamma(dim / 2), a little below sqrt(dim)."""
        from scipy import special

        return math.sqrt(2) * float(special.poch(self.dim / 2, 0.5))

    @property
    def std(self) -> float:
        """Standard deviation of r, sqrt(dim - E[r]^2)."""
        return math.sqrt(self.dim - self.mean**2)

    def quantile(self, p: float) -> float:
        """Return the radius of the ball of probability ``p``, in [0, 1)."""
        from scipy import special

        if not 0 <= p < 1:
            raise ValueError(f"p is a probability in [0, 1), but is {p:g}")
        return math.sqrt(2 * float(special.gammaincinv(self.dim / 2, p)))

    def log_prob(self, r: Tensor) -> Tensor:
        """Log-density of the radius in nats, r (*) to (*): (dim - 1) log r - r^2 / 2 + const; -inf below 0."""
        half = self.dim / 2
        wide = r.double()
        constant = (half - 1) * math.log(2) + math.lgamma(half)
        log_prob = torch.special.xlogy(self.dim - 1, wide) - 0.5 * wide**2 - constant
        return torch.where(wide < 0, -torch.inf, log_prob).to(r.dtype if r.is_floating_point() else torch.float64)
