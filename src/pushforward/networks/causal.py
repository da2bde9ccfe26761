r"""A causal transformer over tokens: the law of each token given those before it.

A row is L tokens; position l has ``levels[l]`` values 0, 1, .... The state of position l starts as an embedding of the token
before it (at the first position, of a start mark) and of the position; a convolution over the tokens before can follow the
embedding, as in :mod:`pushforward.networks.transformer`. The blocks are those of that module, but a position
attends only to itself and to those before it. So the logits of position l depend on the tokens before l alone, and

    log p(x) = sum_l log p(x_l | x_1, ..., x_{l-1})

takes one call. Tokens are drawn one after the other: :class:`Decoding` keeps the keys and values of the positions so far, so
that the next one costs one position and not the whole row.

References
----------
Ashish Vaswani et al. Attention is all you need. NeurIPS 2017. https://arxiv.org/abs/1706.03762
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pushforward.networks.attention import AttentionBlock, Past
from pushforward.networks.coder import Modulation

__all__ = ["CausalTransformer", "Decoding"]


class CausalTransformer(nn.Module):
    """Causal transformer, ``network(tokens, condition)`` from tokens (B, L) to logits (B, L, K).

    Parameters
    ----------
    levels : sequence of int
        Number of values of each position, at least 1; K is the largest.
    condition_dim : int
        Length of a condition; 0 for a network without conditions.
    width, depth, heads, convolution : int
        See :class:`~pushforward.networks.TransformerSpec`.

    Attributes
    ----------
    levels : int64 Tensor (L,)
    bias : Parameter (L, K)
        Added to the logits; at first it is 0 and the logits equal it.

    >>> network = CausalTransformer([2, 3], 0, width=8, depth=1, heads=2)
    >>> network(torch.tensor([[1, 2]])).softmax(2)  # untrained: a uniform law
    tensor([[[0.5000, 0.5000, 0.0000],
             [0.3333, 0.3333, 0.3333]]], grad_fn=<SoftmaxBackward0>)
    """

    levels: Tensor
    first_row: Tensor
    impossible: Tensor

    def __init__(
        self, levels: Sequence[int], condition_dim: int, *, width: int, depth: int, heads: int, convolution: int = 0
    ) -> None:
        super().__init__()
        counts = checked_levels(levels)
        length, most = len(counts), int(counts.max())
        self.alike = bool((counts == most).all())
        kinds = 1 if self.alike else length
        # On the CPU even where a network is built on the meta device to learn its size.
        first_row = torch.arange(length, device="cpu") * (0 if self.alike else most)
        self.start = kinds * most
        self.register_buffer("levels", counts, persistent=False)
        self.register_buffer("first_row", first_row, persistent=False)
        self.register_buffer("impossible", torch.arange(most, device="cpu") >= counts[:, None], persistent=False)
        self.embedding = nn.Embedding(kinds * most + 1, width)
        nn.init.normal_(self.embedding.weight)
        self.local = nn.Conv1d(width, width, convolution) if convolution else None
        self.position = nn.Parameter(0.5 * torch.randn(length, width))
        self.modulation = Modulation(condition_dim, [width] * (2 * depth))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, depth, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.zeros(kinds, most, width))
        self.bias = nn.Parameter(torch.zeros(length, most))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, L, K), -inf for values that a position does not have, from int64 tokens (B, L).

        Rows may be shorter than L, and have as many logits then. The value of the last token has no effect.
        """
        length = tokens.shape[1]
        rows = tokens[:, :-1].clamp(min=0) + self.first_row[: length - 1]
        hidden = self.embedding(nn.functional.pad(rows, (1, 0), value=self.start))
        if self.local is not None:
            before = nn.functional.pad(hidden.transpose(1, 2), (self.local.kernel_size[0] - 1, 0))
            hidden = hidden + self.local(before).transpose(1, 2)
        hidden = hidden + self.position[:length]
        modulation = self.modulation(condition)
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, modulation[2 * i], modulation[2 * i + 1])
        return self.logits(hidden, slice(0, length))

    def logits(self, hidden: Tensor, where: slice) -> Tensor:
        """Return the logits (B, l, K) of the positions ``where`` from their states (B, l, width)."""
        hidden = self.norm(hidden)
        head = self.head[0] if self.alike else self.head[where]
        logits = hidden @ head.T if self.alike else torch.einsum("blw,lkw->blk", hidden, head)
        logits = logits + self.bias[where]
        return torch.as_tensor(logits if self.alike else logits.masked_fill(self.impossible[where], -torch.inf))


class Decoding:
    """The law of the next token, position by position, with the states of the positions before kept.

    Parameters
    ----------
    network : CausalTransformer
    n : int
        B, the number of rows.
    condition : Tensor (B, K), optional

    >>> network = CausalTransformer([2, 2], 0, width=8, depth=1, heads=2)
    >>> decoding = Decoding(network, 3)
    >>> first = decoding.next(None)
    >>> decoding.next(first.argmax(1)).shape
    torch.Size([3, 2])
    """

    def __init__(self, network: CausalTransformer, n: int, condition: Tensor | None = None) -> None:
        self.network, self.n, self.at = network, n, 0
        self.modulation = network.modulation(condition)
        self.pasts = [Past(len(network.levels)) for _ in network.blocks]
        local = network.local
        shape = (n, network.position.shape[1], 0 if local is None else local.kernel_size[0])
        self.window = torch.zeros(shape, dtype=network.position.dtype, device=network.position.device)

    def next(self, tokens: Tensor | None) -> Tensor:
        """Return the logits (B, K) of the next position, given the tokens (B,) of the one before; None at the first."""
        network = self.network
        if tokens is None:
            rows = torch.full((self.n,), network.start, device=network.levels.device)
        else:
            rows = tokens + network.first_row[self.at - 1]
        hidden = network.embedding(rows)
        if network.local is not None:
            self.window = torch.cat([self.window[:, :, 1:], hidden[:, :, None]], 2)
            hidden = hidden + network.local(self.window)[:, :, 0]
        hidden = (hidden + network.position[self.at])[:, None]
        for i, (block, past) in enumerate(zip(network.blocks, self.pasts, strict=True)):
            hidden = block(hidden, self.modulation[2 * i], self.modulation[2 * i + 1], past)
        self.at += 1
        return network.logits(hidden, slice(self.at - 1, self.at))[:, 0]


def checked_levels(levels: Sequence[int]) -> Tensor:
    """Return the number of values of each position, int64 (L,); ValueError if it is none."""
    counts = torch.as_tensor(levels, device="cpu")
    if counts.ndim != 1 or not len(counts) or counts.is_floating_point() or int(counts.min()) < 1:
        raise ValueError(f"levels must be the number of values of each position, integers of at least 1, got {levels!r}")
    return counts
