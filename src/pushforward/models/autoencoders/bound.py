r"""Lower bounds of log p(x) = log \int p(x | z) p(z) dz, which is intractable for models with a code z.

For any law q(z | x), by Jensen's inequality,

    log p(x) >= E log 1/K sum_k w_k >= E log w,      w = p(x | z) p(z) / q(z | x),   z ~ q(z | x).

K = 1 is the evidence lower bound, ELBO = E log p(x | z) - KL(q(z | x) || p(z)), with gap KL(q(z | x) || p(z | x)); the gap
vanishes as K grows.

References
----------
Yuri Burda, Roger Grosse, Ruslan Salakhutdinov. Importance weighted autoencoders. 2016. https://arxiv.org/abs/1509.00519
"""

import abc
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pushforward.data import ArrayLike, Condition
from pushforward.data.rows import Rows
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.available import available_if, in_data_units
from pushforward.models.base.density import DensityModel, RowDensity
from pushforward.probability.counts import check_count

__all__ = ["BoundModel", "CodeDraws", "importance_bound", "kl_to_standard", "log_ratio"]

SAMPLES, DRAWS = 64, 2


def kl_to_standard(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(0, 1)) of each element, in nats.

    >>> kl_to_standard(torch.tensor([0.0, 1.0]), torch.zeros(2)).tolist()
    [0.0, 0.5]
    """
    return (mean.square() + torch.expm1(2 * log_std)) / 2 - log_std


def log_ratio(mean: Tensor, log_std: Tensor, eps: Tensor) -> Tensor:
    """Return log N(u; mean, std^2) - log N(u; 0, 1) at u = mean + std eps, whose expectation is the KL divergence, in nats.

    >>> log_ratio(torch.tensor(1.0), torch.tensor(0.0), torch.tensor([-1.0, 1.0])).tolist()
    [-0.5, 1.5]
    """
    return ((mean + log_std.exp() * eps).square() - eps.square()) / 2 - log_std


def importance_bound(log_weights: Tensor, *, nfe: int, dims: int) -> LogProb:
    """Return log 1/K sum_k w_k of rows from log-weights (K, B), whose expectation is a lower bound of log p.

    The standard error is that of the mean weight, propagated through the logarithm; it is NaN for one draw.

    >>> importance_bound(torch.tensor([[0.0], [math.log(3.0)]]), nfe=2, dims=1).values.round(4)  # log 2
    array([0.6931])
    """
    count, rows = log_weights.shape
    wide = log_weights.double()
    values = wide.logsumexp(0) - math.log(count)
    error = torch.full_like(values, math.nan)
    if count > 1:
        error = (wide - values).exp().std(0) / math.sqrt(count)
    zeros = np.zeros(rows)
    return LogProb(values.cpu().numpy(), "lower bound", error.cpu().numpy(), zeros, zeros, nfe=nfe, dims=dims)


@dataclass(frozen=True)
class CodeDraws:
    """How many codes are drawn for a row, and their random numbers: those of row ``first`` + i, or of row 0 if ``shared``."""

    samples: int
    seed: int
    first: int
    shared: bool


class BoundModel(DensityModel):
    """``log_prob`` as a lower bound; a family defines ``_weighed``, and its network has a ``likelihood``."""

    @available_if(in_data_units)
    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        samples: int = SAMPLES,
        draws: int = DRAWS,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return a lower bound of the log-density of each row in nats, in data units, with its standard error.

        Parameters
        ----------
        samples : int
            K, draws of a continuous code per row; 1 gives the evidence lower bound, which rises to log p with K. For discrete
            codes: draws of the set of hidden codes per row, from which the probability of the codes is estimated.
        draws : int
            Where the likelihood takes integers as x + u, draws of u in [0, 1) whose bounds are averaged.

        Other parameters and the errors are those of :meth:`pushforward.NormalizingFlow.log_prob`.

        Returns
        -------
        LogProb
            Of the kind "lower bound"; for integers of a likelihood that gives them probabilities, of log P.
        """
        check_count("samples", samples)
        density = self._density(samples, shared=False)
        bound = self._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return bound.in_bits_per_dim() if bits_per_dim else bound

    @available_if(in_data_units)
    def score_samples(self, X: ArrayLike, *, condition: Condition = None) -> np.ndarray:
        """Return the bound of each row in nats, in data units, (N,).

        All rows share their draws of the code, so that the score of a row does not depend on where it stands. For the mean over
        rows prefer :meth:`log_prob`, where the errors of rows are independent of each other.
        """
        density = self._density(SAMPLES, shared=True)
        return self._score(X, condition, density, draws=DRAWS, seed=0, first=0, batch_size=256).values

    def _rows(self, X: ArrayLike, condition: Condition) -> Rows:
        rows = super()._rows(X, condition)
        if not getattr(self, self.core).likelihood.intervals:
            return replace(rows, varies=None)
        # A likelihood of integers has its own probabilities beyond the range.
        middle = self._rows_of(X, condition, self._density_dtype).middle
        return replace(rows, z=middle, bins=None, varies=None, log_shares=torch.zeros_like(rows.log_shares))

    def _density(self, samples: int, *, shared: bool) -> RowDensity:
        def density(
            learned: object, z: Tensor, *, condition: Tensor | None, varies: Tensor | None, seed: int, first: int
        ) -> LogProb:
            return self._weighed(learned, z, condition, CodeDraws(samples, seed, first, shared))

        return density

    @abc.abstractmethod
    def _weighed(self, learned: object, z: Tensor, condition: Tensor | None, draws: CodeDraws) -> LogProb:
        """Return the bound for scaled rows z (B, *D)."""
