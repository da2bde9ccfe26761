r"""Denoisers: E[x | x_t], the one canonical prediction used by samplers, guidance and likelihoods.

    denoiser(x_t, t, condition=None) -> denoised            x_t (B, *D), t () or (B,), condition (B, K) or None

The result has the shape, dtype and device of ``x_t``. ``t`` of shape () may be a float64 tensor on the CPU whatever the
device of ``x_t`` (so the scales are computed in float64 without a transfer); ``t`` of shape (B,) is on the device of
``x_t``. A denoiser has a ``schedule``, and ``gaussian_source`` says whether its noise is standard normal and independent of
the data, as ``score`` and every stochastic sampler require.

:class:`Denoiser` makes one from a network. With s the standard deviation of the data and S = alpha^2 s^2 + sigma^2 the
network is called as ``network(x_t / sqrt(S), t, condition)``, so its input has unit variance, and its raw output is
interpreted as the given prediction (see :mod:`pushforward.diffusion.prediction`). For ``edm`` that is

    denoised = (alpha s^2 / S) x_t + (sigma s / sqrt(S)) raw.

Networks that predict variances (:mod:`pushforward.diffusion.variances`) have the raw output that these imply.

Ends. At alpha = 0 the predictions ``eps`` and ``score`` do not determine x: such networks are called no later than where
log_snr = -14 (alpha = 9e-4 sigma), with the same x_t, even if t is later. All others are called at t itself. There is no
call at t = 0: a grid that ends there means "return denoised of the last call".

Close to alpha = 0 ``eps`` and ``score`` also multiply the errors of the network by sigma / alpha, and rows would start far
outside the data. E[x | x_t] lies between the smallest and the largest value of the data, so with ``bounds`` it is clipped to
them, widened on each side by a quarter of their distance times alpha s / sigma: the bounds are tight where x_t is noise, and
void towards the data, so that rows beyond the training range keep their density. Losses are those of the network's own output.
This is the static thresholding of Saharia et al. (section 2.3) with a bound that depends on t.

Losses. All are w(t) |denoised - x|^2, where |.|^2 is the mean over the elements of a row. A weight is either the name of the
prediction whose plain squared error it gives, or a function ``(schedule, t) -> w``. Losses are computed in the space of the
raw output, which avoids division by small scales.

Where eps is Gaussian and independent of x, Stein's identity makes the clean row unnecessary: with e the prediction of eps, J
its Jacobian by x_t, and D elements in a row,

    E |e - eps|^2 = E |e|^2 - 2 sigma E tr J + D,               tr J exactly, or v^T J v with signs v

so implicit and sliced score matching of the noised laws (s = -e / sigma) have the same mean loss for any weights of the
network, with more variance.

References
----------
Aapo Hyvärinen. Estimation of non-normalized statistical models by score matching. 2005.
Yang Song et al. Sliced score matching: a scalable approach to density and score estimation. 2019.
Tero Karras et al. Elucidating the design space of diffusion-based generative models. 2022. https://arxiv.org/abs/2206.00364
Chitwan Saharia et al. Photorealistic text-to-image diffusion models with deep language understanding. 2022.
https://arxiv.org/abs/2205.11487
"""

import abc
import functools
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from pushforward._fields import check_instance
from pushforward.diffusion import prediction as predictions
from pushforward.diffusion.prediction import Prediction
from pushforward.diffusion.schedule import Schedule, widen
from pushforward.diffusion.trace import exact_trace, probed_trace
from pushforward.diffusion.variances import WithVariances, with_variances
from pushforward.probability import Gaussian, GaussianMixture

__all__ = ["AbstractDenoiser", "Denoiser", "ExactDenoiser", "Law", "Weight"]

Weight = Prediction | Callable[[Schedule, Tensor], Tensor]

_LOWEST_LOG_SNR = -14.0
_SLACK = 0.25


class Law(Protocol):
    """A law on R^D with its own denoiser, like those of :mod:`pushforward.probability`."""

    @property
    def dim(self) -> int:
        """Dimension D."""

    def denoised(self, x_t: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x | x_t] for x_t (B, D)."""


class AbstractDenoiser(nn.Module, abc.ABC):
    """Base of denoisers: a schedule and E[x | x_t].

    Attributes
    ----------
    schedule : Schedule
    gaussian_source : bool
        True if eps is standard normal and independent of x.
    calls : int
        Network calls that one evaluation costs.
    data_std : float
        Standard deviation of all elements of the (scaled) rows about their common mean.
    """

    schedule: Schedule
    gaussian_source: bool = True
    calls: int = 1
    data_std: float = 1.0

    @abc.abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]."""

    def take(self, rows: Tensor) -> "AbstractDenoiser":
        """Return the denoiser of some rows of the batch: itself, unless it holds values for each row."""
        return self


class Denoiser(AbstractDenoiser):
    """A network with its schedule, its prediction and its preconditioning.

    Parameters
    ----------
    network : nn.Module
        ``network(x, t, condition)`` with t (B,) returns a tensor like x.
    schedule : Schedule
    prediction : Prediction
        The interpretation of the network's raw output.
    data_std : float
        Standard deviation of the (scaled) data, positive.
    gaussian_source : bool
        False if the network was trained with another source law or with coupled noise.
    bounds : (Tensor, Tensor), optional
        The smallest and the largest value of the (scaled) data, each of a shape that broadcasts to a row (*D). They limit
        the predictions ``eps`` and ``score``; the others do not need them.

    >>> from pushforward.diffusion import Cosine
    >>> from pushforward.networks import MLPSpec
    >>> denoiser = Denoiser(MLPSpec(width=16, depth=1).build((2,), condition_dim=0), Cosine(), prediction="v")
    >>> denoiser(torch.zeros(5, 2), torch.tensor(0.5)).shape
    torch.Size([5, 2])
    """

    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        prediction: Prediction = "edm",
        data_std: float = 1.0,
        gaussian_source: bool = True,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < data_std < math.inf:
            raise ValueError(f"data_std must be positive and finite, got {data_std}")
        check_instance("schedule", schedule, Schedule)
        predictions.coefficients(prediction, schedule, torch.tensor(0.5), data_std=data_std)
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.data_std = float(data_std)
        self.gaussian_source = gaussian_source
        self._t_max = 1.0
        if prediction in ("eps", "score"):
            with torch.device("cpu"):  # also where a network is built on the meta device, which has no numbers
                lowest = torch.tensor(_LOWEST_LOG_SNR, dtype=torch.float64)
                self._t_max = min(1.0, float(schedule.t_of_log_snr(lowest)))
        low, high = bounds if bounds is not None and prediction in ("eps", "score") else (None, None)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]."""
        denoised = self._unbounded(x_t, t, condition)
        if self.low is None or self.high is None:
            return denoised
        low, high = self.low.to(x_t.dtype), self.high.to(x_t.dtype)
        snr_root = self.schedule.alpha(t) * self.data_std / self.schedule.sigma(t)
        slack = widen((_SLACK * snr_root).to(x_t.dtype), x_t) * (high - low)
        return torch.minimum(torch.maximum(denoised, low - slack), high + slack)

    def _unbounded(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        if self._t_max < 1:
            t = t.clamp(max=self._t_max)
        c_in, on_x_t, on_raw = self._scales(t)
        raw = self._call(x_t, c_in, t, condition)
        return widen(on_x_t.to(x_t.dtype), x_t) * x_t + widen(on_raw.to(x_t.dtype), x_t) * raw

    def loss(self, x: Tensor, t: Tensor, eps: Tensor, condition: Tensor | None = None, *, weight: Weight = "edm") -> Tensor:
        """Return w(t) |denoised - x|^2 of each row at x_t = alpha x + sigma eps, (B,).

        Parameters
        ----------
        x, eps : Tensor (B, *D)
            x may be NaN in absent points of sets (B, P, D), which add nothing.
        t : Tensor (B,) in [t_min, 1]
        condition : Tensor (B, K), optional
        weight : Prediction or function (schedule, t) -> w
        """
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        x_t = widen(alpha, x) * x + widen(sigma, x) * eps
        p, q = predictions.coefficients(self.prediction, self.schedule, t, data_std=self.data_std)
        target = widen(p, x) * x + widen(q, x) * eps
        c_in = _input_scale(self.schedule, t, self.data_std)
        raw = self._call(x_t, c_in, t, condition).to(x.dtype)  # autocast may have changed the dtype
        per_row = _mean_square(raw, target)
        return self._reweighted(per_row, self.prediction, weight, t)

    def matching_loss(
        self, x_t: Tensor, t: Tensor, condition: Tensor | None = None, *, weight: Weight = "eps", probes: Tensor | None = None
    ) -> Tensor:
        """Return an estimate of the loss of each row from x_t only, (B,); its mean over eps is that of :meth:`loss`.

        Parameters
        ----------
        x_t : Tensor (B, *D)
            alpha x + sigma eps with Gaussian eps, independent of x.
        t : Tensor (B,) in [t_min, 1]
        condition : Tensor (B, K), optional
        weight : Prediction or function (schedule, t) -> w
            "eps" keeps the variance bounded at both ends; "edm", "v" and "denoised" multiply it by 1 / alpha^4 near noise.
        probes : Tensor (P, B, *D), optional
            Vectors v of +1 and -1, one backward pass each (sliced). Default: the exact trace, with D passes (implicit).

        >>> from pushforward.diffusion import LinearBeta
        >>> from pushforward.networks import MLPSpec
        >>> denoiser = Denoiser(MLPSpec(width=16, depth=1).build((2,), condition_dim=0), LinearBeta(), prediction="eps")
        >>> denoiser.matching_loss(torch.zeros(3, 2), torch.full((3,), 0.5)).tolist()  # an untrained network predicts eps = 0
        [1.0, 1.0, 1.0]
        """

        def eps(point: Tensor) -> Tensor:
            denoised = self._unbounded(point, t, condition)
            return predictions.from_denoised(denoised, point, t, schedule=self.schedule, prediction="eps")

        if probes is None:
            value, trace = exact_trace(eps, x_t)
        else:
            value, traces = probed_trace(eps, x_t, probes)
            trace = traces.mean(0)
        per_row = 1 + (value.square().flatten(1).sum(1) - 2 * self.schedule.sigma(t) * trace) / x_t[0].numel()
        return self._reweighted(per_row, "eps", weight, t)

    def _reweighted(self, per_row: Tensor, space: Prediction, weight: Weight, t: Tensor) -> Tensor:
        """Convert the weight of losses computed in ``space``."""
        if weight == space:
            return per_row
        target_weight = weight(self.schedule, t) if callable(weight) else self._weight(weight, t)
        return per_row * (target_weight / self._weight(space, t))

    def _call(self, x_t: Tensor, c_in: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return the raw output, in the space of the prediction, for x_t, which the network sees times c_in."""
        scaled = widen(c_in.to(x_t.dtype), x_t) * x_t
        times = t.to(scaled).expand(scaled.shape[0])
        if not isinstance(self.network, WithVariances):
            raw: Tensor = self.network(scaled, times, condition)
            return raw
        parts = self.network.parts(scaled, times, condition)
        return with_variances(parts, x_t, t, schedule=self.schedule, prediction=self.prediction, data_std=self.data_std)

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scales of the network's input, and of x_t and the raw output in ``denoised``."""
        if t.ndim == 0 and t.device.type == "cpu" and not t.requires_grad:
            return _scales_at(self.schedule, self.prediction, self.data_std, t.item())
        return _scales_of(self.schedule, self.prediction, self.data_std, t)

    def _weight(self, prediction: Prediction, t: Tensor) -> Tensor:
        return predictions.weight(prediction, self.schedule, t, data_std=self.data_std)


def _input_scale(schedule: Schedule, t: Tensor, data_std: float) -> Tensor:
    return ((schedule.alpha(t) * data_std) ** 2 + schedule.sigma(t) ** 2).rsqrt()


def _scales_of(schedule: Schedule, prediction: Prediction, data_std: float, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    on_x_t, on_raw = predictions.denoised_scales(prediction, schedule, t, data_std=data_std)
    return _input_scale(schedule, t, data_std), on_x_t, on_raw


@functools.lru_cache(maxsize=4096)
def _scales_at(schedule: Schedule, prediction: Prediction, data_std: float, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return :func:`_scales_of` one time, in float64; cached because a sampler uses the same few times for every batch."""
    return _scales_of(schedule, prediction, data_std, torch.tensor(t, dtype=torch.float64))


def _mean_square(raw: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of each row, of sets of points over the points that are present, not NaN."""
    if target.ndim != 3:
        return (raw - target).square().flatten(1).mean(1)
    absent = target.isnan()
    error = torch.where(absent, 0.0, raw - target)
    return error.square().flatten(1).sum(1) / (~absent).flatten(1).sum(1)


class ExactDenoiser(AbstractDenoiser):
    """The exact E[x | x_t] of a law in closed form, for tests, benchmarks and lessons.

    Parameters
    ----------
    law : Law
        Usually a ``Gaussian`` or ``GaussianMixture`` of :mod:`pushforward.probability`.
    schedule : Schedule
    """

    def __init__(self, law: Law, schedule: Schedule) -> None:
        super().__init__()
        check_instance("schedule", schedule, Schedule)
        self.law = law
        self.schedule = schedule
        if isinstance(law, Gaussian | GaussianMixture):
            self.data_std = math.sqrt(float(law.covariance.diagonal().mean() + law.mean.var(correction=0)))

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]; rows may have any shape with D elements. A condition raises: the law has none."""
        if condition is not None:
            raise ValueError("this denoiser belongs to one law, which has no condition; call it without a condition")
        flat = x_t.flatten(1)
        denoised = self.law.denoised(flat, self.schedule.alpha(t), self.schedule.sigma(t))
        return denoised.reshape(x_t.shape).to(x_t.dtype)
