r"""Score matching: losses whose minimizer is the score, grad log p, of the law of x.

With s the fitted score function, J its Jacobian, and E over x ~ p,

    =============  ===============================================  =====================================
    explicit       E |s(x) - grad log p(x)|^2 / 2                   needs the true score
    implicit       E |s(x)|^2 / 2 + tr J(x)                         explicit minus E |grad log p|^2 / 2
    sliced         E |s(x)|^2 / 2 + v^T J(x) v,  v = +1 or -1       the same mean as implicit
    denoising      E |s(x + sigma eps) + eps / sigma|^2 / 2         score of p * N(0, sigma^2)
    =============  ===============================================  =====================================

The second line follows by integration by parts, so p s must vanish at infinity. The denoising loss equals the explicit loss
under the law of x + sigma eps up to a constant; with weights over sigma it is the loss of diffusion models
(``prediction="score"``). For p proportional to exp(-E) the score is -grad E.

Every loss is a function of (score, x, ...) that returns one number per row, (B,), a sum over the elements of the row. It is
differentiable in the parameters of ``score``, a function from (B, *D) to (B, *D) that treats each row independently.

References
----------
Aapo Hyvärinen. Estimation of non-normalized statistical models by score matching. 2005.
Pascal Vincent. A connection between score matching and denoising autoencoders. 2011.
Yang Song et al. Sliced score matching: a scalable approach to density and score estimation. 2019.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pushforward.diffusion.schedule import widen
from pushforward.diffusion.trace import exact_trace, probed_trace, rademacher
from pushforward.probability.counts import check_count

__all__ = ["denoising_score_matching", "explicit_score_matching", "implicit_score_matching", "sliced_score_matching"]

ScoreFunction = Callable[[Tensor], Tensor]


def explicit_score_matching(score: ScoreFunction, x: Tensor, true_score: Tensor) -> Tensor:
    """Return |score(x) - true_score|^2 / 2 of each row, (B,).

    >>> x = torch.tensor([[1.0, 2.0]])
    >>> explicit_score_matching(lambda x: -x, x, true_score=-x).tolist()
    [0.0]
    """
    _check(x, true_score, "true_score")
    return _half_square(score(x) - true_score)


def implicit_score_matching(score: ScoreFunction, x: Tensor) -> Tensor:
    """Return |score(x)|^2 / 2 + tr J of each row, (B,), with one backward pass per element of a row.

    >>> implicit_score_matching(lambda x: -x, torch.tensor([[1.0, 2.0]])).tolist()
    [0.5]
    """
    value, trace = exact_trace(score, x)
    return _half_square(value) + trace


def sliced_score_matching(score: ScoreFunction, x: Tensor, *, probes: int = 1, seed: int, first: int = 0) -> Tensor:
    """Return |score(x)|^2 / 2 + v^T J v of each row, (B,), averaged over ``probes`` random directions v.

    Parameters
    ----------
    score : function
    x : Tensor (B, *D)
    probes : int
        Backward passes, at least 1.
    seed, first : int
        Determine the directions: those of row i depend only on (seed, first + i). Use another seed in every training step.

    >>> sliced_score_matching(lambda x: -x, torch.tensor([[1.0, 2.0]]), seed=0).tolist()
    [0.5]
    """
    check_count("probes", probes)
    value, traces = probed_trace(score, x, rademacher(x, probes, seed=seed, first=first))
    return _half_square(value) + traces.mean(0)


def denoising_score_matching(score: ScoreFunction, x: Tensor, eps: Tensor, sigma: Tensor | float) -> Tensor:
    """Return |score(x + sigma eps) + eps / sigma|^2 / 2 of each row, (B,).

    Parameters
    ----------
    score : function
    x, eps : Tensor (B, *D)
        Data and standard normal noise.
    sigma : float or Tensor () or (B,)
        Positive.

    Raises
    ------
    ValueError
        If the shapes of ``x`` and ``eps`` differ, or ``sigma`` is not positive.

    >>> x, eps = torch.zeros(1, 2), torch.tensor([[1.0, -1.0]])
    >>> denoising_score_matching(lambda x: -x / 4, x, eps, sigma=2.0).tolist()
    [0.0]
    """
    _check(x, eps, "eps")
    scale = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if not bool((scale > 0).all()):
        raise ValueError(f"sigma must be positive, got {sigma}")
    scale = widen(scale, x)
    return _half_square(score(x + scale * eps) + eps / scale)


def _half_square(value: Tensor) -> Tensor:
    return value.square().flatten(1).sum(1) / 2


def _check(x: Tensor, other: Tensor, name: str) -> None:
    if other.shape != x.shape:
        raise ValueError(f"{name} must have the shape of x, {tuple(x.shape)}, got {tuple(other.shape)}")
