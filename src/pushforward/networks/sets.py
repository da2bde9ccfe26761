r"""A network for sets of points in no order: set attention through a few learned states of the whole set.

A row is P points with D coordinates each, and NaN where a point is absent, so sets of different sizes share a tensor. Each
point has a state h_i, and the set has M states s_m, which begin at learned values. A block is

    s <- s + attention(modulate(norm(s)) to norm(h)),      s <- s + V gelu(W norm(s))          the set reads its points
    h <- h + attention(modulate(norm(h)) to norm(s)),      h <- h + V gelu(W norm(h))          the points read the set

with scale and shift from time and condition. Attention is a weighted mean over the points that are present, and everything else
acts on each point alone, so permuted points give permuted outputs. The cost is that of P M pairs instead of P^2. Sets may have
any number of points, whatever the number in training; its logarithm enters beside the time.

The coordinates enter together with cos and sin of 1, 2 and 4 times themselves, as in :mod:`pushforward.networks.mlp`.

References
----------
Juho Lee et al. Set transformer: a framework for attention-based permutation-invariant neural networks. ICML 2019 (induced
attention). https://arxiv.org/abs/1810.00825
Allan Jabri, David Fleet, Ting Chen. Scalable adaptive computation for iterative generation. ICML 2023.
https://arxiv.org/abs/2212.11972
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pushforward.networks.checks import check_int
from pushforward.networks.embedding import Embedding

__all__ = ["SetNetwork", "SetSpec"]

_FEW_COORDINATES, _OCTAVES = 8, 3


@dataclass(frozen=True)
class SetSpec:
    """Size of a :class:`SetNetwork`.

    Parameters
    ----------
    width : int
        Length of the state of a point, even, from 2 to 65,536, a multiple of ``heads``.
    depth : int
        Number of blocks, from 1 to 1,000.
    heads : int
        Heads of each attention, from 1 to 1,024.
    states : int
        Number of states of the whole set, from 1 to 65,536.

    >>> network = SetSpec(width=16, depth=1).build((5, 3), condition_dim=0)
    >>> network(torch.zeros(2, 7, 3), torch.ones(2), None).shape  # any number of points
    torch.Size([2, 7, 3])
    """

    width: int = 64
    depth: int = 4
    heads: int = 4
    states: int = 16

    def __post_init__(self) -> None:
        check_int("width", self.width, 2, 65_536, even=True)
        for name, high in (("depth", 1_000), ("heads", 1_024), ("states", 65_536)):
            check_int(name, getattr(self, name), 1, high)
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads={self.heads}, got {self.width}")

    def build(self, shape: tuple[int, ...], condition_dim: int) -> "SetNetwork":
        """Return a new network for sets (P, D); its weights come from torch's global generator."""
        check_int("condition_dim", condition_dim, 0, 1_000_000)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape: SetSpec builds networks for sets of points (P, D), got {tuple(shape)}")
        return SetNetwork(shape, condition_dim, width=self.width, depth=self.depth, heads=self.heads, states=self.states)


class SetNetwork(nn.Module):
    """Set attention, ``network(x, t, condition)`` for sets x (B, P, D), NaN in absent points, whose output is 0.

    Parameters
    ----------
    shape : (int, int)
        (P, D), with P the number of points whose logarithm counts as 0.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.
    width, depth, heads, states : int
        See :class:`SetSpec`.

    >>> network = SetNetwork((4, 2), 0, width=8, depth=1, heads=2, states=2)
    >>> network(torch.ones(3, 4, 2), torch.rand(3), None).abs().max()
    tensor(0., grad_fn=<MaxBackward1>)
    """

    waves: Tensor

    def __init__(self, shape: tuple[int, ...], condition_dim: int, *, width: int, depth: int, heads: int, states: int) -> None:
        super().__init__()
        self.points, coordinates = shape
        self.embedding = Embedding(width, condition_dim)
        self.size = nn.Linear(1, width, bias=False)
        nn.init.zeros_(self.size.weight)
        self.modulation = nn.Linear(width, 4 * width * depth)
        octaves = _OCTAVES if coordinates <= _FEW_COORDINATES else 0
        self.register_buffer("waves", 2.0 ** torch.arange(octaves), persistent=False)
        self.first = nn.Linear(coordinates * (1 + 2 * octaves), width)
        self.states = nn.Parameter(torch.randn(states, width))
        self.reads = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.writes = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, coordinates)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor (B, P, D) from x (B, P, D), t (B,) and condition (B, K) or None."""
        present = ~x.isnan().any(2)
        x = torch.where(present[..., None], x, 0.0)
        # Absent points weigh nothing in the attention of the states.
        bias = torch.where(present, 0.0, -torch.inf).to(x.dtype)[:, None, None]
        ratio = (present.sum(1).clamp(min=1) / self.points).log().to(x.dtype)
        embedded = self.embedding(t, condition) + self.size(ratio[:, None])
        modulation = self.modulation(embedded)[:, None].chunk(2 * len(self.reads), dim=-1)
        if len(self.waves):
            phase = (x.unsqueeze(-1) * self.waves).flatten(-2)
            x = torch.cat((x, phase.cos(), phase.sin()), dim=-1)
        points = self.first(x)
        states = self.states.expand(len(x), -1, -1)
        for i, (read, write) in enumerate(zip(self.reads, self.writes, strict=True)):
            states = read(states, points, modulation[2 * i], bias)
            points = write(points, states, modulation[2 * i + 1], None)
        output: Tensor = self.last(nn.functional.silu(self.norm(points)))
        return torch.where(present[..., None], output, 0.0)


class _Block(nn.Module):
    """Attention of some states to others, and a perceptron for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, elementwise_affine=False), nn.LayerNorm(width)
        self.norm_3 = nn.LayerNorm(width)
        self.ask, self.look = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.take = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, others: Tensor, modulation: Tensor, bias: Tensor | None) -> Tensor:
        scale, shift = modulation.chunk(2, dim=-1)
        query = self.ask(torch.addcmul(shift, self.norm_1(hidden), 1 + scale))
        key, value = self.look(self.norm_2(others)).chunk(2, dim=-1)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        # Written out, because exact densities batch its derivatives, which the fused attention cannot.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        weights = (scores if bias is None else scores + bias).softmax(3)
        hidden = hidden + self.take((weights @ value).transpose(1, 2).flatten(2))
        change: Tensor = self.contract(nn.functional.gelu(self.expand(self.norm_3(hidden))))
        return hidden + change
