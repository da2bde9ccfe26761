r"""Products with V^1/2 and with (R + A V A^T)^-1, from products with V alone.

V is a covariance of rows (B, *D), so it is symmetric with eigenvalues in [0, largest], where ``largest`` is the trace of the
covariance of the data or any other bound. The Jacobian of a network only approximates it, and may break both bounds: then the
exact formulas divide by numbers near 0, and their results run away. Two inequalities of every such V prevent that, for any w:

    w^T V w >= |V w|^2 / largest,          w^T V w >= least |w|^2,

where ``least`` is a small floor (see :mod:`~pushforward.diffusion.posterior.moments`). Curvatures w^T V w below them are
raised. A step (r / w^T V w) V w, with any number r, is then at most |r| sqrt(largest / least) / |w| long.

Rows are independent of each other: each has its own coefficients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.diffusion.posterior.operators import Observation
from pushforward.diffusion.schedule import widen

__all__ = ["Covariance", "root", "solve", "solve_isotropic"]

_FREE_ITERATIONS = 50  # where an iteration only costs products with A and A^T
_ROUNDING = 0.75  # a row is solved when its residual is this power of the unit roundoff, relative to the first
_GROWTH = 1000.0  # of a residual over its smallest, from which on it is an effect of rounding


@dataclass(frozen=True)
class Covariance:
    """A covariance V of rows as a function, with bounds of its eigenvalues.

    Attributes
    ----------
    times : function
        Returns V v for v (B, *D).
    least : float or Tensor, () or (B,)
    largest : float
        Bounds of the eigenvalues; :func:`solve` raises curvatures accordingly.
    """

    times: Callable[[Tensor], Tensor]
    least: float | Tensor = 0.0
    largest: float = float("inf")

    def curvature(self, w: Tensor, image: Tensor) -> Tensor:
        """Return w^T V w (B,) from ``image`` = V w, within the bounds."""
        bound = torch.maximum(_dot(image, image) / self.largest, self.least * _dot(w, w))
        return torch.maximum(_dot(w, image), bound)


def solve(seen: Observation, residual: Tensor, covariance: Covariance, like: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Solve (R + A V A^T) v = residual by conjugate gradients; returns v (B, M) and V A^T v (B, *D).

    The directions are made conjugate to all earlier ones. After M iterations the solution is exact for a covariance V; with
    fewer, v minimizes the error in the norm of R + A V A^T over the Krylov space. A row ends earlier where its residual is only
    rounding, on which further steps would build, or where rounding makes it grow; then its best v is returned.
    """
    variance = seen.variance(like)
    v, moved, rest = torch.zeros_like(residual), torch.zeros_like(like), residual
    solved = torch.finfo(like.dtype).eps ** (2 * _ROUNDING) * _dot(residual, residual)
    best, smallest = (v, moved), _dot(rest, rest)
    diverged, going = torch.zeros_like(smallest, dtype=torch.bool), torch.ones_like(smallest, dtype=torch.bool)
    past: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(min(iterations, residual.shape[1])):
        direction, pulled = rest, seen.pull(rest, like)
        step = covariance.times(pulled)
        image = variance * direction + seen.measure(step)
        for old_direction, old_pulled, old_step, old_image, old_power in past:
            share = _ratio(_dot(direction, old_image), old_power)
            direction, image = direction - share[:, None] * old_direction, image - share[:, None] * old_image
            pulled, step = pulled - widen(share, pulled) * old_pulled, step - widen(share, step) * old_step
        power = _dot(direction, variance * direction) + covariance.curvature(pulled, step)
        length = _ratio(_dot(rest, direction), power)
        v, moved, rest = v + length[:, None] * direction, moved + widen(length, moved) * step, rest - length[:, None] * image
        size = _dot(rest, rest)
        nearer = going & (size < smallest)
        best = torch.where(nearer[:, None], v, best[0]), torch.where(widen(nearer, moved), moved, best[1])
        smallest = torch.where(nearer, size, smallest)
        diverged |= going & (size > _GROWTH**2 * smallest)
        going &= (size > solved) & ~diverged
        rest = torch.where(going[:, None], rest, 0.0)
        if not bool(going.any()):
            break
        past.append((direction, pulled, step, image, power))
    return torch.where(diverged[:, None], best[0], v), torch.where(widen(diverged, moved), best[1], moved)


def solve_isotropic(seen: Observation, residual: Tensor, variance: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Solve as :func:`solve` for V = ``variance``, () or broadcastable to ``like``, times the identity.

    This takes no pass through the network, so that there are many iterations, in float64 where the device has it: rounding
    limits the condition of the systems that they solve.
    """
    exact = torch.float32 if like.device.type == "mps" else torch.float64
    covariance = Covariance(lambda v: variance.to(exact) * v)
    v, moved = solve(seen, residual.to(exact), covariance, like.to(exact), _FREE_ITERATIONS)
    return v.to(like), moved.to(like)


def root(covariance: Covariance, z: Tensor, iterations: int) -> Tensor:
    """Return V^1/2 z in the Krylov space of V and z (Lanczos): with standard normal z, a draw of N(0, V).

    The root is taken of V projected onto that space, where eigenvalues below 0 count as 0 and those above ``largest`` as it. So
    no draw is longer than sqrt(largest) |z|, and as many iterations as V has eigenvalues are exact.

    References
    ----------
    Edmond Chow, Yousef Saad. Preconditioned Krylov subspace methods for sampling multivariate Gaussian distributions. 2014.
    """
    basis, images = [_unit(z, z)], []
    for k in range(min(iterations, z[0].numel())):
        images.append(covariance.times(basis[k]))
        rest = images[k]
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for other in basis:
                rest = rest - widen(_dot(other, rest), rest) * other
        basis.append(_unit(rest, images[k]))
    projected = torch.stack([torch.stack([_dot(q, image) for image in images], 1) for q in basis[:-1]], 1)
    values, vectors = torch.linalg.eigh((projected + projected.mT) / 2)
    values = values.clamp(0, covariance.largest).sqrt()
    weights = torch.einsum("bik,bk,bk->bi", vectors, values, vectors[:, 0]) * _dot(z, z).sqrt()[:, None]
    return sum((widen(weights[:, k], z) * q for k, q in enumerate(basis[:-1])), torch.zeros_like(z))


def _unit(x: Tensor, whole: Tensor) -> Tensor:
    """Return x / |x|, or zeros where x is only rounding of ``whole``."""
    length = _dot(x, x).sqrt()
    rounding = length <= 10 * torch.finfo(x.dtype).eps * _dot(whole, whole).sqrt()
    return x * widen(torch.where(rounding, 0.0, 1 / torch.where(rounding, 1.0, length)), x)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b vanishes."""
    vanished = b <= torch.finfo(b.dtype).tiny
    return torch.where(vanished, 0.0, a / torch.where(vanished, 1.0, b))
