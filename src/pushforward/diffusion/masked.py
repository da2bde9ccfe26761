r"""Masked diffusion of tokens: the forward process masks tokens one after the other, and a network learns to unmask them.

In continuous time a token is masked at time t with probability t, independently of the others; it changes in no other way.
A step backward only needs the law of each masked token given the unmasked ones, p(x_l | unmasked), which a network returns.
The bound of this chain is a cross-entropy with weight 1 / t,

    -log p(x) <= \int_0^1 1/t E sum_{l masked at t} -log p(x_l | unmasked) dt.

Given the number of masked tokens, their set is uniform, and the network does not depend on the time. So the time can be
integrated out: with F = number of tokens that can be masked, and C(F, n) the binomial coefficient,

    \int_0^1 1/t C(F, n) t^n (1 - t)^(F - n) dt = 1/n,

and the bound is

    -log p(x) <= sum_{n=1}^F 1/n E S_n = E F/n S_n,         n uniform on 1 ... F,
    S_n = sum over a random set of n masked tokens of -log p(x_l | all others).

It equals the integral, with less variance: there is no random number of masked tokens, and no weight above F. It is also the
mean of -log p of the row over the orders in which tokens can be unmasked one by one, so the law of rows that are unmasked one
by one in a random order gives a row at least the probability of the bound.

A network is a function ``network(tokens, condition)`` from int64 tokens (B, L), where -1 means masked, to logits (B, L, K).
``free``, bool (L,) or (B, L), says which tokens may be masked, by default all. The others do not count: they are always
unmasked or, if they are unknown and equal to -1, always masked.

Guidance of tokens (:class:`GuidedTokens`) is a network that wraps a network, usable wherever tokens are unmasked. A token is
then unmasked with the law

    p_w(k) proportional to p(k | unmasked, condition)^w p(k | unmasked)^(1 - w),
    log p_w = away + w (cond - away) + a constant of the token,

with cond and away the log-probabilities with and without the condition. w = 1 gives the conditional law, w = 0 the law without
the condition. p_w is p(k | unmasked) p(condition | k, unmasked)^w, normalized: for one masked token this is exactly the law
tilted by the power w of the condition's likelihood. But each token's law is normalized separately, given the tokens unmasked so
far, and the product of such laws is not p(x) p(condition | x)^w, normalized once; in general they are not even the conditionals
of one law, so that the law of the rows depends on the order of unmasking, unless w is 0 or 1.

Domain. w is any finite number. A value of probability 0 under either law has probability 0 under guidance.

References
----------
Jacob Austin et al. Structured denoising diffusion models in discrete state-spaces. 2021. https://arxiv.org/abs/2107.03006
Emiel Hoogeboom et al. Autoregressive diffusion models. 2022. https://arxiv.org/abs/2110.02037
Subham Sahoo et al. Simple and effective masked diffusion language models. 2024. https://arxiv.org/abs/2406.07524
Jiaxin Shi et al. Simplified and generalized masked diffusion for discrete data. 2024. https://arxiv.org/abs/2406.04329
Hunter Nisonoff, Junhao Xiong, Stephan Allenspach, Jennifer Listgarten. Unlocking guidance for discrete state-space diffusion
and flow models. 2024. https://arxiv.org/abs/2406.01572
Yair Schiff et al. Simple guidance mechanisms for discrete diffusion models. 2024. https://arxiv.org/abs/2412.10193
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pushforward._messages import DIVERGED
from pushforward.diffusion.guidance import finite_scale
from pushforward.diffusion.log_prob import LogProb
from pushforward.probability import noise

__all__ = [
    "MASKED",
    "GuidedTokens",
    "TokenNetwork",
    "draw_tokens",
    "guided_logits",
    "mask_tokens",
    "masked_bound",
    "masked_loss",
    "unmask",
]

TokenNetwork = Callable[[Tensor, Tensor | None], Tensor]

MASKED = -1
"""The value of a masked token."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def mask_tokens(u: Tensor, v: Tensor, free: Tensor | None = None) -> Tensor:
    """Return which tokens to mask, bool (B, L): n of the free ones, n uniform on 1 ... F.

    Parameters
    ----------
    u : Tensor (B, L)
        Uniform on [0, 1): the tokens with the n smallest numbers are masked.
    v : Tensor (B,)
        Uniform on [0, 1), from which n = 1 + floor(F v).
    free : bool Tensor (L,) or (B, L), optional

    >>> mask_tokens(torch.tensor([[0.3, 0.1, 0.7]]), torch.tensor([0.5]))
    tensor([[ True,  True, False]])
    """
    u, count = _free_first(u, free)
    return _ranks(u) < (1 + (count * v).floor().clamp(max=count - 1))[:, None]


def masked_loss(
    network: TokenNetwork, tokens: Tensor, masked: Tensor, condition: Tensor | None = None, *, free: Tensor | None = None
) -> Tensor:
    """Return F/n S_n of each row in nats, (B,): on average over :func:`mask_tokens` an upper bound of -log p(x).

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
    masked : bool Tensor (B, L)
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional

    >>> uniform = lambda tokens, condition: torch.zeros(*tokens.shape, 4)  # all four values are equally probable
    >>> masked_loss(uniform, torch.tensor([[0, 3]]), torch.tensor([[True, False]])) / math.log(4)
    tensor([2.])
    """
    cost = _cost(network, tokens, masked, condition)
    count = tokens.shape[1] if free is None else free.expand_as(tokens).sum(1)
    return cost * (count / masked.sum(1).clamp(min=1))


@torch.no_grad()
def masked_bound(
    network: TokenNetwork,
    tokens: Tensor,
    *,
    condition: Tensor | None = None,
    free: Tensor | None = None,
    draws: int = 16,
    seed: int = 0,
    first: int = 0,
    shared: bool = False,
) -> LogProb:
    """Return the bound of log p of each row, with its standard error.

    The numbers of masked tokens of a row are stratified, one draw in each of ``draws`` equal parts of 1 ... F, and those of
    neighboring rows are spread evenly within the parts. The standard error comes from the differences of consecutive draws; it
    ignores the latter and is slightly too large.

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional
    draws : int
        Network calls per row, at least 1; the standard error needs 2.
    seed, first : int
        Determine the random numbers: those of row i depend only on (seed, first + i).
    shared : bool
        Whether all rows use the numbers of row ``first``, so that the value of a row does not depend on its position.

    Returns
    -------
    LogProb
        Lower bounds in nats.

    >>> uniform = lambda tokens, condition: torch.zeros(*tokens.shape, 4, dtype=torch.float64)
    >>> masked_bound(uniform, torch.tensor([[0, 3]]), draws=4).values / math.log(4)
    array([-2.])
    """
    rows = torch.arange(first, first + len(tokens), device=tokens.device)
    rows = rows[:1].expand(len(tokens)) if shared else rows
    start = noise.uniform((), seed=seed, purpose="share", rows=1, dtype=torch.float64)[0].item()
    offset = (start + rows.double() * _GOLDEN) % 1
    losses = []
    for draw in range(draws):
        u = noise.uniform(tokens.shape[1:], seed=seed, purpose="hide", rows=rows, step=draw, device=tokens.device)
        masked = mask_tokens(u, (draw + offset) / draws, free)
        losses.append(masked_loss(network, tokens, masked, condition, free=free).double().cpu())
    values = torch.stack(losses)
    zeros = np.zeros(len(tokens))
    counted = torch.ones(tokens.shape[1]) if free is None else free
    return LogProb(
        -values.mean(0).numpy(),
        "lower bound",
        _standard_error(values).numpy(),
        zeros,
        zeros,
        nfe=draws,
        dims=int(counted.sum(-1).max()),
    )


@torch.no_grad()
def unmask(
    network: TokenNetwork,
    tokens: Tensor,
    *,
    condition: Tensor | None = None,
    free: Tensor | None = None,
    steps: int | None = None,
    remask: float = 0.0,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Draw the free tokens of rows given the others, in a random order.

    Each step unmasks equally many tokens, drawn from their laws given all tokens unmasked so far. Tokens unmasked in the same
    step are independent of each other; unmasked one by one, rows follow the law that :func:`masked_bound` bounds.

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
        Values at free positions are ignored.
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional
    steps : int, optional
        Network calls; the default, and without ``remask`` the largest useful number, is the number of free tokens.
    remask : float
        Number of times, on average, that each token is masked again and drawn anew, at least 0. The draws are spread evenly
        over the steps, and which tokens are drawn again is random: the set of masked tokens stays uniform given their number,
        so the steps follow the same laws, and tokens that were drawn without knowing of each other are corrected.
    seed, first : int
        Determine the random numbers: those of row i depend only on (seed, first + i).

    Returns
    -------
    int64 Tensor (B, L)

    >>> sure = lambda tokens, condition: torch.tensor([0.0, -torch.inf]).expand(*tokens.shape, 2)  # always the value 0
    >>> unmask(sure, torch.tensor([[1, 1, 1]]), free=torch.tensor([True, False, True]))
    tensor([[0, 1, 0]])
    """
    rows, length = torch.arange(first, first + len(tokens), device=tokens.device), tokens.shape[1]
    order = noise.uniform((length,), seed=seed, purpose="order", rows=rows, device=tokens.device)
    order, count = _free_first(order, free)
    ranks = _ranks(order)
    u = noise.uniform((length,), seed=seed, purpose="value", rows=rows, dtype=torch.float64, device=tokens.device)
    most = int(count.max())
    steps = most if steps is None else steps if remask else min(steps, most)
    tokens = tokens.clone()
    if remask:
        return _unmask_again(network, tokens, condition, order, count, steps, remask, seed, rows)
    unmasked = torch.zeros_like(count)
    for step in range(steps):
        until = count * (step + 1) // steps
        masked = (ranks >= unmasked[:, None]) & (ranks < count[:, None])
        chosen = masked & (ranks < until[:, None])
        if bool(chosen.any()):
            logits = network(tokens.masked_fill(masked, MASKED), condition)
            tokens[chosen] = draw_tokens(logits[chosen], u[chosen])
        unmasked = until
    return tokens


def _unmask_again(
    network: TokenNetwork,
    tokens: Tensor,
    condition: Tensor | None,
    order: Tensor,
    count: Tensor,
    steps: int,
    remask: float,
    seed: int,
    rows: Tensor,
) -> Tensor:
    """Draw the free tokens, those with ``order`` below 2, and some of those drawn once more at each step."""
    masked, length = order < 2, tokens.shape[1]
    for step in range(steps):

        def uniform(purpose: str, step: int = step) -> Tensor:
            where = {"rows": rows, "step": step, "device": tokens.device}
            return noise.uniform((length,), seed=seed, purpose=purpose, dtype=torch.float64, **where)  # type: ignore[arg-type]

        drawn = (order < 2) & ~masked
        in_all = ((1 + remask) * count * (step + 1) / steps).floor() - ((1 + remask) * count * step / steps).floor()
        more = in_all - (count * (step + 1) // steps - count * step // steps)
        masked = masked | (drawn & (_ranks(torch.where(drawn, uniform("remask"), 2.0)) < more[:, None]))
        left = count - count * (step + 1) // steps
        turn = torch.where(masked, uniform("turn"), 2.0)
        chosen = masked & (_ranks(turn) < (masked.sum(1) - left)[:, None])
        if bool(chosen.any()):
            logits = network(tokens.masked_fill(masked, MASKED), condition)
            tokens[chosen] = draw_tokens(logits[chosen], uniform("value")[chosen])
        masked = masked & ~chosen
    return tokens


def _cost(network: TokenNetwork, tokens: Tensor, masked: Tensor, condition: Tensor | None) -> Tensor:
    """Return S_n of each row, (B,)."""
    logits = network(tokens.masked_fill(masked, MASKED), condition)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cost = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.clamp(min=0).flatten(), reduction="none")
    return torch.where(masked, cost.view_as(tokens), 0.0).sum(1)


def _free_first(u: Tensor, free: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return u with 2 where a token is not free, and the number of free tokens of each row, (B,)."""
    if free is None:
        return u, torch.full((len(u),), u.shape[1], device=u.device)
    free = free.to(u.device).expand_as(u)
    return torch.where(free, u, 2.0), free.sum(1)


def _ranks(u: Tensor) -> Tensor:
    return u.argsort(dim=1, stable=True).argsort(dim=1)


def draw_tokens(logits: Tensor, u: Tensor) -> Tensor:
    """Draw a value from each row of logits (R, K) by the inverse CDF at uniform numbers (R,).

    >>> draw_tokens(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]), torch.tensor([0.7, 0.7], dtype=torch.float64))
    tensor([1, 0])
    """
    cdf = logits.double().softmax(1).cumsum(1)
    if bool(cdf.isnan().any()):
        raise ValueError(f"the network gives probabilities that are NaN. {DIVERGED}")
    # Rounding can leave the whole sum below u; the draw is then the last *possible* value.
    cdf.masked_fill_(cdf >= cdf[:, -1:], math.inf)
    return torch.searchsorted(cdf, u[:, None].contiguous(), right=True)[:, 0]


def _standard_error(values: Tensor) -> Tensor:
    """Return the standard error of the mean of stratified draws (D, B), from the differences of consecutive draws."""
    draws = len(values)
    if draws == 1:
        return torch.full_like(values[0], math.nan)
    # With an odd number the middle draw is in two pairs, which makes the error slightly too large.
    left = torch.cat((values[: draws - 1 : 2], values[-2:-1] if draws % 2 else values[:0]))
    right = torch.cat((values[1::2], values[-1:] if draws % 2 else values[:0]))
    return (left - right).square().sum(0).sqrt() / draws


class GuidedTokens:
    """Guidance of tokens without a classifier: away + w (cond - away), in logits.

    Logits are log-probabilities up to a constant per token, and so is the result.

    Parameters
    ----------
    network : TokenNetwork
        Trained with and without its condition.
    scale : float
        w: 0 gives the law without the condition, 1 the conditional law, above 1 sharpens. 0 and 1 cost one network call, all
        others two (as one batch of 2B rows).

    >>> def network(tokens, condition):  # value 1 has probability 1/2, and 4/5 under the condition
    ...     return torch.log(torch.where(condition[..., None] > 0, torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5])))
    >>> GuidedTokens(network, 2.0)(torch.tensor([[-1]]), torch.ones(1, 1)).softmax(2).round(decimals=4)  # 1 : 16
    tensor([[[0.0588, 0.9412]]])
    """

    def __init__(self, network: TokenNetwork, scale: float) -> None:
        self.network = network
        self.scale = finite_scale(scale)

    def __call__(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Return the guided logits (B, L, K); requires a condition."""
        if condition is None:
            raise ValueError(
                "guidance needs a condition to guide towards: pass condition=..., or use the network without GuidedTokens"
            )
        if self.scale == 1:
            return self.network(tokens, condition)
        away = torch.zeros_like(condition)
        if self.scale == 0:
            return self.network(tokens, away)
        both = self.network(torch.cat((tokens, tokens)), torch.cat((condition, away)))
        with_it, without = both.chunk(2)
        return guided_logits(with_it, without, self.scale)


def guided_logits(with_it: Tensor, without: Tensor, scale: float) -> Tensor:
    """Return without + scale (with_it - without) for logits with and without a condition; -inf where either is."""
    with_it, without = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (with_it, without))
    impossible = with_it.isneginf() | without.isneginf()
    guided = torch.lerp(without.masked_fill(impossible, 0.0), with_it.masked_fill(impossible, 0.0), scale)
    return guided.masked_fill(impossible, -torch.inf)
