"""One block of a transformer: attention among positions, then a perceptron at each, both modulated by a condition."""

import torch
from torch import Tensor, nn

__all__ = ["AttentionBlock", "Past"]


class Past:
    """The keys and values of the positions of a row so far, which attention need not compute again.

    Parameters
    ----------
    length : int
        Largest number of positions.
    """

    def __init__(self, length: int) -> None:
        self.length, self.count = length, 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new positions (B, H, l, d), and return those of all positions so far."""
        if self.keys is None or self.values is None:
            shape = (*keys.shape[:2], self.length, keys.shape[3])
            self.keys, self.values = keys.new_empty(shape), values.new_empty(shape)
        end = self.count + keys.shape[2]
        self.keys[:, :, self.count : end], self.values[:, :, self.count : end] = keys, values
        self.count = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class AttentionBlock(nn.Module):
    """h + attention(modulate(norm(h))), then h + V gelu(W modulate(norm(h))).

    Parameters
    ----------
    width, heads : int
    depth : int
        Number of such blocks in the network, for the scale of the weights.
    causal : bool
        Whether a position attends only to itself and to those before it.

    >>> AttentionBlock(8, 2, 1)(torch.rand(3, 5, 8), None, None).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, depth: int, *, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.Linear(width, 3 * width)
        self.take = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for layer in (self.take, self.contract):  # keeps the scale of the state independent of the depth
            nn.init.normal_(layer.weight, std=(2 * depth * layer.in_features) ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, first: Tensor | None, second: Tensor | None, past: Past | None = None) -> Tensor:
        """Return the next state (B, L, width), with the modulations (B, 2 width) of both parts.

        With ``past`` the state is that of one position, which attends to those in the past and to itself.
        """
        parts = self.look(_modulate(self.norm_1(hidden), first)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = past.extend(key, value)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal and past is None)
        hidden = hidden + self.take(attended.transpose(1, 2).flatten(2))
        change = self.expand(_modulate(self.norm_2(hidden), second))
        return torch.as_tensor(hidden + self.contract(nn.functional.gelu(change)))


def _modulate(hidden: Tensor, modulation: Tensor | None) -> Tensor:
    if modulation is None:
        return hidden
    scale, shift = modulation[:, None].chunk(2, dim=2)
    return torch.addcmul(shift, hidden, 1 + scale)
