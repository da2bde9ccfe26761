r"""The end of the probability flow, from a small noise level to the data, by the law of the data near one point.

Near x_t take the law of the data as Gaussian, N(m, S). With D = E[x | x_t] and its Jacobian J = dD/dx_t,

    A = alpha J = alpha^2 S (alpha^2 S + sigma^2)^-1,       D - m = A (x_t - alpha m) / alpha,

and the flow from x_t to the data is x - m = S^1/2 (alpha^2 S + sigma^2)^-1/2 (x_t - alpha m), that is

    x = D + A^1/2 (1 + A^1/2)^-1 (x_t - alpha D) / alpha,
    log p_0(x) = log p_t(x_t) + d log alpha - 1/2 log det A                     (d elements).

Both are exact for Gaussians of any width, also far below sigma, where an extrapolation of the velocity does not see the
width. The x_t of a given x is found by Newton's method with dx/dx_t = A^1/2 / alpha.

A is symmetric with positive eigenvalues for an exact denoiser; that of a network is made so. For few elements the matrix is
computed; for many, functions of A times a vector come from a Krylov space of a few dimensions, with one pullback for each.

References
----------
Yousef Saad. Analysis of some Krylov subspace approximations to the matrix exponential operator. 1992.
Shashanka Ubaru, Jie Chen, Yousef Saad. Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. 2017.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pushforward.diffusion.trace import jacobian, pullback

__all__ = ["last_step", "log_ratio"]

_ITERATIONS = 8
_LEAST = 1e-8  # eigenvalue of A
_KRYLOV = 10

Field = Callable[[Tensor], Tensor]
Function = Callable[[Tensor], Tensor]


def last_step(denoised: Field, x: Tensor, alpha: float, varies: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the x_t (B, *D) that flow to rows x, and log p_0(x) - log p_t(x_t) (P, B), float64 on the CPU.

    Parameters
    ----------
    denoised : function
        x_t -> E[x | x_t] at the time where the step begins.
    x : Tensor (B, *D)
    alpha : float
        The signal scale at that time.
    varies : bool Tensor (*D)
        The elements that count; the others are kept.
    signs : Tensor (P, B, *D) or None
        Probes for the determinant; None for the exact one, P = 1.

    >>> tight = lambda x_t: x_t * 1e-4 / (1e-4 + 0.01)  # N(0, 0.01^2) at alpha = 1, sigma = 0.1
    >>> x_t, log_ratio = last_step(tight, torch.tensor([[0.01]]).double(), 1.0, torch.tensor([True]), None)
    >>> round(x_t.item(), 4), round(log_ratio.item(), 4), round(0.5 * math.log(101), 4)
    (0.1005, 2.3076, 2.3076)
    """
    mask, x_t = varies.to(x), alpha * x
    for _ in range(_ITERATIONS):
        functions = _Functions.at(denoised, x_t, alpha, mask, dense=signs is None)
        D = functions.denoised
        reached = D + functions.apply(lambda a: a.sqrt() / (1 + a.sqrt()), (x_t - alpha * D) * mask) / alpha
        x_t = x_t + alpha * functions.apply(lambda a: a.rsqrt(), (x - reached) * mask)
    return x_t, log_ratio(denoised, x_t, alpha, varies, signs)


def log_ratio(denoised: Field, x_t: Tensor, alpha: float, varies: Tensor, signs: Tensor | None) -> Tensor:
    """Return log p_0(x) - log p_t(x_t) for the rows x to which the rows x_t flow, as in :func:`last_step`, (P, B)."""
    functions = _Functions.at(denoised, x_t, alpha, varies.to(x_t), dense=signs is None)
    return int(varies.sum()) * math.log(alpha) - functions.log_det(signs) / 2


class _Functions:
    """Functions of A at rows x_t; ``denoised`` is D there."""

    def __init__(
        self, denoised: Tensor, alpha: float, mask: Tensor, pull: Field | None, spectrum: tuple[Tensor, Tensor] | None
    ):
        self.denoised, self.alpha, self.mask, self.pull, self.spectrum = denoised, alpha, mask, pull, spectrum

    @classmethod
    def at(cls, denoised: Field, x_t: Tensor, alpha: float, mask: Tensor, *, dense: bool) -> "_Functions":
        if not dense:
            value, pull = pullback(denoised, x_t)
            return cls(value, alpha, mask, pull, None)
        value, J = jacobian(denoised, x_t, mask.bool())
        values, vectors = torch.linalg.eigh(alpha * (J + J.mT) / 2)
        return cls(value, alpha, mask, None, (values.clamp(min=_LEAST), vectors))

    def apply(self, function: Function, v: Tensor) -> Tensor:
        """Return f(A) v for rows v (B, *D), which are 0 where elements do not count."""
        if self.spectrum is None:
            basis, values, vectors, length = self._krylov(v)
            weights = length[:, None] * (vectors @ (function(values) * vectors[:, 0])[..., None])[..., 0]
            return torch.einsum("kb...,bk->b...", basis, weights)
        values, vectors = self.spectrum
        picked = v.flatten(1)[:, self.mask.flatten().bool()]
        moved = ((picked[:, None] @ vectors)[:, 0] * function(values))[:, None] @ vectors.mT
        whole = torch.zeros_like(v.flatten(1))
        whole[:, self.mask.flatten().bool()] = moved[:, 0]
        return whole.reshape(v.shape)

    def log_det(self, signs: Tensor | None) -> Tensor:
        """Return log det A, (1, B), or its estimate for each probe, (P, B)."""
        if self.spectrum is not None:
            return self.spectrum[0].log().sum(1)[None].cpu().double()
        assert signs is not None
        return torch.stack([self._quadratic(probe) for probe in signs]).cpu().double()

    def _quadratic(self, v: Tensor) -> Tensor:
        """Return v^T log(A) v, (B,)."""
        _, values, vectors, length = self._krylov(v)
        return length**2 * (values.log() * vectors[:, 0] ** 2).sum(1)

    def _krylov(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return an orthonormal basis (K, B, *D) from v, the spectrum of A in it, and |v|."""
        assert self.pull is not None
        size = min(_KRYLOV, int(self.mask.sum()))
        length = v.flatten(1).norm(dim=1)
        shape = (-1, *[1] * (v.ndim - 1))
        basis = [v / length.clamp(min=1e-30).reshape(shape)]
        projected = v.new_zeros(len(v), size, size)
        for k in range(size):
            image = self.alpha * self.mask * self.pull(self.mask * basis[k])
            for _ in range(2):  # twice, because rounding makes the basis oblique
                for j, other in enumerate(basis):
                    share = (image * other).flatten(1).sum(1)
                    projected[:, j, k] += share
                    image = image - share.reshape(shape) * other
            rest = image.flatten(1).norm(dim=1)
            if k + 1 < size:
                # Where the space is exhausted, a basis vector of 0 leaves the result unchanged.
                alive = rest > 100 * torch.finfo(v.dtype).eps * projected.abs().amax((1, 2))
                basis.append(torch.where(alive.reshape(shape), image / rest.clamp(min=1e-30).reshape(shape), 0.0))
        values, vectors = torch.linalg.eigh(projected, UPLO="U")  # the lower triangle is not filled
        return torch.stack(basis), values.clamp(min=_LEAST), vectors, length
