"""A U-Net over images of tokens.

A pixel with values 0 ... K - 1 enters as K numbers: for each k < K - 1 whether its value is above k, as 1 or -1, so that near
values look alike, and a last 1 for an unmasked pixel; a masked pixel enters as zeros. The share of masked tokens replaces the
time. The output is K logits for each channel of each pixel.

Beyond 64 values these would be too many channels. There F = 16 numbers represent a value, again so that near values look alike:
whether it is the first, whether it is the last, and cos(pi j (k + 1/2) / K) for j = 0 ... F - 3. The U-Net returns F numbers
for each channel of each pixel, and the logits of the K values are a learned linear map of them, shared by all pixels and
initialized with these F functions of k.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pushforward.networks.spec import UNetSpec

__all__ = ["TokenUNet"]

_MANY, _FEATURES = 64, 16


class TokenUNet(nn.Module):
    """U-Net, ``network(tokens, condition)`` from tokens (B, L) of images (C, H, W) to logits (B, L, K).

    Parameters
    ----------
    levels : sequence of int
        Number of values of each of the L = C H W positions, at least 1; K is the largest.
    shape : tuple of int
        (C, H, W).
    condition_dim : int
        Length of a condition; 0 for a network without conditions.
    spec : UNetSpec
        Its size.

    Attributes
    ----------
    levels : int64 Tensor (L,)
    basis : Parameter (K, F) or None
        The linear map from the U-Net's output to logits; None up to 64 values, where the output is the logits.
    bias : Parameter (L, K)
        Added to the logits; at first it is 0 and the logits equal it.

    >>> network = TokenUNet([3] * 16, (1, 4, 4), 0, spec=UNetSpec(width=4, levels=1, patch=1))
    >>> network(torch.full((2, 16), -1)).shape
    torch.Size([2, 16, 3])
    """

    levels: Tensor
    table: Tensor

    def __init__(self, levels: Sequence[int], shape: tuple[int, ...], condition_dim: int, *, spec: UNetSpec) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"shape: a U-Net is for images (C, H, W), got {tuple(shape)}; use TransformerSpec for rows that are not images"
            )
        counts = torch.as_tensor(levels, device="cpu")  # even where a network is built on the meta device to learn its size
        self.shape, self.most = tuple(shape), int(counts.max())
        self.alike = bool((counts == self.most).all())
        self.register_buffer("levels", counts, persistent=False)
        table = _above(self.most) if self.most <= _MANY else _smooth(self.most)
        self.register_buffer("table", table, persistent=False)
        self.unet = spec.build((shape[0] * table.shape[1], *shape[1:]), condition_dim)
        self.basis = nn.Parameter(table.clone()) if self.most > _MANY else None
        self.bias = nn.Parameter(torch.zeros(len(counts), self.most))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, L, K), -inf for values that a position does not have, from int64 tokens (B, L)."""
        unmasked = (tokens >= 0)[..., None]
        numbers = torch.where(unmasked, self.table[tokens.clamp(min=0)], 0.0)
        images = numbers.to(self.bias.dtype).reshape(-1, *self.shape, self.table.shape[1]).movedim(-1, 2).flatten(1, 2)
        masked_share = 1 - unmasked.to(self.bias.dtype).mean((1, 2))
        output = self.unet(images, masked_share, condition).reshape(-1, self.shape[0], self.table.shape[1], *self.shape[1:])
        logits = output.movedim(2, -1).flatten(1, 3)
        logits = (logits if self.basis is None else logits @ self.basis.T) + self.bias
        if self.alike:
            return torch.as_tensor(logits)
        value = torch.arange(self.most, device=tokens.device)
        return torch.as_tensor(logits.masked_fill(value >= self.levels[:, None], -torch.inf))


def _above(most: int) -> Tensor:
    """Return whether each value is above each other but the last, as 1 or -1, and a last column of 1, (K, K)."""
    value = torch.arange(most)
    return torch.where((value[:, None] > value) | (value == most - 1), 1.0, -1.0)


def _smooth(most: int) -> Tensor:
    """Return whether each value is the first or the last, and cosines of the value, (K, F)."""
    value = torch.arange(most)
    waves = torch.cos(math.pi * torch.arange(_FEATURES - 2) * ((value + 0.5) / most)[:, None])
    ends = torch.stack((value == 0, value == most - 1), dim=1)
    return torch.cat((ends.to(waves), waves), dim=1)
