r"""The coordinates in which a long signal is learned: a lapped transform with companded coefficients.

A signal of T = F B samples is cut into F blocks of B samples. At each border between two blocks the samples at distances
k + 1/2 on its two sides, l before it and r after it, are rotated,

    l' = c l - s r,    r' = s l + c r,    c = sin(pi (B + 2k + 1) / (4B)),    s = sin(pi (B - 2k - 1) / (4B)),

for k < B/2, and each block is then multiplied by the orthogonal cosine matrix of type IV. Both steps are orthogonal, so the
coefficients are an exact change of coordinates: this is the modified cosine transform with a sine window, without
overlap beyond the two ends. A coefficient a is companded by a signed power p,

    u = sign(a) ((|a| / unit + e)^p - e^p),    log |du/da| = log p + (p - 1) log(|a| / unit + e) - log unit,

whose slope is finite, so that the log-determinant of a signal is the sum of these slopes.

Clips that end before T are silent from there on, exactly 0. Two further rows say where they end, +1 before the end and -1 after
it, and how loud they are, log of the root mean square, by which the others are divided. Decoded signals are 0 from their end
on, so that silence stays silent. There are more such coordinates than samples, so rows have no density in them.

References
----------
Henrique S. Malvar. Signal processing with lapped transforms. 1992.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["SignalCoding", "lapped", "unlapped"]

_LEAST_LENGTH = 1024  # shorter signals are learned as samples
_BLOCKS = 3.2  # the length of a block is about the root of this times the length of the signal: 128 of 5,120
_POWER, _FLOOR = 0.4, 1e-3
_ENDED_ROWS, _ENDED_PART = 0.02, 0.02  # shares: of rows that end early, and of a row after its end
_QUIETEST = 1e-8


def lapped(x: Tensor, bands: int) -> Tensor:
    """Return the coefficients (..., bands, F) of signals (..., F bands); orthogonal.

    >>> x = torch.arange(12.0).reshape(1, 12)
    >>> torch.allclose(unlapped(lapped(x, 4)), x, atol=1e-5)
    True
    """
    blocks = x.reshape(*x.shape[:-1], -1, bands)
    return (_rotated(blocks, 1.0) @ _cosines(bands).to(x)).mT


def unlapped(coefficients: Tensor) -> Tensor:
    """Return the signals (..., F bands) of coefficients (..., bands, F)."""
    bands = coefficients.shape[-2]
    return _rotated(coefficients.mT @ _cosines(bands).to(coefficients), -1.0).flatten(-2)


def _rotated(blocks: Tensor, sign: float) -> Tensor:
    """Return blocks (..., F, B) with the samples about each border rotated, by the opposite angle if ``sign`` is -1."""
    half, bands = blocks.shape[-1] // 2, blocks.shape[-1]
    if blocks.shape[-2] < 2 or not half:
        return blocks
    angle = math.pi / (4 * bands) * (bands - 1 - 2 * torch.arange(half, dtype=torch.float64))
    c, s = angle.cos().to(blocks), sign * angle.sin().to(blocks)
    left, right = blocks[..., :-1, bands - half :].flip(-1), blocks[..., 1:, :half]
    first, last = blocks[..., :1, :half], blocks[..., -1:, bands - half :]
    begins = torch.cat((first, s * left + c * right), -2)
    ends = torch.cat(((c * left - s * right).flip(-1), last), -2)
    return torch.cat((begins, blocks[..., half : bands - half], ends), -1)


@functools.lru_cache(maxsize=8)
def _cosines(bands: int) -> Tensor:
    """Return the symmetric orthogonal cosine matrix of type IV, float64."""
    n = torch.arange(bands, dtype=torch.float64) + 0.5
    matrix: Tensor = (2 / bands) ** 0.5 * torch.cos(math.pi / bands * n[:, None] * n)
    return matrix


@dataclass(frozen=True)
class SignalCoding:
    """The map from signals x (N, C, T) to coordinates (N, K, L) and back.

    Parameters
    ----------
    channels, length : int
        C and T.
    bands : int
        B, a divisor of T; 1 for signals that stay as they are.
    ends : bool
        Whether signals end before T; the coordinates then have further rows.
    unit : float
        Root mean square of the coefficients in training.
    """

    channels: int
    length: int
    bands: int
    ends: bool
    unit: float = 1.0

    def __post_init__(self) -> None:
        sizes = (self.channels, self.length, self.bands)
        if not all(type(size) is int and size > 0 for size in sizes) or self.length % self.bands:
            raise ValueError(f"channels, length and bands must be positive, and bands a divisor of length, not {sizes}")
        if type(self.ends) is not bool or not (type(self.unit) is float and 0 < self.unit < math.inf):
            raise ValueError(f"ends must be True or False and unit a positive number, not {self.ends!r} and {self.unit!r}")

    @classmethod
    def fit(cls, x: Tensor, *, padded: bool = False) -> "SignalCoding | None":
        """Return the coding that suits signals x (N, C, T), or None if they are learned as samples.

        Signals of 1,024 samples and more get the lapped transform, if their length has a suitable divisor. Signals end early
        if ``padded``, or if they get the transform and at least 2 % of them are 0 in their last fiftieth.
        """
        channels, length = x.shape[1:]
        bands = _suitable_bands(length)
        tail = x[..., length - math.ceil(_ENDED_PART * length) :]
        ended = bands > 1 and bool((tail == 0).flatten(1).all(1).double().mean() >= _ENDED_ROWS)
        ends = padded or ended
        if bands == 1 and not ends:
            return None
        coding = cls(channels, length, bands, ends)
        if bands == 1:
            return coding
        parts = torch.split(x, 256)
        square = math.fsum(float(lapped(coding._even(part), bands).double().square().sum()) for part in parts)
        return cls(channels, length, bands, ends, unit=(square / x.numel()) ** 0.5 or 1.0)

    @property
    def exact(self) -> bool:
        """Whether there are as many coordinates as samples, so that densities can be converted."""
        return not self.ends

    @property
    def shape(self) -> tuple[int, int]:
        """(K, L) of the coordinates."""
        return self.channels * self.bands + self._further, self.length // self.bands

    @property
    def data_shape(self) -> tuple[int, int]:
        """(C, T) of a signal."""
        return self.channels, self.length

    def forward(self, x: Tensor) -> Tensor:
        """Return coordinates (N, K, L) of signals x (N, C, T)."""
        if self.bands == 1:
            return torch.cat((x, self._running(x)), 1) if self.ends else x
        a = lapped(self._even(x), self.bands).flatten(1, 2) / self.unit
        u: Tensor = a.sign() * ((a.abs() + _FLOOR) ** _POWER - _FLOOR**_POWER)
        if not self.ends:
            return u
        loudness = self._loudness(x).log()[:, None, None].expand(-1, 1, u.shape[2])
        return torch.cat((u, self._running(x), loudness), 1)

    def inverse(self, u: Tensor) -> Tensor:
        """Return signals (N, C, T) of coordinates u (N, K, L); differentiable."""
        rows = self.channels * self.bands
        x = u[:, :rows]
        if self.bands > 1:
            a = self.unit * x.sign() * ((x.abs() + _FLOOR**_POWER) ** (1 / _POWER) - _FLOOR)
            x = unlapped(a.unflatten(1, (self.channels, self.bands)))
        if not self.ends:
            return x
        running = self._until_end(u[:, rows])[:, None]
        if self.bands > 1:
            inside = running.repeat_interleave(self.bands, 2)
            weight = running[:, 0] / running[:, 0].sum(1, keepdim=True)
            return x * inside * (weight * u[:, rows + 1]).sum(1).exp()[:, None, None]
        return x * running

    def log_det(self, x: Tensor) -> Tensor:
        """Return log |du/dx| of each signal, (N,), float64.

        Raises
        ------
        ValueError
            If there are more coordinates than samples.
        """
        if not self.exact:
            raise ValueError("signals that end early have no density, because they have more coordinates than samples")
        a = lapped(x.double(), self.bands).abs() / self.unit
        return (math.log(_POWER / self.unit) + (_POWER - 1) * (a + _FLOOR).log()).flatten(1).sum(1)

    def state(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "channels": self.channels,
            "length": self.length,
            "bands": self.bands,
            "ends": self.ends,
            "unit": self.unit,
        }

    @property
    def _further(self) -> int:
        return int(self.ends) * (1 if self.bands == 1 else 2)

    def _even(self, x: Tensor) -> Tensor:
        """Return signals of unit loudness if they end, otherwise as they are."""
        return x / self._loudness(x)[:, None, None] if self.ends else x

    def _loudness(self, x: Tensor) -> Tensor:
        """Return the root mean square of each signal up to its end, (N,)."""
        samples = self._lengths(x).clamp(min=1) * self.channels
        return (x.square().flatten(1).sum(1) / samples).sqrt().clamp(min=_QUIETEST)

    def _lengths(self, x: Tensor) -> Tensor:
        """Return the number of samples up to the last one that is not 0, (N,)."""
        places = torch.arange(1, self.length + 1, device=x.device)
        return ((x != 0).any(1) * places).amax(1)

    def _running(self, x: Tensor) -> Tensor:
        """Return +1 for blocks that begin before the end of a signal and -1 for the others, (N, 1, L)."""
        begins = torch.arange(self.length // self.bands, device=x.device) * self.bands
        return torch.where(begins < self._lengths(x)[:, None], 1.0, -1.0).to(x.dtype)[:, None]

    def _until_end(self, mark: Tensor) -> Tensor:
        """Return 1 for the blocks before the most likely end and 0 for the others, (N, L), from noisy marks."""
        whole = mark.detach().cumsum(1).argmax(1, keepdim=True)
        return (torch.arange(mark.shape[1], device=mark.device) <= whole).to(mark)


def _suitable_bands(length: int) -> int:
    """Return the even divisor of a length nearest to the root of 3.2 times it, within a factor of 2; 1 if there is none.

    >>> [_suitable_bands(length) for length in (24, 5120, 16_000, 1031)]
    [1, 128, 250, 1]
    """
    if length < _LEAST_LENGTH:
        return 1
    aim = math.sqrt(_BLOCKS * length)
    near = [size for size in range(2, int(2 * aim) + 1, 2) if not length % size and size >= aim / 2]
    return min(near, key=lambda size: abs(math.log(size / aim)), default=1)
