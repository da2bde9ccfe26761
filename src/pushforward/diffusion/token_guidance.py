r"""Guidance of tokens: a network around a network, so that whatever uncovers tokens can follow it.

Each time a token is uncovered its law is taken as

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
Hunter Nisonoff, Junhao Xiong, Stephan Allenspach, Jennifer Listgarten. Unlocking guidance for discrete state-space diffusion
and flow models. 2024. https://arxiv.org/abs/2406.01572
Yair Schiff et al. Simple guidance mechanisms for discrete diffusion models. 2024. https://arxiv.org/abs/2412.10193
"""

import torch
from torch import Tensor

from pushforward.diffusion.absorbing import TokenNetwork
from pushforward.diffusion.guidance import finite_scale

__all__ = ["GuidedTokens"]


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
