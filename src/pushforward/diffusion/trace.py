r"""Traces of Jacobians: exact with one pullback per element, or unbiased estimates from a few random probes.

For f that maps each row of x (B, *D) independently to a row of the same shape, with J the Jacobian of one row,

    exact:         tr J = sum_k  e_k^T J e_k            D pullbacks
    Hutchinson:    tr J = E[v^T J v],    E[v v^T] = I   one pullback per probe

A Rademacher probe (+1 or -1, each with probability 1/2) has the least variance of all probes with independent elements,
because the diagonal of J adds none.

References
----------
Michael Hutchinson. A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines. 1990.
Will Grathwohl et al. FFJORD: free-form continuous dynamics for scalable reversible generative models. 2019.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pushforward.probability import noise

__all__ = ["exact_trace", "jacobian", "probed_trace", "pullback", "rademacher"]

Field = Callable[[Tensor], Tensor]

_PULLED_ROWS = 8192  # rows in one backward pass


def exact_trace(field: Field, x: Tensor, varies: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return ``field(x)`` and the trace of the Jacobian of each row, (B,).

    Parameters
    ----------
    field : function
        From (B, *D) to (B, *D), each row independently; gradients flow through the result.
    x : Tensor (B, *D)
    varies : bool Tensor (*D), optional
        The elements whose diagonal entries are summed; default all.

    >>> value, trace = exact_trace(lambda x: x**2, torch.tensor([[1.0, 2.0]]))
    >>> trace.tolist()
    [6.0]
    """
    value, pull = pullback(field, x)
    rows, size = len(x), x[0].numel()
    basis = torch.eye(size, dtype=x.dtype, device=x.device)
    if varies is not None:
        basis = basis[varies.flatten().to(x.device)]

    def entry(axis: Tensor) -> Tensor:
        pulled = pull(axis.expand(rows, size).reshape(x.shape))
        return (pulled.flatten(1) * axis).sum(1)

    entries: Tensor = torch.func.vmap(entry, chunk_size=max(1, _PULLED_ROWS // rows))(basis)
    return value, entries.sum(0)


def jacobian(field: Field, x: Tensor, varies: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``field(x)`` and the Jacobian (B, d, d) of each row in the d elements that vary.

    >>> jacobian(lambda x: x**2, torch.tensor([[1.0, 2.0]]), torch.tensor([True, True]))[1].tolist()
    [[[2.0, 0.0], [0.0, 4.0]]]
    """
    value, pull = pullback(field, x)
    rows, size, chosen = len(x), x[0].numel(), varies.flatten().to(x.device)
    basis = torch.eye(size, dtype=x.dtype, device=x.device)[chosen]

    def line(axis: Tensor) -> Tensor:
        return pull(axis.expand(rows, size).reshape(x.shape)).flatten(1)[:, chosen]

    lines: Tensor = torch.func.vmap(line, chunk_size=max(1, _PULLED_ROWS // rows))(basis)
    return value, lines.movedim(0, 1)


def probed_trace(field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``field(x)`` and v^T J v for each of the ``probes`` v (P, B, *D), as (P, B).

    >>> value, traces = probed_trace(lambda x: x**2, torch.tensor([[1.0, 2.0]]), torch.tensor([[[1.0, -1.0]]]))
    >>> traces.tolist()
    [[6.0]]
    """
    value, pull = pullback(field, x)
    # One by one: vmap is no faster here, and fails with some networks, such as those of diffusers.
    return value, torch.stack([(pull(probe) * probe).flatten(1).sum(1) for probe in probes])


def rademacher(x: Tensor, count: int, *, seed: int, first: int = 0) -> Tensor:
    """Return ``count`` probes of signs per row of x (B, *D), as (count, B, *D); row i depends only on seed and first + i.

    >>> rademacher(torch.zeros(2, 3), 4, seed=0).abs().unique().tolist()
    [1.0]
    """
    rows = torch.arange(first, first + len(x), device=x.device)
    shape = tuple(x.shape[1:])
    draws = [
        noise.uniform(shape, seed=seed, purpose="probe", rows=rows, step=step, dtype=x.dtype, device=x.device)
        for step in range(count)
    ]
    return torch.where(torch.stack(draws) < 0.5, -1.0, 1.0).to(x.dtype)


def pullback(field: Field, x: Tensor) -> tuple[Tensor, Field]:
    """Return ``field(x)`` and the map v -> J^T v."""
    value, pull = torch.func.vjp(field, x)[:2]

    def pulled(v: Tensor) -> Tensor:
        result: Tensor = pull(v)[0]
        return result

    return value, pulled
