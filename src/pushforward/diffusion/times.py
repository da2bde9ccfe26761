r"""Training times: the law of t and stratified draws from it.

A law of t is a map from u, uniform on (0, 1), to t: its quantile function, or those of its parts. In a batch
of B rows u is stratified,

    u_i = (i + U_i) / B,       U_i uniform on [0, 1),

so that every batch covers the whole range and the loss has less variance than with independent times. Times are clamped to
[t_min, 1] of the schedule.

References
----------
Patrick Esser et al. Scaling rectified flow transformers. 2024. https://arxiv.org/abs/2403.03206  (logit-normal)
Diederik Kingma et al. Variational diffusion models. 2021. https://arxiv.org/abs/2107.00630  (stratified times)
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward._fields import CheckedFields

__all__ = ["LogitNormalTimes", "TimeLaw", "UniformTimes", "stratified"]


def stratified(u: Tensor, rows: Tensor, total: int) -> Tensor:
    """Map uniform numbers ``u`` (*, B) into the strata of their ``rows`` (B,) among ``total``: (rows + u) / total."""
    return (rows + u) / total


class TimeLaw(CheckedFields, abc.ABC):
    """A law of training times on (0, 1)."""

    @abc.abstractmethod
    def of(self, u: Tensor) -> Tensor:
        """Map u, uniform on (0, 1), to times of this law; smooth in u except for jumps between parts of a mixture."""


@dataclass(frozen=True)
class UniformTimes(TimeLaw):
    """Uniform times on (0, 1)."""

    def of(self, u: Tensor) -> Tensor:
        """Return u itself."""
        return u


@dataclass(frozen=True)
class LogitNormalTimes(TimeLaw):
    """log(t / (1 - t)) is normal: this gives more weight to the middle of the path, where the task is hardest.

    Sampling starts at t = 1, where a logit-normal law has almost no mass; a share of uniform times covers the ends.

    Parameters
    ----------
    mean : float
        Positive values shift the weight towards noise.
    std : float
        Positive.
    uniform_share : float
        In [0, 1): the share of the times that is uniform on (0, 1) instead.

    >>> LogitNormalTimes().of(torch.tensor(0.5)).item()
    0.5
    """

    mean: float = 0.0
    std: float = 1.0
    uniform_share: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not 0 < self.std < math.inf:
            raise ValueError(f"std must be positive, got {self.std}")
        if not 0 <= self.uniform_share < 1:
            raise ValueError(f"uniform_share must lie in [0, 1), got {self.uniform_share}")

    def of(self, u: Tensor) -> Tensor:
        """sigmoid(mean + std Phi^-1(u)); the lowest ``uniform_share`` of u is instead stretched over (0, 1)."""
        tiny, share = 1e-6, self.uniform_share  # Phi^-1 is infinite at 0 and, after rounding, at 1
        normal = torch.special.ndtri(((u - share) / (1 - share)).clamp(tiny, 1 - tiny))
        t = torch.sigmoid(self.mean + self.std * normal)
        return torch.where(u < share, u / share, t) if share else t
