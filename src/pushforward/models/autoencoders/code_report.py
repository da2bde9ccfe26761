r"""Which codes a model with a codebook uses, and how evenly.

Over the codes of rows, with p_k the share of those that are code k:

- a code is *used* if any row has it;
- the perplexity exp(-sum_k p_k log p_k) is the number of codes that, all used alike, would say as much: K at the most.

References
----------
Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu. Neural discrete representation learning. 2017.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["CodeReport"]

_SHOWN = 8


@dataclass(frozen=True, eq=False)
class CodeReport:
    """How often each code is used.

    Attributes
    ----------
    counts : int array (L, K)
        How many rows have code k at position l.

    >>> report = CodeReport.of(np.array([[0, 1], [2, 1]]), 4)
    >>> report.used, round(report.perplexity, 3), report.perplexity_by_position.round(3).tolist()
    (3, 2.828, [2.0, 1.0])
    """

    counts: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, size: int) -> "CodeReport":
        """Return the report of codes (N, L), each from 0 to ``size`` - 1."""
        return cls(np.stack([np.bincount(column, minlength=size) for column in codes.T]))

    @property
    def size(self) -> int:
        """K, the number of codes that there are."""
        return int(self.counts.shape[1])

    @property
    def used(self) -> int:
        """Number of codes that any row has at any position."""
        return int((self.counts.sum(0) > 0).sum())

    @property
    def perplexity(self) -> float:
        """Effective number of codes, over all positions together."""
        return float(_perplexity(self.counts.sum(0, keepdims=True))[0])

    @property
    def perplexity_by_position(self) -> np.ndarray:
        """Effective number of codes at each position, (L,)."""
        return _perplexity(self.counts)

    def __str__(self) -> str:
        each = self.perplexity_by_position
        shown = ", ".join(f"{value:.1f}" for value in each[:_SHOWN]) + (", ..." if len(each) > _SHOWN else "")
        return (
            f"{self.used} of {self.size} codes used by {int(self.counts[0].sum()):,} rows\n"
            f"perplexity {self.perplexity:.1f}; by position {shown}"
        )


def _perplexity(counts: np.ndarray) -> np.ndarray:
    """Return exp of the entropy of each row of counts."""
    p = counts / counts.sum(1, keepdims=True)
    return np.asarray(np.exp(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1)))
