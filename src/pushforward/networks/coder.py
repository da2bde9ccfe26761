"""Encoders and decoders: from a row to a short code, and from a code to a row.

An encoder is a network ``(x, condition) -> (B, outputs)`` for rows x (B, *D), a decoder a network ``(z, condition) -> (B, *D)``
for codes z (B, inputs). Rows are vectors or images of any height, width and number of channels. :class:`CoderSpec` builds both.

Vectors go through residual blocks of width w, in both directions,

    h <- h + V silu(W modulate(norm(h))),          modulate(h) = (1 + scale) h + shift,

with scale and shift linear in an embedding of the condition that has no bias, so that a condition of zeros, the null condition,
changes nothing. Images with sides of 16 or more are cut into blocks of 2 x 2 pixels, go through convolutional residual blocks,
and are halved until no side has more than 4 cells; the result is flattened and mapped linearly to the code. A decoder is the
reverse; odd sizes are cropped. With ``dense=True`` an image is the vector of its pixels, which learns small, centered images in
less time. With ``depth=0`` encoder and decoder are affine maps of row and condition.

References
----------
Kaiming He et al. Deep residual learning for image recognition. CVPR 2016. https://arxiv.org/abs/1512.03385
Ethan Perez et al. FiLM: visual reasoning with a general conditioning layer. AAAI 2018. https://arxiv.org/abs/1709.07871
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pushforward.networks.checks import check_int, check_shape, condition_layers

__all__ = [
    "AffineCoder",
    "CoderSpec",
    "DenseCoder",
    "ImageDecoder",
    "ImageEncoder",
    "Modulation",
    "PixelNorm",
    "Pyramid",
    "ResidualBlock",
    "VectorCoder",
    "coarsen",
    "padded",
    "refine",
]

_SMALLEST = 4
_PATCHED_FROM = 16
_WIDEST = 4


@dataclass(frozen=True)
class CoderSpec:
    """Size of an encoder and of its decoder.

    Parameters
    ----------
    width : int
        Length of the hidden state of vectors; channels of images at the finest level, which double with each halving, up to
        four times ``width``. From 1 to 65,536.
    depth : int
        Residual blocks, for images per level; 0 makes both maps affine. From 0 to 1,000.
    dense : bool
        Whether images are treated as vectors of pixels, without convolutions.

    >>> spec = CoderSpec(width=8, depth=1)
    >>> x, label = torch.rand(5, 3, 17, 30), torch.rand(5, 11)
    >>> z = spec.encoder((3, 17, 30), outputs=4, condition_dim=11)(x, label)
    >>> z.shape, spec.decoder(4, (3, 17, 30), condition_dim=11)(z, label).shape
    (torch.Size([5, 4]), torch.Size([5, 3, 17, 30]))
    """

    width: int = 256
    depth: int = 2
    dense: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.dense, bool):
            raise TypeError(f"dense must be True or False, got {self.dense!r}")
        for name, low, high in (("width", 1, 65_536), ("depth", 0, 1_000)):
            check_int(name, getattr(self, name), low, high)

    def encoder(self, shape: tuple[int, ...], outputs: int, condition_dim: int = 0) -> nn.Module:
        """Return a new network (x, condition) -> (B, outputs) for rows of ``shape``, (D,) or (C, H, W)."""
        check_shape(shape)
        if self.depth == 0:
            return AffineCoder(shape, (outputs,), condition_dim)
        if len(shape) == 1:
            return VectorCoder(shape[0], outputs, condition_dim, width=self.width, depth=self.depth)
        if self.dense:
            return DenseCoder(shape, (outputs,), condition_dim, width=self.width, depth=self.depth)
        return ImageEncoder(shape, outputs, condition_dim, width=self.width, depth=self.depth)

    def decoder(self, inputs: int, shape: tuple[int, ...], condition_dim: int = 0) -> nn.Module:
        """Return a new network (z, condition) -> (B, *shape) for codes (B, inputs)."""
        check_shape(shape)
        if self.depth == 0:
            return AffineCoder((inputs,), shape, condition_dim)
        if len(shape) == 1:
            return VectorCoder(inputs, shape[0], condition_dim, width=self.width, depth=self.depth)
        if self.dense:
            return DenseCoder((inputs,), shape, condition_dim, width=self.width, depth=self.depth)
        return ImageDecoder(inputs, shape, condition_dim, width=self.width, depth=self.depth)


class AffineCoder(nn.Module):
    """One affine map of row and condition, of any shapes.

    Parameters
    ----------
    shape, target : tuple of int
        Shapes of an input and an output row.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.

    >>> AffineCoder((3,), (1, 2, 2), 0)(torch.rand(5, 3)).shape
    torch.Size([5, 1, 2, 2])
    """

    def __init__(self, shape: tuple[int, ...], target: tuple[int, ...], condition_dim: int) -> None:
        super().__init__()
        self.target = target
        self.linear = nn.Linear(math.prod(shape), math.prod(target))
        self.condition = nn.Linear(condition_dim, math.prod(target), bias=False) if condition_dim else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, *target) from x (B, *shape) and condition (B, K) or None."""
        hidden = self.linear(x.flatten(1))
        if condition is not None:
            hidden = hidden + condition_layers(self.condition, condition)(condition)
        return torch.as_tensor(hidden.unflatten(1, self.target))


class Modulation(nn.Module):
    """Scale and shift of each residual block from a condition; a condition of zeros gives zeros.

    Parameters
    ----------
    condition_dim : int
        K; 0 for no modulation.
    widths : sequence of int
        Widths of the blocks.

    >>> Modulation(3, [4, 8])(torch.zeros(5, 3))[1].shape
    torch.Size([5, 16])
    """

    def __init__(self, condition_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [2 * width for width in widths]
        self.layers = None
        if condition_dim:
            hidden = max(widths)
            self.layers = nn.Sequential(
                nn.Linear(condition_dim, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, sum(self.sizes), bias=False)
            )

    def forward(self, condition: Tensor | None) -> Sequence[Tensor | None]:
        """Return scale and shift (B, 2 width) of each block from a condition (B, K), or None for each block without one."""
        if condition is None:
            return [None] * len(self.sizes)
        return torch.split(condition_layers(self.layers, condition)(condition), self.sizes, dim=1)


class ResidualBlock(nn.Module):
    """h + V silu(W modulate(norm(h))) for vectors h (B, width).

    >>> ResidualBlock(4)(torch.rand(2, 4), None).shape
    torch.Size([2, 4])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Return the next hidden state."""
        change = _modulate(self.norm(hidden), modulation)
        return hidden + torch.as_tensor(self.contract(nn.functional.silu(self.expand(change))))


class VectorCoder(nn.Module):
    """Residual perceptron from vectors (B, inputs) to vectors (B, outputs).

    >>> VectorCoder(3, 2, 0, width=8, depth=1)(torch.rand(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(self, inputs: int, outputs: int, condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.modulation = Modulation(condition_dim, [width] * depth)
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, outputs) from x (B, inputs) and condition (B, K) or None."""
        hidden = self.first(x)
        for block, modulation in zip(self.blocks, self.modulation(condition), strict=True):
            hidden = block(hidden, modulation)
        return torch.as_tensor(self.last(nn.functional.silu(self.norm(hidden))))


class DenseCoder(VectorCoder):
    """A :class:`VectorCoder` from rows (B, *shape) to rows (B, *target) of any shapes.

    >>> DenseCoder((3,), (1, 2, 2), 0, width=8, depth=1)(torch.rand(5, 3)).shape
    torch.Size([5, 1, 2, 2])
    """

    def __init__(self, shape: tuple[int, ...], target: tuple[int, ...], condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__(math.prod(shape), math.prod(target), condition_dim, width=width, depth=depth)
        self.target = target

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, *target) from x (B, *shape) and condition (B, K) or None."""
        return super().forward(x.flatten(1), condition).reshape(-1, *self.target)


class ImageEncoder(nn.Module):
    """Residual convolutions from images (B, C, H, W) to vectors (B, outputs); ``grid`` returns the last features.

    >>> encoder = ImageEncoder((1, 28, 28), 2, 0, width=8, depth=1)
    >>> encoder.grid(torch.rand(5, 1, 28, 28)).shape, encoder(torch.rand(5, 1, 28, 28)).shape
    (torch.Size([5, 32, 4, 4]), torch.Size([5, 2]))
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.pyramid = pyramid = Pyramid(shape, width)
        self.modulation = Modulation(condition_dim, [w for w in pyramid.widths for _ in range(depth)])
        self.first = nn.Conv2d(shape[0] * pyramid.patch**2, pyramid.widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.ModuleList(_ImageBlock(w) for _ in range(depth)) for w in pyramid.widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(pyramid.widths))
        self.norm = PixelNorm(pyramid.widths[-1])
        self.last = nn.Linear(math.prod(pyramid.coarsest), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, outputs) from x (B, C, H, W) and condition (B, K) or None."""
        return torch.as_tensor(self.last(nn.functional.silu(self.norm(self.grid(x, condition))).flatten(1)))

    def grid(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return features (B, C', h, w) of the cells of the coarsest level."""
        hidden = self.first(nn.functional.pixel_unshuffle(padded(x, self.pyramid.patch), self.pyramid.patch))
        return coarsen(hidden, self.levels, self.shrink, iter(self.modulation(condition)))


class ImageDecoder(nn.Module):
    """Residual convolutions from vectors (B, inputs) to images (B, C, H, W); ``from_grid`` starts at the first features.

    >>> ImageDecoder(2, (3, 9, 20), 0, width=8, depth=1)(torch.rand(5, 2)).shape
    torch.Size([5, 3, 9, 20])
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.pyramid = pyramid = Pyramid(shape, width)
        widths = pyramid.widths[::-1]
        self.modulation = Modulation(condition_dim, [w for w in widths for _ in range(depth)])
        self.first = nn.Linear(inputs, math.prod(pyramid.coarsest))
        self.levels = nn.ModuleList(nn.ModuleList(_ImageBlock(w) for _ in range(depth)) for w in widths)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))
        self.norm = PixelNorm(widths[-1])
        self.last = nn.Conv2d(widths[-1], shape[0] * pyramid.patch**2, 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) from z (B, inputs) and condition (B, K) or None."""
        return self.from_grid(self.first(z).unflatten(1, self.pyramid.coarsest), condition)

    def from_grid(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) from features (B, C', h, w) of the cells of the coarsest level."""
        hidden = refine(hidden, self.levels, self.grow, iter(self.modulation(condition)), self.pyramid)
        return self.pyramid.image(self.last(nn.functional.silu(self.norm(hidden))))


class Pyramid:
    """The resolutions of the levels for an image (C, H, W): cells (h, w) and channels of each level, finest first.

    >>> pyramid = Pyramid((1, 28, 28), width=8)
    >>> pyramid.patch, pyramid.sizes, pyramid.widths
    (2, [(14, 14), (7, 7), (4, 4)], [8, 16, 32])
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        self.shape = shape
        self.patch = 2 if min(shape[1:]) >= _PATCHED_FROM else 1
        self.sizes = [(-(-shape[1] // self.patch), -(-shape[2] // self.patch))]
        while max(self.sizes[-1]) > _SMALLEST:
            self.sizes.append((-(-self.sizes[-1][0] // 2), -(-self.sizes[-1][1] // 2)))
        self.widths = [width * min(2**level, _WIDEST) for level in range(len(self.sizes))]

    @property
    def coarsest(self) -> tuple[int, int, int]:
        """Shape (C', h, w) of the coarsest level."""
        return (self.widths[-1], *self.sizes[-1])
        return (self.widths[-1], *self.sizes[-1])

    def image(self, cells: Tensor) -> Tensor:
        """Return images (B, C, H, W) from cells (B, C patch^2, h, w) of the finest level, cropped to the image's size."""
        height, width = self.shape[1:]
        return nn.functional.pixel_shuffle(cells, self.patch)[..., :height, :width].contiguous()


def coarsen(hidden: Tensor, levels: nn.ModuleList, shrink: nn.ModuleList, extras: Iterator[Tensor | float | None]) -> Tensor:
    """Apply the blocks of each level, finest first, with ``shrink`` between levels; each block takes the next of ``extras``."""
    for level, blocks in enumerate(levels):
        if level:
            hidden = shrink[level - 1](padded(hidden, 2))
        for block in blocks:  # type: ignore[attr-defined]
            hidden = block(hidden, next(extras))
    return hidden


def refine(
    hidden: Tensor, levels: nn.ModuleList, grow: nn.ModuleList, extras: Iterator[Tensor | float | None], pyramid: Pyramid
) -> Tensor:
    """Apply the blocks of each level, coarsest first, with ``grow`` between levels; each block takes the next of ``extras``."""
    for level, blocks in enumerate(levels):
        if level:
            height, width = pyramid.sizes[-1 - level]
            hidden = grow[level - 1](hidden)[..., :height, :width]
        for block in blocks:  # type: ignore[attr-defined]
            hidden = block(hidden, next(extras))
    return hidden


class _ImageBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PixelNorm(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor, modulation: Tensor | None) -> Tensor:
        change = _modulate(self.norm(hidden), None if modulation is None else modulation[..., None, None])
        return hidden + torch.as_tensor(self.conv_2(nn.functional.silu(self.conv_1(change))))


class PixelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each pixel; pixels do not mix.

    >>> PixelNorm(3)(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized x, of the shape (B, C, H, W) of ``x``."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _modulate(hidden: Tensor, modulation: Tensor | None) -> Tensor:
    if modulation is None:
        return hidden
    scale, shift = modulation.chunk(2, dim=1)
    return torch.addcmul(shift, hidden, 1 + scale)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Pad with zeros below and on the right to sides that are multiples of ``multiple``."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    padded = nn.functional.pad(x, (0, right, 0, bottom)) if bottom or right else x
    return padded.contiguous(memory_format=torch.channels_last)
