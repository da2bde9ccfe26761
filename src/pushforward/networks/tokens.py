r"""A U-Net over pictures of tokens: what stands beside a hidden pixel says most about it.

A pixel with values 0 ... K - 1 enters as K numbers: for each k < K - 1 whether its value is above k, as 1 or -1, so that near
values look alike, and whether it is seen at all; a hidden one enters as zeros. The share of hidden tokens takes the place of
the time. What comes out are K logits for each channel of each pixel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pushforward.networks.spec import UNetSpec

__all__ = ["TokenUNet"]


class TokenUNet(nn.Module):
    """U-Net, ``network(tokens, condition)`` from tokens (B, L) of pictures (C, H, W) to logits (B, L, K).

    Parameters
    ----------
    levels : sequence of int
        Number of values of each of the L = C H W positions, at least 1; K is the largest.
    shape : tuple of int
        (C, H, W).
    condition_dim : int
        Length of a condition; 0 for a network without one.
    spec : UNetSpec
        Its size.

    Attributes
    ----------
    levels : int64 Tensor (L,)
    bias : Parameter (L, K)
        What is added to the logits: 0 in the beginning, when the logits are this and nothing else.

    >>> network = TokenUNet([3] * 16, (1, 4, 4), 0, spec=UNetSpec(width=4, levels=1, patch=1))
    >>> network(torch.full((2, 16), -1)).shape
    torch.Size([2, 16, 3])
    """

    levels: Tensor

    def __init__(self, levels: Sequence[int], shape: tuple[int, ...], condition_dim: int, *, spec: UNetSpec) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"shape: a U-Net is for pictures (C, H, W), got {tuple(shape)}; rows that are no pictures take TransformerSpec"
            )
        counts = torch.as_tensor(levels)
        self.shape, self.most = tuple(shape), int(counts.max())
        self.register_buffer("levels", counts, persistent=False)
        self.unet = spec.build((shape[0] * self.most, *shape[1:]), condition_dim)
        self.bias = nn.Parameter(torch.zeros(len(counts), self.most))

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return logits (B, L, K), -inf where a position has no such value, from int64 tokens (B, L)."""
        value = torch.arange(self.most, device=tokens.device)
        seen = (tokens >= 0)[..., None]
        above = torch.where(seen, torch.where((tokens[..., None] > value) | (value == self.most - 1), 1.0, -1.0), 0.0)
        pictures = above.to(self.bias.dtype).reshape(-1, *self.shape, self.most).movedim(-1, 2).flatten(1, 2)
        hidden = 1 - seen.to(self.bias.dtype).mean((1, 2))
        logits = self.unet(pictures, hidden, condition).reshape(-1, self.shape[0], self.most, *self.shape[1:]).movedim(2, -1)
        logits = logits.flatten(1, 3) + self.bias
        return torch.as_tensor(logits.masked_fill(value >= self.levels[:, None], -torch.inf))
