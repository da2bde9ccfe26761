"""A classifier of noisy rows for classifier guidance: logits at every time.

Vectors go through a residual perceptron. Images go through convolutions that halve them at most three times, and a mean over
the remaining height and width. The embedding of the time scales and shifts every block.

References
----------
Prafulla Dhariwal, Alex Nichol. Diffusion models beat GANs on image synthesis. 2021. https://arxiv.org/abs/2105.05233
"""

import math

from torch import Tensor, nn

from pushforward.networks.embedding import Embedding

__all__ = ["NoisyClassifier"]

_BLOCKS = 3


class NoisyClassifier(nn.Module):
    """Logits (B, C) of noisy rows x_t, vectors (B, D), signals (B, channels, T) or images (B, channels, H, W), at times t (B,).

    Parameters
    ----------
    shape : tuple of int
        (D,), (channels, T), which is read as a vector, or (channels, H, W).
    classes : int
        C, at least 2.
    width : int
        Length of the hidden state, or number of channels, even.

    >>> NoisyClassifier((1, 8, 8), classes=10, width=16)(torch.zeros(5, 1, 8, 8), torch.tensor(0.5)).shape
    torch.Size([5, 10])
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a classifier tells at least 2 classes apart, got {classes}")
        self.width = width
        self.embedding = Embedding(width, 0)
        self.modulation = nn.Linear(width, 2 * width * _BLOCKS)
        images = len(shape) == 3
        self.first: nn.Module = nn.Conv2d(shape[0], width, 3, padding=1) if images else nn.Linear(math.prod(shape), width)
        halvings = max(0, min(_BLOCKS, min(shape[1:]).bit_length() - 2)) if images else 0
        self.blocks = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, stride=2 if block < halvings else 1) if images else nn.Linear(width, width)
            for block in range(_BLOCKS)
        )
        self.keeps_size = [block >= halvings for block in range(_BLOCKS)]
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the logits."""
        modulation = self.modulation(self.embedding(t.to(x).expand(len(x)), None)).chunk(2 * _BLOCKS, dim=-1)
        hidden = self.first(x if x.ndim == 4 else x.flatten(1))
        for index, block in enumerate(self.blocks):
            scale, shift = (_widen(part, hidden) for part in modulation[2 * index : 2 * index + 2])
            change = block(nn.functional.silu(hidden * (1 + scale) + shift))
            hidden = hidden + change if self.keeps_size[index] else change
        pooled = hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden
        logits: Tensor = self.last(nn.functional.silu(self.norm(pooled)))
        return logits


def _widen(part: Tensor, hidden: Tensor) -> Tensor:
    return part[:, :, None, None] if hidden.ndim == 4 else part
