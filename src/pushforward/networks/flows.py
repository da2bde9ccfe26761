r"""Normalizing flows: invertible networks whose Jacobian determinant is cheap.

A flow maps rows x to latents z of the same shape, with log |dz/dx|. It is a chain of steps of three parts, each with a direct
inverse; h has c channels:

    normalize   h <- exp(s) (h - m)                      m and s for each element; at first the mean and -log std of the data
    mix         h <- L U P h                             P a fixed permutation; L and U triangular, learned, at first I
    couple      (a, b) <- (a, spline(exp(r) b + q))      r, q and the spline's knots are network(a, condition)

so log |dz/dx| of a row is the sum of s over elements, of log diag U over cells, and of r and the log-slopes of the spline. The
spline is monotonic, rational-quadratic on [-6, 6] and the identity outside. Its knots depend only on the other half of the
channels, which makes the Jacobian triangular. The networks start at zero, where couplings are the identity. P is a permutation
because a rotation would mix elements with sharp bounds into nearly Gaussian ones, which works much worse.

Vectors have their columns as channels. Images are squeezed, cells of pixels becoming channels, and go through such steps at
every level; after each level but the last, half of the channels go on to the next level. A side is divided by 2 where it is
even, otherwise by its smallest prime factor. The output has the layout of the input.

References
----------
Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. 2017. https://arxiv.org/abs/1605.08803
Diederik Kingma, Prafulla Dhariwal. Glow: generative flow with invertible 1x1 convolutions. 2018.
https://arxiv.org/abs/1807.03039
Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. Neural spline flows. 2019. https://arxiv.org/abs/1906.04032
"""

import abc
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pushforward.networks.checks import check_int, check_shape
from pushforward.networks.coder import Modulation, VectorCoder

__all__ = ["Bijection", "Chain", "Coupling", "FlowSpec", "GridNetwork", "ImageFlow", "Mix", "Normalize", "default_flow"]

_BOUND = 6.0
_LEAST_STD = 1e-2
_EXTRA = 2  # outputs of the network per element beside the knots: r and q


@dataclass(frozen=True)
class FlowSpec:
    """Size of a normalizing flow.

    Parameters
    ----------
    width : int
        Length of the hidden state, or number of hidden channels, of the networks in the couplings, from 1 to 65,536.
    depth : int
        Residual blocks of each of these networks, from 1 to 1,000.
    steps : int
        Steps of the flow; for images, of each level. From 1 to 1,000.
    bins : int
        Intervals of a spline, from 2 to 1,000.
    levels : int
        Resolutions of images, from 1 to 20; ignored for vectors.

    >>> flow = FlowSpec(width=8, steps=2).build((3,), condition_dim=0)
    >>> z, log_det = flow(torch.ones(5, 3))
    >>> z.shape, log_det.shape, flow.inverse(z).shape
    (torch.Size([5, 3]), torch.Size([5]), torch.Size([5, 3]))
    """

    width: int = 128
    depth: int = 1
    steps: int = 6
    bins: int = 8
    levels: int = 2

    def __post_init__(self) -> None:
        limits = {"width": (1, 65_536), "depth": (1, 1_000), "steps": (1, 1_000), "bins": (2, 1_000), "levels": (1, 20)}
        for name, (low, high) in limits.items():
            check_int(name, getattr(self, name), low, high)

    def build(self, shape: tuple[int, ...], condition_dim: int) -> "Bijection":
        """Return a new flow for rows of ``shape``, (D,) or (C, H, W); its weights come from torch's global generator."""
        check_shape(shape)
        return _steps(shape, condition_dim, self) if len(shape) == 1 else ImageFlow(shape, condition_dim, self, self.levels)


def default_flow(shape: tuple[int, ...]) -> FlowSpec:
    """Return the default size for rows of ``shape``; images are halved while their sides are even and longer than 2.

    >>> default_flow((1, 28, 28)).levels
    2
    """
    if len(shape) == 1:
        return FlowSpec(width=64 if shape[0] <= 8 else 128)
    levels, (height, width) = 0, shape[1:]
    while height % 2 == 0 and width % 2 == 0 and max(height, width) > 2:
        levels, height, width = levels + 1, height // 2, width // 2
    return FlowSpec(width=48, steps=4, levels=max(levels, 1))


class Bijection(nn.Module, abc.ABC):
    """An invertible map of rows, with the logarithm of its Jacobian determinant."""

    @abc.abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y (B, *D) and log |dy/dx| (B,) from x (B, *D) and condition (B, K) or None."""

    @abc.abstractmethod
    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from y."""

    def latent(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return y without the log-determinant, where that is cheaper."""
        return torch.as_tensor(self(x, condition)[0])

    def start(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Initialize data-dependent parameters by the rows x, and return y."""
        with torch.no_grad():
            return self.latent(x, condition)


class Chain(Bijection):
    """The composition of bijections, in order.

    >>> chain = Chain([Normalize((2,)), Mix(2)])
    >>> bool((chain.inverse(chain(torch.ones(1, 2))[0]) == 1).all())
    True
    """

    def __init__(self, parts: Sequence[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y and the sum of the log-determinants."""
        total = x.new_zeros(len(x))
        for part in self.parts:
            x, log_det = part(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from y."""
        for part in reversed(self.parts):
            y = part.inverse(y, condition)  # type: ignore[operator]
        return y

    def start(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Start each part by the output of the previous ones."""
        for part in self.parts:
            x = part.start(x, condition)  # type: ignore[operator]
        return x


class Normalize(Bijection):
    """y = exp(log_scale) (x - mean), element by element; ``start`` makes y have mean 0 and standard deviation 1.

    >>> part = Normalize((1,))
    >>> part.start(torch.tensor([[2.0], [4.0]])).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y and the sum of log_scale."""
        return (x - self.mean) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from y."""
        return y * (-self.log_scale).exp() + self.mean

    def start(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Take mean and scale from x."""
        with torch.no_grad():
            self.mean.copy_(x.mean(0))
            self.log_scale.copy_(-x.std(0, correction=0).clamp_min(_LEAST_STD).log())
        return super().start(x, condition)


class Mix(Bijection):
    """y = L U P x over the channels x (B, c, ...), with a permutation P, unit lower L and upper U with a positive diagonal.

    >>> Mix(3)(torch.ones(2, 3, 4, 4))[1].tolist()
    [0.0, 0.0]
    """

    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(channels))
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y and the log-diagonal's sum over channels and cells."""
        lower, upper = self._triangles()
        columns = x[:, self.order].flatten(2) if x.ndim > 2 else x[:, self.order].unsqueeze(2)
        y = (lower @ upper) @ columns
        return y.reshape(x.shape), (columns.shape[2] * self.log_diagonal.sum()).expand(len(x))

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from y, by two triangular systems."""
        lower, upper = self._triangles()
        rows = y.movedim(1, 0)
        h = torch.linalg.solve_triangular(lower, rows.flatten(1), upper=False, unitriangular=True)
        h = torch.linalg.solve_triangular(upper, h, upper=True)
        return torch.as_tensor(h.reshape(rows.shape).movedim(0, 1)[:, self.order.argsort()])

    def _triangles(self) -> tuple[Tensor, Tensor]:
        one = torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + self.log_diagonal.exp().diag()


class Coupling(Bijection):
    """(a, b) -> (a, spline(exp(r) b + q)) over two halves of the channels; a has one more if their number is odd.

    A single channel is b, and its map depends only on the condition.

    Parameters
    ----------
    shape : tuple of int
        (c,) or (c, h, w).
    condition_dim : int
    spec : FlowSpec

    >>> Coupling((2,), 0, FlowSpec(width=8))(torch.ones(5, 2))[0].shape
    torch.Size([5, 2])
    """

    def __init__(self, shape: tuple[int, ...], condition_dim: int, spec: FlowSpec) -> None:
        super().__init__()
        self.seen = (shape[0] + 1) // 2 if shape[0] > 1 else 0
        self.moved = shape[0] - self.seen
        self.bins = spec.bins
        inputs, outputs = max(self.seen, 1), self.moved * (3 * spec.bins - 1 + _EXTRA)
        size = {"width": spec.width, "depth": spec.depth}
        self.network: VectorCoder | GridNetwork
        if len(shape) == 1:
            self.network = VectorCoder(inputs, outputs, condition_dim, **size)
        else:
            self.network = GridNetwork((inputs, *shape[1:]), outputs, condition_dim, **size)
        nn.init.zeros_(self.network.last.weight)
        nn.init.zeros_(self.network.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y and the sum of r and of the logarithms of the spline's slopes."""
        a, b = x[:, : self.seen], x[:, self.seen :]
        spline, log_scale, shift = self._learned(a, b, condition)
        b, log_slope = spline.call_and_ladj(log_scale.exp() * b + shift)
        return torch.cat((a, b), dim=1), (log_scale + log_slope).flatten(1).sum(1)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from y."""
        a, b = y[:, : self.seen], y[:, self.seen :]
        spline, log_scale, shift = self._learned(a, b, condition)
        return torch.cat((a, (spline.inv(b) - shift) * (-log_scale).exp()), dim=1)

    def _learned(self, a: Tensor, b: Tensor, condition: Tensor | None) -> tuple[Any, Tensor, Tensor]:
        """Return spline, r and q for each element of b."""
        raw = self.network(a if self.seen else torch.zeros_like(b), condition)
        each = raw.reshape(len(b), self.moved, -1, *b.shape[2:]).movedim(2, -1)
        knots, n = each[..., _EXTRA:], self.bins
        spline = _spline_class()(knots[..., :n], knots[..., n : 2 * n], knots[..., 2 * n :], bound=_BOUND)
        return spline, each[..., 0].tanh(), each[..., 1]


class GridNetwork(nn.Module):
    """Residual convolutions on a grid of fixed size, ``(x, condition)`` to (B, outputs, h, w), with an embedding of each cell.

    >>> GridNetwork((3, 4, 4), 2, 0, width=8, depth=1)(torch.rand(5, 3, 4, 4)).shape
    torch.Size([5, 2, 4, 4])
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, condition_dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.modulation = Modulation(condition_dim, [width] * depth)
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, *shape[1:]))
        self.wide = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.narrow = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return (B, outputs, h, w) from x (B, c, h, w) and condition (B, K) or None."""
        hidden = self.first(x) + self.place
        for wide, narrow, modulation in zip(self.wide, self.narrow, self.modulation(condition), strict=True):
            change = nn.functional.group_norm(hidden, 1)
            if modulation is not None:
                scale, shift = modulation[..., None, None].chunk(2, dim=1)
                change = torch.addcmul(shift, change, 1 + scale)
            hidden = hidden + narrow(nn.functional.silu(wide(change)))
        return torch.as_tensor(self.last(nn.functional.silu(hidden)))


class ImageFlow(Bijection):
    """A multi-scale flow of images (C, H, W) of any size: the steps of one level, then a flow of half of their channels.

    Parameters
    ----------
    shape : tuple of int
    condition_dim : int
    spec : FlowSpec
    levels : int
        Number of levels from this one on.

    >>> flow = ImageFlow((1, 6, 9), 0, FlowSpec(width=4, steps=1), levels=2)
    >>> flow.cut, flow.inner.cut, flow(torch.rand(2, 1, 6, 9))[0].shape
    ((2, 3), (3, 3), torch.Size([2, 1, 6, 9]))
    """

    def __init__(self, shape: tuple[int, ...], condition_dim: int, spec: FlowSpec, levels: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.cut = rows, columns = _smallest_factor(height), _smallest_factor(width)
        grid = (channels * rows * columns, height // rows, width // columns)
        self.passed = (grid[0] + 1) // 2
        self.steps = _steps(grid, condition_dim, spec)
        more = levels > 1 and max(grid[1:]) > 1
        self.inner = ImageFlow((self.passed, *grid[1:]), condition_dim, spec, levels - 1) if more else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z and log |dz/dx|."""
        h, total = self.steps(_squeeze(x, self.cut), condition)
        if self.inner is not None:
            z, log_det = self.inner(h[:, : self.passed], condition)
            h, total = torch.cat((z, h[:, self.passed :]), dim=1), total + log_det
        return _unsqueeze(h, self.cut), total

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return x from z."""
        h = _squeeze(y, self.cut)
        if self.inner is not None:
            h = torch.cat((self.inner.inverse(h[:, : self.passed], condition), h[:, self.passed :]), dim=1)
        return _unsqueeze(self.steps.inverse(h, condition), self.cut)

    def start(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Start this level; its output is normalized, so the next levels need no start."""
        self.steps.start(_squeeze(x, self.cut), condition)
        return super().start(x, condition)


def _steps(shape: tuple[int, ...], condition_dim: int, spec: FlowSpec) -> Chain:
    parts: list[Bijection] = []
    for _ in range(spec.steps):
        parts += [Normalize(shape), Mix(shape[0]), Coupling(shape, condition_dim, spec)]
    return Chain([*parts, Normalize(shape)])


def _squeeze(x: Tensor, cut: tuple[int, int]) -> Tensor:
    """Turn cells of cut[0] x cut[1] pixels into channels."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // cut[0], cut[0], width // cut[1], cut[1])
    return cells.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // cut[0], width // cut[1])


def _unsqueeze(h: Tensor, cut: tuple[int, int]) -> Tensor:
    batch, _, height, width = h.shape
    cells = h.reshape(batch, -1, *cut, height, width)
    return cells.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * cut[0], width * cut[1])


def _smallest_factor(side: int) -> int:
    return next((factor for factor in range(2, math.isqrt(side) + 1) if side % factor == 0), side)


@functools.cache
def _spline_class() -> Any:
    """Return zuko's spline; undo the changes that importing zuko makes to torch for the whole process."""
    from torch.distributions import Distribution, transforms

    inverse = transforms._InverseTransform
    before = Distribution._validate_args, inverse.__name__
    try:
        from zuko.transforms import MonotonicRQSTransform  # type: ignore[import-untyped]
    finally:
        Distribution._validate_args, inverse.__name__ = before
    return MonotonicRQSTransform
