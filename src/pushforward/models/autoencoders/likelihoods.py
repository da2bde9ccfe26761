r"""The law p(x | z) of a row given its code, with parameters from the decoder.

The decoder outputs one or two numbers per element of a row, and the law of the row is a product over its elements:

- ``"gaussian"``: N(m, s^2) with m the output and one learned s for all elements; ``"diagonal"``: a learned s per element.
  An integer k is trained on and scored as k + u, u uniform on [0, 1).
- ``"logistic"``: the logistic law with distribution function sigmoid((x - m) / exp(r)), m and r from the network for every
  element and row. An integer has the mass of its interval [k, k + 1), unbounded at the ends of the range,

      Q(k) = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)),     a, b = (k + 1 - m, k - m) / exp(r),

  so that the masses sum to one over the range; the right side is accurate in the tails.
- ``"bernoulli"``: for elements with two neighboring integers, Q(upper) = sigmoid(output).
- ``"columns"``: for tables. The 0/1 elements of a category have the probabilities of its levels, the softmax of the outputs; a
  normal score is N(m, exp(2 r)), m and r from the network.

In an open range the ends share their mass with the integers beyond (:mod:`pushforward.data.transform`), so that the
probabilities P of all integers sum to one. Draws stay in the range.

Rows are scaled, and an integer is represented by the middle of its interval of width w. Its probability is converted to a
density on that interval, log p(x) = log P(k) - log w, and the log-determinant of the scaling restores log P(k). Constant
elements of images are ignored.

References
----------
Diederik Kingma, Max Welling. Auto-encoding variational Bayes. 2014. https://arxiv.org/abs/1312.6114
Tim Salimans et al. PixelCNN++. 2017. https://arxiv.org/abs/1701.05517
Oleh Rybkin, Kostas Daniilidis, Sergey Levine. Simple and effective VAE training with calibrated decoders. 2021.
https://arxiv.org/abs/2006.13202
"""

import abc
import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pushforward.data import Transform
from pushforward.probability import noise
from pushforward.probability.tails import log_share

__all__ = ["Likelihood", "LikelihoodName", "default_likelihood", "make_likelihood"]

LikelihoodName = Literal["gaussian", "diagonal", "logistic", "bernoulli", "columns"]

_LEAST_LOG_SCALE = -7.0
_FIRST_LOG_SCALE = -2.0  # initial scale; small enough that reconstruction outweighs the KL, or codes collapse


class Likelihood(nn.Module, abc.ABC):
    """Law of a row x (B, *D) given the output (B, outputs C, ...) of a decoder.

    Parameters
    ----------
    transform : Transform
        The scaling of the data, with the varying elements, the integers and their ranges.
    """

    outputs: ClassVar[int]
    """Numbers that the decoder outputs per element."""
    intervals: ClassVar[bool]
    """Whether integers have probabilities; otherwise they are dequantized, k + u."""

    counted: Tensor

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.register_buffer("counted", transform.varies, persistent=False)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | output) in nats, (B,)."""
        return torch.where(self.counted, self._log_prob(output, x), 0.0).flatten(1).sum(1)

    @property
    def dims(self) -> int:
        """Number of elements that vary."""
        return int(self.counted.sum())

    @abc.abstractmethod
    def _log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of each element, (B, *D)."""

    @abc.abstractmethod
    def center(self, output: Tensor) -> Tensor:
        """Return the center of the law, (B, *D)."""

    @abc.abstractmethod
    def draw(self, output: Tensor, rows: Tensor, seed: int) -> Tensor:
        """Draw one row per output, (B, *D); row i depends on (seed, rows[i]) alone."""


class _Gaussian(Likelihood):
    outputs, intervals = 1, False

    def __init__(self, transform: Transform, *, per_element: bool) -> None:
        super().__init__(transform)
        self.log_std = nn.Parameter(torch.full(transform.shape if per_element else (), _FIRST_LOG_SCALE))

    def _log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        return -((x - output) * (-self.log_std).exp()).square() / 2 - self.log_std - math.log(2 * math.pi) / 2

    def center(self, output: Tensor) -> Tensor:
        return output

    def draw(self, output: Tensor, rows: Tensor, seed: int) -> Tensor:
        eps = noise.normal(output.shape[1:], seed=seed, purpose="decoder", rows=rows, dtype=output.dtype, device=output.device)
        return output + self.log_std.exp() * eps


class _OfIntegers(Likelihood):
    """A likelihood with the width of an integer's interval, the middles of the first and the last, and what is beyond."""

    width: Tensor
    low: Tensor
    high: Tensor
    below: Tensor
    above: Tensor
    room_below: Tensor
    room_above: Tensor

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform)
        self.register_buffer("width", transform.dequantization.float(), persistent=False)
        for name in ("low", "high"):
            edge = (getattr(transform, name).expand_as(transform.shift) - transform.shift) / transform.scale
            self.register_buffer(name, (transform.pick(edge) + transform.dequantization / 2).float(), persistent=False)
        rooms = {"room_below": transform.low - transform.least, "room_above": transform.most - transform.high}
        for name, end in {"below": transform.below, "above": transform.above, **rooms}.items():
            self.register_buffer(name, transform.pick(end.expand_as(transform.shift)).float(), persistent=False)

    def _log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        whole, width = self.width > 0, torch.where(self.width > 0, self.width, 1.0)
        inside = torch.where(whole, torch.minimum(torch.maximum(x, self.low), self.high), x)
        above, below = ((x - self.high) / width).round(), ((self.low - x) / width).round()
        log_shares = log_share(above, self.above, self.room_above) + log_share(below, self.below, self.room_below)
        return self._log_density(output, inside) + torch.where(whole, log_shares, 0.0)

    @abc.abstractmethod
    def _log_density(self, output: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of each element of rows in the range, (B, *D), where all mass beyond belongs to the ends."""

    def _u(self, output: Tensor, shape: torch.Size, rows: Tensor, seed: int) -> Tensor:
        return noise.uniform(shape, seed=seed, purpose="decoder", rows=rows, dtype=output.dtype, device=output.device)


class _Logistic(_OfIntegers):
    outputs, intervals = 2, True

    def _log_density(self, output: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self._parts(output)
        half, rate = self.width / 2, (-log_scale).exp()
        above = nn.functional.logsigmoid((x + half - mean) * rate)
        below = nn.functional.logsigmoid((mean - x + half) * rate)
        whole, width = self.width > 0, torch.where(self.width > 0, self.width, 1.0)
        first, last = whole & (x < self.low + width / 4), whole & (x > self.high - width / 4)
        inside = torch.where(whole, (-torch.expm1(-width * rate)).log(), -log_scale)
        total = torch.where(last, 0.0, above) + torch.where(first, 0.0, below) + torch.where(first | last, 0.0, inside)
        return total - torch.where(whole, width.log(), 0.0)

    def center(self, output: Tensor) -> Tensor:
        return self._parts(output)[0]

    def draw(self, output: Tensor, rows: Tensor, seed: int) -> Tensor:
        mean, log_scale = self._parts(output)
        u = self._u(mean, mean.shape[1:], rows, seed)
        return mean + log_scale.exp() * torch.logit(u, eps=torch.finfo(u.dtype).eps)

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = output.chunk(2, dim=1)
        return mean, _LEAST_LOG_SCALE + nn.functional.softplus(raw + _FIRST_LOG_SCALE - _LEAST_LOG_SCALE)


class _Bernoulli(_OfIntegers):
    outputs, intervals = 1, True

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform)
        two = transform.integer & (transform.high == transform.low + 1).expand_as(transform.shift)
        if not bool((two | transform.constant).all()):
            raise ValueError(
                "likelihood='bernoulli' is for elements with two neighboring integers such as 0 and 1, but these data have "
                "others; threshold them, (X > 0.5).astype('uint8'), or use likelihood='logistic'"
            )

    def _log_density(self, output: Tensor, x: Tensor) -> Tensor:
        upper = x > (self.low + self.high) / 2
        width = torch.where(self.counted, self.width, 1.0)
        return nn.functional.logsigmoid(torch.where(upper, output, -output)) - width.log()

    def center(self, output: Tensor) -> Tensor:
        return torch.where(output > 0, self.high, self.low)

    def draw(self, output: Tensor, rows: Tensor, seed: int) -> Tensor:
        u = self._u(output, output.shape[1:], rows, seed)
        return torch.where(u < output.sigmoid(), self.high, self.low)


class _Columns(Likelihood):
    outputs, intervals = 2, False

    place: Tensor
    is_level: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, transform: Transform, columns: Tensor) -> None:
        super().__init__(transform)
        _, place, counts = torch.unique(columns, return_inverse=True, return_counts=True)
        ends = [((level - transform.pick(transform.shift)) / transform.pick(transform.scale)).float() for level in (0.0, 1.0)]
        buffers = {"place": place, "is_level": counts[place] > 1, "low": ends[0], "high": ends[1]}
        for name, values in buffers.items():
            self.register_buffer(name, values, persistent=False)
        self.count = len(counts)

    @property
    def dims(self) -> int:
        """Number of columns that vary."""
        return self.count

    def _log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        mean, log_std = self._parts(output)
        normal = -((x - mean) * (-log_std).exp()).square() / 2 - log_std - math.log(2 * math.pi) / 2
        chosen = x > (self.low + self.high) / 2
        return torch.where(self.is_level, torch.where(chosen, self._log_shares(mean), 0.0), normal)

    def _log_shares(self, logits: Tensor) -> Tensor:
        """Return the log-softmax of logits (B, D) over the elements of each column."""
        place = self.place.expand_as(logits)
        empty = logits.new_full((len(logits), self.count), -torch.inf)
        highest = empty.scatter_reduce(1, place, logits.detach(), "amax").gather(1, place)
        total = torch.zeros_like(empty).scatter_add(1, place, (logits - highest).exp()).gather(1, place)
        return logits - highest - total.log()

    def center(self, output: Tensor) -> Tensor:
        mean, _ = self._parts(output)
        share = self._log_shares(mean).exp()
        return torch.where(self.is_level, self.low + share * (self.high - self.low), mean)

    def draw(self, output: Tensor, rows: Tensor, seed: int) -> Tensor:
        mean, log_std = self._parts(output)
        shape, dtype, device = mean.shape[1:], mean.dtype, mean.device
        eps = noise.normal(shape, seed=seed, purpose="decoder", rows=rows, dtype=dtype, device=device)
        u = noise.uniform(shape, seed=seed, purpose="levels", rows=rows, dtype=dtype, device=device)
        rank = mean - (-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()  # the largest of a column has the law of its levels
        place = self.place.expand_as(rank)
        highest = rank.new_full((len(rank), self.count), -torch.inf).scatter_reduce(1, place, rank, "amax").gather(1, place)
        return torch.where(self.is_level, torch.where(rank == highest, self.high, self.low), mean + log_std.exp() * eps)

    def _parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = output.chunk(2, dim=1)
        return mean, _LEAST_LOG_SCALE + nn.functional.softplus(raw + _FIRST_LOG_SCALE - _LEAST_LOG_SCALE)


def make_likelihood(name: LikelihoodName, transform: Transform, columns: Tensor | None = None) -> Likelihood:
    """Return the named likelihood for scaled data.

    ``columns`` (D,) is the number of the column that each element of a row of a table belongs to.

    Raises
    ------
    ValueError
        If it does not support the data.

    >>> bits, closed = torch.tensor([[0.0], [1.0], [1.0]]), (torch.zeros(1), torch.ones(1))
    >>> transform = Transform.fit(bits, integer=True, kind="vectors", limits=closed)
    >>> coin, x = make_likelihood("bernoulli", transform), transform.forward(torch.tensor([[0.0], [1.0]])) + 1.0
    >>> (coin.log_prob(torch.zeros(2, 1), x) + transform.log_det).exp().round(decimals=4).tolist()
    [0.5, 0.5]
    """
    if (name == "columns") is (columns is None):
        what, instead = ("not a table", "gaussian") if columns is None else ("a table", "columns")
        raise ValueError(f"likelihood={name!r} does not fit, as the data are {what}; omit it, or use likelihood={instead!r}")
    if columns is not None:
        return _Columns(transform, columns)
    if name in ("gaussian", "diagonal"):
        return _Gaussian(transform, per_element=name == "diagonal")
    return _Bernoulli(transform) if name == "bernoulli" else _Logistic(transform)


def default_likelihood(transform: Transform, columns: Tensor | None = None) -> LikelihoodName:
    """Return "bernoulli" for two neighboring integers, "logistic" for other integers, and "gaussian" for real numbers.

    For a table, with the ``columns`` that its elements belong to, return "columns".
    """
    if columns is not None:
        return "columns"
    varies = ~transform.constant
    if not bool(transform.integer[varies].all()):
        return "gaussian"
    width = (transform.high - transform.low).expand_as(transform.shift)[varies]
    return "bernoulli" if bool((width == 1).all()) else "logistic"
