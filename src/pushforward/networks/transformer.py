r"""A transformer over tokens: from a row with some tokens masked to a law for each of its tokens.

A row is L tokens; position l has ``levels[l]`` values 0, 1, ..., and -1 stands for a masked token. Positions form cells, one
per position or, with ``patch``, one per block of neighbors, which only makes attention cheaper. The state of a cell starts as
the sum of the embeddings of its tokens and of an embedding of the cell. Then each block is

    h <- h + attention(modulate(norm(h))),       h <- h + V gelu(W modulate(norm(h))),      modulate(h) = (1 + scale) h + shift,

with scale and shift from the condition, by layers without a bias: a condition of zeros, the null condition, changes nothing.
Finally every cell gives logits for its positions. Positions have no order and there is no time: which tokens are masked
determines the law of the others.

If all positions have the same number of values, they share one embedding of values, as a grey value or a letter is the same
everywhere; otherwise each position has its own, like the columns of a table.

Along a sequence a convolution can follow the embedding, h <- h + C * h: neighboring letters matter most, and attention takes
long to learn which are near.

References
----------
Ashish Vaswani et al. Attention is all you need. NeurIPS 2017. https://arxiv.org/abs/1706.03762
William Peebles, Saining Xie. Scalable diffusion models with transformers. ICCV 2023. https://arxiv.org/abs/2212.09748
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pushforward.networks.attention import AttentionBlock
from pushforward.networks.causal import CausalTransformer, checked_levels
from pushforward.networks.checks import check_int
from pushforward.networks.coder import Modulation

__all__ = ["TokenTransformer", "TransformerSpec", "default_transformer"]

_FEW, _SOME, _MOST_CELLS = 8, 100, 256


@dataclass(frozen=True)
class TransformerSpec:
    """Size of a :class:`TokenTransformer`.

    Parameters
    ----------
    width : int
        Length of the state of a cell, from 2 to 65,536, a multiple of ``heads``.
    depth : int
        Number of blocks, from 1 to 1,000.
    heads : int
        Heads of each attention, from 1 to 1,024.
    patch : int
        Positions along each axis that share one cell, from 1 to 64: blocks of ``patch`` x ``patch`` pixels with all their
        channels, or ``patch`` neighbors in a sequence.
    convolution : int
        Positions of a sequence that the convolution after the embedding covers, odd, from 1 to 255; 0 for none.

    >>> network = TransformerSpec(width=8, depth=1, heads=2).build([3, 3, 3, 3], condition_dim=2)
    >>> network(torch.tensor([[0, -1, 2, -1]]), torch.ones(1, 2)).shape
    torch.Size([1, 4, 3])
    """

    width: int = 128
    depth: int = 4
    heads: int = 4
    patch: int = 1
    convolution: int = 0

    def __post_init__(self) -> None:
        limits = {"width": (2, 65_536), "depth": (1, 1_000), "heads": (1, 1_024), "patch": (1, 64), "convolution": (0, 255)}
        for name, (low, high) in limits.items():
            check_int(name, getattr(self, name), low, high)
        if self.convolution and self.convolution % 2 == 0:
            raise ValueError(f"convolution must be odd, or 0 for none, got {self.convolution}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads={self.heads}, got {self.width}")

    def build(
        self, levels: Sequence[int], condition_dim: int = 0, *, shape: tuple[int, ...] | None = None
    ) -> "TokenTransformer":
        """Return a new network; its weights come from torch's global generator.

        Parameters
        ----------
        levels : sequence of int
            Number of values of each position.
        condition_dim : int
            Length of a condition; 0 for a network without conditions.
        shape : tuple of int, optional
            Layout of the positions, (L,) or (C, H, W) with C H W = L, which ``patch`` needs; default (L,).

        Raises
        ------
        ValueError
            If ``shape`` does not fit the number of positions, or the network convolves and ``shape`` is not (L,).
        """
        shape = (len(levels),) if shape is None else shape
        if self.convolution and len(shape) != 1:
            raise ValueError(f"convolution is along sequences (L,), but the rows are of shape {tuple(shape)}; set it to 0")
        return TokenTransformer(
            levels,
            condition_dim,
            cells=_cells(shape, self.patch, len(levels)),
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            convolution=self.convolution,
        )

    def build_causal(self, levels: Sequence[int], condition_dim: int = 0) -> "CausalTransformer":
        """Return a new network in which each position sees those before it; ``levels`` as in :meth:`build`."""
        if self.patch != 1:
            raise ValueError(f"patch must be 1 where tokens are predicted one after the other, got {self.patch}")
        return CausalTransformer(
            levels,
            condition_dim,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            convolution=self.convolution,
        )


def default_transformer(shape: tuple[int, ...]) -> TransformerSpec:
    """Return the default specification for tokens with the layout ``shape``, (L,) or (C, H, W): if possible at most 256 cells.

    >>> default_transformer((3,)), default_transformer((1, 28, 28))
    (TransformerSpec(width=64, depth=2, heads=4, patch=1, convolution=0),
     TransformerSpec(width=128, depth=4, heads=4, patch=2, convolution=0))
    """
    if len(shape) == 1:
        patch = min(max(1, math.ceil(shape[0] / _MOST_CELLS)), 64)
        return TransformerSpec(width=64, depth=2) if shape[0] <= _FEW else TransformerSpec(patch=patch)
    patch = 1
    while math.ceil(shape[1] / patch) * math.ceil(shape[2] / patch) > _MOST_CELLS and patch < 64:
        patch *= 2
    return TransformerSpec(patch=patch)


class TokenTransformer(nn.Module):
    """Transformer, ``network(tokens, condition)`` from tokens (B, L) to logits (B, L, K).

    Parameters
    ----------
    levels : sequence of int
        Number of values of each position, at least 1; K is the largest.
    condition_dim : int
        Length of a condition; 0 for a network without conditions.
    cells : int64 Tensor (G, P), optional
        The positions of each cell; L means none. Default: one position per cell.
    width, depth, heads, convolution : int
        See :class:`TransformerSpec`.

    Attributes
    ----------
    levels : int64 Tensor (L,)
    bias : Parameter (L, K)
        Added to the logits; at first it is 0 and the logits equal it.

    >>> network = TokenTransformer([2, 3], 0, width=8, depth=1, heads=2)
    >>> network(torch.tensor([[1, -1]])).softmax(2)  # untrained: a uniform law
    tensor([[[0.5000, 0.5000, 0.0000],
             [0.3333, 0.3333, 0.3333]]], grad_fn=<SoftmaxBackward0>)
    """

    first_row: Tensor
    cells: Tensor
    place: Tensor
    levels: Tensor

    def __init__(
        self,
        levels: Sequence[int],
        condition_dim: int,
        *,
        cells: Tensor | None = None,
        width: int,
        depth: int,
        heads: int,
        convolution: int = 0,
    ) -> None:
        super().__init__()
        counts = checked_levels(levels)
        length, most = len(counts), int(counts.max())
        # Positions decide sizes, so they have values even where a network is built on the meta device to learn its size.
        cells = torch.arange(length, device="cpu")[:, None] if cells is None else cells
        self.most = most
        self.alike = bool((counts == most).all())
        slots = torch.arange(cells.shape[1], device="cpu").expand_as(cells)
        kind = slots if self.alike else torch.where(cells < length, cells, 0)
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("first_row", kind * (most + 1), persistent=False)
        self.register_buffer("place", cells.flatten().argsort(stable=True)[:length], persistent=False)
        self.register_buffer("levels", counts, persistent=False)
        self.embedding = nn.Embedding((int(kind.max()) + 1) * (most + 1), width)
        nn.init.normal_(self.embedding.weight, std=cells.shape[1] ** -0.5)
        self.local = nn.Conv1d(width, width, convolution, padding=convolution // 2) if convolution else None
        self.position = nn.Parameter(0.5 * torch.randn(len(cells), width))
        self.modulation = Modulation(condition_dim, [width] * (2 * depth))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, depth) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.zeros(1 if self.alike else len(cells), cells.shape[1] * most, width))
        self.bias = nn.Parameter(torch.zeros(length, most))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, L, K), -inf for values that a position does not have, from int64 tokens (B, L)."""
        tokens = torch.where(tokens < 0, self.most, tokens)
        if self.cells.shape[1] > 1:
            tokens = nn.functional.pad(tokens, (0, 1), value=self.most)
        hidden = self.embedding(tokens[:, self.cells] + self.first_row).sum(2)
        if self.local is not None:
            hidden = hidden + self.local(hidden.transpose(1, 2)).transpose(1, 2)
        hidden = hidden + self.position
        modulation = self.modulation(condition)
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, modulation[2 * i], modulation[2 * i + 1])
        hidden = self.norm(hidden)
        logits = hidden @ self.head[0].T if self.alike else torch.einsum("bgw,gkw->bgk", hidden, self.head)
        logits = logits.unflatten(2, (-1, self.most)).flatten(1, 2)
        if self.cells.shape[1] > 1:
            logits = logits[:, self.place]
        logits = logits + self.bias
        return torch.as_tensor(logits if self.alike else logits.masked_fill(self._impossible, -torch.inf))

    @property
    def _impossible(self) -> Tensor:
        return torch.arange(self.most, device=self.levels.device) >= self.levels[:, None]


def _cells(shape: tuple[int, ...], patch: int, length: int) -> Tensor:
    """Return the positions (G, P) of each block of neighbors; L beyond the edge."""
    if len(shape) not in (1, 3) or math.prod(shape) != length:
        raise ValueError(
            f"shape: {length} positions lie as ({length},), or as images (C, H, W) with C H W = {length}, got {shape}"
        )
    grid = torch.arange(length, device="cpu").reshape(shape if len(shape) == 3 else (1, 1, length))
    high = patch if len(shape) == 3 else 1
    bottom, right = -grid.shape[1] % high, -grid.shape[2] % patch
    grid = nn.functional.pad(grid, (0, right, 0, bottom), value=length)
    channels, rows, columns = len(grid), grid.shape[1] // high, grid.shape[2] // patch
    blocks = grid.reshape(channels, rows, high, columns, patch).permute(1, 3, 0, 2, 4)
    return blocks.reshape(rows * columns, channels * high * patch)
