r"""Networks that predict, beside their value, how much each element of the data varies.

Take an element x of mean 0 and variance v s^2, independent of the others, and x_t = alpha x + sigma eps. Then

    E[x | x_t] = c x_t,        c = alpha v s^2 / (alpha^2 v s^2 + sigma^2),

so that with x_t = alpha x + sigma eps the expectation of every prediction value = p x + q eps is

    (p alpha v s^2 + q sigma) / (alpha^2 v s^2 + sigma^2) x_t.

A network :class:`WithVariances` returns log v of each element and a remainder that is added to this. Coefficients of sounds
have random signs: only their variances can be predicted from their surroundings. A network without variances would have to copy
the noise of quiet coefficients through all of its layers, enlarged by alpha / sigma, to subtract it.

References
----------
Norbert Wiener. Extrapolation, interpolation, and smoothing of stationary time series. 1949.
Martin Wainwright, Eero Simoncelli. Scale mixtures of Gaussians and the statistics of natural images. 1999.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from pushforward.diffusion import prediction as predictions
from pushforward.diffusion.prediction import Prediction
from pushforward.diffusion.schedule import Schedule, widen

__all__ = ["WithVariances", "with_variances"]


@runtime_checkable
class WithVariances(Protocol):
    """A network that predicts variances."""

    def parts(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the remainder and log v, both like x (B, *D), of x scaled to unit variance, t (B,) and condition (B, K)."""


def with_variances(
    parts: tuple[Tensor, Tensor], x_t: Tensor, t: Tensor, *, schedule: Schedule, prediction: Prediction, data_std: float
) -> Tensor:
    """Return the prediction of a network's parts at x_t (B, *D) and t, () or (B,).

    >>> import torch
    >>> from pushforward.diffusion import StraightLine
    >>> x_t, t = torch.tensor([[2.0]]), torch.tensor(0.5)
    >>> parts = torch.zeros(1, 1), torch.tensor([[3.0]]).log()
    >>> with_variances(parts, x_t, t, schedule=StraightLine(), prediction="denoised", data_std=1.0)
    tensor([[3.]])
    """
    rest, log_v = parts
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    p, q = predictions.coefficients(prediction, schedule, t, data_std=data_std)
    signal, shift = alpha * data_std**2, q * sigma
    scales = (widen(scale.to(x_t), x_t) for scale in (p * signal, shift, alpha * signal, sigma**2))
    of_v, constant, power, noise = scales
    v = log_v.to(x_t).exp()
    shrunk: Tensor = (of_v * v + constant) / (power * v + noise) * x_t
    return rest.to(x_t) + shrunk
