r"""Guidance: denoisers that wrap a denoiser, usable with every sampler.

Without a classifier, between the conditional law and the law to move away from (by default the one without a condition),

    guided = away + w (cond - away),              in ``denoised``, likewise in ``eps``, ``v``, ``velocity`` and ``score``,

since all are affine in ``denoised`` at fixed x_t. With the log-probability of a label, or any log-weight r(x_t, t),

    guided score = score + w grad r,              denoised + w (sigma^2 / alpha) grad r,

where the gradient is with respect to x_t.

The sampled law. With r = log p(label | x_t), or a class-conditional denoiser, w = 1 gives the conditional law at every t. For
any other w the guided score at each t is that of p_t(x_t) p_t(label | x_t)^w, but these laws are not noised versions of one
law: the result is *not* p(x) p(label | x)^w, whatever the sampler.

Domain. w is any finite number. ``score`` is defined only where the noise is Gaussian and independent of x, so guidance by a
gradient refuses every other denoiser. Where alpha = 0 the factor sigma^2 / alpha is infinite and the gradient 0; the
gradient is evaluated no later than where log_snr = -14, as for networks that predict ``eps``.

References
----------
Prafulla Dhariwal, Alex Nichol. Diffusion models beat GANs on image synthesis. 2021. https://arxiv.org/abs/2105.05233
Jonathan Ho, Tim Salimans. Classifier-free diffusion guidance. 2022. https://arxiv.org/abs/2207.12598
Tuomas Kynkäänniemi et al. Applying guidance in a limited interval improves sample and distribution quality in diffusion
models. 2024. https://arxiv.org/abs/2404.07724
Hyungjin Chung et al. Diffusion posterior sampling for general noisy inverse problems. 2023. https://arxiv.org/abs/2209.14687
Muthu Chidambaram et al. What does guidance do? A fine-grained analysis in a simple setting. 2024.
https://arxiv.org/abs/2409.13074
"""

import abc
import math
from collections.abc import Callable

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.schedule import Schedule, widen

__all__ = ["Classifier", "ClassifierGuided", "Guided", "RewardGuided", "check_interval", "finite_scale", "signal_time"]

Classifier = Callable[[Tensor, Tensor], Tensor]
"""``classifier(x_t, t)`` returns logits (B, C); t is () or (B,)."""

_LOWEST_LOG_SNR = -14.0


class Guided(AbstractDenoiser):
    """Guidance without a classifier: away + w (cond - away).

    Parameters
    ----------
    denoiser : AbstractDenoiser
        Trained with and without its condition.
    scale : float
        w: 0 gives the law to move away from, 1 the conditional law, above 1 sharpens. 0 and 1 cost one network call, all
        others two (as one batch of 2B rows).
    negative : Tensor, optional
        The condition to move away from, one row (1, K) or one per row (B, K); default zeros, "no condition".
    interval : (float, float), optional
        Noise levels sigma / alpha in (low, high] at which the scale applies; elsewhere it is 1, the conditional law.

    >>> from pushforward.diffusion import Cosine, Denoiser
    >>> from pushforward.networks import MLPSpec
    >>> denoiser = Denoiser(MLPSpec(width=16, depth=1).build((2,), condition_dim=3), Cosine())
    >>> guided = Guided(denoiser, 3.0, interval=(0.2, 5.0))
    >>> guided(torch.zeros(5, 2), torch.tensor(0.5), torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        denoiser: AbstractDenoiser,
        scale: float,
        *,
        negative: Tensor | None = None,
        interval: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule, self.data_std = denoiser.schedule, denoiser.data_std
        self.gaussian_source = denoiser.gaussian_source
        self.scale = finite_scale(scale)
        self.negative = negative
        self.interval = None if interval is None else check_interval(interval)
        self.calls = denoiser.calls * (1 if self.scale == 1 or (self.scale == 0 and interval is None) else 2)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]; requires a condition."""
        if condition is None:
            raise ValueError(
                "guidance needs a condition to guide towards: pass condition=..., or use the denoiser without Guided"
            )
        scale = self._scale_at(t)
        if isinstance(scale, float):
            if scale == 1:
                return self._call(x_t, t, condition)
            if scale == 0:
                return self._call(x_t, t, self._away(condition))
        doubled = t if t.ndim == 0 else torch.cat((t, t))
        both = self._call(torch.cat((x_t, x_t)), doubled, torch.cat((condition, self._away(condition))))
        conditional, away = both.chunk(2)
        if isinstance(scale, float):
            return torch.lerp(away, conditional, scale)
        return torch.lerp(away, conditional, widen(scale.to(x_t.dtype), x_t))

    def take(self, rows: Tensor) -> "Guided":
        """Return the guided denoiser of some rows of the batch."""
        per_row = self.negative is not None and len(self.negative) > 1
        negative = self.negative[rows.to(self.negative.device)] if per_row and self.negative is not None else self.negative
        return Guided(self.denoiser.take(rows), self.scale, negative=negative, interval=self.interval)

    def _scale_at(self, t: Tensor) -> float | Tensor:
        """Return the scale at t: one number, or one per row if rows lie on both sides of the interval."""
        if self.interval is None:
            return self.scale
        low, high = self.interval
        level = self.schedule.noise_level(t)
        inside = (level > low) & (level <= high)
        if bool(inside.all()):
            return self.scale
        return torch.where(inside, self.scale, 1.0).to(level) if bool(inside.any()) else 1.0

    def _away(self, condition: Tensor) -> Tensor:
        if self.negative is None:
            return torch.zeros_like(condition)
        negative = self.negative.to(condition)
        if negative.shape[1:] != condition.shape[1:] or len(negative) not in (1, len(condition)):
            raise ValueError(
                f"the negative condition has the shape {tuple(negative.shape)}, but the condition {tuple(condition.shape)}; "
                "give one row for all, or one per row"
            )
        return negative.expand_as(condition)

    def _call(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        denoised: Tensor = self.denoiser(x_t, t, condition)
        return denoised


class _GradientGuided(AbstractDenoiser):
    """A denoiser with w grad r(x_t, t) added to its score; subclasses define r."""

    def __init__(self, denoiser: AbstractDenoiser, scale: float) -> None:
        super().__init__()
        self.check_source(denoiser)
        self.denoiser = denoiser
        self.schedule, self.data_std = denoiser.schedule, denoiser.data_std
        self.scale = finite_scale(scale)
        self.calls = denoiser.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]; a condition is passed to the inner denoiser."""
        denoised: Tensor = self.denoiser(x_t, t, condition)
        if self.scale == 0:
            return denoised
        at = signal_time(self.schedule, t)

        def total(x: Tensor) -> Tensor:
            return self._log_weight(x, at, condition).sum()

        gradient: Tensor = torch.func.grad(total)(x_t)
        factor = self.scale * self.schedule.sigma(at) ** 2 / self.schedule.alpha(at)
        return denoised + widen(factor.to(x_t.dtype), x_t) * gradient

    @classmethod
    def check_source(cls, denoiser: AbstractDenoiser) -> None:
        """Raise unless the denoiser gives the score."""
        if not denoiser.gaussian_source:
            raise ValueError(
                f"{cls.__name__} adds a gradient to the score, but this model's source is not independent Gaussian noise, so "
                "its denoised prediction is no score; train one with Gaussian noise, or guide by conditions"
            )

    @abc.abstractmethod
    def _log_weight(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return r(x_t, t), (B,)."""


class ClassifierGuided(_GradientGuided):
    """Classifier guidance: score + w grad log p(label | x_t).

    Parameters
    ----------
    denoiser : AbstractDenoiser
        With independent Gaussian noise; usually of an unconditional model.
    classifier : function
        ``classifier(x_t, t)`` returns logits (B, C) for *noisy* rows, such as that of ``model.fit_classifier``.
    label : int or int64 Tensor (B,)
        Class number, one for all rows or one per row.
    scale : float
        w; 1 is the conditional law.

    >>> from pushforward.diffusion import ExactDenoiser, LinearBeta
    >>> from pushforward.probability import GaussianMixture
    >>> law, schedule = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1]), LinearBeta()
    >>> def classifier(x_t, t):
    ...     return law.noised(schedule.alpha(t).item(), schedule.sigma(t).item()).responsibilities(x_t).log()
    >>> guided = ClassifierGuided(ExactDenoiser(law, schedule), classifier, 1)
    >>> guided(torch.zeros(1, 1, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)).item() > 0.9
    True
    """

    def __init__(self, denoiser: AbstractDenoiser, classifier: Classifier, label: int | Tensor, scale: float = 1.0) -> None:
        super().__init__(denoiser, scale)
        self.classifier = classifier
        if isinstance(label, Tensor) and label.is_floating_point():
            raise TypeError(f"label must be the number of a class, or an int64 tensor of them, got {label.dtype}")
        self.label = torch.as_tensor(label, dtype=torch.int64)

    def take(self, rows: Tensor) -> "ClassifierGuided":
        """Return the guided denoiser of some rows of the batch."""
        label = self.label[rows.to(self.label.device)] if self.label.ndim else self.label
        return ClassifierGuided(self.denoiser.take(rows), self.classifier, label, self.scale)

    def _log_weight(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        logits = self.classifier(x_t, t)
        label = self.label.to(logits.device)
        if label.ndim and len(label) != len(x_t):
            raise ValueError(f"there are {len(x_t)} rows to guide but {len(label)} labels; give one for all, or one per row")
        if int(label.min()) < 0 or int(label.max()) >= logits.shape[1]:
            raise ValueError(f"label {int(label.max())} is not a class: the classifier has {logits.shape[1]}, numbered from 0")
        return logits.log_softmax(1).gather(1, label.expand(len(x_t))[:, None])[:, 0]


class RewardGuided(_GradientGuided):
    """Guidance by any differentiable reward of clean rows: score + w grad reward(denoised(x_t)).

    To tilt p(x) into p(x) exp(w reward(x)) the score needs grad log E[exp(w reward(x)) | x_t]. The reward of the expected row
    replaces it; this is exact as t goes to 0, and at every t for a linear reward of a law with a fixed posterior covariance
    (a Gaussian). It costs one backward pass through the network.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        With independent Gaussian noise.
    reward : function
        ``reward(x)`` maps clean rows (B, *D) in the units of the network to (B,), differentiably.
    scale : float
        w; negative values move away.

    >>> from pushforward.diffusion import ExactDenoiser, LinearBeta
    >>> from pushforward.probability import Gaussian
    >>> guided = RewardGuided(ExactDenoiser(Gaussian([0.0], 1.0), LinearBeta()), lambda x: x[:, 0], scale=2.0)
    >>> t = torch.tensor(1.0, dtype=torch.float64)
    >>> guided(torch.zeros(1, 1), t).round(decimals=3).item()  # N(0, 1) tilted by exp(2 x) is N(2, 1)
    2.0
    """

    def __init__(self, denoiser: AbstractDenoiser, reward: Callable[[Tensor], Tensor], scale: float = 1.0) -> None:
        super().__init__(denoiser, scale)
        self.reward = reward

    def take(self, rows: Tensor) -> "RewardGuided":
        """Return the guided denoiser of some rows of the batch; the reward must be the same for all rows."""
        return RewardGuided(self.denoiser.take(rows), self.reward, self.scale)

    def _log_weight(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        value = self.reward(self.denoiser(x_t, t, condition))
        if value.shape != x_t.shape[:1]:
            raise ValueError(f"reward must return one number per row, ({len(x_t)},), but returned {tuple(value.shape)}")
        return value


def signal_time(schedule: Schedule, t: Tensor) -> Tensor:
    """Return t, but no later than where log_snr = -14, so that sigma^2 / alpha is finite."""
    lowest = schedule.t_of_log_snr(torch.tensor(_LOWEST_LOG_SNR, dtype=torch.float64))
    return t.clamp(max=float(lowest)) if bool(lowest < 1) else t


def finite_scale(scale: float) -> float:
    """Return the scale as a float; raise unless it is finite."""
    if not math.isfinite(scale):
        raise ValueError(f"the guidance scale must be a finite number, got {scale}")
    return float(scale)


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """Return the noise levels (low, high) as floats; raise unless 0 <= low < high."""
    low, high = map(float, interval)
    if not 0 <= low < high:
        raise ValueError(
            f"the interval of guidance is (low, high) in noise levels with 0 <= low < high, got ({low:g}, {high:g})"
            + (f"; write ({high:g}, {low:g})" if 0 <= high < low else "")
        )
    return low, high
