"""Reports on the codes of a model: information per element, collapse, and the aggregate posterior; use of a codebook.

:class:`LatentReport`, over rows x, with q(z | x) = N(mean(x), std(x)^2) for an element of the code:

- ``kl``, the mean of KL(q(z | x) || p(z)): an upper bound of the information of the element about a row, in nats;
- an element is *active* if the variance over rows of mean(x) is above 0.01, otherwise *collapsed*: it is noise to the decoder;
- the aggregate posterior is the mean over rows of q(z | x), with variance Var mean(x) + E std(x)^2. Where it differs from the
  prior, codes drawn from the prior are not those that the decoder was trained on.

Where a Markov encoder draws each level given the one below, the same figures come from one draw of the codes per row: ``kl`` is
the mean of log q(z | code below) - log p(z | codes above). It may be negative for one level, but not its sum from the top level
down to any other. mean(x) is the code that ``transform`` returns, and its variance is a share of that of the drawn codes. The
aggregate is that of the drawn codes, each in units of its prior given the codes above.

:class:`CodeReport`, over the codes of rows, with p_k the share of code k:

- a code is *used* if any row has it;
- the perplexity exp(-sum_k p_k log p_k), at most K, is the number of equally used codes with the same entropy.

References
----------
Yuri Burda, Roger Grosse, Ruslan Salakhutdinov. Importance weighted autoencoders. 2016. https://arxiv.org/abs/1509.00519
Matthew Hoffman, Matthew Johnson. ELBO surgery. 2016.
Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu. Neural discrete representation learning. 2017.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["CodeReport", "LatentReport"]

_ACTIVE = 0.01
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class LatentReport:
    """Information in each element of the code.

    Attributes
    ----------
    kl : array (K,)
        Mean KL to the prior of each element, in nats.
    mean_variance : array (K,)
        Variance over rows of the mean of q(z | x), in units of the prior, or with a Markov encoder of that of z.
    aggregate_mean, aggregate_std : array (K,)
        Of the aggregate posterior, in units of the prior, whose own are 0 and 1.
    levels : tuple of int
        Number of elements of each level, top first; one level for a plain VAE.

    >>> import torch
    >>> mean, std = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.1, 1.0], [0.1, 1.0]])
    >>> report = LatentReport.of(mean, std, torch.tensor([[2.3, 0.0], [2.3, 0.0]]), (2,))
    >>> report.active.tolist(), report.collapsed
    ([True, False], (1,))
    """

    kl: np.ndarray
    mean_variance: np.ndarray
    aggregate_mean: np.ndarray
    aggregate_std: np.ndarray
    levels: tuple[int, ...]

    @classmethod
    def of(cls, mean: Tensor, std: Tensor, kl: Tensor, levels: tuple[int, ...]) -> "LatentReport":
        """Return the report for posteriors N(mean, std^2), in units of the prior, and their KL; each (N, K)."""
        variance = mean.double().var(0, correction=0)
        aggregate = (variance + std.double().square().mean(0)).sqrt()
        return cls(
            kl=kl.double().mean(0).numpy(),
            mean_variance=variance.numpy(),
            aggregate_mean=mean.double().mean(0).numpy(),
            aggregate_std=aggregate.numpy(),
            levels=levels,
        )

    @classmethod
    def of_draws(cls, kl: Tensor, mean: Tensor, codes: Tensor, units: Tensor, *, levels: tuple[int, ...]) -> "LatentReport":
        """Return the report for log q - log p, mean codes, drawn codes, and these in units of their priors; each (N, K)."""
        spread = codes.double().var(0, correction=0).clamp(min=torch.finfo(torch.float64).tiny)
        return cls(
            kl=kl.double().mean(0).numpy(),
            mean_variance=(mean.double().var(0, correction=0) / spread).numpy(),
            aggregate_mean=units.double().mean(0).numpy(),
            aggregate_std=units.double().std(0, correction=0).numpy(),
            levels=levels,
        )

    @property
    def active(self) -> np.ndarray:
        """Whether each element is active, (K,)."""
        return self.mean_variance > _ACTIVE

    @property
    def collapsed(self) -> tuple[int, ...]:
        """The elements that are not active."""
        return tuple(int(k) for k in np.flatnonzero(~self.active))

    @property
    def kl_by_level(self) -> np.ndarray:
        """Mean KL of each level in nats, top first; with a Markov encoder of log q - log p, whose sum is the KL."""
        return np.array([part.sum() for part in np.split(self.kl, np.cumsum(self.levels)[:-1])])

    def __str__(self) -> str:
        named = f": {', '.join(map(str, self.collapsed))}" if self.collapsed else ""
        lines = [f"{int(self.active.sum())} of {len(self.kl)} elements active, {len(self.collapsed)} collapsed{named}"]
        if len(self.levels) > 1:
            lines.append("KL by level, top first: " + ", ".join(f"{kl:.2f}" for kl in self.kl_by_level) + " nats")
        lines.append(f"KL {self.kl.sum():.2f} nats in all")
        lines.append("element   KL (nats)   variance of the mean   aggregate mean   aggregate std")
        for k in np.argsort(-self.kl, kind="stable"):
            lines.append(
                f"{k:7d}{self.kl[k]:12.3f}{self.mean_variance[k]:23.4f}{self.aggregate_mean[k]:17.3f}{self.aggregate_std[k]:16.3f}"
            )
        return "\n".join(lines)


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
        """K, the number of codes in the codebook."""
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
    p = counts / counts.sum(1, keepdims=True)
    return np.asarray(np.exp(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1)))
