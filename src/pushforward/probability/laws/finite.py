"""Laws of finitely many outcomes: joint tables, marginals, conditionals, Bayes, expectations.

A joint law of variables a, b, ... is one table p(a, b, ...) of numbers that are at least 0 and sum to one. The rules:

    sum rule      p(a) = sum_b p(a, b)                      :meth:`FiniteLaw.marginal`
    condition     p(a | b) = p(a, b) / p(b)                 :meth:`FiniteLaw.condition`
    chain rule    p(a, b) = p(a) p(b | a)                   :meth:`FiniteLaw.times`
    Bayes         p(a | b) = p(b | a) p(a) / p(b)           :func:`bayes`
    mean          E[f(a)] = sum_a p(a) f(a)                 :meth:`FiniteLaw.expectation`

References
----------
David J. C. MacKay. Information theory, inference, and learning algorithms, chapter 2. Cambridge University Press, 2003.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import divergence, noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor

__all__ = ["FiniteLaw", "bayes"]


@dataclass(frozen=True, eq=False)
class FiniteLaw:
    """A joint law of D variables with finitely many values each, which are points of a grid in R^D.

    Parameters
    ----------
    table : array (K_1, ..., K_D)
        Probabilities, at least 0 and with sum one; stored in float64.
    names : sequence of D str, optional
        Names of the variables, by default ``x0``, ``x1``, ...
    values : sequence of D sequences of numbers, optional
        The distinct values of each variable, by default 0 to K - 1.

    Raises
    ------
    ValueError
        If a probability is negative, the sum is not one, or names or values do not fit the table.

    >>> law = FiniteLaw([[0.1, 0.3], [0.2, 0.4]], names=["a", "b"])
    >>> law.marginal("b").table.tolist()
    [0.3..., 0.7...]
    >>> law.condition(b=1).table.tolist()
    [0.428..., 0.571...]
    >>> round(law.expectation(lambda x: x[:, 0] * x[:, 1]).item(), 6)
    0.4
    """

    table: Tensor
    names: tuple[str, ...]
    values: tuple[Tensor, ...]

    def __init__(self, table: ArrayLike, names: Sequence[str] | None = None, values: Sequence[ArrayLike] | None = None) -> None:
        table = divergence.as_probabilities(as_float_tensor(table).double(), "the table")
        if not table.ndim:
            raise ValueError("a law needs at least one variable, so a table at least one axis")
        if names is None:
            names = [f"x{axis}" for axis in range(table.ndim)]
        if isinstance(names, str) or len(names) != table.ndim or len(set(names)) != len(names):
            raise ValueError(f"names must be {table.ndim} different names, one for each axis of the table, not {names!r}")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "values", self._checked_values(values))

    @property
    def dim(self) -> int:
        """Number D of variables."""
        return self.table.ndim

    @functools.cached_property
    def outcomes(self) -> Tensor:
        """Every point of the grid (N, D), in the order of ``table.flatten()``."""
        return torch.stack([axis.flatten() for axis in torch.meshgrid(*self.values, indexing="ij")], 1)

    def marginal(self, *names: str) -> "FiniteLaw":
        """Return the joint law of these variables, in this order: the sum of the table over all others."""
        axes = [self._axis(name) for name in names]
        if len(set(axes)) != len(axes):
            raise ValueError(f"each variable can be named once, not {names}")
        others = [axis for axis in range(self.dim) if axis not in axes]
        sizes = [self.table.shape[axis] for axis in axes]
        table = self.table.permute(*axes, *others).reshape(*sizes, -1).sum(-1)
        return FiniteLaw(table, names, [self.values[axis] for axis in axes])

    def probability(self, **event: float) -> float:
        """Return the probability that every named variable has the given value: ``law.probability(a=0, b=1)``."""
        return self.table[self._index(event)].sum().item()

    def condition(self, **event: float) -> "FiniteLaw":
        """Return the law of the other variables given these values, p(a | b) = p(a, b) / p(b).

        Raises
        ------
        ValueError
            If a name or value is unknown, no variable is left, or the event has probability 0.
        """
        index = self._index(event)
        if len(event) == self.dim:
            raise ValueError("no variable is left: condition on fewer of them, or ask for probability(...)")
        total = self.probability(**event)
        if total == 0:
            shown = ", ".join(f"{name} = {value:g}" for name, value in event.items())
            raise ValueError(f"the event {shown} has probability 0, so nothing can be conditioned on it")
        axes = [axis for axis, name in enumerate(self.names) if name not in event]
        return FiniteLaw(self.table[index] / total, [self.names[axis] for axis in axes], [self.values[axis] for axis in axes])

    def times(self, conditional: ArrayLike, name: str, values: ArrayLike | None = None) -> "FiniteLaw":
        """Return the joint law p(x, h) = p(x) p(h | x) of these variables and one more (chain rule).

        Parameters
        ----------
        conditional : array (K_1, ..., K_D, H)
            p(h | x) for every x: sums to one over its last axis.
        name : str
            Name of h.
        values : array (H,), optional
            Values of h, by default 0 to H - 1.

        Raises
        ------
        ValueError
            If ``conditional`` does not have one axis more than this law, or is not a law for every x.

        >>> disease = FiniteLaw([0.99, 0.01], names=["ill"])
        >>> joint = disease.times([[0.95, 0.05], [0.1, 0.9]], name="test")
        >>> round(joint.condition(test=1).probability(ill=1), 4)
        0.1538
        """
        conditional = as_float_tensor(conditional).to(self.table)
        if conditional.ndim != self.dim + 1 or conditional.shape[:-1] != self.table.shape:
            raise ValueError(
                f"the conditional must have the shape {tuple(self.table.shape)} and one axis more, "
                f"not {tuple(conditional.shape)}"
            )
        rows = conditional.reshape(-1, conditional.shape[-1])
        for outcome, row in zip(self.outcomes.tolist(), rows, strict=True):
            divergence.as_probabilities(row, f"the conditional given {dict(zip(self.names, outcome, strict=True))}")
        own = [*self.values, torch.arange(conditional.shape[-1]) if values is None else values]
        return FiniteLaw(self.table.unsqueeze(-1) * conditional, [*self.names, name], own)

    def expectation(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Return E[f(x)] = sum_x p(x) f(x), computed without the law of f(x) (the law of the unconscious statistician).

        ``f`` maps the outcomes of positive probability, (N, D), to (N, *S); the result is (*S).
        """
        p = self.table.flatten()
        possible = p > 0  # 0 times an infinite f would be NaN
        features = f(self.outcomes[possible])
        if features.shape[:1] != (int(possible.sum()),):
            raise ValueError(f"f must return one row for each of {int(possible.sum())} outcomes, not {tuple(features.shape)}")
        mean: Tensor = torch.tensordot(p[possible], features.to(p), dims=1)
        return mean

    @property
    def mean(self) -> Tensor:
        """E[x], (D,)."""
        return self.expectation(lambda x: x)

    @property
    def variance(self) -> Tensor:
        """E[(x - E[x])^2], (D,): the second *central* moment; its root is the standard deviation."""
        mean = self.mean
        return self.expectation(lambda x: (x - mean) ** 2)

    @property
    def covariance(self) -> Tensor:
        """E[(x - E[x]) (x - E[x])^T], (D, D)."""
        mean = self.mean
        return self.expectation(lambda x: (x - mean)[:, :, None] * (x - mean)[:, None, :])

    def entropy(self) -> Tensor:
        """Entropy of the joint law in nats."""
        return divergence.entropy(self.table)

    def mutual_information(self, a: str, b: str) -> Tensor:
        """Return I(a; b) = KL(p(a, b) | p(a) p(b)) in nats: 0 if and only if the variables are independent."""
        joint = self.marginal(a, b).table
        return divergence.kl(joint, joint.sum(1, keepdim=True) * joint.sum(0))

    def independent(self, a: str, b: str, *, tolerance: float = 1e-9) -> bool:
        """Return whether p(a, b) = p(a) p(b) to within ``tolerance`` at every pair of values."""
        joint = self.marginal(a, b).table
        return bool((joint - joint.sum(1, keepdim=True) * joint.sum(0)).abs().max() <= tolerance)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats: x (*, D) to (*,); -inf off the grid."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"x has {x.shape[-1]} columns, but the law has {self.dim} variables")
        matches = [x[..., axis, None].to(values) == values for axis, values in enumerate(self.values)]
        p = self.table[tuple(match.int().argmax(-1) for match in matches)]
        on_grid = torch.stack([match.any(-1) for match in matches], -1).all(-1)
        return torch.where(on_grid, p, 0.0).log()

    def sample(self, n: int, *, seed: int, first: int = 0) -> Tensor:
        """Draw rows ``first`` to ``first + n - 1`` of the sample that ``seed`` names, (n, D), by the inverse CDF."""
        rows = torch.arange(first, first + n)
        u = noise.uniform((1,), seed=seed, purpose="finite law", rows=rows, dtype=torch.float64)[:, 0]
        p = self.table.flatten()
        last = int(p.nonzero()[-1])  # rounding can leave the total below u
        chosen = torch.searchsorted(p.cumsum(0), u.to(p.device), right=True).clamp_(max=last)
        return self.outcomes[chosen]

    def _axis(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"there is no variable {name!r}: the variables are {', '.join(self.names)}")
        return self.names.index(name)

    def _index(self, event: dict[str, float]) -> tuple[slice | int, ...]:
        index: list[slice | int] = [slice(None)] * self.dim
        for name, value in event.items():
            axis = self._axis(name)
            match = (self.values[axis] == value).nonzero()
            if not len(match):
                raise ValueError(f"{name} has no value {value!r}: its values are {self.values[axis].tolist()}")
            index[axis] = int(match[0])
        return tuple(index)

    def _checked_values(self, values: Sequence[ArrayLike] | None) -> tuple[Tensor, ...]:
        if values is None:
            values = [torch.arange(size) for size in self.table.shape]
        if len(values) != self.dim:
            raise ValueError(f"values must be {self.dim} sequences, one for each axis of the table, not {len(values)}")
        checked = tuple(as_float_tensor(axis).to(self.table) for axis in values)
        for name, size, axis in zip(self.names, self.table.shape, checked, strict=True):
            if axis.shape != (size,):
                raise ValueError(f"{name} needs {size} values to go with its axis of the table, but has {tuple(axis.shape)}")
            if len(set(axis.tolist())) != size:
                raise ValueError(f"the values of {name} must differ from each other, not {axis.tolist()}")
        return checked


def bayes(prior: FiniteLaw, likelihood: ArrayLike) -> tuple[FiniteLaw, float]:
    """Return the posterior p(x | y) = p(y | x) p(x) / p(y) and the evidence p(y) = sum_x p(y | x) p(x).

    Parameters
    ----------
    prior : FiniteLaw
    likelihood : array of the table's shape
        p(y | x) of the observation y, for every x: at least 0. It need not sum to one over x. Where y is a real number it
        is a density, which may exceed 1.

    Raises
    ------
    ValueError
        If the shapes differ, a likelihood is negative or not finite, or the evidence is 0: y is impossible under the prior.

    >>> posterior, evidence = bayes(FiniteLaw([0.99, 0.01], names=["ill"]), [0.05, 0.9])
    >>> round(posterior.probability(ill=1), 4), round(evidence, 4)
    (0.1538, 0.0585)
    """
    likelihood = as_float_tensor(likelihood).to(prior.table)
    if likelihood.shape != prior.table.shape:
        raise ValueError(f"the likelihood must have the shape {tuple(prior.table.shape)}, not {tuple(likelihood.shape)}")
    good = (likelihood >= 0) & (likelihood < math.inf)
    if not bool(good.all()):
        raise ValueError(f"a likelihood must be finite and at least 0, but one is {likelihood[~good][0].item():g}")
    joint = prior.table * likelihood
    evidence = joint.sum().item()
    if evidence == 0:
        raise ValueError("the evidence is 0: the observation cannot happen under any x that the prior allows")
    return FiniteLaw(joint / evidence, prior.names, prior.values), evidence
