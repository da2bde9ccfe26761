"""A residual multilayer perceptron for vectors, and for small images as vectors of pixels.

With e = embedding(t, condition) and, for each block, scale and shift linear in e,

    h <- h + V silu(W ((1 + scale) norm(h) + shift)),

where norm is layer normalization without parameters. Rows of at most 8 columns enter together with
[cos(x), sin(x), cos(2 x), sin(2 x), cos(4 x), sin(4 x)]: in few dimensions densities have sharp edges, which are high
frequencies of x, and plain layers learn those last. Rows of more columns enter alone.

References
----------
Kaiming He et al. Deep residual learning for image recognition. CVPR 2016. https://arxiv.org/abs/1512.03385
Matthew Tancik et al. Fourier features let networks learn high frequency functions in low dimensional domains. NeurIPS
2020. https://arxiv.org/abs/2006.10739
William Peebles, Saining Xie. Scalable diffusion models with transformers. ICCV 2023. https://arxiv.org/abs/2212.09748
"""

import torch
from torch import Tensor, nn

from pushforward.networks.embedding import Embedding

__all__ = ["MLP"]

_FEW_COLUMNS = 8
_OCTAVES = 3


class MLP(nn.Module):
    """Residual perceptron, ``network(x, t, condition)`` for x of shape (B, *D), fully connected.

    Parameters
    ----------
    features : int
        Number of elements of a row.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.
    width : int
        Length of the hidden state.
    depth : int
        Number of residual blocks.

    >>> network = MLP(2, condition_dim=0, width=16, depth=2)
    >>> network(torch.ones(5, 2), torch.rand(5), None).abs().max()
    tensor(0., grad_fn=<MaxBackward1>)
    """

    waves: Tensor

    def __init__(self, features: int, condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = Embedding(width, condition_dim)
        self.modulation = nn.Linear(width, 2 * width * depth)
        octaves = _OCTAVES if features <= _FEW_COLUMNS else 0
        self.register_buffer("waves", 2.0 ** torch.arange(octaves), persistent=False)
        self.first = nn.Linear(features * (1 + 2 * octaves), width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor (B, *D) from x (B, *D), t (B,) and condition (B, K) or None."""
        return self.readout(self.features(x, t, condition), x)

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the last hidden state, (B, width)."""
        x = x.flatten(1)
        modulation = self.modulation(self.embedding(t, condition)).chunk(2 * len(self.blocks), dim=-1)
        if len(self.waves):
            phase = (x.unsqueeze(-1) * self.waves).flatten(-2)
            x = torch.cat((x, phase.cos(), phase.sin()), dim=-1)
        hidden = self.first(x)
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, modulation[2 * i], modulation[2 * i + 1])
        return nn.functional.silu(self.norm(hidden))

    def readout(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the output, a tensor like x, from :meth:`features`."""
        output: Tensor = self.last(features)
        return output.reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        modulated = self.norm(hidden) * (1 + scale) + shift
        change: Tensor = self.contract(nn.functional.silu(self.expand(modulated)))
        return hidden + change
