"""Chow-Liu trees: the trees that hold most of the mutual information between columns.

Among laws p(x) = p(x_r) prod p(x_c | x_pa(c)) on a tree, the one closest to the data in relative entropy has the tree with the
largest sum of mutual informations I(x_c; x_pa(c)). Here a tree links hidden states, so that rough informations are enough: real
columns are put into bins. Trees that differ come from mutual informations that are multiplied by random factors.

References
----------
C. K. Chow, C. N. Liu. Approximating discrete probability distributions with dependence trees. IEEE Trans. Inf. Theory, 1968.
"""

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.domain import Domain

__all__ = ["codes", "mutual_information", "spanning_tree"]

_BINS = 24
_ROWS = 20_000


def codes(x: Tensor, domains: tuple[Domain, ...], bins: int = _BINS) -> Tensor:
    """Return the numbers of bins of the cells of rows (N, C): levels, frequent values, and intervals of equal counts."""
    out = torch.zeros(x.shape, dtype=torch.int64)
    for column, domain in enumerate(domains):
        values, seen = x[:, column], ~x[:, column].isnan()
        known = values[seen]
        if domain.type != "category" and len(known):
            levels = torch.arange(1, bins, dtype=torch.float64) / bins
            edges = torch.unique(known.sort().values[(levels * len(known)).long()])
            # A value that fills a bin ends it from below, too.
            known = torch.searchsorted(edges, known) + torch.searchsorted(edges, known, right=True)
        out[seen, column] = torch.unique(known, return_inverse=True)[1] + 1
    return out


def mutual_information(code: Tensor) -> Tensor:
    """Return the mutual informations of columns of numbers (N, C) in nats, (C, C), less their bias, at least 0."""
    code = code[torch.linspace(0, len(code) - 1, min(len(code), _ROWS), dtype=torch.float64).long()]
    n, sizes = len(code), [int(column.max()) + 1 for column in code.mT]
    one_hot = torch.cat([torch.nn.functional.one_hot(column, size) for column, size in zip(code.mT, sizes, strict=True)], 1)
    one_hot = one_hot.float()
    joint = (one_hot.mT @ one_hot).double() / n
    share = joint.diagonal()
    terms = torch.where(joint > 0, joint * (joint / (share[:, None] * share)).log(), 0.0)
    used = (share > 0).double()
    column_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    table = torch.nn.functional.one_hot(column_of, len(sizes)).mT.double()
    levels = table @ used
    bias = (levels[:, None] - 1) * (levels - 1) / (2 * n)
    information: Tensor = table @ terms.nan_to_num() @ table.mT - bias
    return information.clamp(min=0).fill_diagonal_(0)


def spanning_tree(information: Tensor, *, jitter: float, seed: int) -> tuple[int, ...]:
    """Return the parents of the maximal spanning tree of informations (C, C) that are multiplied by exp(jitter * normal)."""
    C = len(information)
    z = noise.normal((C, C), seed=seed, purpose="tree", rows=1, dtype=torch.float64)[0].triu(1)
    weight = (information + 1e-9) * ((z + z.mT) * jitter).exp()
    root = int(noise.uniform((), seed=seed, purpose="root", rows=1, dtype=torch.float64) * C)
    parents, inside = [-1] * C, [root]
    best, source = weight[root].clone(), torch.full((C,), root)
    best[root] = -1.0
    while len(inside) < C:
        new = int(best.argmax())
        parents[new] = int(source[new])
        inside.append(new)
        closer = weight[new] > best
        closer[inside] = False
        best, source = torch.where(closer, weight[new], best), torch.where(closer, new, source)
        best[inside] = -1.0
    return tuple(parents)
