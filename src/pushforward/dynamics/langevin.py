r"""Langevin sampling: gradient *ascent* on log p with added noise.

The equation dx = grad log p(x) dt + sqrt(2) dW has p as its stationary law. One Euler-Maruyama step of length h,

    y = x + h score(x) + sqrt(2 h) z,      z standard normal,

keeps p only up to O(h): at a fixed step the stationary law is not p (for N(0, 1) its variance is 1 / (1 - h / 2)). Either h
goes to 0, or each step is accepted with the Metropolis-Hastings probability

    min(1, p(y) q(x | y) / (p(x) q(y | x))),      q(y | x) = N(y; x + h score(x), 2 h I),

which makes p stationary exactly. Where p has separated modes, both rarely move from one to another; annealing starts on p
blurred by strong noise, where the modes have merged, and lowers the noise level by level.

References
----------
Gareth O. Roberts, Richard L. Tweedie. Exponential convergence of Langevin distributions and their discrete approximations.
Bernoulli, 1996.
Yang Song, Stefano Ermon. Generative modeling by estimating gradients of the data distribution. NeurIPS 2019.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite

__all__ = ["Chains", "annealed", "mala", "unadjusted"]

OnStep = Callable[[int, Tensor], None]
"""Called after each step as ``on_step(step, x)``, steps counted from 1; ``x`` (B, *D) must not be changed."""


@dataclass(frozen=True, eq=False)
class Chains:
    """The final state of a batch of independent chains.

    ``samples`` (B, *D) is the last state of each chain, ``acceptance`` (B,) the share of its steps that were accepted (1
    without a Metropolis step), ``evaluations`` the number of calls of the score, each on the whole batch.
    """

    samples: Tensor
    acceptance: Tensor
    evaluations: int


@torch.no_grad()
def unadjusted(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    step: float,
    n_steps: int,
    *,
    seed: int,
    first: int = 0,
    on_step: OnStep | None = None,
) -> Chains:
    """Run unadjusted Langevin chains, x + step score(x) + sqrt(2 step) z: fast, with a bias of O(step).

    Parameters
    ----------
    score : callable
        Gradient of log p, x (B, *D) to (B, *D); log p needs no normalizing constant.
    x : Tensor (B, *D)
        First state of each chain.
    step : float
        h above. Stable up to 2 / L, where L is the largest curvature of -log p.
    n_steps : int
    seed, first : int
        Chain i of this batch is chain ``first + i`` of ``seed``, whatever the batch size.
    on_step : function, optional
        Called after each step with (step, x).

    Raises
    ------
    ArithmeticError
        If a state is not finite; the error names the step.

    >>> chains = unadjusted(lambda x: -x, torch.zeros(5000, 1), step=0.1, n_steps=100, seed=0)
    >>> abs(chains.samples.var().item() - 1 / (1 - 0.05)) < 0.05
    True
    """
    _check(x, step, n_steps)
    for k in range(n_steps):
        x = x + step * score(x) + math.sqrt(2 * step) * _normal("langevin", x, seed, first, k)
        _check_state(x, k, step)
        if on_step is not None:
            on_step(k + 1, x)
    return Chains(x, x.new_ones(len(x)), n_steps)


@torch.no_grad()
def mala(
    log_prob: Callable[[Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    step: float,
    n_steps: int,
    *,
    seed: int,
    first: int = 0,
    on_step: OnStep | None = None,
) -> Chains:
    """Run Metropolis-adjusted Langevin chains: steps are proposed as in :func:`unadjusted` and accepted or rejected.

    Parameters
    ----------
    log_prob : callable
        log p up to a constant, x (B, *D) to (B,), such as ``EnergyLaw.log_unnormalized``; -inf outside the support.
    score : callable
        Its gradient, x (B, *D) to (B, *D). A wrong score makes the chains slow, but the stationary law stays exact.
    x : Tensor (B, *D)
        First state of each chain, inside the support.
    step : float
        In high dimensions an acceptance of about 57 percent is best.
    n_steps, seed, first, on_step
        As in :func:`unadjusted`.

    Raises
    ------
    ValueError
        If a chain starts where p is 0.
    ArithmeticError
        If a proposal is not finite or its log-density is NaN; the error names the step.

    >>> chains = mala(lambda x: -0.5 * (x**2).sum(-1), lambda x: -x, torch.zeros(5000, 1), step=0.5, n_steps=50, seed=0)
    >>> abs(chains.samples.var().item() - 1) < 0.05, bool(chains.acceptance.mean() > 0.8)
    (True, True)
    """
    _check(x, step, n_steps)
    log_p, slope = _log_prob(log_prob, x), score(x)
    if not bool(log_p.isfinite().all()):
        bad = int((~log_p.isfinite()).nonzero()[0])
        raise ValueError(f"chain {bad} starts where log_prob is {log_p[bad].item():g}; start it inside the support")
    accepted = x.new_zeros(len(x))
    rows = torch.arange(first, first + len(x))
    for k in range(n_steps):
        y = x + step * slope + math.sqrt(2 * step) * _normal("mala proposal", x, seed, first, k)
        _check_state(y, k, step)
        log_p_y, slope_y = _log_prob(log_prob, y), score(y)
        ratio = log_p_y - log_p + _log_proposal(x, y, slope_y, step) - _log_proposal(y, x, slope, step)
        ratio = torch.where(log_p_y == -math.inf, -math.inf, ratio)  # outside the support the score may not be finite
        if bool(ratio.isnan().any()):
            raise ArithmeticError(
                f"the acceptance is NaN at step {k + 1}: check log_prob and score, or use a step below {step:g}"
            )
        u = noise.uniform((), seed=seed, purpose="mala acceptance", rows=rows, step=k, dtype=torch.float64)
        accept = u.to(x.device).log() < ratio.double()
        x, slope = torch.where(_like(accept, x), y, x), torch.where(_like(accept, x), slope_y, slope)
        log_p = torch.where(accept, log_p_y, log_p)
        accepted += accept
        if on_step is not None:
            on_step(k + 1, x)
    return Chains(x, accepted / n_steps, n_steps + 1)


@torch.no_grad()
def annealed(
    score: Callable[[Tensor, float], Tensor],
    x: Tensor,
    noise_levels: ArrayLike,
    step: float,
    n_steps: int,
    *,
    seed: int,
    first: int = 0,
    on_step: OnStep | None = None,
) -> Chains:
    """Run unadjusted Langevin chains on p blurred by noise of decreasing levels sigma_1 > ... > sigma_L.

    At level sigma the step is h = step sigma^2, because the curvature of a law blurred by sigma is at most 1 / sigma^2. (Song
    and Ermon write alpha_i = epsilon sigma_i^2 / sigma_L^2 and use alpha_i / 2: step = epsilon / (2 sigma_L^2).) The result is
    a sample of p blurred by the last level, up to the bias of that step.

    Parameters
    ----------
    score : callable
        Score of the blurred law, (x, sigma) to (B, *D): for a mixture ``law.noised(1, sigma).score(x)``.
    x : Tensor (B, *D)
        First state of each chain, for example sigma_1 times unit noise.
    noise_levels : array (L,)
        Decreasing and positive; sigma_1 should be as large as the distances between modes.
    step : float
        Dimensionless; stable below 2.
    n_steps : int
        Steps at each level.
    seed, first, on_step
        As in :func:`unadjusted`.

    Raises
    ------
    ValueError
        If the levels do not decrease or are not positive.
    ArithmeticError
        If a state is not finite; the error names the step.

    >>> chains = annealed(lambda x, sigma: -x / (1 + sigma**2), torch.zeros(2000, 1), [10.0, 1.0, 0.1], 0.2, 50, seed=0)
    >>> chains.samples.shape, chains.evaluations
    (torch.Size([2000, 1]), 150)
    """
    _check(x, step, n_steps)
    levels = as_float_tensor(noise_levels).double()
    if levels.ndim != 1 or len(levels) == 0:
        raise ValueError(f"noise_levels must have the shape (L,) with L >= 1, but has {tuple(levels.shape)}")
    if not bool((levels > 0).all()) or not bool((levels.diff() < 0).all()):
        raise ValueError(f"noise_levels must be positive and fall, but are {levels.tolist()}")
    for k in range(len(levels) * n_steps):
        sigma = levels[k // n_steps].item()
        h = step * sigma**2
        x = x + h * score(x, sigma) + math.sqrt(2 * h) * _normal("annealed langevin", x, seed, first, k)
        _check_state(x, k, step)
        if on_step is not None:
            on_step(k + 1, x)
    return Chains(x, x.new_ones(len(x)), len(levels) * n_steps)


def _log_proposal(y: Tensor, x: Tensor, slope: Tensor, step: float) -> Tensor:
    """Return log q(y | x) up to its constant, which cancels in the ratio: (B,)."""
    return -(y - x - step * slope).square().flatten(1).sum(1) / (4 * step)


def _log_prob(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    values = log_prob(x)
    if values.shape != (len(x),):
        raise ValueError(f"log_prob must return one number per chain, ({len(x)},), but returned {tuple(values.shape)}")
    return values


def _normal(purpose: str, x: Tensor, seed: int, first: int, step: int) -> Tensor:
    rows = torch.arange(first, first + len(x))
    return noise.normal(tuple(x.shape[1:]), seed=seed, purpose=purpose, rows=rows, step=step, dtype=x.dtype, device=x.device)


def _like(flags: Tensor, x: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (x.ndim - 1))


def _check(x: Tensor, step: float, n_steps: int) -> None:
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"x must be floating-point with the shape (B, *D), but is {x.dtype} of the shape {tuple(x.shape)}")
    check_finite("x", x)
    if not 0 < step < math.inf:
        raise ValueError(f"step must be positive and finite, but is {step:g}")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, but is {n_steps}")


def _check_state(x: Tensor, k: int, step: float) -> None:
    if not bool(x.isfinite().all()):
        raise ArithmeticError(
            f"the state is no longer finite at step {k + 1}: step = {step:g} is too large; take a smaller one"
        )
