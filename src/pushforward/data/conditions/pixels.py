"""Images as conditions, and the visible part of an image as a condition for the rest of it, encoded as pixels.

:mod:`pushforward.data.conditions.images` says how they are laid out, and which masks are drawn.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pushforward.data.conditions import images
from pushforward.data.conditions.encoder import ConditionEncoder
from pushforward.data.conditions.values import ConditionKind

__all__ = ["Images", "Visible"]


class _Pixels(ConditionEncoder):
    """What both share: a flag, and the pixels of an image."""

    @property
    def _image(self) -> images.Image:
        assert self.image is not None
        return self.image

    @property
    def dim(self) -> int:
        """Number of columns of an encoded image: the flag and the pixels."""
        return 1 + math.prod(self._image)


@dataclass(frozen=True, eq=False)
class Images(_Pixels):
    """Encoder of images."""

    kind: ClassVar[ConditionKind] = "images"

    @classmethod
    def of(cls, array: np.ndarray) -> "Images":
        """Return the encoder of training images (N, h, w[, C]); for errors see :func:`~pushforward.data.fit_conditions`."""
        x, mean, scale = images.fit_images(array)
        return cls(False, images.few(x), mean, scale, image=(x.shape[1], x.shape[2], x.shape[3]))

    def describe_image(self) -> str:
        """Describe the images in words."""
        return images.describe(self._image)

    def _encoded(self, values: Any, n: int) -> Tensor:
        return images.with_pixels(images.images_of(values, n, self._image), self.mean, self.scale).expand(n, -1)

    def _drawn(self, u: Tensor) -> Tensor:
        return images.with_pixels(self.rows[(u * len(self.rows)).long()], self.mean, self.scale)


@dataclass(frozen=True, eq=False)
class Visible(_Pixels):
    """Encoder of the visible part of an image under random masks."""

    kind: ClassVar[ConditionKind] = "mask"
    has_masks: ClassVar[bool] = True

    @classmethod
    def part_of(cls, image: images.Image) -> "Visible":
        """Return the encoder of the visible part of images with these channels, height and width."""
        channels, height, width = image
        none = torch.empty(0, dtype=torch.float64)
        return cls(True, none, none, none, image=(1 + channels, height, width))

    def describe_image(self) -> str:
        """Describe the visible part in words."""
        return "the visible part of the image under random masks"

    def _encoded(self, values: Any, n: int) -> Tensor:
        raise ValueError(
            "the condition of this model is the visible part of the image itself: omit condition, and fill the rest by "
            "impute(X, mask=...)"
        )

    def _drawn(self, u: Tensor) -> Tensor:
        return self.encode(None, len(u))
