r"""Mixtures of uniform laws on boxes, with their denoiser.

If x is uniform on the box [a, b] and x_t = alpha x + sigma eps with eps standard normal, then the coordinates of x given x_t
are independent normals of mean x_t / alpha and standard deviation sigma / alpha, cut to [a, b]. By coordinate, with
A = (alpha a - x_t) / sigma and B = (alpha b - x_t) / sigma,

    p(x_t) = (Phi(B) - Phi(A)) / (alpha (b - a)),
    E[x | x_t] = (x_t + sigma (phi(A) - phi(B)) / (Phi(B) - Phi(A))) / alpha,

and a mixture weighs its boxes by w_k p_k(x_t).

References
----------
Norman Johnson, Samuel Kotz and Narayanaswamy Balakrishnan. Continuous univariate distributions, volume 1, section 10.1.
Wiley, 1994.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor

__all__ = ["UniformMixture"]

_NARROW = 1e-3  # width of a box in units of the noise below which differences of its ends would lose digits


@dataclass(frozen=True, eq=False)
class UniformMixture:
    """The law sum_k w_k U[a_k, b_k] of boxes in R^D that do not overlap, in float64.

    Parameters
    ----------
    weights : array (K,)
        Positive, with sum one.
    low, high : array (K, D)
        Corners, with low < high in every coordinate.

    Raises
    ------
    ValueError
        If the shapes do not fit, an edge does not have positive length, or the weights do not sum to one.

    >>> law = UniformMixture([0.5, 0.5], [[0.0], [3.0]], [[1.0], [5.0]])
    >>> law.log_prob(torch.tensor([[0.5], [2.0], [4.0]])).exp().tolist()
    [0.5, 0.0, 0.25]
    >>> law.denoised(torch.tensor([[0.5]]), 1.0, 0.01).tolist()
    [[0.5]]
    """

    weights: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, weights: ArrayLike, low: ArrayLike, high: ArrayLike) -> None:
        for name, value in (("weights", weights), ("low", low), ("high", high)):
            object.__setattr__(self, name, as_float_tensor(value).double())
        if self.low.ndim != 2 or self.high.shape != self.low.shape or self.weights.shape != self.low.shape[:1]:
            shapes = ", ".join(str(tuple(value.shape)) for value in (self.weights, self.low, self.high))
            raise ValueError(f"weights, low and high must have the shapes (K,), (K, D) and (K, D), but have {shapes}")
        if not bool((self.low < self.high).all()):
            raise ValueError("low must be below high in every coordinate of every box")
        if not bool((self.weights > 0).all()) or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ValueError(f"weights must be positive and sum to one, but their sum is {float(self.weights.sum()):g}")

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return self.low.shape[1]

    @property
    def mean(self) -> Tensor:
        """E[x], (D,)."""
        return self.weights @ self._middle

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (D,)."""
        return self.weights @ (self._size.square() / 12 + (self._middle - self.mean).square())

    @property
    def _middle(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def _size(self) -> Tensor:
        return self.high - self.low

    def affine(self, A: ArrayLike, b: ArrayLike) -> "UniformMixture":
        """Return the law of A x + b for a diagonal A (D, D), which keeps boxes."""
        matrix, shift = as_float_tensor(A).double(), as_float_tensor(b).double()
        scale = matrix.diagonal()
        if not torch.equal(matrix, scale.diag()) or bool((scale == 0).any()):
            raise ValueError("A must be diagonal without zeros: other maps do not turn boxes into boxes")
        ends = torch.stack((scale * self.low + shift, scale * self.high + shift))
        return UniformMixture(self.weights, ends.amin(0), ends.amax(0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, -inf outside of all boxes: x (*, D) to (*,)."""
        point = x.double()[..., None, :]
        inside = ((point >= self.low) & (point <= self.high)).all(-1)
        heights = self.weights.log() - self._size.log().sum(1)
        return torch.where(inside, heights, -math.inf).logsumexp(-1)

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t = alpha x + sigma eps: x_t (*, D), alpha and sigma numbers. At alpha = 0 this is the mean."""
        alpha, sigma = float(alpha), float(sigma)
        x = x_t.double()
        if sigma == 0:
            return x / alpha
        point = x[..., None, :]
        start, end = (alpha * self.low - point) / sigma, (alpha * self.high - point) / sigma
        log_mass = _log_mass(start, end)
        edges = (_log_bell(start) - log_mass).exp() - (_log_bell(end) - log_mass).exp()
        tilted = self._middle + self._size.square() / 12 * alpha / sigma**2 * (point - alpha * self._middle)
        middle, width = (start + end) / 2, end - start
        narrow = width * (1 + middle.abs()) < _NARROW
        means = torch.where(narrow, tilted, (point + sigma * edges) / (alpha or 1.0))
        means = torch.minimum(torch.maximum(means, self.low), self.high)
        # The mass divided by the width.
        log_density = torch.where(narrow, _log_bell(middle), log_mass - width.clamp(min=1e-300).log())
        shares = (self.weights.log() + log_density.sum(-1)).softmax(-1)
        return (shares[..., None] * means).sum(-2)

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D)."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((1 + self.dim,), seed=seed, purpose="uniform mixture", rows=rows, dtype=torch.float64)
        box = torch.searchsorted(self.weights.cumsum(0), u[:, 0].contiguous(), right=True).clamp_(max=len(self.weights) - 1)
        return self.low[box] + u[:, 1:] * self._size[box]


def _log_bell(z: Tensor) -> Tensor:
    return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)


def _log_mass(start: Tensor, end: Tensor) -> Tensor:
    """Return log(Phi(end) - Phi(start)), in the lower tail, where it is exact."""
    upper = start + end > 0
    below, above = (torch.special.log_ndtr(z) for z in (torch.where(upper, -end, start), torch.where(upper, -start, end)))
    mass: Tensor = above + (-torch.expm1(below - above)).log()
    return mass
