"""The domains of the elements of a row, found in the data where they are not declared."""

import math

import torch
from torch import Tensor

from pushforward.data import RowSpace
from pushforward.probability.domain import Domain

__all__ = ["domains", "real_domain", "unbounded"]

_ATOM_SHARE = 0.01  # of the rows that have the same value
_FEW, _ROWS_PER_VALUE = 20, 10
_FEWEST = 20  # rows from which bounds are found
_NEAR = 0.05


def domains(space: RowSpace, x: Tensor) -> tuple[Domain, ...]:
    """Return the domain of each element that varies, from rows x (N, d) of these, NaN in gaps.

    An integer has the range of the training data. The atoms of a real element are values that 1 % of the rows have, and ten
    times more rows than the typical value, or all values if these are few. A real element is bounded by 0 if no value is
    negative and some come close to 0, and then by 1 if none is larger and some come close to 1.
    """
    transform = space.transform
    low, high = (transform.pick(end.expand_as(transform.shift))[transform.varies] for end in (transform.low, transform.high))
    integer = transform.pick(transform.integer)[transform.varies]
    return tuple(
        Domain("integer", float(low[column]), float(high[column])) if integer[column] else real_domain(x[:, column])
        for column in range(x.shape[1])
    )


def real_domain(x: Tensor) -> Domain:
    """Return the domain of a column of reals (N,), NaN in gaps.

    >>> real_domain(torch.linspace(0, 1, 50).double() ** 2)
    Domain(type='real', low=0.0, high=1.0, atoms=(), limits=(-inf, inf))
    """
    x = x[~x.isnan()]
    values, counts = torch.unique(x, return_counts=True)
    few = len(values) <= _FEW and len(x) >= _ROWS_PER_VALUE * len(values)
    spikes = (counts >= _ATOM_SHARE * len(x)) & (counts >= _ROWS_PER_VALUE * counts.median())
    atoms = tuple(values[spikes | few].tolist())
    if len(x) < _FEWEST or float(x.min()) < 0 or float(x.min()) > _NEAR * float(x.median()):
        return Domain("real", atoms=atoms)
    high = 1.0 if 1 - _NEAR <= float(x.max()) <= 1 else math.inf
    return Domain("real", 0.0, high, atoms)


def unbounded(x: Tensor) -> Domain:
    """Return the domain of a column of reals (N,) that may be any number."""
    return Domain("real", atoms=real_domain(x).atoms)
