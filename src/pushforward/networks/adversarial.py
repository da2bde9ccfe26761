"""The two networks of an adversarial model: a generator of rows, and a critic that returns one number per row.

A generator is a network ``(z, condition) -> (B, *D)`` of codes z (B, inputs), a critic a network ``(x, condition) -> (B, 1)``
of rows x (B, *D). Rows are vectors or images of any height, width and number of channels. :class:`GANSpec` builds both.

There is no normalization, and the activation is a(h) = max(h, h / 5), whose second derivative is zero: this makes the
critic's slope, and the gradient of a penalty on it, cheap. Vectors, and images with no side of 32 or more, go through ``depth``
layers

    h <- a(W h + b + A c),

larger images through residual blocks of convolutions at each resolution of the pyramid of :mod:`pushforward.networks.coder`,

    h <- h + V a(W a(h) + b + A c),

where V starts at zero, so that the untrained network is shallow. The condition c enters without a bias: zeros, the null
condition, change nothing.

References
----------
Hongyi Zhang, Yann Dauphin, Tengyu Ma. Fixup initialization: residual learning without normalization. 2019.
https://arxiv.org/abs/1901.09321
Yiwen Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin. The GAN is dead; long live the GAN! A modern GAN baseline. 2024.
https://arxiv.org/abs/2501.05441
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pushforward.networks.checks import check_int, check_shape, condition_layers
from pushforward.networks.coder import Pyramid, coarsen, padded, refine

__all__ = ["GANSpec", "ImageCritic", "ImageGenerator", "Perceptron", "Shifts"]

_LEAK = 0.2
_CONVOLVED_FROM = 32
L = TypeVar("L", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class GANSpec:
    """Size of a generator and of its critic.

    Parameters
    ----------
    width : int
        Length of the hidden layers of vectors and small images; channels of larger images at the finest level, which
        double with each halving, up to four times ``width``. From 1 to 65,536.
    depth : int
        Hidden layers of vectors and small images; residual blocks of larger images at each level. From 1 to 1,000.

    >>> spec = GANSpec(width=8, depth=1)
    >>> z, label = torch.rand(5, 4), torch.rand(5, 11)
    >>> x = spec.generator(4, (3, 17, 33), condition_dim=11)(z, label)
    >>> x.shape, spec.critic((3, 17, 33), condition_dim=11)(x, label).shape
    (torch.Size([5, 3, 17, 33]), torch.Size([5, 1]))
    """

    width: int = 128
    depth: int = 3

    def __post_init__(self) -> None:
        for name, high in (("width", 65_536), ("depth", 1_000)):
            check_int(name, getattr(self, name), 1, high)

    def generator(self, inputs: int, shape: tuple[int, ...], condition_dim: int = 0) -> nn.Module:
        """Return a new network (z, condition) -> (B, *shape) for codes (B, inputs)."""
        check_shape(shape)
        if _is_small(shape):
            return Perceptron((inputs,), shape, condition_dim, width=self.width, depth=self.depth)
        return ImageGenerator(inputs, shape, condition_dim, width=self.width, depth=self.depth)

    def critic(self, shape: tuple[int, ...], condition_dim: int = 0) -> nn.Module:
        """Return a new network (x, condition) -> (B, 1) for rows of ``shape``, (D,) or (C, H, W)."""
        check_shape(shape)
        if _is_small(shape):
            return Perceptron(shape, (1,), condition_dim, width=self.width, depth=self.depth)
        return ImageCritic(shape, condition_dim, width=self.width, depth=self.depth)


class Perceptron(nn.Module):
    """Perceptron from rows of any shape to rows of any shape.

    Parameters
    ----------
    shape, target : tuple of int
        Shapes of an input and an output row.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.
    width, depth : int
        Length and number of the hidden layers.

    >>> Perceptron((3,), (1, 2, 2), 0, width=8, depth=1)(torch.rand(5, 3)).shape
    torch.Size([5, 1, 2, 2])
    """

    def __init__(self, shape: tuple[int, ...], target: tuple[int, ...], condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.target, inputs = target, math.prod(shape)
        self.shifts = Shifts(condition_dim, [width] * depth)
        self.layers = nn.ModuleList(_scaled(nn.Linear(width if index else inputs, width)) for index in range(depth))
        self.last = _scaled(nn.Linear(width, math.prod(target)))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, *target) from x (B, *shape) and condition (B, K) or None."""
        hidden = x.flatten(1)
        for layer, shift in zip(self.layers, self.shifts(condition), strict=True):
            hidden = _leaky(layer(hidden) + shift)
        return torch.as_tensor(self.last(hidden).unflatten(1, self.target))


class ImageGenerator(nn.Module):
    """Residual convolutions from vectors (B, inputs) to images (B, C, H, W).

    >>> ImageGenerator(2, (3, 9, 20), 0, width=8, depth=1)(torch.rand(5, 2)).shape
    torch.Size([5, 3, 9, 20])
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.pyramid = pyramid = Pyramid(shape, width)
        widths = pyramid.widths[::-1]
        self.shifts = Shifts(condition_dim, [w for w in widths for _ in range(depth)])
        self.first = _scaled(nn.Linear(inputs, math.prod(pyramid.coarsest)))
        self.levels = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in widths)
        self.grow = nn.ModuleList(_scaled(nn.ConvTranspose2d(a, b, 2, stride=2), a) for a, b in itertools.pairwise(widths))
        self.last = _scaled(nn.Conv2d(widths[-1], shape[0] * pyramid.patch**2, 3, padding=1))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) from z (B, inputs) and condition (B, K) or None."""
        hidden = self.first(z).unflatten(1, self.pyramid.coarsest)
        hidden = refine(hidden, self.levels, self.grow, iter(self.shifts(condition)), self.pyramid)
        return self.pyramid.image(self.last(_leaky(hidden)))


class ImageCritic(nn.Module):
    """Residual convolutions from images (B, C, H, W) to one number each, (B, 1).

    >>> ImageCritic((1, 28, 28), 0, width=8, depth=1)(torch.rand(5, 1, 28, 28)).shape
    torch.Size([5, 1])
    """

    def __init__(self, shape: tuple[int, ...], condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.pyramid = pyramid = Pyramid(shape, width)
        self.shifts = Shifts(condition_dim, [w for w in pyramid.widths for _ in range(depth)])
        self.first = _scaled(nn.Conv2d(shape[0] * pyramid.patch**2, pyramid.widths[0], 3, padding=1))
        self.levels = nn.ModuleList(nn.ModuleList(_Block(w) for _ in range(depth)) for w in pyramid.widths)
        self.shrink = nn.ModuleList(_scaled(nn.Conv2d(a, b, 2, stride=2)) for a, b in itertools.pairwise(pyramid.widths))
        self.last = _scaled(nn.Linear(math.prod(pyramid.coarsest), 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, 1) from x (B, C, H, W) and condition (B, K) or None."""
        hidden = self.first(nn.functional.pixel_unshuffle(padded(x, self.pyramid.patch), self.pyramid.patch))
        hidden = coarsen(hidden, self.levels, self.shrink, iter(self.shifts(condition)))
        return torch.as_tensor(self.last(_leaky(hidden).flatten(1)))


class Shifts(nn.Module):
    """Shifts of the channels of each layer, linear in the condition; a condition of zeros adds zeros.

    Parameters
    ----------
    condition_dim : int
        K; 0 for no shifts.
    widths : sequence of int
        Widths of the layers.

    >>> [shift.shape for shift in Shifts(3, [4, 8])(torch.zeros(5, 3))]
    [torch.Size([5, 4]), torch.Size([5, 8])]
    """

    def __init__(self, condition_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.linear = nn.Linear(condition_dim, sum(widths), bias=False) if condition_dim else None

    def forward(self, condition: Tensor | None) -> Sequence[Tensor | float]:
        """Return the shift (B, width) of each layer from a condition (B, K), or zeros without one."""
        if condition is None:
            return [0.0] * len(self.widths)
        return torch.split(torch.as_tensor(condition_layers(self.linear, condition)(condition)), self.widths, dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_1 = _scaled(nn.Conv2d(width, width, 3, padding=1))
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

    def forward(self, hidden: Tensor, shift: Tensor | float) -> Tensor:
        inside = self.conv_1(_leaky(hidden)) + (shift[..., None, None] if isinstance(shift, Tensor) else shift)
        return hidden + torch.as_tensor(self.conv_2(_leaky(inside)))


def _is_small(shape: tuple[int, ...]) -> bool:
    """Whether rows are vectors or images so small that convolutions cost more and gain nothing."""
    return len(shape) == 1 or max(shape[1:]) < _CONVOLVED_FROM


def _leaky(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu(x, _LEAK)


def _scaled(layer: L, inputs: int | None = None) -> L:
    """Initialize a layer to keep the scale of leaky activations: weights of variance 2 / ((1 + leak^2) inputs), bias 0."""
    inputs = layer.weight[0].numel() if inputs is None else inputs
    nn.init.normal_(layer.weight, std=math.sqrt(2 / ((1 + _LEAK**2) * inputs)))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
