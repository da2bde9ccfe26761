"""Rows to score: checked and scaled, with their conditions, integers as intervals.

The probability of an integer k is the integral of the density over [k, k + 1), and by Jensen's inequality

    log P(k) = log E_u p(k + u) >= E_u log p(k + u),         u uniform on [0, 1),

so the mean of log-densities over draws of u is a lower bound of the log-probability.

An integer beyond the range of the training data is scored as the end of the range, times the share of the end's mass that
belongs to it (:mod:`pushforward.data.transform`). The same holds for all families.

References
----------
Lucas Theis, Aäron van den Oord, Matthias Bethge. A note on the evaluation of generative models. 2016.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.data.space import RowSpace
from pushforward.data.transform import Transform
from pushforward.diffusion.bound import Bins
from pushforward.probability import noise

__all__ = ["Rows", "SpreadRows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Scaled rows to score, on the CPU.

    Attributes
    ----------
    z : Tensor (N, *D)
    condition : Tensor (N, K) or None
    width : Tensor (*D)
        Of one integer; 0 for real numbers.
    bins : Bins or None
        The interval of each element; None without integers.
    varies : bool Tensor (*D) or None
        Which elements vary; None if all do.
    log_det_of_reals : float
        log |dz/dx| over the elements that are real numbers.
    log_shares : Tensor (N,)
        To be added to the log-probability of a row inside the range of the training data, float64, or to the density of a
        signal for its coding.
    """

    z: Tensor
    condition: Tensor | None
    width: Tensor
    bins: Bins | None
    varies: Tensor | None
    log_det_of_reals: float
    log_shares: Tensor

    @classmethod
    def of(
        cls, space: RowSpace, x: Tensor, condition: Tensor | None, *, dtype: torch.dtype, within_range: bool = False
    ) -> "Rows":
        """Return rows x (N, *D) in data units with their encoded conditions.

        ``within_range`` moves integers into the range of the training data and sets ``log_shares``, with a warning where an
        integer is impossible.

        Raises
        ------
        ValueError
            If x has fractions where the training data are integers.
        """
        transform = space.transform
        varying = ~transform.constant
        integer = transform.integer & varying
        if transform.coding is None:
            _refuse_fractions(x, integer)
        log_shares = torch.zeros(len(x), dtype=torch.float64)
        if within_range and bool(integer.any()):
            x, log_shares = transform.ends(x)
            _warn_of_impossible(log_shares)
        elif within_range:
            log_shares = transform.log_slopes(x)
        bins = _edges(transform, x, integer, dtype) if bool(integer.any()) else None
        return cls(
            z=transform.forward(x, dtype=dtype),
            condition=condition,
            width=transform.dequantization.to(dtype),
            bins=bins,
            varies=None if bool(transform.varies.all()) else transform.varies,
            log_det_of_reals=-float(transform.scale[varying & ~transform.integer].log().sum()),
            log_shares=log_shares,
        )

    @property
    def integer(self) -> bool:
        """Whether any element is an integer."""
        return self.bins is not None

    @property
    def random(self) -> bool:
        """Whether scoring needs random numbers: for integers, and for the constant elements of images."""
        return self.integer or self.varies is not None

    @property
    def middle(self) -> Tensor:
        """Rows with integers at the middle of their interval."""
        return self.z + self.width / 2

    def log_volume(self, part: slice, seed: int, first: int) -> Tensor | float:
        """Return the term per row that turns log p(z) of :meth:`dequantized` rows into log p(x)."""
        return 0.0

    def dequantized(self, part: slice, seed: int, first: int) -> Tensor:
        """Return rows with uniform noise added to integers; the noise of row i depends on (seed, first + i) alone."""
        z = self.z[part]
        if not self.integer:
            return z
        numbers = torch.arange(first, first + len(z))
        u = noise.uniform(z.shape[1:], seed=seed, purpose="dequantization", rows=numbers, dtype=z.dtype)
        return z + self.width * u


@dataclass(frozen=True, eq=False)
class SpreadRows(Rows):
    """Rows of a table whose columns have scores: values with a share of their own are spread over their intervals.

    Attributes
    ----------
    cells : Tensor (N, C)
        One number per column, NaN in gaps.
    space : RowSpace
    """

    cells: Tensor
    space: RowSpace

    @classmethod
    def spread(cls, space: RowSpace, cells: Tensor, condition: Tensor | None, *, dtype: torch.dtype) -> "SpreadRows":
        """Return rows of cells (N, C) with their encoded conditions."""
        elements, transform = space.schema.elements, space.transform
        assert elements is not None
        scores = elements.forward(cells)
        _warn_of_impossible(elements.log_volume(cells, scores))
        return cls(
            z=transform.forward(scores, dtype=dtype),
            condition=condition,
            width=torch.zeros(transform.shape, dtype=dtype),
            bins=None,
            varies=None,
            log_det_of_reals=0.0,
            log_shares=torch.zeros(len(cells), dtype=torch.float64),
            cells=cells,
            space=space,
        )

    @property
    def integer(self) -> bool:
        """Whether some values have a probability of their own."""
        elements = self.space.schema.elements
        return elements is not None and elements.has_intervals

    def dequantized(self, part: slice, seed: int, first: int) -> Tensor:
        """Return rows with values spread over their intervals; the noise of row i depends on (seed, first + i) alone."""
        return self.space.transform.forward(self._scores(part, seed, first), dtype=self.z.dtype)

    def log_volume(self, part: slice, seed: int, first: int) -> Tensor:
        """Return the term per row that turns log p(z) of :meth:`dequantized` rows into log p(x)."""
        assert self.space.schema.elements is not None
        return self.space.schema.elements.log_volume(self.cells[part], self._scores(part, seed, first))

    def _scores(self, part: slice, seed: int, first: int) -> Tensor:
        assert self.space.schema.elements is not None
        cells = self.cells[part]
        numbers = torch.arange(first, first + len(cells))
        u = noise.uniform(cells.shape[1:], seed=seed, purpose="intervals", rows=numbers, dtype=torch.float64)
        return self.space.schema.elements.forward(cells, u)


def _edges(transform: Transform, x: Tensor, integer: Tensor, dtype: torch.dtype) -> Bins:
    """Return the interval of each element in units of z, unbounded at the ends of the training range."""
    top, bottom = transform.high.expand_as(transform.shift), transform.low.expand_as(transform.shift)
    wide = x.double()
    low = torch.where(integer & (wide <= bottom), -torch.inf, (wide - transform.shift) / transform.scale)
    high = torch.where(integer & (wide >= top), torch.inf, (wide + integer.double() - transform.shift) / transform.scale)
    low, high = transform.pick(low), transform.pick(high)
    return Bins(low.to(dtype), high.to(dtype), transform.dequantization.to(dtype))


def _warn_of_impossible(log_shares: Tensor) -> None:
    impossible = log_shares.isneginf()
    if bool(impossible.any()):
        count, row = int(impossible.sum()), int(impossible.int().argmax())
        warnings.warn(
            f"{count} of {len(log_shares)} rows, the first of them row {row}, have values beyond a closed range of the "
            "training data (levels of images, limits of columns): their probability is 0. Remove these rows, or train on data "
            "with the full range",
            stacklevel=2,
        )


def _refuse_fractions(x: Tensor, integer: Tensor) -> None:
    broken = integer & (x != x.round()) & ~x.isnan()
    if bool(broken.any()):
        row = int(broken.flatten(1).any(1).int().argmax())
        value = float(x[row][broken[row]][0])
        raise ValueError(
            f"X has the value {value:g} in row {row}, but the training data are integers there, so the model has probabilities "
            "of integers only; score integers, or train on floats"
        )
