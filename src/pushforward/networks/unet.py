"""A compact U-Net for images of any size and any number of channels.

The image is cut into blocks of ``patch`` x ``patch`` pixels, which become channels. Residual blocks then work at ``levels``
resolutions, each half of the previous one, down to the coarsest and up again; skip connections add the state of each level on
the way down to that on the way up. With e = embedding(t, condition) and, for each residual block, scale and shift linear in e,

    h <- h + conv(silu(conv((1 + scale) norm(h) + shift))).

norm normalizes the channels of each pixel separately: this is fast for channels that are contiguous in memory, and padding
cannot change the image's statistics. Images whose sides are not multiples of ``patch * 2**(levels - 1)`` are padded with
zeros below and on the right, and the output is cropped.

A condition may contain an image, which is enlarged to the size of x by repeating its pixels and enters beside the channels of
x.

References
----------
Olaf Ronneberger, Philipp Fischer, Thomas Brox. U-Net: convolutional networks for biomedical image segmentation. MICCAI
2015. https://arxiv.org/abs/1505.04597
Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. NeurIPS 2020.
https://arxiv.org/abs/2006.11239
Emiel Hoogeboom, Jonathan Heek, Tim Salimans. Simple diffusion: end-to-end diffusion for high resolution images. ICML
2023. https://arxiv.org/abs/2301.11093
"""

import itertools
import math

import torch
from torch import Tensor, nn

from pushforward.networks.coder import PixelNorm
from pushforward.networks.embedding import Embedding

__all__ = ["UNet"]

_WIDEST = 4


class UNet(nn.Module):
    """U-Net, ``network(x, t, condition)`` for x of shape (B, C, H, W).

    Parameters
    ----------
    channels : int
        C, at least 1.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.
    image : (int, int, int), optional
        Channels, height and width of the image whose pixels are the entries of a condition after the first.
    width : int
        Channels at the finest level; they double with each level, up to four times ``width``.
    depth : int
        Residual blocks per level on the way down, and again on the way up.
    middle : int
        Further residual blocks at the coarsest level, at least 0.
    levels : int
        Number of resolutions.
    patch : int
        Side of the blocks of pixels that become channels.

    >>> network = UNet(3, condition_dim=0, width=8, depth=1, middle=1, levels=2, patch=2)
    >>> network(torch.ones(5, 3, 30, 17), torch.rand(5), None).shape
    torch.Size([5, 3, 30, 17])
    """

    def __init__(
        self,
        channels: int,
        condition_dim: int,
        *,
        width: int,
        depth: int,
        middle: int,
        levels: int,
        patch: int,
        image: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.patch = patch
        self.multiple = patch * 2 ** (levels - 1)
        widths = [width * min(2**level, _WIDEST) for level in range(levels)]
        self.image = image
        beside, pixels = (0, 0) if image is None else (image[0], math.prod(image))
        self.embedding = Embedding(4 * width, condition_dim - pixels)
        self.first = nn.Conv2d((channels + beside) * patch**2, width, 3, padding=1)
        self.down = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in widths)
        self.middle = nn.ModuleList(_Block(widths[-1]) for _ in range(middle))
        self.up = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in reversed(widths))
        pairs = list(itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs))
        down = [2 * w for w in widths for _ in range(depth)]
        self.sizes = [*down, *[2 * widths[-1]] * middle, *down[::-1]]
        self.modulation = nn.Linear(4 * width, sum(self.sizes))
        self.norm = PixelNorm(width)
        self.last = nn.Conv2d(width, channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor (B, C, H, W) from x (B, C, H, W), t (B,) and condition (B, K) or None."""
        return self.readout(self.features(x, t, condition), x)

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the last hidden state, (B, width, h, w), with one cell per block of pixels."""
        if self.image is not None:
            x, condition = self._beside(x, condition, self.image)
        modulation = iter(self.modulation(self.embedding(t, condition))[..., None, None].split(self.sizes, dim=1))
        hidden = self.first(self._cut(x))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level:
                hidden = self.shrink[level - 1](hidden)
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
            skips.append(hidden)
        for block in self.middle:
            hidden = block(hidden, next(modulation))
        for level, blocks in enumerate(self.up):
            if level:
                hidden = self.grow[level - 1](hidden) + skips[-1 - level]
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
        return nn.functional.silu(self.norm(hidden))

    def readout(self, features: Tensor, x: Tensor) -> Tensor:
        """Return the output, a tensor like x, from :meth:`features`."""
        height, width = x.shape[-2:]
        return nn.functional.pixel_shuffle(self.last(features), self.patch)[..., :height, :width].contiguous()

    def _beside(self, x: Tensor, condition: Tensor | None, image: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
        """Return x with the enlarged image of the condition as further channels, and the rest of the condition."""
        if condition is None:
            return torch.cat((x, x.new_zeros(len(x), image[0], *x.shape[-2:])), 1), None
        sizes = [1, math.prod(image), condition.shape[1] - 1 - math.prod(image)]
        first, pixels, rest = torch.split(condition, sizes, 1)
        enlarged = pixels.reshape(-1, *image)
        for axis in (-2, -1):
            enlarged = enlarged.repeat_interleave(x.shape[axis] // image[axis], axis)
        return torch.cat((x, enlarged.to(x.dtype)), 1), torch.cat((first, rest), 1)

    def _cut(self, x: Tensor) -> Tensor:
        """Pad to a multiple of the coarsest cell and turn blocks of pixels into channels, channels last in memory."""
        bottom, right = -x.shape[-2] % self.multiple, -x.shape[-1] % self.multiple
        if bottom or right:
            x = nn.functional.pad(x, (0, right, 0, bottom))
        return nn.functional.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PixelNorm(width, elementwise_affine=False)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.chunk(2, dim=1)
        modulated = torch.addcmul(shift, self.norm(hidden), 1 + scale)
        change: Tensor = self.conv_2(nn.functional.silu(self.conv_1(modulated)))
        return hidden + change
