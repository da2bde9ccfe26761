"""Encoders and decoders: from a row to a short code, and from a code to a row.

An encoder is a network ``(x, condition) -> (B, outputs)`` for rows x (B, *D), a decoder a network ``(z, condition) -> (B, *D)``
for codes z (B, inputs). Rows are vectors or images of any height, width and number of channels. Both are made by one
:class:`CoderSpec`.

Vectors go through residual blocks of width w, in both directions,

    h <- h + V silu(W modulate(norm(h))),          modulate(h) = (1 + scale) h + shift,

with scale and shift linear in an embedding of the condition that has no bias, so that a condition of zeros, the null condition,
changes nothing. Images are cut into blocks of 2 x 2 pixels from a side of 16 on, go through residual blocks of convolutions,
and are halved until no side has more than 4 cells; what is left is flattened and goes through a linear map to the code. A
decoder is the same way back; what stands over at odd sizes is cut off. With ``dense=True`` an image is the vector of its
pixels, which learns small images whose objects stand in the middle in less time. With ``depth=0`` either is one affine map
of row and condition.

References
----------
Kaiming He et al. Deep residual learning for image recognition. CVPR 2016. https://arxiv.org/abs/1512.03385
Ethan Perez et al. FiLM: visual reasoning with a general conditioning layer. AAAI 2018. https://arxiv.org/abs/1709.07871
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = [
    "AffineCoder",
    "CoderSpec",
    "DenseCoder",
    "ImageDecoder",
    "ImageEncoder",
    "Modulation",
    "Pyramid",
    "ResidualBlock",
    "VectorCoder",
    "check_shape",
    "known",
    "padded",
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
        Residual blocks, of images at each level; 0 makes both maps affine. From 0 to 1,000.
    dense : bool
        Whether images are taken as vectors of their pixels, without convolutions.

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
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, got {value!r} of type {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be an int from {low} to {high}, got {value}")

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
    """One affine map of row and condition, whatever their shapes.

    Parameters
    ----------
    shape, target : tuple of int
        Of a row that goes in, and of one that comes out.
    condition_dim : int
        K, the length of a condition; 0 for a network without one.

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
            hidden = hidden + known(self.condition, condition)(condition)
        return torch.as_tensor(hidden.unflatten(1, self.target))


class Modulation(nn.Module):
    """Scale and shift of each residual block from a condition; a condition of zeros gives zeros.

    Parameters
    ----------
    condition_dim : int
        K; with 0 there is nothing to modulate by.
    widths : sequence of int
        Of the blocks.

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
        """Return scale and shift (B, 2 width) of each block from a condition (B, K), or None for each without one."""
        if condition is None:
            return [None] * len(self.sizes)
        return torch.split(known(self.layers, condition)(condition), self.sizes, dim=1)


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
    """The same from rows (B, *shape) to rows (B, *target), whatever their shapes.

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
    """Residual convolutions from images (B, C, H, W) to vectors (B, outputs); ``grid`` is the way without its last step.

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
        self.norm = _PixelNorm(pyramid.widths[-1])
        self.last = nn.Linear(math.prod(pyramid.coarsest), outputs)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, outputs) from x (B, C, H, W) and condition (B, K) or None."""
        return torch.as_tensor(self.last(nn.functional.silu(self.norm(self.grid(x, condition))).flatten(1)))

    def grid(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return features (B, C', h, w) of the cells of the coarsest level."""
        modulation = iter(self.modulation(condition))
        hidden = self.first(nn.functional.pixel_unshuffle(padded(x, self.pyramid.patch), self.pyramid.patch))
        for level, blocks in enumerate(self.levels):
            if level:
                hidden = self.shrink[level - 1](padded(hidden, 2))
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
        return torch.as_tensor(hidden)


class ImageDecoder(nn.Module):
    """Residual convolutions from vectors (B, inputs) to images (B, C, H, W); ``from_grid`` is the way after its first step.

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
        self.norm = _PixelNorm(widths[-1])
        self.last = nn.Conv2d(widths[-1], shape[0] * pyramid.patch**2, 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) from z (B, inputs) and condition (B, K) or None."""
        return self.from_grid(self.first(z).unflatten(1, self.pyramid.coarsest), condition)

    def from_grid(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) from features (B, C', h, w) of the cells of the coarsest level."""
        modulation = iter(self.modulation(condition))
        for level, blocks in enumerate(self.levels):
            if level:
                height, width = self.pyramid.sizes[-1 - level]
                hidden = self.grow[level - 1](hidden)[..., :height, :width]
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(modulation))
        cut = self.last(nn.functional.silu(self.norm(hidden)))
        height, width = self.pyramid.shape[1:]
        return nn.functional.pixel_shuffle(cut, self.pyramid.patch)[..., :height, :width].contiguous()


class Pyramid:
    """The resolutions that an image (C, H, W) goes through: cells (h, w) and channels of each level, finest first.

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


class _ImageBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _PixelNorm(width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor, modulation: Tensor | None) -> Tensor:
        change = _modulate(self.norm(hidden), None if modulation is None else modulation[..., None, None])
        return hidden + torch.as_tensor(self.conv_2(nn.functional.silu(self.conv_1(change))))


class _PixelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each pixel, which mixes no pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _modulate(hidden: Tensor, modulation: Tensor | None) -> Tensor:
    if modulation is None:
        return hidden
    scale, shift = modulation.chunk(2, dim=1)
    return torch.addcmul(shift, hidden, 1 + scale)


def known(layers: nn.Module | None, condition: Tensor) -> nn.Module:
    """Return the layers for the condition, or raise a ValueError if the network was built without them."""
    if layers is None:
        raise ValueError(
            f"this network was built with condition_dim=0 and takes no condition, but got one of shape "
            f"{tuple(condition.shape)}; build it with condition_dim={condition.shape[-1]} or pass condition=None"
        )
    return layers


def padded(x: Tensor, multiple: int) -> Tensor:
    """Pad with zeros below and on the right to sides that are multiples of ``multiple``."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    padded = nn.functional.pad(x, (0, right, 0, bottom)) if bottom or right else x
    return padded.contiguous(memory_format=torch.channels_last)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise a ValueError if ``shape`` is not that of a vector or of an image."""
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"shape: rows are vectors (D,) or images (C, H, W) with sizes of at least 1, got {tuple(shape)}")
