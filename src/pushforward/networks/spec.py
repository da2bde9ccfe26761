"""Frozen specifications of the size of a network, and the defaults for a shape of data."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from pushforward.networks.checks import check_int, check_shape
from pushforward.networks.mlp import MLP
from pushforward.networks.unet import UNet
from pushforward.networks.unet_1d import UNet1d

__all__ = ["MLPSpec", "NetworkSpec", "UNet1dSpec", "UNetSpec", "default_spec"]

_MANY_CHANNELS, _BLOCKS = 32, 64  # of signals


@runtime_checkable
class NetworkSpec(Protocol):
    """Builds a network for data of a given shape."""

    def build(self, shape: tuple[int, ...], condition_dim: int) -> nn.Module:
        """Return a new network for rows of ``shape`` and conditions of length ``condition_dim`` (0 for none)."""


@dataclass(frozen=True)
class MLPSpec:
    """Size of an :class:`MLP`.

    Parameters
    ----------
    width : int
        Length of the hidden state, even, from 2 to 65,536.
    depth : int
        Number of residual blocks, from 1 to 1,000.

    >>> MLPSpec(width=16, depth=1).build((2,), condition_dim=0).first
    Linear(in_features=14, out_features=16, bias=True)
    """

    width: int = 256
    depth: int = 3

    def __post_init__(self) -> None:
        check_int("width", self.width, 2, 65_536, even=True)
        check_int("depth", self.depth, 1, 1_000)

    def build(self, shape: tuple[int, ...], condition_dim: int) -> MLP:
        """Return a new network for vectors (D,) or images (C, H, W); its weights come from torch's global generator."""
        check_int("condition_dim", condition_dim, 0, 1_000_000)
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(f"shape: MLPSpec builds networks for vectors (D,) and images (C, H, W), got {tuple(shape)}")
        return MLP(math.prod(shape), condition_dim, width=self.width, depth=self.depth)


@dataclass(frozen=True)
class UNetSpec:
    """Size of a :class:`UNet`.

    Parameters
    ----------
    width : int
        Channels at the finest level, even, from 2 to 8,192; they double with each level, up to four times ``width``.
    depth : int
        Residual blocks per level while resolution falls, and again while it rises, from 1 to 100.
    middle : int
        Further residual blocks at the coarsest level, from 0 to 100.
    levels : int
        Number of resolutions, from 1 to 10; each is half the previous one.
    patch : int
        Side of the blocks of pixels that become channels, from 1 to 64.

    >>> UNetSpec(width=8).build((3, 28, 28), condition_dim=11).patch
    2
    """

    width: int = 48
    depth: int = 1
    middle: int = 0
    levels: int = 2
    patch: int = 2

    def __post_init__(self) -> None:
        check_int("width", self.width, 2, 8_192, even=True)
        check_int("depth", self.depth, 1, 100)
        check_int("middle", self.middle, 0, 100)
        check_int("levels", self.levels, 1, 10)
        check_int("patch", self.patch, 1, 64)

    def build(self, shape: tuple[int, ...], condition_dim: int, image: tuple[int, int, int] | None = None) -> UNet:
        """Return a new network for images of ``shape`` (C, H, W); its weights come from torch's global generator.

        ``image`` is the shape of the image that is part of a condition, see :class:`UNet`.
        """
        check_int("condition_dim", condition_dim, 0, 1_000_000)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(
                f"shape: UNetSpec builds networks for images (C, H, W), got {tuple(shape)}; vectors (D,) take MLPSpec"
            )
        return UNet(
            shape[0],
            condition_dim,
            width=self.width,
            depth=self.depth,
            middle=self.middle,
            levels=self.levels,
            patch=self.patch,
            image=image,
        )


@dataclass(frozen=True)
class UNet1dSpec:
    """Size of a :class:`UNet1d`.

    Parameters
    ----------
    width : int
        Channels at the finest level, even, from 2 to 8,192; they double with each level, up to four times ``width``.
    depth : int
        Residual blocks per level while resolution falls, and again while it rises, from 1 to 100.
    middle : int
        Further residual blocks at the coarsest level, from 0 to 100.
    levels : int
        Number of resolutions, from 1 to 10; each is half the previous one.
    patch : int
        Length of the blocks of times that become channels, from 1 to 4,096.

    >>> UNet1dSpec(width=8).build((1, 24), condition_dim=0).patch
    1
    """

    width: int = 64
    depth: int = 1
    middle: int = 0
    levels: int = 3
    patch: int = 1

    def __post_init__(self) -> None:
        check_int("width", self.width, 2, 8_192, even=True)
        check_int("depth", self.depth, 1, 100)
        check_int("middle", self.middle, 0, 100)
        check_int("levels", self.levels, 1, 10)
        check_int("patch", self.patch, 1, 4_096)

    def build(self, shape: tuple[int, ...], condition_dim: int) -> UNet1d:
        """Return a new network for signals of ``shape`` (C, T); its weights come from torch's global generator."""
        check_int("condition_dim", condition_dim, 0, 1_000_000)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                f"shape: UNet1dSpec builds networks for signals (C, T), got {tuple(shape)}; vectors (D,) take MLPSpec and "
                "images (C, H, W) UNetSpec"
            )
        return UNet1d(
            shape[0],
            condition_dim,
            width=self.width,
            depth=self.depth,
            middle=self.middle,
            levels=self.levels,
            patch=self.patch,
        )


def default_spec(shape: tuple[int, ...]) -> MLPSpec | UNetSpec | UNet1dSpec:
    """Return the default specification for rows of ``shape``: (D,) for vectors, (C, T) for signals, (C, H, W) for images.

    Signals are cut into blocks, so that about 64 remain, unless their channels are many, as bands of frequencies are.

    Images with sides of 16 or more are cut into blocks of 2 x 2 pixels, and halved until the longer side is at most 8 cells.

    >>> default_spec((2,)), default_spec((1, 28, 28))
    (MLPSpec(width=128, depth=3), UNetSpec(width=48, depth=1, middle=0, levels=2, patch=2))
    >>> default_spec((6, 24)), default_spec((130, 40))
    (UNet1dSpec(width=64, depth=1, middle=0, levels=2, patch=1), UNet1dSpec(width=128, depth=1, middle=0, levels=2, patch=1))
    """
    if len(shape) == 2 and min(shape) >= 1:
        return _default_of_signals(*shape)
    check_shape(shape)
    if len(shape) == 1:
        return MLPSpec(width=128 if shape[0] <= 8 else 256 if shape[0] <= 64 else 512)
    short, long = sorted(shape[1:])
    patch = 2 if short >= 16 else 1
    halvings = math.ceil(math.log2(max(long / patch / 8, 1)))
    # A level coarser than the short side would be mostly padding.
    levels = 1 + min(max(halvings, 1), int(math.log2(max(short / patch, 1))))
    return UNetSpec(levels=levels, patch=patch)


def _default_of_signals(channels: int, length: int) -> UNet1dSpec:
    patch = 1 if channels >= _MANY_CHANNELS else 1 << max(0, round(math.log2(length / _BLOCKS)))
    levels = min(3, max(1, int(math.log2(max(length / patch / 6, 1)))))
    return UNet1dSpec(width=128 if channels * patch >= _MANY_CHANNELS else 64, levels=levels, patch=patch)
