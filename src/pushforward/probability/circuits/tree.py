r"""Hidden trees: a state per column, states linked in a tree, and columns independent given the states.

With a root r, parents pa(c) and states z_c in 1, ..., S, the law of a row x is

    p(x) = sum over z of  p(z_r) p(x_r | z_r)  prod over c != r of  T_c[z_pa(c), z_c] p(x_c | z_c).

Two passes over the tree give every sum that is needed. Upwards, u_c(z_c) is the density of the columns below c given its state:

    u_c(z) = p(x_c | z) prod over children d of m_d(z),        m_c(z) = sum over z' of T_c[z, z'] u_c(z'),

and p(x) = sum over z of p(z) u_r(z). Downwards, with g_c the posterior probabilities of the states,

    g_c(z') = u_c(z') sum over z of h_c(z) T_c[z, z'],         h_c = g_pa(c) / m_c.

Messages are scaled to a maximum of one, and the logarithms of the scales are summed.

References
----------
Anji Liu, Guy Van den Broeck. Tractable regularization of probabilistic circuits. NeurIPS 2021.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["HiddenTree", "Upward", "order_of", "picked"]

_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class HiddenTree:
    """One hidden tree.

    Parameters
    ----------
    parents : tuple of int
        Parent of each of C columns; -1 for the root.
    root : Tensor (S,)
        Probabilities of the states of the root.
    transitions : Tensor (C, S, S)
        Probabilities T_c[z, z'] of the state z' of column c given the state z of its parent; not used for the root.
    leaves : tuple of Tensors (B_c, S)
        Probabilities of the elements of each column's basis, given the state.
    """

    parents: tuple[int, ...]
    root: Tensor
    transitions: Tensor
    leaves: tuple[Tensor, ...]

    def upward(self, emissions: list[Tensor]) -> "Upward":
        """Run the upward pass on the densities p(x_c | z) of C columns, each (n, S)."""
        products, logs = (list(parts) for parts in zip(*map(_scaled, emissions), strict=True))
        messages: list[Tensor] = list(emissions)
        log_scale = torch.stack(logs).sum(0)
        order = order_of(self.parents)
        for column in reversed(order[1:]):
            parent = self.parents[column]
            messages[column] = products[column] @ self.transitions[column].mT
            products[parent], log = _scaled(products[parent] * messages[column])
            log_scale = log_scale + log
        return Upward(products, messages, (products[order[0]] @ self.root).log() + log_scale)

    def downward(self, up: "Upward") -> tuple[list[Tensor], list[Tensor]]:
        """Return g_c (n, S), the posterior probabilities of the states, and h_c (n, S), of each column."""
        order = order_of(self.parents)
        states, incoming = list(up.products), list(up.products)
        for column in order:
            if column == order[0]:
                joint = up.products[column] * self.root
                states[column] = joint / joint.sum(1, keepdim=True)
            else:
                incoming[column] = states[self.parents[column]] / up.messages[column].clamp(min=_TINY)
                states[column] = (incoming[column] @ self.transitions[column]) * up.products[column]
        return states, incoming

    def draw_states(self, up: "Upward", u: Tensor) -> Tensor:
        """Draw the states (n, C) given the evidence of an upward pass, by uniform numbers (n, C)."""
        states = torch.empty(u.shape, dtype=torch.int64)
        order = order_of(self.parents)
        for column in order:
            prior = self.root if column == order[0] else self.transitions[column][states[:, self.parents[column]]]
            states[:, column] = picked((prior * up.products[column]).expand(len(u), -1), u[:, column])
        return states


@dataclass(frozen=True, eq=False)
class Upward:
    """Result of an upward pass: u_c and m_c, each (n, S) and scaled, per column, and log p(x) (n,) in nats."""

    products: list[Tensor]
    messages: list[Tensor]
    log_prob: Tensor


def _scaled(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return u (n, S) over its maximum, and the logarithm of that; ones and -inf where u is 0."""
    peak = u.amax(1, keepdim=True)
    return torch.where(peak > 0, u / peak, 1.0), peak[:, 0].log()


def order_of(parents: tuple[int, ...]) -> list[int]:
    """Return the columns, each after its parent.

    >>> order_of((1, -1, 0))
    [1, 0, 2]

    Raises
    ------
    ValueError
        If the parents are not those of a tree.
    """
    order = [column for column, parent in enumerate(parents) if parent == -1]
    for column in order:
        order.extend(child for child, parent in enumerate(parents) if parent == column)
    if len(order) != len(parents) or parents.count(-1) != 1:
        raise ValueError(f"the parents {parents} are not those of a tree with one root, marked by -1")
    return order


def picked(weights: Tensor, u: Tensor) -> Tensor:
    """Return numbers (n,) drawn in proportion to weights (n, K), by uniform numbers u (n,) in [0, 1).

    >>> picked(torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([0.5])).tolist()
    [2]
    """
    sums = weights.cumsum(1)
    return torch.searchsorted(sums, (u * sums[:, -1])[:, None], right=True)[:, 0].clamp(max=weights.shape[1] - 1)
