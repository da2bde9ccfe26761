"""Moving average of the weights with a power-law memory.

After step k = 1, 2, ... the average m and the weights w obey

    m_k = beta_k m_{k-1} + (1 - beta_k) w_k,          beta_k = (1 - 1/k)^(gamma + 1),

so beta_1 = 0 and the average forgets its start. The weight of step j in m_k is nearly proportional to j^gamma: a bump of
constant shape at the end of the run, whose standard deviation relative to the length of the run is the width

    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)),

the one parameter. It falls from 1 / sqrt(12) at gamma = 0, the plain mean of all steps.

References
----------
Tero Karras, Miika Aittala, Jaakko Lehtinen, Janne Hellsten, Timo Aila, Samuli Laine. Analyzing and improving the training
dynamics of diffusion models. CVPR 2024. https://arxiv.org/abs/2312.02696
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["MAX_WIDTH", "PowerEMA", "gamma_of_width"]

MAX_WIDTH = 1.0 / math.sqrt(12.0)


def gamma_of_width(width: float) -> float:
    """Return the exponent gamma >= 0 of a relative width in (0, 1 / sqrt(12)].

    >>> round(gamma_of_width(0.1), 3), round(gamma_of_width(0.05), 3)
    (6.937, 16.972)
    """
    if not 0.0 < width <= MAX_WIDTH:
        raise ValueError(f"The relative width of the average must be above 0 and at most {MAX_WIDTH:.4f}, got {width!r}.")
    low, high = 0.0, 1.0 / width
    for _ in range(200):
        middle = 0.5 * (low + high)
        wider = (middle + 1.0) / ((middle + 2.0) ** 2 * (middle + 3.0)) > width**2
        low, high = (middle, high) if wider else (low, middle)
    return 0.5 * (low + high)


class PowerEMA:
    """Average of a list of tensors, initialized with their values.

    Parameters
    ----------
    tensors : sequence of Tensor
        The weights to average.
    width : float
        Relative width sigma_rel of the average.
    """

    def __init__(self, tensors: Sequence[Tensor], width: float) -> None:
        self._source = [tensor.detach() for tensor in tensors]
        self._exponent = gamma_of_width(width) + 1.0
        self.average = [tensor.clone() for tensor in self._source]

    def pull(self, step: int) -> float:
        """Return 1 - beta_k, the share of the new weights in the average after step k >= 1."""
        return 1.0 - math.pow(1.0 - 1.0 / step, self._exponent)

    def update(self, step: int) -> None:
        """Include the weights after step k = 1, 2, ..."""
        torch._foreach_lerp_(self.average, self._source, self.pull(step))

    def update_unless(self, skip: Tensor, step: int) -> None:
        """Like :meth:`update`, but change nothing where the scalar ``skip`` on the device is 1 instead of 0."""
        change = torch._foreach_sub(self._source, self.average)
        torch._foreach_mul_(change, (1.0 - skip) * self.pull(step))
        torch._foreach_add_(self.average, change)

    def exchange(self) -> None:
        """Swap weights and average, in place; a second call undoes it."""
        weights = [tensor.clone() for tensor in self._source]
        torch._foreach_copy_(self._source, self.average)
        torch._foreach_copy_(self.average, weights)
