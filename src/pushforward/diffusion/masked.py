r"""Diffusion of tokens: what noise does is to hide them, one after the other, and what is learned is to uncover them.

In continuous time a token is hidden by time t with probability t, independently of the others; it never changes in another way.
Going back, all that a step must know is the law of each hidden token given those that are seen, p(x_l | seen), and a network
gives it. The bound of this chain is a cross-entropy with weight 1 / t,

    -log p(x) <= \int_0^1 1/t E sum_{l hidden at t} -log p(x_l | seen) dt.

Given how many are hidden, which they are is uniform, and the network is not told the time. So the time can be integrated out:
with F = number of tokens that can be hidden, and C(F, n) the binomial coefficient,

    \int_0^1 1/t C(F, n) t^n (1 - t)^(F - n) dt = 1/n,

and the bound is

    -log p(x) <= sum_{n=1}^F 1/n E S_n = E F/n S_n,         n uniform on 1 ... F,
    S_n = sum over a random set of n hidden tokens of -log p(x_l | all others).

It is the same number as the integral, with less variance: no random count of hidden tokens, and no weight above F. It is also
the mean, over the orders in which tokens can be uncovered one by one, of -log p of the row in that order; so the law of rows
that are uncovered one by one in a random order is at least as probable as the bound says.

A network is a function ``network(tokens, condition)`` from int64 tokens (B, L), in which -1 means hidden, to logits (B, L, K).
``free`` says which tokens may be hidden, bool (L,) or (B, L), by default all. The others are not counted: they are seen always,
or never, if they are not known and -1 stands there.

Guidance of tokens (:class:`GuidedTokens`) is a network around a network, so that whatever uncovers tokens can follow it. Each
time a token is uncovered its law is taken as

    p_w(k) proportional to p(k | seen, condition)^w p(k | seen)^(1 - w),
    log p_w = away + w (cond - away) + a constant of the token,

with cond and away the log-probabilities with the condition and without any. w = 1 is the conditional law, w = 0 the law without
the condition. p_w is p(k | seen) p(condition | k, seen)^w, normalized: if a row has one hidden token, the law of that token is
tilted by just the power w of what it says of the condition. But the laws of all tokens are normalized one by one, each given
those that are seen by then, and a product of such laws is not p(x) p(condition | x)^w, normalized once; in general they are not
even the conditionals of one law, so that the law of drawn rows depends on the order of uncovering, unless w is 0 or 1.

Domain. w is any finite number. A value to which either law gives probability 0 has none under guidance.

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

from pushforward.diffusion.guidance import finite_scale
from pushforward.diffusion.likelihood import LogProb
from pushforward.probability import noise

__all__ = ["HIDDEN", "GuidedTokens", "TokenNetwork", "hidden_loss", "hide", "masked_bound", "unmask"]

TokenNetwork = Callable[[Tensor, Tensor | None], Tensor]

HIDDEN = -1
"""What stands where a token is hidden."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def hide(u: Tensor, v: Tensor, free: Tensor | None = None) -> Tensor:
    """Return which tokens are hidden, bool (B, L): n of those that are free, n uniform on 1 ... F.

    Parameters
    ----------
    u : Tensor (B, L)
        Uniform on [0, 1): the n least are hidden.
    v : Tensor (B,)
        Uniform on [0, 1), from which n = 1 + floor(F v).
    free : bool Tensor (L,) or (B, L), optional

    >>> hide(torch.tensor([[0.3, 0.1, 0.7]]), torch.tensor([0.5]))
    tensor([[ True,  True, False]])
    """
    u, count = _kept_last(u, free)
    return _ranks(u) < (1 + (count * v).floor().clamp(max=count - 1))[:, None]


def hidden_loss(
    network: TokenNetwork, tokens: Tensor, hidden: Tensor, condition: Tensor | None = None, *, free: Tensor | None = None
) -> Tensor:
    """Return F/n S_n of each row in nats, (B,): in the mean over :func:`hide` an upper bound of -log p(x).

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
    hidden : bool Tensor (B, L)
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional

    >>> even = lambda tokens, condition: torch.zeros(*tokens.shape, 4)  # all four values alike
    >>> hidden_loss(even, torch.tensor([[0, 3]]), torch.tensor([[True, False]])) / math.log(4)
    tensor([2.])
    """
    cost = _cost(network, tokens, hidden, condition)
    count = tokens.shape[1] if free is None else free.expand_as(tokens).sum(1)
    return cost * (count / hidden.sum(1).clamp(min=1))


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

    The counts of hidden tokens of a row are spread evenly over 1 ... F, one draw in each of ``draws`` equal parts, and those of
    neighboring rows are spread evenly within the parts; the standard error, from the differences of neighboring draws, does
    not know of the latter and is rather too large.

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional
    draws : int
        Network calls per row, at least 1; the standard error needs 2.
    seed, first : int
        Name the random numbers: those of row i depend on (seed, first + i) alone.
    shared : bool
        Whether all rows get the numbers of row ``first``, so that the value of a row does not depend on where it stands.

    Returns
    -------
    LogProb
        Lower bounds in nats.

    >>> even = lambda tokens, condition: torch.zeros(*tokens.shape, 4, dtype=torch.float64)
    >>> masked_bound(even, torch.tensor([[0, 3]]), draws=4).values / math.log(4)
    array([-2.])
    """
    rows = torch.arange(first, first + len(tokens), device=tokens.device)
    rows = rows[:1].expand(len(tokens)) if shared else rows
    start = noise.uniform((), seed=seed, purpose="share", rows=1, dtype=torch.float64)[0].item()
    offset = (start + rows.double() * _GOLDEN) % 1
    losses = []
    for draw in range(draws):
        u = noise.uniform(tokens.shape[1:], seed=seed, purpose="hide", rows=rows, step=draw, device=tokens.device)
        hidden = hide(u, (draw + offset) / draws, free)
        losses.append(hidden_loss(network, tokens, hidden, condition, free=free).double().cpu())
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
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Draw the free tokens of rows given the others, in a random order.

    In each step equally many are uncovered, drawn from their laws given all that is seen so far. Tokens that are uncovered
    together are drawn without knowing of each other; one by one, rows follow the law that :func:`masked_bound` bounds.

    Parameters
    ----------
    network : TokenNetwork
    tokens : int64 Tensor (B, L)
        What stands at free positions does not matter.
    condition : Tensor (B, K), optional
    free : bool Tensor (L,) or (B, L), optional
    steps : int, optional
        Network calls; by default, and at most, as many as there are free tokens.
    seed, first : int
        Name the random numbers: those of row i depend on (seed, first + i) alone.

    Returns
    -------
    int64 Tensor (B, L)

    >>> sure = lambda tokens, condition: torch.tensor([0.0, -torch.inf]).expand(*tokens.shape, 2)  # always the value 0
    >>> unmask(sure, torch.tensor([[1, 1, 1]]), free=torch.tensor([True, False, True]))
    tensor([[0, 1, 0]])
    """
    rows, length = torch.arange(first, first + len(tokens), device=tokens.device), tokens.shape[1]
    order = noise.uniform((length,), seed=seed, purpose="order", rows=rows, device=tokens.device)
    order, count = _kept_last(order, free)
    ranks = _ranks(order)
    u = noise.uniform((length,), seed=seed, purpose="value", rows=rows, dtype=torch.float64, device=tokens.device)
    most = int(count.max())
    steps = most if steps is None else min(steps, most)
    tokens = tokens.clone()
    uncovered = torch.zeros_like(count)
    for step in range(steps):
        until = count * (step + 1) // steps
        hidden = (ranks >= uncovered[:, None]) & (ranks < count[:, None])
        now = hidden & (ranks < until[:, None])
        if bool(now.any()):
            logits = network(tokens.masked_fill(hidden, HIDDEN), condition)
            tokens[now] = _draw(logits[now], u[now])
        uncovered = until
    return tokens


def _cost(network: TokenNetwork, tokens: Tensor, hidden: Tensor, condition: Tensor | None) -> Tensor:
    """Return S_n of each row, (B,)."""
    logits = network(tokens.masked_fill(hidden, HIDDEN), condition)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cost = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.clamp(min=0).flatten(), reduction="none")
    return torch.where(hidden, cost.view_as(tokens), 0.0).sum(1)


def _kept_last(u: Tensor, free: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return u with 2 where a token is not free, and the number of free tokens of each row, (B,)."""
    if free is None:
        return u, torch.full((len(u),), u.shape[1], device=u.device)
    free = free.to(u.device).expand_as(u)
    return torch.where(free, u, 2.0), free.sum(1)


def _ranks(u: Tensor) -> Tensor:
    """Return the place of each number in the order of its row."""
    return u.argsort(dim=1, stable=True).argsort(dim=1)


def _draw(logits: Tensor, u: Tensor) -> Tensor:
    """Draw a value from each row of logits (R, K) by the inverse CDF."""
    cdf = logits.double().softmax(1).cumsum(1)
    # Rounding can leave the whole sum below u; the last *possible* value is meant then.
    cdf.masked_fill_(cdf >= cdf[:, -1:], math.inf)
    return torch.searchsorted(cdf, u[:, None].contiguous(), right=True)[:, 0]


def _standard_error(values: Tensor) -> Tensor:
    """Return that of the mean of draws (D, B), one in each of D equal parts, from the differences of neighbors."""
    draws = len(values)
    if draws == 1:
        return torch.full_like(values[0], math.nan)
    # With an odd number the middle one is in two pairs, which counts it twice and errs on the large side.
    left = torch.cat((values[: draws - 1 : 2], values[-2:-1] if draws % 2 else values[:0]))
    right = torch.cat((values[1::2], values[-1:] if draws % 2 else values[:0]))
    return (left - right).square().sum(0).sqrt() / draws


class GuidedTokens:
    """Guidance of tokens without a classifier: away + w (cond - away), in logits.

    Logits are log-probabilities up to a constant of the token, and so is what comes out.

    Parameters
    ----------
    network : TokenNetwork
        Trained with and without its condition.
    scale : float
        w: 0 is the law without the condition, 1 the conditional law, above 1 sharpens. 0 and 1 cost one network call, all
        others two (made as one batch of 2B rows).

    >>> def network(tokens, condition):  # value 1 has probability 1/2, and 4/5 under the condition
    ...     return torch.log(torch.where(condition[..., None] > 0, torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5])))
    >>> GuidedTokens(network, 2.0)(torch.tensor([[-1]]), torch.ones(1, 1)).softmax(2).round(decimals=4)  # 1 : 16
    tensor([[[0.0588, 0.9412]]])
    """

    def __init__(self, network: TokenNetwork, scale: float) -> None:
        self.network = network
        self.scale = finite_scale(scale)

    def __call__(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Return the guided logits (B, L, K); the condition is needed."""
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
        with_it, without = both.to(torch.promote_types(both.dtype, torch.float32)).chunk(2)
        impossible = with_it.isneginf() | without.isneginf()
        guided = torch.lerp(without.masked_fill(impossible, 0.0), with_it.masked_fill(impossible, 0.0), self.scale)
        return guided.masked_fill(impossible, -torch.inf)
