"""Random numbers as a pure function of their address.

A number drawn here depends on ``(seed, purpose, row, step, element)`` and on nothing else: not on the batch size, the
device, the number of processes, or what was drawn before. The global generators of torch and NumPy are never read and
never written. Row ``i`` of a sample is therefore the same whether it is drawn alone or among a million, and a training
run can be resumed from its step number alone.

The generator is counter-based: the address is hashed to a 64-bit key and element ``e`` is word ``e`` of the SplitMix64
sequence that starts at that key. Standard normals come from the Box-Muller map of the two 32-bit halves of a word,

    z = sqrt(-2 ln v) cos(2 pi u)   and   sqrt(-2 ln v) sin(2 pi u),      u in [0, 1), v in (0, 1),

so their absolute value is at most 6.8. Integer arithmetic is exact on every device; the floating-point part agrees to
rounding between devices and between float32 and float64.

References
----------
Guy L. Steele Jr., Doug Lea, Christine H. Flood. Fast splittable pseudorandom number generators. OOPSLA 2014.
John K. Salmon, Mark A. Moraes, Ron O. Dror, David E. Shaw. Parallel random numbers: as easy as 1, 2, 3. SC 2011.
"""

import functools
import hashlib
import math
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Permutation", "derive", "fresh_seed", "normal", "permutation", "uniform"]

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MULTIPLIER_2 = 0x94D049BB133111EB - (1 << 64)
_LOW_32 = (1 << 32) - 1
_SORTED = 1 << 16  # numbers that are ordered by sorting
_ROUNDS = 8


def fresh_seed() -> int:
    """Return a new seed in [0, 2**31) from the operating system."""
    return secrets.randbelow(1 << 31)


def derive(seed: int, *words: int | str) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every word, for a stream independent of that of ``seed``.

    >>> derive(0, "attempt", 1) == derive(0, "attempt", 1), derive(0, "attempt", 1) == derive(0, "attempt", 2)
    (True, False)
    """
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in (int(seed), *words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def normal(
    shape: Sequence[int],
    *,
    seed: int,
    purpose: str,
    rows: Tensor | int,
    step: Tensor | int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw standard normal numbers.

    Parameters
    ----------
    shape : sequence of int
        Shape of one row, ``D``.
    seed : int
        Any integer.
    purpose : str
        Name of the use; two uses of one seed are independent.
    rows : int or int64 tensor
        ``n`` for rows 0 to n - 1, or row numbers of any shape ``R``.
    step : int or int64 tensor
        Step number; a tensor broadcasts against ``rows``.
    dtype, device
        Of the result.

    Returns
    -------
    Tensor
        Shape ``(*R, *D)``.

    >>> one = normal((3,), seed=1, purpose="doc", rows=torch.tensor([7]))
    >>> many = normal((3,), seed=1, purpose="doc", rows=10)
    >>> torch.equal(one[0], many[7])
    True
    """
    size = math.prod(shape)
    words = _words((size + 1) // 2, seed, purpose, rows, step, device)
    half = _unit(words >> 32, dtype).mul_(2 * math.pi)
    # The half step keeps v > 0; float32 may round v up to 1, where the radius is correctly 0.
    radius = (words & _LOW_32).to(dtype).add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    pair = torch.empty((*words.shape[:-1], 2, words.shape[-1]), dtype=dtype, device=words.device)
    torch.mul(radius, half.cos(), out=pair[..., 0, :])
    torch.mul(radius, half.sin_(), out=pair[..., 1, :])
    return pair.flatten(-2)[..., :size].reshape(*words.shape[:-1], *shape)


def uniform(
    shape: Sequence[int],
    *,
    seed: int,
    purpose: str,
    rows: Tensor | int,
    step: Tensor | int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw numbers uniform on [0, 1); the arguments are those of :func:`normal`.

    The resolution is 2**-24 in float32 and 2**-32 in float64, and the result is always below 1.
    """
    words = _words(math.prod(shape), seed, purpose, rows, step, device)
    return _unit(words >> 32, dtype).reshape(*words.shape[:-1], *shape)


def permutation(n: int, *, seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Return a random order of 0 .. n - 1 as an int64 tensor (n,)."""
    return torch.argsort(_words(n, seed, purpose, 1, step, device)[0], stable=True)


class Permutation:
    """A random order of 0 .. n - 1, of which any part can be read without making the rest.

    Few numbers are sorted by random words. For many, the order is a keyed bijection, a generalized Feistel network: a number
    i = l + a r < a b is a pair (l, r), and in each of eight rounds a hash of one part is added to the other, l + F(r) mod a or
    r + F(l) mod b. a is the root of n, rounded up, and b the least number with a b >= n; a result of n or above goes through
    the network again.

    References
    ----------
    John Black, Phillip Rogaway. Ciphers with arbitrary finite domains. CT-RSA 2002.

    >>> order = Permutation(100_000, seed=0, purpose="doc")
    >>> len(order(torch.arange(100_000)).unique())
    100000
    """

    def __init__(self, n: int, *, seed: int, purpose: str, device: torch.device | str = "cpu") -> None:
        self.n = n
        self._sorted = permutation(n, seed=seed, purpose=purpose, device=device) if n <= _SORTED else None
        self._key = _stream(int(seed), purpose)
        self._width = math.isqrt(n - 1) + 1 if n else 1
        self._height = -(-n // self._width)

    def __call__(self, index: Tensor) -> Tensor:
        """Return the numbers at these places, int64, of the shape of ``index``."""
        if self._sorted is not None:
            return self._sorted[index]
        numbers = self._network(index)
        beyond = (numbers >= self.n).nonzero(as_tuple=True)
        while len(beyond[0]):
            numbers[beyond] = self._network(numbers[beyond])
            beyond = (numbers >= self.n).nonzero(as_tuple=True)
        return numbers

    def _network(self, index: Tensor) -> Tensor:
        left, right = index % self._width, index // self._width
        for number in range(_ROUNDS):
            if number % 2:
                right = (right + self._hash(left, number)) % self._height
            else:
                left = (left + self._hash(right, number)) % self._width
        return left + self._width * right

    def _hash(self, part: Tensor, number: int) -> Tensor:
        """Return random numbers of 62 bits."""
        return _mix((part + 1) * _GAMMA + _to_signed_64_bit(self._key + (number + 1) * _GAMMA * 3)) >> 2 & ((1 << 62) - 1)


def _words(count: int, seed: int, purpose: str, rows: Tensor | int, step: Tensor | int, device: torch.device | str) -> Tensor:
    """Return 64 random bits per element as int64, shape (*R, count)."""
    index = torch.arange(rows, device=device) if isinstance(rows, int) else rows.to(device=device, dtype=torch.int64)
    offset = torch.as_tensor(step, dtype=torch.int64, device=device)
    key = _mix((index + 1) * _GAMMA + _stream(int(seed), purpose))
    key = _mix(key + (offset + 1) * _to_signed_64_bit(_GAMMA * 3))
    counter = torch.arange(1, count + 1, device=device) * _GAMMA
    return _mix(key.unsqueeze(-1) + counter)


def _mix(z: Tensor) -> Tensor:
    """Apply SplitMix64's finalizer, a bijection of 64-bit words, to ``z`` in place. Masks make the shifts logical."""
    z ^= (z >> 30) & ((1 << 34) - 1)
    z *= _MULTIPLIER_1
    z ^= (z >> 27) & ((1 << 37) - 1)
    z *= _MULTIPLIER_2
    z ^= (z >> 31) & ((1 << 33) - 1)
    return z


def _unit(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Map signed 32-bit integers (as int64) to [0, 1), keeping only as many bits as ``dtype`` holds exactly."""
    if dtype == torch.float64:
        return (bits & _LOW_32).to(dtype).mul_(2.0**-32)
    return ((bits >> 8) & 0xFFFFFF).to(dtype).mul_(2.0**-24)


@functools.lru_cache(maxsize=256)
def _stream(seed: int, purpose: str) -> int:
    digest = hashlib.blake2b(f"{seed}\x1f{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _to_signed_64_bit(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
