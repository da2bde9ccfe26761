r"""A compact U-Net for signals (B, C, T), which also predicts how much each element varies.

As in :mod:`pushforward.networks.unet`, blocks of ``patch`` times become channels, residual blocks work at ``levels``
resolutions, each half of the previous one, and skip connections add the state on the way down to that on the way up. The
network sees the signal, the logarithms of its magnitudes, and cos and sin of the place of each cell, without which it would not
know the time inside a noisy signal. From its last state it reads a remainder r and log-variances log v,

    [x, log(|x| + e)], t -> r, log v,        network(x, t, condition) = r + x (v - 1) / (v + 1).

A denoiser uses the two parts (see :mod:`pushforward.diffusion.variances`); the sum is what they mean where signal and noise
are equally strong.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from pushforward.networks.embedding import Embedding

__all__ = ["UNet1d"]

_WIDEST = 4
_OCTAVES = 5
_FLOOR = 0.01
_LOG_VARIANCES = (-14.0, 7.0)


class UNet1d(nn.Module):
    """U-Net, ``network(x, t, condition)`` for x of shape (B, C, T).

    Parameters
    ----------
    channels : int
        C, at least 1.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.
    width : int
        Channels at the finest level; they double with each level, up to four times ``width``.
    depth : int
        Residual blocks per level on the way down, and again on the way up.
    middle : int
        Further residual blocks at the coarsest level, at least 0.
    levels : int
        Number of resolutions.
    patch : int
        Length of the blocks of times that become channels.

    >>> network = UNet1d(2, condition_dim=0, width=8, depth=1, middle=1, levels=2, patch=2)
    >>> network(torch.ones(5, 2, 37), torch.rand(5), None).shape
    torch.Size([5, 2, 37])
    """

    def __init__(
        self, channels: int, condition_dim: int, *, width: int, depth: int, middle: int, levels: int, patch: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.multiple = patch * 2 ** (levels - 1)
        size = channels * patch
        widths = [width * min(2**level, _WIDEST) for level in range(levels)]
        self.embedding = Embedding(4 * width, condition_dim)
        self.first = _Neighbors(2 * size + 2 * _OCTAVES, width)
        self.down = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in widths)
        self.middle = nn.ModuleList(_Block(widths[-1]) for _ in range(middle))
        self.up = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in reversed(widths))
        pairs = list(itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Linear(2 * fine, coarse) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.Linear(coarse, 2 * fine) for fine, coarse in reversed(pairs))
        down = [2 * w for w in widths for _ in range(depth)]
        self.sizes = [*down, *[2 * widths[-1]] * middle, *down[::-1]]
        self.modulation = nn.Linear(4 * width, sum(self.sizes))
        self.norm = nn.LayerNorm(width)
        self.last = _Neighbors(width, 2 * size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor (B, C, T) from x (B, C, T), t (B,) and condition (B, K) or None."""
        rest, log_variances = self.parts(x, t, condition)
        return rest + torch.tanh(log_variances / 2) * x

    def parts(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the remainder and the log-variances, both like x."""
        modulation = iter(self.modulation(self.embedding(t, condition))[:, None].split(self.sizes, dim=-1))
        cells = self._cut(x)
        hidden = self.first(torch.cat((cells, (cells.abs() + _FLOOR).log(), _places(cells)), -1))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level:
                hidden = self.shrink[level - 1](hidden.unflatten(1, (-1, 2)).flatten(2))
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
            skips.append(hidden)
        for block in self.middle:
            hidden = block(hidden, next(modulation))
        for level, blocks in enumerate(self.up):
            if level:
                hidden = self.grow[level - 1](hidden).unflatten(2, (2, -1)).flatten(1, 2) + skips[-1 - level]
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
        rest, log_variances = self.last(nn.functional.silu(self.norm(hidden))).chunk(2, -1)
        return self._joined(rest, x), self._joined(log_variances, x).clamp(*_LOG_VARIANCES)

    def _joined(self, cells: Tensor, like: Tensor) -> Tensor:
        """Return cells (B, L, C patch) as a signal of this shape."""
        joined = cells.reshape(*cells.shape[:2], like.shape[1], self.patch)
        whole: Tensor = joined.permute(0, 2, 1, 3).flatten(2)[..., : like.shape[2]].contiguous()
        return whole

    def _cut(self, x: Tensor) -> Tensor:
        """Return x, padded to a multiple of the coarsest cell, as cells (B, L, C patch)."""
        x = nn.functional.pad(x, (0, -x.shape[2] % self.multiple))
        return x.reshape(*x.shape[:2], -1, self.patch).permute(0, 2, 1, 3).flatten(2)


def _places(cells: Tensor) -> Tensor:
    """Return cos and sin of pi 2^k (i + 1/2) / L for each cell i of (B, L, D), (B, L, 2 octaves)."""
    count = cells.shape[1]
    part = (torch.arange(count, device=cells.device) + 0.5) / count
    phase = math.pi * part[:, None] * 2.0 ** torch.arange(_OCTAVES, device=cells.device)
    return torch.cat((phase.cos(), phase.sin()), 1).to(cells).expand(len(cells), -1, -1)


class _Neighbors(nn.Linear):
    """A convolution of width 3 over cells (B, L, C), as one product with a matrix."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(3 * before, after)

    def forward(self, cells: Tensor) -> Tensor:
        padded = nn.functional.pad(cells, (0, 0, 1, 1))
        return super().forward(torch.cat((padded[:, :-2], cells, padded[:, 2:]), -1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.conv_1 = _Neighbors(width, width)
        self.conv_2 = _Neighbors(width, width)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.chunk(2, dim=-1)
        modulated = torch.addcmul(shift, self.norm(hidden), 1 + scale)
        change: Tensor = self.conv_2(nn.functional.silu(self.conv_1(modulated)))
        return hidden + change
