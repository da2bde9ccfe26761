r"""Boltzmann laws p(x) = exp(-E(x)) / Z, given by their energy E.

The score is

    grad log p(x) = -grad E(x),

because log Z is a constant: a law can be trained and sampled by its score without Z = integral of exp(-E). Only a density
needs Z. Here it is computed on a box in one or two dimensions by a composite Gauss-Legendre rule, whose panels are halved
until log Z has converged.

References
----------
Yann LeCun, Sumit Chopra, Raia Hadsell, Marc'Aurelio Ranzato, Fu Jie Huang. A tutorial on energy-based learning. 2006.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability.arrays import ArrayLike, as_float_tensor, check_finite
from pushforward.probability.expectations import box_rule

__all__ = ["EnergyLaw", "LogPartition", "NormalizedEnergyLaw"]

_MOST_PANELS = {1: 4096, 2: 64}
_ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class LogPartition:
    """log Z by quadrature: its ``value``, the ``error`` estimated from the last halving, and the ``evaluations`` of E."""

    value: float
    error: float
    evaluations: int


@dataclass(frozen=True, eq=False)
class EnergyLaw:
    """The unnormalized law exp(-E(x)) on R^D.

    Parameters
    ----------
    energy : callable
        E, x (*, D) to (*,), for each row independently and differentiable by autograd, such as a network.
    dim : int
        Dimension D of the space.

    >>> law = EnergyLaw(lambda x: 0.5 * (x**2).sum(-1), dim=2)
    >>> law.score(torch.tensor([[1.0, -3.0]])).tolist()
    [[-1.0, 3.0]]
    >>> round(law.log_partition([[-10, 10], [-10, 10]]).value, 6) == round(math.log(2 * math.pi), 6)
    True
    """

    energy: Callable[[Tensor], Tensor]
    dim: int

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, but is {self.dim}")

    def log_unnormalized(self, x: Tensor) -> Tensor:
        """Log-density up to the constant -log Z, which is -E(x): x (*, D) to (*,)."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"x has {x.shape[-1]} columns, but the law lives in {self.dim} dimensions")
        energy = self.energy(x)
        if energy.shape != x.shape[:-1]:
            raise ValueError(
                f"energy must return one number per point, {tuple(x.shape[:-1])}, but returned {tuple(energy.shape)}"
            )
        return -energy

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density, -grad E(x): x (*, D) to (*, D). Differentiable if ``x`` requires gradients."""
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_unnormalized(leaf).sum(), leaf, create_graph=x.requires_grad)
        return gradient

    def log_partition(self, bounds: ArrayLike, *, tolerance: float = 1e-9, dtype: torch.dtype = torch.float64) -> LogPartition:
        """Return the log of the integral of exp(-E) over a box; mass outside the box is not counted.

        Parameters
        ----------
        bounds : array (D, 2)
            Low and high end of each coordinate, D at most 2.
        tolerance : float
            Halving stops when log Z changes by no more than this.
        dtype : torch.dtype
            Dtype of the points that ``energy`` is called with; the sums are in float64.

        Raises
        ------
        ValueError
            If the bounds are not a box, D is above 2, or the energy is NaN somewhere in the box.
        RuntimeError
            If log Z has not converged at the finest rule.
        """
        box = self._box(bounds)
        if self.dim not in _MOST_PANELS:
            raise ValueError(
                f"quadrature in {self.dim} dimensions would need about 1000^{self.dim} energies; estimate Z by "
                "draw.importance(law.log_unnormalized, proposal, n, seed=...).normalizer() instead"
            )
        panels, evaluations, last = 2, 0, math.nan
        while panels <= _MOST_PANELS[self.dim]:
            x, log_weights = box_rule(box, panels)
            with torch.no_grad():
                logs = torch.cat([self.log_unnormalized(part).double() for part in torch.split(x.to(dtype), _ROWS_AT_ONCE)])
            if bool(logs.isnan().any()):
                raise ValueError(f"the energy is NaN at x = {x[logs.isnan()][0].tolist()}")
            value = (logs + log_weights).logsumexp(0).item()
            evaluations += len(x)
            error = 0.0 if value == last else abs(value - last)
            if error <= tolerance:
                if math.isinf(value):
                    raise ValueError(f"log Z is {value:g} on these bounds; choose a box that holds the mass of the law")
                return LogPartition(value, error, evaluations)
            panels, last = 2 * panels, value
        raise RuntimeError(
            f"log Z still moved by {error:.2g} at the last halving, above tolerance = {tolerance:g}; tighten the bounds around "
            "the mass of the law, or raise tolerance"
        )

    def normalized(self, bounds: ArrayLike, *, tolerance: float = 1e-9) -> "NormalizedEnergyLaw":
        """Return the law restricted to a box, with its density; the arguments are those of :meth:`log_partition`.

        >>> law = EnergyLaw(lambda x: 0.5 * (x**2).sum(-1), dim=1).normalized([[-10, 10]])
        >>> round(law.log_prob(torch.zeros(1)).exp().item(), 6)
        0.398942
        """
        return NormalizedEnergyLaw(self, self._box(bounds), self.log_partition(bounds, tolerance=tolerance))

    def _box(self, bounds: ArrayLike) -> Tensor:
        box = as_float_tensor(bounds).double()
        if box.shape != (self.dim, 2):
            raise ValueError(
                f"bounds must be a low and a high end for each of {self.dim} dimensions, ({self.dim}, 2), "
                f"but has the shape {tuple(box.shape)}"
            )
        check_finite("bounds", box)
        if not bool((box[:, 0] < box[:, 1]).all()):
            bad = int((~(box[:, 0] < box[:, 1])).nonzero()[0])
            raise ValueError(
                f"bounds[{bad}] goes from {box[bad, 0].item():g} to {box[bad, 1].item():g}; the low end comes first"
            )
        return box


@dataclass(frozen=True, eq=False)
class NormalizedEnergyLaw:
    """A Boltzmann law restricted to a box ``bounds`` (D, 2), with its ``log_partition`` there."""

    law: EnergyLaw
    bounds: Tensor
    log_partition: LogPartition

    @property
    def dim(self) -> int:
        """Dimension D of the space."""
        return self.law.dim

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, -inf outside the box: x (*, D) to (*,)."""
        log_prob = self.law.log_unnormalized(x) - self.log_partition.value
        low, high = self.bounds.to(x.device).unbind(-1)
        return torch.where(((x >= low) & (x <= high)).all(-1), log_prob, -math.inf)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density inside the box, -grad E(x): x (*, D) to (*, D)."""
        return self.law.score(x)
