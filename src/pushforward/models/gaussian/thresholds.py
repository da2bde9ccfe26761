r"""Two neighboring integers as the two sides of a threshold of a Gaussian number.

A Gaussian law of k + u, u uniform on [0, 1), distorts the shares of two values k = 0, 1: if P(1) = 0.02, it puts 0.067 above 1.
So an element with two values is learned as v = g(k + u), an increasing map with

    g(x) = 1 + s (Phi^-1(F(x)) - t),      F(x) = (1 - p) x below 1, 1 - p + p (x - 1) above,      t = Phi^-1(1 - p),

with p the share of the upper value among the training rows. Then v is normal over the training rows, v < 1 where k = 0, and
v >= 1 where k = 1, so that rounding down and clipping restores k. s = p (1 - p) / phi(t) makes the means of v for the two
values differ by 1, as those of k do. With Jensen's inequality log P(k) >= E_u [log p_v(g(k + u)) + log g'(k + u)].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Thresholds"]

_LEAST = 1e-12  # of F, whose quantile is infinite at 0 and 1


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The maps g of the elements of a row.

    Attributes
    ----------
    low : Tensor (d,)
        The lower value.
    share : Tensor (d,)
        p; 0 for elements without a threshold, which are left as they are.

    >>> maps = Thresholds.fit(torch.tensor([[0.0], [0.0], [0.0], [1.0]]).double(), torch.tensor([0.0]), torch.tensor([True]))
    >>> maps(torch.tensor([[0.5], [1.0], [1.5]])).flatten().tolist()[1], maps.share.tolist()
    (1.0, [0.25])
    """

    low: Tensor
    share: Tensor

    @classmethod
    def fit(cls, x: Tensor, low: Tensor, two: Tensor) -> "Thresholds":
        """Fit to rows x (N, d), NaN in gaps, whose elements ``two`` (d,) are ``low`` or one more."""
        return cls(low.double(), torch.where(two, (x - low).double().nanmean(0), 0.0))

    @property
    def chosen(self) -> Tensor:
        """Which elements have a threshold, bool (d,)."""
        return self.share > 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return g of rows k + u (N, d); NaN stays NaN."""
        if not bool(self.chosen.any()):
            return x
        scale, t, z, _ = self._parts(x)
        return torch.where(self.chosen, self.low + 1 + scale * (z - t), x)

    def log_slope(self, x: Tensor) -> Tensor:
        """Return the sum of log g'(k + u) over the observed elements of rows, (N,)."""
        if not bool(self.chosen.any()):
            return torch.zeros(len(x), dtype=torch.float64)
        scale, _, z, mass = self._parts(x)
        log_slope = mass.log() + scale.log() + (z.square() + math.log(2 * math.pi)) / 2
        return torch.where(self.chosen & ~x.isnan(), log_slope, 0.0).sum(1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return s, t, Phi^-1(F(x)) and F'(x)."""
        upper = x >= self.low + 1
        below = 1 - self.share
        t = torch.special.ndtri(below)
        scale = self.share * below * (t.square() / 2).exp() * math.sqrt(2 * math.pi)
        mass = torch.where(upper, self.share, below)
        F = torch.where(upper, below, 0.0) + mass * (x - self.low - upper.double())
        return scale, t, torch.special.ndtri(F.clamp(_LEAST, 1 - _LEAST)), mass
