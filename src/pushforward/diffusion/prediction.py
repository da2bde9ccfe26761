r"""Predictions: what a network can predict, and conversions between predictions.

Every prediction is a linear combination of clean data and noise, with coefficients that depend on time alone,

    value = p x + q eps,          x_t = alpha x + sigma eps,

    =============  ================================  ================================
    prediction     p                                 q
    =============  ================================  ================================
    ``denoised``   1                                 0
    ``eps``        0                                 1
    ``v``          -sigma                            alpha
    ``velocity``   alpha_dot                         sigma_dot           (= dx_t / dt)
    ``score``      0                                 -1 / sigma          (= grad log p_t)
    ``edm``        sigma / (s sqrt(S))               -alpha s / sqrt(S)  (S = alpha^2 s^2 + sigma^2)
    =============  ================================  ================================

and the same holds for the conditional expectations given x_t, which a trained network returns. Eliminating eps gives the
formula behind all conversions here:

    denoised = (sigma value - q x_t) / (sigma p - alpha q).

``edm`` is the raw output of a preconditioned network for data of standard deviation s: its target has unit variance, and
denoised = (alpha s^2 / S) x_t + (sigma s / sqrt(S)) value.

The plain squared error of a prediction is a weighted squared error of ``denoised``:

    |value - target|^2 = w(t) |denoised - x|^2,       w = ((sigma p - alpha q) / sigma)^2,

so ``weight("eps") = alpha^2 / sigma^2`` is DDPM's simple loss. The same weight is the same loss under every prediction.

Domain. t in [t_min, 1]. At alpha = 0 ``eps`` and ``score`` do not determine x: converting them to
``denoised`` divides by zero and gives non-finite numbers; all other predictions are finite there. ``eps``, ``v``,
``velocity`` and ``denoised`` hold for any source law and coupling; ``score`` needs Gaussian eps independent of x.

Shapes. x_t and value are (B, *D), t is () or (B,); the result has the dtype of x_t.

References
----------
Tim Salimans, Jonathan Ho. Progressive distillation. 2022. https://arxiv.org/abs/2202.00512  (v)
Tero Karras et al. Elucidating the design space of diffusion models. 2022. https://arxiv.org/abs/2206.00364  (edm)
Yaron Lipman et al. Flow matching for generative modeling. 2023. https://arxiv.org/abs/2210.02747  (velocity)
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from pushforward.diffusion.schedule import Schedule, widen

__all__ = ["Prediction", "coefficients", "convert", "denoised_scales", "from_denoised", "to_denoised", "weight"]

Prediction = Literal["edm", "denoised", "eps", "v", "velocity", "score"]


def coefficients(prediction: Prediction, schedule: Schedule, t: Tensor, *, data_std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (p, q) of value = p x + q eps, each with the shape and dtype of ``t``."""
    if prediction == "denoised":
        return torch.ones_like(t), torch.zeros_like(t)
    if prediction == "eps":
        return torch.zeros_like(t), torch.ones_like(t)
    if prediction == "velocity":
        return schedule.alpha_dot(t), schedule.sigma_dot(t)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if prediction == "v":
        return -sigma, alpha
    if prediction == "score":
        return torch.zeros_like(t), -1 / sigma
    if prediction == "edm":
        root = torch.sqrt((alpha * data_std) ** 2 + sigma**2)
        return sigma / (data_std * root), -alpha * data_std / root
    raise ValueError(f"unknown prediction {prediction!r}; choose one of {', '.join(map(repr, get_args(Prediction)))}")


def denoised_scales(prediction: Prediction, schedule: Schedule, t: Tensor, *, data_std: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return (a, b) of denoised = a x_t + b value, each with the shape and dtype of ``t``."""
    p, q = coefficients(prediction, schedule, t, data_std=data_std)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    determinant = sigma * p - alpha * q
    return -q / determinant, sigma / determinant


def to_denoised(
    value: Tensor, x_t: Tensor, t: Tensor, *, schedule: Schedule, prediction: Prediction, data_std: float = 1.0
) -> Tensor:
    """Convert a prediction to ``denoised``.

    >>> from pushforward.diffusion import StraightLine
    >>> x, eps, t = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor(0.25)
    >>> to_denoised(eps - x, 0.75 * x + 0.25 * eps, t, schedule=StraightLine(), prediction="velocity")
    tensor([[2.]])
    """
    return _combine(*denoised_scales(prediction, schedule, t, data_std=data_std), x_t, value)


def from_denoised(
    denoised: Tensor, x_t: Tensor, t: Tensor, *, schedule: Schedule, prediction: Prediction, data_std: float = 1.0
) -> Tensor:
    """Convert ``denoised`` to another prediction."""
    p, q = coefficients(prediction, schedule, t, data_std=data_std)
    ratio = q / schedule.sigma(t)
    return _combine(ratio, p - ratio * schedule.alpha(t), x_t, denoised)


def convert(
    value: Tensor, x_t: Tensor, t: Tensor, *, schedule: Schedule, source: Prediction, target: Prediction, data_std: float = 1.0
) -> Tensor:
    """Convert the prediction ``source`` to the prediction ``target``."""
    denoised = to_denoised(value, x_t, t, schedule=schedule, prediction=source, data_std=data_std)
    return from_denoised(denoised, x_t, t, schedule=schedule, prediction=target, data_std=data_std)


def weight(prediction: Prediction, schedule: Schedule, t: Tensor, *, data_std: float = 1.0) -> Tensor:
    """Return w(t) with |value - target|^2 = w(t) |denoised - x|^2, in the shape and dtype of ``t``."""
    p, q = coefficients(prediction, schedule, t, data_std=data_std)
    return (p - q * schedule.alpha(t) / schedule.sigma(t)) ** 2


def _combine(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return a x + b y for scales of shape () or (B,), in the dtype of ``x``."""
    return widen(a.to(x.dtype), x) * x + widen(b.to(x.dtype), x) * y
