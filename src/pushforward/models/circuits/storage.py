"""Hidden trees as plain data and tensors, and back."""

import math

import torch
from torch import Tensor

from pushforward.data import Facts
from pushforward.probability.circuits.basis import Basis
from pushforward.probability.circuits.law import HiddenTrees
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.domain import Domain

__all__ = ["restored", "state"]


def state(law: HiddenTrees) -> tuple[Facts, dict[str, Tensor]]:
    """Return a law as plain data for JSON and as tensors for safetensors; :func:`restored` returns it exactly."""
    bases, trees = law.bases, law.trees
    facts: Facts = {
        "types": [basis.domain.type for basis in bases],
        "bounds": [[end if math.isfinite(end) else None for end in (basis.domain.low, basis.domain.high)] for basis in bases],
        "gaps": [basis.gap for basis in bases],
        "points": [len(basis.points) for basis in bases],
        "knots": [len(basis.knots) for basis in bases],
        "parents": [list(tree.parents) for tree in trees],
    }
    tensors = {
        "points": torch.cat([basis.points for basis in bases]),
        "knots": torch.cat([basis.knots for basis in bases]),
        "tails": torch.stack([basis.tails for basis in bases]),
        "weights": law.weights,
        "root": torch.stack([tree.root for tree in trees]),
        "transitions": torch.stack([tree.transitions for tree in trees]),
        "leaves": torch.stack([torch.cat(tree.leaves) for tree in trees]),
    }
    return facts, tensors


def restored(facts: Facts, tensors: dict[str, Tensor]) -> HiddenTrees:
    """Return the law from the output of :func:`state`; ValueError if its parts do not fit each other."""
    try:
        points, knots = (torch.split(tensors[name], facts[name]) for name in ("points", "knots"))
        bases = []
        for number, (column_type, gap) in enumerate(zip(facts["types"], facts["gaps"], strict=True)):
            low, high = facts["bounds"][number]
            low, high = -math.inf if low is None else low, math.inf if high is None else high
            atoms = tuple(points[number].tolist()) if column_type == "real" else ()
            bases.append(
                Basis(Domain(column_type, low, high, atoms), bool(gap), points[number], knots[number], tensors["tails"][number])
            )
        sizes = [basis.size for basis in bases]
        parts = zip(facts["parents"], tensors["root"], tensors["transitions"], tensors["leaves"], strict=True)
        trees = tuple(
            HiddenTree(tuple(parents), root, steps, torch.split(leaves, sizes)) for parents, root, steps, leaves in parts
        )
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(f"the tensors of the hidden trees do not fit their sizes: {error}") from error
    return HiddenTrees(tuple(bases), trees, tensors["weights"])
