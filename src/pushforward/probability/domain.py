"""The values that a column of a mixed row can take, and the measure that its probabilities refer to.

Rows of several types are float64 tensors (N, C) with one number per column: the number of the level of a category, an
integer, or a real. NaN is a gap, which is a value like any other: an atom. The density of a mixed row is the product of
probabilities for categories, integers, gaps and atoms, and of densities, per unit of the column, for all other reals.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["KNOWN", "PRESENT", "UNKNOWN", "Domain"]

KNOWN, UNKNOWN, PRESENT = 0, 1, 2
"""What is known of a cell: its value, where NaN is a gap; nothing, so that it can be a gap; or only that it is no gap."""


@dataclass(frozen=True)
class Domain:
    """The values of one column.

    Parameters
    ----------
    type : {"category", "integer", "real"}
        A category has the values 0, 1, ..., ``high``, in no order.
    low, high : float
        Smallest and largest possible value; infinite where there is none.
    atoms : tuple of float
        Values of a real column that have a probability of their own, such as 0 in a column of debts. Integers and categories
        have one at each value, and list none.
    limits : (float, float)
        Of integers, whose ``low`` and ``high`` are those of the data: the smallest and the largest that are possible at all.

    >>> Domain("category", 0, 2).levels
    3
    """

    type: Literal["category", "integer", "real"]
    low: float = -math.inf
    high: float = math.inf
    atoms: tuple[float, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"a domain needs low <= high, not {self.low} and {self.high}")
        if self.type == "category" and not (self.low == 0 and self.high == math.floor(self.high) < math.inf):
            raise ValueError(f"the levels of a category are 0, 1, ..., high, not {self.low} to {self.high}")
        if self.limits[0] > self.low or self.limits[1] < self.high:
            raise ValueError(f"{self.low} to {self.high} is not within the limits {self.limits[0]} and {self.limits[1]}")
        if self.atoms and self.type != "real":
            raise ValueError(f"only a real column lists atoms, not one of type {self.type!r}")

    @property
    def levels(self) -> int:
        """Number of levels of a category.

        Raises
        ------
        ValueError
            If the column is not a category.
        """
        if self.type != "category":
            raise ValueError(f"only a category has levels, not a column of type {self.type!r}")
        return int(self.high) + 1
