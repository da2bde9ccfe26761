"""Markov chains on finitely many states.

The matrix is **column-stochastic**: T[i, j] = P(next = i | now = j), so every *column* sums to one, and a law p (K,) moves by

    p(t + 1) = T p(t).

T always has the eigenvalue 1, and its other eigenvalues have modulus at most 1. T^m p converges to one law from every start
if and only if the chain has one closed class of states and that class is aperiodic, as for an irreducible, aperiodic chain;
the distance then falls like |second eigenvalue|^m.

References
----------
David A. Levin, Yuval Peres, Elizabeth L. Wilmer. Markov chains and mixing times. American Mathematical Society, 2009.
Winfried K. Grassmann, Michael I. Taksar, Daniel P. Heyman. Regenerative analysis and steady state distributions for Markov
chains. Operations Research, 1985.
"""

import functools
import math
import numbers
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor
from pushforward.probability.divergence import as_probabilities

__all__ = ["MarkovChain", "PowerIteration"]


@dataclass(frozen=True, eq=False)
class PowerIteration:
    """The result of power iteration.

    Parameters
    ----------
    law : Tensor (K,)
        The last law.
    history : Tensor (steps + 1, K)
        Every law on the way, from the start to ``law``.
    residuals : Tensor (steps,)
        Total variation between each law and the one before it.
    """

    law: Tensor
    history: Tensor
    residuals: Tensor

    @property
    def steps(self) -> int:
        """Number of multiplications by the matrix."""
        return len(self.residuals)


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """The chain with T[i, j] = P(next = i | now = j).

    Parameters
    ----------
    matrix : array (K, K)
        Entries at least 0; every column sums to one. Stored in float64.

    Raises
    ------
    ValueError
        If the matrix is not square, an entry is negative, or a column does not sum to one (the error names it and its sum).

    >>> weather = MarkovChain([[0.9, 0.5], [0.1, 0.5]])  # tomorrow by row, today by column: sun, rain
    >>> weather.step([0.0, 1.0], n=2).tolist()
    [0.7, 0.3...]
    >>> weather.stationary().tolist()
    [0.833..., 0.166...]
    >>> weather.mixing_time(0.01)
    5
    """

    matrix: Tensor

    def __init__(self, matrix: ArrayLike) -> None:
        matrix = as_float_tensor(matrix).double()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
            raise ValueError(f"matrix must have the shape (K, K), but has {tuple(matrix.shape)}")
        if not bool((matrix >= 0).all()):
            row, column = (~(matrix >= 0)).nonzero()[0].tolist()
            raise ValueError(f"a probability is at least 0, but entry ({row}, {column}) is {matrix[row, column].item():g}")
        good = (matrix.sum(0) - 1).abs() <= 1e-8
        if not bool(good.all()):
            bad = int((~good).nonzero()[0])
            message = f"every column must sum to 1, but column {bad} sums to {matrix[:, bad].sum().item():.9g}"
            if bool(((matrix.sum(1) - 1).abs() <= 1e-8).all()):
                raise ValueError(f"{message}; the rows do sum to 1: transpose it, because matrix[i, j] = P(next = i | now = j)")
            raise ValueError(f"{message}; matrix[i, j] = P(next = i | now = j)")
        object.__setattr__(self, "matrix", matrix)

    @property
    def states(self) -> int:
        """Number K of states."""
        return len(self.matrix)

    def step(self, p: ArrayLike, n: int = 1) -> Tensor:
        """Return the law T^n p after ``n`` steps from the law ``p`` (K,)."""
        if n < 0:
            raise ValueError(f"a chain runs forward: n must be at least 0, not {n}")
        power: Tensor = torch.linalg.matrix_power(self.matrix, n)
        return power @ self._law(p)

    def sample(self, n: int, steps: int, *, start: int | ArrayLike, seed: int, first: int = 0) -> Tensor:
        """Draw walkers ``first`` to ``first + n - 1`` of the sample that ``seed`` names.

        Parameters
        ----------
        n, steps : int
            Numbers of walkers and of steps.
        start : int or array (K,)
            The state in which all walkers begin, or the law of the first state.
        seed, first : int
            Walker i of this sample is walker ``first + i`` of ``seed``.

        Returns
        -------
        Tensor
            States, int64 (n, steps + 1). A path does not depend on n, and a longer path begins with the shorter one.

        Raises
        ------
        ValueError
            If ``steps`` is negative, or ``start`` is no state and no law of the chain.
        """
        if steps < 0:
            raise ValueError(f"steps must be at least 0, not {steps}")
        rows = torch.arange(first, first + n)
        now = self._draw(self._start(start)[:, None].expand(-1, n), seed, rows, 0)
        path = [now]
        for step in range(1, steps + 1):
            now = self._draw(self.matrix[:, now], seed, rows, step)
            path.append(now)
        return torch.stack(path, 1)

    def power_iteration(
        self, start: ArrayLike | None = None, *, tolerance: float = 1e-12, max_steps: int = 10_000
    ) -> PowerIteration:
        """Multiply by T until a step moves the law by at most ``tolerance`` in total variation.

        Such a law is stationary to ``tolerance``, but another start may converge to another law, or to none: only an
        irreducible, aperiodic chain has one limit for every start.

        Parameters
        ----------
        start : array (K,), optional
            By default the uniform law.
        tolerance : float
            Total variation between a law and the next one at which the iteration ends.
        max_steps : int
            Largest number of multiplications.

        Raises
        ------
        ValueError
            If the law has not converged after ``max_steps``; the error says whether the cause is a period or slow mixing.

        >>> MarkovChain([[0.0, 1.0], [1.0, 0.0]]).power_iteration([1.0, 0.0])
        Traceback (most recent call last):
        ValueError: power iteration still moves the law by 1 after 10000 steps: the closed class (0, 1) has period 2, ...
        """
        law = torch.full_like(self.matrix[0], 1 / self.states) if start is None else self._law(start)
        history, residuals = [law], [math.inf]
        while residuals[-1] > tolerance:
            if len(residuals) > max_steps:
                raise ValueError(
                    f"power iteration still moves the law by {residuals[-1]:.3g} after {max_steps} steps: {self._reason()}"
                )
            law = self.matrix @ law
            residuals.append((law - history[-1]).abs().sum().item() / 2)
            history.append(law)
        return PowerIteration(law, torch.stack(history), law.new_tensor(residuals[1:]))

    def stationary(self) -> Tensor:
        """Return the law pi (K,) with T pi = pi: the eigenvector of eigenvalue 1, scaled to sum one.

        States are eliminated one by one without a subtraction (Grassmann, Taksar and Heyman), so even the smallest entries
        are accurate.

        Raises
        ------
        ValueError
            If the law is not unique because several classes of states are closed (the error names them).
        """
        members = list(self._only_closed_class())
        flow = self.matrix[members][:, members].T.clone()  # flow[i, j] from i to j
        for last in range(len(members) - 1, 0, -1):
            flow[:last, last] /= flow[last, :last].sum()
            flow[:last, :last] += flow[:last, last, None] * flow[last, :last]
        weights = torch.ones_like(flow[0])
        for state in range(1, len(members)):
            weights[state] = weights[:state] @ flow[:state, state]
        law = torch.zeros_like(self.matrix[0])
        law[members] = weights / weights.sum()
        return law

    def eigenvalues(self) -> Tensor:
        """Return the eigenvalues (K,), complex, by decreasing modulus; the first has modulus 1."""
        values: Tensor = torch.linalg.eigvals(self.matrix)
        return values[values.abs().argsort(descending=True, stable=True)]

    @property
    def second_eigenvalue(self) -> float:
        """The second largest modulus: below 1 if and only if T^m p has one limit for every p; 0 for a single state."""
        return self.eigenvalues()[1].abs().item() if self.states > 1 else 0.0

    def mixing_time(self, eps: float = 0.25) -> int:
        """Return the smallest t at which T^t p is within total variation ``eps`` of the stationary law for every start p.

        The worst start is a single state, and the worst distance never rises, so bisection finds t exactly.

        Raises
        ------
        ValueError
            If eps is not in (0, 1), the stationary law is not unique, or the chain is periodic and never mixes.
        """
        if not 0 < eps < 1:
            raise ValueError(f"eps is a total variation in (0, 1), not {eps:g}")
        if self.period > 1:
            raise ValueError(f"the chain never mixes: {self._reason()}")
        law = self.stationary()[:, None]

        def mixed(power: Tensor) -> bool:
            return (power - law).abs().sum(0).max().item() / 2 <= eps

        doublings = [self.matrix]
        if mixed(torch.eye(self.states).to(self.matrix)):
            return 0
        while not mixed(doublings[-1]):
            if len(doublings) > 60:
                raise ValueError(
                    f"the chain has not come within {eps:g} of its stationary law after 2^60 steps; ask for a larger eps"
                )
            doublings.append(doublings[-1] @ doublings[-1])
        steps, power = 0, torch.eye(self.states).to(self.matrix)
        # The largest number of steps that is not enough, bit by bit.
        for bit in range(len(doublings) - 2, -1, -1):
            further = doublings[bit] @ power
            if not mixed(further):
                steps, power = steps + 2**bit, further
        return steps + 1

    @functools.cached_property
    def closed_classes(self) -> tuple[tuple[int, ...], ...]:
        """The sets of states that reach each other and nothing else; there is at least one, and every walker ends in one."""
        from scipy.sparse import csgraph

        edges = self._edges()
        count, labels = csgraph.connected_components(edges, directed=True, connection="strong")
        classes = [np.flatnonzero(labels == label) for label in range(count)]
        closed = [tuple(c.tolist()) for c in classes if not edges[c][:, labels != labels[c[0]]].any()]
        return tuple(sorted(closed))

    @property
    def is_irreducible(self) -> bool:
        """Whether every state can be reached from every other."""
        return len(self.closed_classes[0]) == self.states

    @property
    def period(self) -> int:
        """The greatest common divisor of the lengths of all returns to a state of the closed class; 1 means aperiodic.

        Raises
        ------
        ValueError
            If several classes of states are closed, each with its own period.
        """
        return self._period_of(self._only_closed_class())

    def _period_of(self, members: tuple[int, ...]) -> int:
        from scipy.sparse import csgraph

        edges = self._edges()[np.ix_(members, members)]
        level = csgraph.shortest_path(edges, unweighted=True, indices=0).astype(np.int64)
        source, target = edges.nonzero()
        return int(np.gcd.reduce(level[source] + 1 - level[target]))

    def _edges(self) -> NDArray[np.bool_]:
        """edges[j, i]: state i can follow state j."""
        edges: NDArray[np.bool_] = (self.matrix.T > 0).cpu().numpy()
        return edges

    def _only_closed_class(self) -> tuple[int, ...]:
        if len(self.closed_classes) > 1:
            shown = ", ".join(_shown(c) for c in self.closed_classes)
            raise ValueError(
                f"the stationary law is not unique: {len(self.closed_classes)} classes of states are closed, {shown}, "
                "and each has its own"
            )
        return self.closed_classes[0]

    def _reason(self) -> str:
        for members in self.closed_classes:
            period = self._period_of(members)
            if period > 1:
                return f"the closed class {_shown(members)} has period {period}, so the law never converges"
        slowest = max((abs(v) for v in self.eigenvalues().tolist() if abs(v - 1) > 1e-12), default=0.0)
        return f"the slowest part of the law decays by a factor {slowest:.9g} a step; raise max_steps"

    def _law(self, p: ArrayLike) -> Tensor:
        p = as_probabilities(p).to(self.matrix)
        if p.shape != (self.states,):
            raise ValueError(f"a law of this chain has the shape ({self.states},), but p has {tuple(p.shape)}")
        return p

    def _start(self, start: int | ArrayLike) -> Tensor:
        if not isinstance(start, numbers.Integral | int):
            return self._law(start)
        if not 0 <= start < self.states:
            raise ValueError(f"the states are 0 to {self.states - 1}, but the start is {start}")
        return torch.eye(self.states).to(self.matrix)[start]

    @staticmethod
    def _draw(laws: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """Draw one state from each column of ``laws`` (K, n) by the inverse CDF."""
        u = noise.uniform((1,), seed=seed, purpose="markov chain", rows=rows, step=step, dtype=torch.float64)
        cdf = laws.T.cumsum(1).contiguous()
        # Rounding can leave the whole sum below u; the draw is then the last *possible* state.
        cdf.masked_fill_(cdf >= cdf[:, -1:], math.inf)
        return torch.searchsorted(cdf, u.to(cdf.device), right=True)[:, 0]


def _shown(members: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, members[:10]))}{', ...' if len(members) > 10 else ''})"
