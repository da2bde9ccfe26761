"""Fitted, invertible maps between data units and scaled rows, with their log-determinant.

Every map is affine, element by element,

    z = (x - shift) / scale,      x = shift + scale z,      log |dz/dx| = - sum log scale,

where the sum runs over the elements that vary. The kind of data defines shift and scale: vectors are standardized, images are
scaled to [-1, 1] (:mod:`pushforward.data.kinds`).

An integer k represents the interval [k, k + 1): uniform dequantization x + u, u ~ U[0, 1), turns its law into a density whose
integral over the interval is the probability of k. Statistics are those of x + u (mean + 1/2, variance + 1/12, range
[min, max + 1)). :meth:`Transform.forward` adds no noise; a training step adds ``dequantization * u`` itself. The inverse rounds
down, and clips integers to the training range.

Laws of integers. The interval of the smallest training value also has everything below it, and that of the largest everything
above, so the model's probabilities Q(k) of the training range sum to one. A range is closed if no other value is possible: the
levels of images, and a range that reaches the limits of its dtype, such as that of booleans. Other ranges are open, as for
counts: their ends share their mass with the values beyond, in a geometric series,

    P(high + j) = Q(high) (1 - r) r^j,      j = 0, 1, 2, ...,

and likewise below; the sum over j is Q(high). Where a limit is declared, or is that of the dtype, the series ends there,
divided by its sum. r = 1 / (m + 2) with m training rows at the end: Laplace's rule of succession for the next such row to lie
beyond. In a closed range r is 0: an integer beyond it has probability 0. Samples stay in the training range, where an end
stands for all values beyond it.

Signals can have a coding (:mod:`pushforward.data.coding`), a map that comes before the affine one. Then the elements are those
of its coordinates, all of them real numbers, and log |dz/dx| of a row has a further part, :meth:`Transform.log_slopes`.

A constant element has no density. It is dropped from z, or has a fixed value there in kinds with a fixed shape, such as images.
The inverse restores the constant exactly.

References
----------
Lucas Theis, Aäron van den Oord, Matthias Bethge. A note on the evaluation of generative models. ICLR 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pushforward.data.checks import Facts
from pushforward.data.coding import SignalCoding
from pushforward.data.ends import end_shares, infinite
from pushforward.data.kinds import Limits, kind_named
from pushforward.data.stream import AnyRows, Stream, extremes
from pushforward.probability.tails import log_share

__all__ = ["Transform"]


@dataclass(frozen=True, eq=False)
class Transform:
    """The scaling of rows, fitted to data by :meth:`fit`.

    Parameters
    ----------
    kind : str
        Name of the kind of data.
    dtype : torch.dtype
        dtype of the data and of the output of the inverse.
    shift, scale : Tensor
        float64, one entry per element of a row: ``(D,)``, ``(C, H, W)`` or ``(P, D)``.
    low, high : Tensor
        float64, smallest and largest training value per column or per channel; integers are clipped to this range.
    below, above : Tensor
        float64, shaped like ``low``: the shares r of the ends of the range; 0 where it is closed.
    least, most : Tensor
        float64, shaped like ``low``: the smallest and the largest possible integer; the largest float if there is none, since
        stored tensors are finite.
    integer : Tensor
        bool, which elements are integers.
    constant : Tensor
        bool, which elements are constant.
    value : Tensor
        float64, the value of the constant elements; elsewhere 0.
    coding : SignalCoding, optional
        The map from rows to the coordinates that are scaled.

    >>> transform = Transform.fit(torch.tensor([[0.0, 7.0], [2.0, 7.0]]), integer=False, kind="vectors")
    >>> transform.forward(torch.tensor([[4.0, 7.0]]))
    tensor([[3.]])
    >>> transform.inverse(torch.tensor([[3.0]]))
    tensor([[4., 7.]])
    """

    kind: str
    dtype: torch.dtype
    shift: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    below: Tensor
    above: Tensor
    least: Tensor
    most: Tensor
    integer: Tensor
    constant: Tensor
    value: Tensor
    coding: SignalCoding | None = None

    @classmethod
    def fit(
        cls,
        x: AnyRows,
        *,
        integer: bool | Sequence[bool],
        kind: str,
        limits: Limits | None = None,
        coding: SignalCoding | None = None,
    ) -> "Transform":
        """Fit to rows ``x``, ``(N, *D)``, in data units.

        Parameters
        ----------
        x : Tensor or Stream
            float32 or float64, finite. Rows on disk are read three times.
        integer : bool or sequence of bool
            Whether the values are integers, for all or per column (``(D,)``).
        kind : str
        limits : (Tensor, Tensor), optional
            Smallest and largest possible values, broadcastable to (*D). Kinds with closed ranges have this range, by default
            that of ``x``; otherwise a range is closed where it reaches its limit.
        coding : SignalCoding, optional
            Applied to ``x`` first; integers then count as real numbers.

        Raises
        ------
        ValueError
            If every element is constant, or the numbers are too large or too close together for float64.
        """
        if coding is not None:
            x, integer, limits = coding.forward(x[:]), False, None
        rules, row = kind_named(kind), x.shape[1:]
        x = x if isinstance(x, Stream) else rules.units(x)
        low, high, constant, whole = _facts(x, integer, kind)
        value = torch.where(constant, low, 0.0)
        ends = _ranges(x, low, high, kind, limits)
        shift, scale = rules.scaling(x, ends["low"].expand_as(low), ends["high"].expand_as(high), whole)
        # The scale of constant elements is arbitrary; 1 keeps z finite.
        scale = torch.where(constant & (scale == 0), 1.0, scale)
        if not bool((scale.isfinite() & (scale > torch.finfo(torch.float64).tiny) | constant).all()):
            raise ValueError(
                "X cannot be scaled: its numbers are too large or too close together for float64; change their unit."
            )
        fitted = cls(kind, x.dtype, shift, scale, **ends, integer=whole, constant=constant, value=value, coding=coding)
        return fitted if x.shape[1:] == row else fitted.of_points(row[0])

    @classmethod
    def in_data_units(
        cls, x: AnyRows, *, integer: bool | Sequence[bool], kind: str, limits: Limits | None = None
    ) -> "Transform":
        """Return the map z = x, which only drops constant elements; NaN is allowed.

        >>> transform = Transform.in_data_units(torch.tensor([[0.0, 7.0], [2.0, 7.0]]), integer=False, kind="vectors")
        >>> transform.forward(torch.tensor([[4.0, 7.0]]))
        tensor([[4.]])
        """
        low, high, constant, whole = _facts(x, integer, kind)
        value = torch.where(constant, low, 0.0)
        ends, shift, scale = _ranges(x, low, high, kind, limits), torch.zeros_like(value), torch.ones_like(value)
        return cls(kind, x.dtype, shift, scale, **ends, integer=whole, constant=constant, value=value, coding=None)

    def of_points(self, count: int) -> "Transform":
        """Return the same scaling for rows of ``count`` points, which are all scaled alike."""
        tensors = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("kind", "dtype", "coding")
        }
        return replace(self, **{name: value[:1].expand(count, -1).clone() for name, value in tensors.items()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row of z, without the constant elements that are dropped."""
        return tuple(self.shift.shape) if self.keeps_constants else (int((~self.constant).sum()),)

    @property
    def keeps_constants(self) -> bool:
        """Whether constant elements stay in z."""
        return kind_named(self.kind).keeps_constants

    @property
    def varies(self) -> Tensor:
        """Which elements of z vary, bool of :attr:`shape`; all, if constant elements are dropped."""
        return self.pick(~self.constant)

    def pick(self, values: Tensor) -> Tensor:
        """Return the values at the elements of z, from values for all elements of a row, ``(..., *D)``."""
        return values if self.keeps_constants else values[..., ~self.constant.to(values.device)]

    def spread(self, z: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """Return rows z with dropped constant elements set to ``fill``, ``(N, *D)``; differentiable."""
        if self.keeps_constants:
            return z
        whole = torch.as_tensor(fill, dtype=z.dtype, device=z.device).expand(len(z), *self.constant.shape)
        return whole.index_copy(1, (~self.constant).nonzero()[:, 0].to(z.device), z)

    def in_units(self, z: Tensor) -> Tensor:
        """Return rows z in data units, ``(N, *D)``, without rounding; differentiable.

        >>> transform = Transform.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0]]), integer=False, kind="vectors")
        >>> transform.in_units(torch.tensor([[0.5]]))  # the second column is constant
        tensor([[2.5000, 7.0000]])
        """
        x = self.pick(self.shift).to(z) + self.pick(self.scale).to(z) * z
        value = self.value.to(z)
        x = self.spread(x, value) if not self.keeps_constants else torch.where(self.constant.to(z.device), value, x)
        return x if self.coding is None else self.coding.inverse(x)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of a row in data units."""
        return tuple(self.constant.shape) if self.coding is None else self.coding.data_shape

    @property
    def fixed(self) -> tuple[Tensor, Tensor]:
        """Which elements of a row in data units are the same in all rows, bool, and their values; with a coding none."""
        if self.coding is None:
            return self.constant, self.value
        none = torch.zeros(self.data_shape, dtype=torch.float64)
        return none.bool(), none

    def log_slopes(self, x: Tensor) -> Tensor:
        """Return log |dz/dx| of each row x (N, *D) minus :attr:`log_det`, (N,), float64: 0 without a coding."""
        return torch.zeros(len(x), dtype=torch.float64) if self.coding is None else self.coding.log_det(x)

    @property
    def origin(self) -> Tensor:
        """The row in data units at z = 0, constant elements included, float64."""
        origin = torch.where(self.constant, self.value, self.shift)
        return origin if self.coding is None else self.coding.inverse(origin[None])[0]

    @property
    def dequantization(self) -> Tensor:
        """Width of one integer in units of z, float64, of :attr:`shape`; 0 where values are not integers or constant."""
        return self.pick(torch.where(self.integer & ~self.constant, 1 / self.scale, 0.0))

    @property
    def log_det(self) -> float:
        """Log |dz/dx| of the scaling in nats, over the elements that vary; the same for every row."""
        return -float(self.scale[~self.constant].log().sum())

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of each element of z in the training rows, float64; an integer fills its interval."""
        low, high = self.low.expand_as(self.shift), self.high.expand_as(self.shift) + self.integer.double()
        return self.pick((low - self.shift) / self.scale), self.pick((high - self.shift) / self.scale)

    @property
    def constants(self) -> int:
        """Number of constant elements of a row, which have no density."""
        return int(self.constant.sum())

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows x (N, *D), in data units, with integers moved into the training range, and the rule for the ends.

        The latter, (N,), is the sum of log (1 - r) r^j over the integers at an end or beyond: log P(x) - log Q of the row
        inside, for NaN and constant elements 0.

        >>> transform = Transform.fit(torch.tensor([[0.0], [1.0], [2.0]]), integer=True, kind="vectors")
        >>> inside, log_shares = transform.ends(torch.tensor([[1.0], [2.0], [4.0]]))
        >>> inside.flatten().tolist(), log_shares.exp().round(decimals=4).tolist()
        ([1.0, 2.0, 2.0], [1.0, 0.6667, 0.0741])
        """
        if self.coding is not None:
            return x, torch.zeros(len(x), dtype=torch.float64)
        counted = self.integer & ~self.constant
        wide, low, high = x.double(), self.low, self.high
        inside = torch.where(counted, torch.minimum(torch.maximum(wide, low), high), wide).to(x.dtype)
        log_shares = log_share(wide - high, self.above, self.most - high) + log_share(low - wide, self.below, low - self.least)
        return inside, torch.where(counted & ~x.isnan(), log_shares, 0.0).flatten(1).sum(1)

    def forward(self, x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return z for rows x in data units, without dequantization noise; ``dtype`` defaults to that of ``x``."""
        dtype = dtype or x.dtype
        x = x if self.coding is None else self.coding.forward(x)
        shift, scale = self.shift.to(x.device), self.scale.to(x.device)
        if not self.keeps_constants:
            varies = ~self.constant.to(x.device)
            return ((x[:, varies].double() - shift[varies]) / scale[varies]).to(dtype)
        # Subtracting a nearby number is exact in float32, so large sets of images need no float64 copy, nor a second one.
        z = (x - shift.to(x.dtype)).div_(scale.to(x.dtype))
        if self.constants:
            z = torch.where(self.constant.to(x.device), self.scaled_value(x.dtype).to(x.device), z)
        return z.to(dtype)

    def inverse(self, z: Tensor) -> Tensor:
        """Return rows in data units, in the dtype of the data; integers are rounded down and clipped to the training range."""
        if not self.keeps_constants:
            varies = ~self.constant
            x = self.value.to(z.device).repeat(len(z), 1)
            x[:, varies.to(z.device)] = self._unscale(z.double(), varies, torch.finfo(z.dtype).eps)
            return x.to(self.dtype)
        # Float32 is enough for images that came in float32, and saves memory.
        wide = z.double() if self.dtype == torch.float64 else z.to(torch.promote_types(z.dtype, torch.float32))
        x = self._unscale(wide, slice(None), torch.finfo(z.dtype).eps)
        if self.constants:
            x = torch.where(self.constant.to(z.device), self.value.to(z.device, x.dtype), x)
        return (x if self.coding is None else self.coding.inverse(x)).to(self.dtype)

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the state as plain data for JSON and as tensors for safetensors; :meth:`from_state` restores it exactly."""
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        coding = None if self.coding is None else self.coding.state()
        return {"kind": self.kind, "dtype": str(self.dtype).removeprefix("torch."), "coding": coding}, tensors

    @classmethod
    def from_state(cls, facts: Facts, tensors: dict[str, Tensor]) -> "Transform":
        """Return the transform from the output of :meth:`state`; ValueError if its parts do not fit each other."""
        dtypes = {"float32": torch.float32, "float64": torch.float64}
        if facts["dtype"] not in dtypes:
            raise ValueError(f"the scaling is in float32 or float64, not {facts['dtype']!r}")
        coding = None if facts["coding"] is None else SignalCoding(**facts["coding"])
        transform = cls(kind=facts["kind"], dtype=dtypes[facts["dtype"]], coding=coding, **tensors)
        transform._check()
        return transform

    def _check(self) -> None:
        """Raise a ValueError if the tensors do not fit each other: a file may hold anything."""
        row = self.shift.shape
        one_range = kind_named(self.kind).ranges(torch.zeros(row), torch.zeros(row))[0].shape
        shapes = dict.fromkeys(("low", "high", "below", "above", "least", "most"), one_range)
        if self.coding is not None and self.coding.shape != tuple(row):
            raise ValueError(f"transform: the scaling is that of rows of shape {tuple(row)}, not {self.coding.shape}")
        for name in _TENSORS:
            value, shape = getattr(self, name), shapes.get(name, row)
            dtype = torch.bool if name in ("integer", "constant") else torch.float64
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"transform.{name} is {_said(value.dtype, value.shape)}, not {_said(dtype, shape)}")
            if dtype == torch.float64 and not bool(value.isfinite().all()):
                raise ValueError(f"transform.{name} has NaN or infinities")
        if not bool((self.scale > 0).all()) or bool((self.low > self.high).any()) or bool(self.constant.all()):
            raise ValueError("transform: scales must be above 0, no range empty, and not every element constant")
        if any(bool(((share < 0) | (share >= 1)).any()) for share in (self.below, self.above)):
            raise ValueError("transform: the shares beyond the ends of a range must be at least 0 and less than 1")
        if not bool(((self.least <= self.low) & (self.high <= self.most)).all()):
            raise ValueError("transform: a range must be within its limits")

    def scaled_value(self, dtype: torch.dtype) -> Tensor:
        """Return the values of the constant elements in units of z; elsewhere arbitrary."""
        return ((self.value - self.shift) / self.scale).to(dtype)

    def _unscale(self, z: Tensor, chosen: Tensor | slice, eps: float) -> Tensor:
        """Return x for the chosen elements, integers rounded down; ``eps`` is the precision z was stored with."""
        parts = (self.shift, self.scale, self.low.expand_as(self.shift), self.high.expand_as(self.shift))
        shift, scale, low, high = (part[chosen].to(z.device, z.dtype) for part in parts)
        integer = self.integer[chosen].to(z.device)
        spread = scale * z
        x = shift + spread
        if not bool(integer.any()):
            return x
        # Rounding errors must not move a value on the lower edge of its interval below it.
        slack = 2 * eps * spread.abs() + 4 * torch.finfo(z.dtype).eps * shift.abs()
        whole = (x + slack).floor_().clamp_(low, high)
        return whole if bool(integer.all()) else torch.where(integer, whole, x)


_TENSORS = tuple(field.name for field in fields(Transform) if field.type == "Tensor" or field.type is Tensor)


def _said(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {tuple(shape)}"


def _ranges(x: AnyRows, low: Tensor, high: Tensor, kind: str, limits: Limits | None) -> dict[str, Tensor]:
    """Return ``low``, ``high``, ``below`` and ``above`` of a transform for rows x whose elements lie in [low, high]."""
    rules = kind_named(kind)
    low, high = rules.ranges(low, high)
    if rules.closed_ranges:
        low, high = limits = (low, high) if limits is None else limits
    limits = limits or infinite(low)
    below, above = end_shares(x, low, high, limits)
    largest = torch.finfo(torch.float64).max
    least, most = (limit.double().expand(low.shape).clamp(-largest, largest) for limit in limits)
    return {"low": low, "high": high, "below": below, "above": above, "least": least, "most": most}


def _facts(x: AnyRows, integer: bool | Sequence[bool], kind: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the smallest and the largest value of each element, whether it is constant, and whether it is an integer."""
    low, high = extremes(x)
    missing = low > high
    if bool(missing.any()):
        where = tuple(missing.nonzero()[0].tolist())
        place = f"column {where[0]}" if kind_named(kind).has_columns else f"element {where}"
        raise ValueError(f"X: {place} is missing in every training row; omit it.")
    constant = low == high
    if bool(constant.all()):
        raise ValueError(
            f"X is constant: all {len(x)} rows are the same, so there is no law to learn. "
            "Pass rows that differ in at least one element."
        )
    return low, high, constant, torch.as_tensor(integer, dtype=torch.bool).expand(x.shape[1:]).clone()
