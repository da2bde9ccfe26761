"""A task small enough to train hundreds of steps in a blink, with places where a test can plant what it needs."""

import torch
from torch import Tensor, nn

from pushforward.probability.noise import derive, normal, uniform
from pushforward.training import Batch, Task

Net = nn.Module


def rows(n: int, seed: int = 0, dim: int = 3) -> Tensor:
    """Correlated rows (n, dim)."""
    return normal((dim,), seed=seed, purpose="rows", rows=n).cumsum(1) * 0.5 + 0.3


def small_net(
    dim: int = 3, width: int = 8, *, dropout: float = 0.0, batch_norm: bool = False, condition: int = 0
) -> nn.Sequential:
    """A seeded network on (x, t, condition)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(5, "init"))
        middle = [nn.BatchNorm1d(width)] if batch_norm else []
        return nn.Sequential(
            nn.Linear(dim + 1 + condition, width), *middle, nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, dim)
        )


class Tiny(Task):
    """Regression of the noise direction, with each step's number among its draws."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = small_net() if net is None else net

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        step = steps.unsqueeze(1)
        dim = self.net[-1].out_features
        eps = normal((dim,), seed=seed, purpose="eps", rows=rows, step=step, device=rows.device)
        t = uniform((), seed=seed, purpose="t", rows=rows, step=step, device=rows.device)
        return eps, t, step.expand_as(t)

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(batch)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self.loss(batch), batch.draws[1]

    def loss(self, batch: Batch) -> Tensor:
        eps, t, _ = batch.draws
        wide = t.unsqueeze(1)
        inputs = [torch.lerp(batch.x, eps, wide), wide] + ([] if batch.condition is None else [batch.condition])
        return (self.net(torch.cat(inputs, 1)) - (eps - batch.x)).square().mean(1)


def equal_states(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Whether two dictionaries of tensors are the same bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())
