"""A residual perceptron over tokens, for rows of a few dozen columns, where it learns more per second than a transformer.

Position l has ``levels[l]`` values 0, 1, ..., and -1 stands for a masked token. Each value of each position has its own vector,
as has the masked token of each position. The hidden state starts as their sum over the positions, passes blocks

    h <- h + V silu(W modulate(norm(h))),

and gives the logits of all values of all positions by one linear map.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pushforward.networks.coder import Modulation, ResidualBlock
from pushforward.networks.spec import MLPSpec

__all__ = ["TokenMLP"]


class TokenMLP(nn.Module):
    """Perceptron, ``network(tokens, condition)`` from tokens (B, L) to logits (B, L, K).

    Parameters
    ----------
    levels : sequence of int
        Number of values of each position, at least 1; K is the largest.
    condition_dim : int
        Length of a condition; 0 for a network without conditions.
    spec : MLPSpec
        Its size.

    Attributes
    ----------
    levels : int64 Tensor (L,)
    bias : Parameter (L, K)
        Added to the logits; at first it is 0 and the logits equal it.

    >>> network = TokenMLP([2, 3], 0, spec=MLPSpec(width=8, depth=1))
    >>> network(torch.tensor([[1, -1]])).softmax(2)  # untrained: a uniform law
    tensor([[[0.5000, 0.5000, 0.0000],
             [0.3333, 0.3333, 0.3333]]], grad_fn=<SoftmaxBackward0>)
    """

    levels: Tensor
    first_row: Tensor
    place: Tensor
    impossible: Tensor

    def __init__(self, levels: Sequence[int], condition_dim: int, *, spec: MLPSpec) -> None:
        super().__init__()
        starts = [0, *itertools.accumulate(levels)]
        length, most, width = len(levels), max(levels), spec.width

        def buffer(name: str, values: object) -> None:
            # On the CPU even where a network is built on the meta device to learn its size.
            self.register_buffer(name, torch.tensor(values, device="cpu"), persistent=False)

        buffer("levels", list(levels))
        buffer("first_row", [start + position for position, start in enumerate(starts[:-1])])
        buffer("place", [[min(start + k, end - 1) for k in range(most)] for start, end in itertools.pairwise(starts)])
        buffer("impossible", [[k >= count for k in range(most)] for count in levels])
        self.embedding = nn.EmbeddingBag(starts[-1] + length, width, mode="sum")
        nn.init.normal_(self.embedding.weight, std=length**-0.5)
        self.modulation = Modulation(condition_dim, [width] * spec.depth)
        blocks = [ResidualBlock(width) for _ in range(spec.depth)]
        for block in blocks:  # keeps the scale of the state independent of the depth
            nn.init.normal_(block.contract.weight, std=(4 * spec.depth * width) ** -0.5)
            nn.init.zeros_(block.contract.bias)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.zeros(starts[-1], width))
        self.bias = nn.Parameter(torch.zeros(length, most))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, L, K), -inf for values that a position does not have, from int64 tokens (B, L)."""
        hidden = self.embedding(torch.where(tokens < 0, self.levels, tokens) + self.first_row)
        for block, modulation in zip(self.blocks, self.modulation(condition), strict=True):
            hidden = block(hidden, modulation)
        logits = (self.norm(hidden) @ self.head.T)[:, self.place] + self.bias
        return torch.as_tensor(logits.masked_fill(self.impossible, -torch.inf))
