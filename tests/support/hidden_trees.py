"""Small laws of hidden trees whose states can be enumerated."""

import math

import numpy as np
import torch

from pushforward.probability.circuits.basis import Basis
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.domain import Domain

STATES = 3
PARENTS = ((-1, 0, 1, 1), (2, 3, -1, 2))


def random_law(seed=0):
    """Two trees over a category with gaps, an integer, a real with an atom and gaps, and a real within bounds."""
    rng = np.random.default_rng(seed)
    columns = [
        (np.r_[rng.integers(0, 3, 40), [math.nan] * 5], Domain("category", 0, 2)),
        (rng.integers(0, 5, 45), Domain("integer", 0, 6)),
        (np.r_[np.zeros(9), rng.normal(size=30), [math.nan] * 6], Domain("real", atoms=(0.0,))),
        (rng.uniform(0, 2, 45), Domain("real", 0, 2)),
    ]
    bases = tuple(Basis.fit(torch.from_numpy(np.asarray(values, float)), domain) for values, domain in columns)

    def simplex(*shape):
        return torch.from_numpy(rng.dirichlet(np.ones(shape[-1]), shape[:-1]))

    trees = tuple(
        HiddenTree(
            parents, simplex(STATES), simplex(4, STATES, STATES), tuple(simplex(STATES, basis.size).mT for basis in bases)
        )
        for parents in PARENTS
    )
    return HiddenTrees(bases, trees, torch.tensor([0.3, 0.7], dtype=torch.float64))
