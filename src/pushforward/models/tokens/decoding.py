r"""Drawing tokens one after the other from a causal network, with some of them given.

Guidance. The law of each token is p(k | before, condition)^w p(k | before)^(1 - w), normalized, as in
:mod:`pushforward.diffusion.masked`. Temperature T raises it to the power 1 / T: below 1 likely tokens become likelier. Both are
normalized token by token, so the law of the rows is not the power of their law.
"""

import torch
from torch import Tensor

from pushforward.diffusion import MASKED, draw_tokens, guided_logits
from pushforward.networks import CausalTransformer, Decoding
from pushforward.probability import noise

__all__ = ["decode", "next_log_probs", "not_ended"]


class _Guided:
    """The law of the next token under guidance."""

    def __init__(self, network: CausalTransformer, n: int, condition: Tensor | None, scale: float) -> None:
        self.scale = 1.0 if condition is None else scale
        if condition is not None and self.scale != 1:
            away = torch.zeros_like(condition)
            condition = away if self.scale == 0 else torch.cat([condition, away])
        self.both = self.scale not in (0, 1)
        self.decoding = Decoding(network, 2 * n if self.both else n, condition)

    def next(self, tokens: Tensor | None) -> Tensor:
        """Return logits (B, K)."""
        if not self.both:
            return self.decoding.next(tokens)
        with_it, without = self.decoding.next(None if tokens is None else torch.cat([tokens, tokens])).chunk(2)
        return guided_logits(with_it, without, self.scale)


@torch.no_grad()
def decode(
    network: CausalTransformer,
    known: Tensor,
    *,
    condition: Tensor | None = None,
    scale: float = 1.0,
    temperature: float = 1.0,
    end: int = MASKED,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Return tokens (B, L) with those that are unknown, -1, drawn one after the other.

    A known token is used as it is, whatever its probability. The random numbers of row i depend on (seed, first + i) alone.

    Parameters
    ----------
    network : CausalTransformer
    known : int64 Tensor (B, L)
    condition : Tensor (B, K), optional
    scale : float
        w of guidance; other values than 1 need a condition.
    temperature : float
        Above 0.
    end : int
        The end mark, which is followed by end marks alone; -1 for none.
    """
    rows = torch.arange(first, first + len(known), device=known.device)
    u = noise.uniform((known.shape[1],), seed=seed, purpose="value", rows=rows, dtype=torch.float64, device=known.device)
    law = _Guided(network, len(known), condition, scale)
    tokens, last = known.clone(), None
    ended = torch.zeros(len(known), dtype=torch.bool, device=known.device)
    for position in range(known.shape[1]):
        logits = law.next(last)
        drawn = draw_tokens(logits / temperature, u[:, position])
        last = torch.where(known[:, position] == MASKED, drawn, known[:, position])
        last = last.masked_fill(ended, end)
        ended |= last == end
        tokens[:, position] = last
    return tokens


def not_ended(tokens: Tensor, end: int) -> Tensor:
    """Return which tokens (B, L) are not after an end mark, bool; those after it have probability 1."""
    marks = tokens == end
    return marks.cumsum(1) - marks.long() == 0


def next_log_probs(network: CausalTransformer, tokens: Tensor, condition: Tensor | None) -> Tensor:
    """Return log p(x_l | tokens before l) of the tokens of rows (B, L), in float32 or the dtype of the network."""
    logits = network(tokens, condition)
    cost = torch.nn.functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1), tokens.flatten(), reduction="none"
    )
    return -cost.view_as(tokens)
